//! Blocks of a network that are all in memory, or are read from their file as they are needed.
//!
//! A network runs its blocks by [`Stack::fold`] and reads the same either way. Of streamed blocks a thread reads the next one while this one
//! computes, so that two are in memory at a time; what is not run is not read. A block is filled by what fills resident ones, and holds the
//! same values bit for bit.

use std::{
    iter,
    ops::Range,
    panic,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use burn::{
    module::{
        Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
    },
    tensor::Device,
};

use super::{
    Storage,
    load::{Matched, filled},
    slots::CONTAINER,
};
use crate::{
    error::{Error, WeightsError},
    ops,
};

/// A sequence of blocks.
#[derive(Debug, Clone)]
pub(crate) struct Stack<B> {
    /// Without weights where they are streamed.
    blocks: Vec<B>,
    stream: Option<Arc<Stream>>,
}

/// What streamed blocks are filled with.
#[derive(Debug)]
struct Stream {
    reader: Arc<BlockReader>,
    /// One a block.
    tensors: Vec<Matched>,
}

/// What reads the blocks of a network as they are needed.
#[derive(Debug)]
pub struct BlockReader {
    storage: Storage,
    origin: String,
    blocks: AtomicU64,
    bytes: AtomicU64,
    failed: Mutex<Option<WeightsError>>,
}

/// What was read of streamed blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlocksRead {
    /// How many, each as often as it was.
    pub blocks: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

impl BlocksRead {
    /// What was read since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            blocks: self.blocks - before.blocks,
            bytes: self.bytes - before.bytes,
        }
    }
}

impl iter::Sum for BlocksRead {
    fn sum<I: Iterator<Item = Self>>(reads: I) -> Self {
        reads.fold(Self::default(), |sum, one| Self {
            blocks: sum.blocks + one.blocks,
            bytes: sum.bytes + one.bytes,
        })
    }
}

impl BlockReader {
    pub(super) fn new(storage: Storage, origin: &str) -> Self {
        Self {
            storage,
            origin: origin.to_owned(),
            blocks: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed: Mutex::new(None),
        }
    }

    /// What it has read so far.
    pub fn so_far(&self) -> BlocksRead {
        BlocksRead {
            blocks: self.blocks.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// Whether a block could be read whenever one was asked for, since this was asked last. What was computed without it is worth nothing.
    ///
    /// # Errors
    ///
    /// The first failure.
    pub fn check(&self) -> Result<(), Error> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.take().map_or(Ok(()), |error| Err(error.into()))
    }

    fn has_failed(&self) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some()
    }

    fn fail(&self, error: WeightsError) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(error);
    }
}

impl Stream {
    /// `block`, the one of that number, with its weights.
    fn filled<B: Module>(&self, index: usize, block: B) -> Result<B, WeightsError> {
        let (tensors, reader) = (&self.tensors[index], &self.reader);
        let bytes = tensors.values().map(|(tensor, _)| tensor.byte_len() as u64);
        reader.blocks.fetch_add(1, Ordering::Relaxed);
        reader.bytes.fetch_add(bytes.sum(), Ordering::Relaxed);
        filled(block, tensors.clone(), reader.storage, &reader.origin)
    }
}

impl<B: Module + Sync> Stack<B> {
    /// Runs `cells`, one after the other, each on what the one before has left. After a block that cannot be read, nothing is run until
    /// [`BlockReader::check`] has told of it.
    pub(crate) fn fold<T>(
        &self,
        cells: Range<usize>,
        first: T,
        mut run: impl FnMut(T, usize, &B) -> T,
    ) -> T {
        match &self.stream {
            None => {
                let blocks = cells.clone().zip(&self.blocks[cells]);
                blocks.fold(first, |left, (cell, block)| run(left, cell, block))
            }
            Some(stream) => self.streamed(stream, &cells, first, run),
        }
    }

    fn streamed<T>(
        &self,
        stream: &Stream,
        cells: &Range<usize>,
        mut left: T,
        mut run: impl FnMut(T, usize, &B) -> T,
    ) -> T {
        let read = |cell: usize| stream.filled(cell, self.blocks[cell].clone());
        let within = |cell: usize| Some(cell).filter(|cell| cells.contains(cell));
        thread::scope(|scope| {
            let mut next = within(cells.start).map(|first| scope.spawn(move || read(first)));
            for cell in cells.clone() {
                if stream.reader.has_failed() {
                    break;
                }
                let Some(reading) = next.take() else { break };
                match reading
                    .join()
                    .unwrap_or_else(|panic| panic::resume_unwind(panic))
                {
                    Ok(block) => {
                        next = within(cell + 1).map(|after| scope.spawn(move || read(after)));
                        left = run(left, cell, &block);
                        drop(block);
                        ops::trim(); // before the next is read
                    }
                    Err(error) => stream.reader.fail(error),
                }
            }
            left
        })
    }
}

impl<B> Stack<B> {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// What reads them, where they are streamed.
    pub(crate) fn reader(&self) -> Option<&BlockReader> {
        self.stream.as_ref().map(|stream| &*stream.reader)
    }
}

impl<B> FromIterator<B> for Stack<B> {
    /// Resident ones.
    fn from_iter<I: IntoIterator<Item = B>>(blocks: I) -> Self {
        Self {
            blocks: blocks.into_iter().collect(),
            stream: None,
        }
    }
}

/// Blocks of any kind.
pub(crate) trait AnyStack {
    /// Has `reader` read the blocks as they are needed, each from its part of `tensors`.
    fn stream_from(&mut self, reader: Arc<BlockReader>, tensors: &mut dyn FnMut(usize) -> Matched);
}

impl<B> AnyStack for Stack<B> {
    fn stream_from(&mut self, reader: Arc<BlockReader>, tensors: &mut dyn FnMut(usize) -> Matched) {
        let tensors = (0..self.len()).map(tensors).collect();
        self.stream = Some(Arc::new(Stream { reader, tensors }));
    }
}

/// A network whose blocks can be streamed.
pub(crate) trait Stacked: Module {
    /// Its sequences of blocks, each with its name in the network.
    fn stacks(&mut self) -> Vec<(&'static str, &mut dyn AnyStack)>;
}

impl<B: Module + Sync> Module for Stack<B> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.blocks.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        self.with(|blocks| blocks.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.with(|blocks| blocks.to_device(device))
    }

    fn train(self) -> Self {
        self.with(Module::train)
    }

    fn valid(&self) -> Self {
        self.clone().with(|blocks| blocks.valid())
    }

    fn materialize(self) -> Self {
        self.with(Module::materialize)
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for (index, block) in self.blocks.iter().enumerate() {
            let index = index.to_string();
            visitor.enter_module(&index, CONTAINER);
            block.visit(visitor);
            visitor.exit_module(&index, CONTAINER);
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let map = |(index, block): (usize, B)| {
            let index = index.to_string();
            mapper.enter_module(&index, CONTAINER);
            let mapped = block.map(mapper);
            mapper.exit_module(&index, CONTAINER);
            mapped
        };
        self.with(|blocks| blocks.into_iter().enumerate().map(map).collect())
    }
}

impl<B> Stack<B> {
    fn with(self, change: impl FnOnce(Vec<B>) -> Vec<B>) -> Self {
        Self {
            blocks: change(self.blocks),
            ..self
        }
    }
}

impl<B: ModuleDisplay> ModuleDisplayDefault for Stack<B> {
    fn content(&self, content: Content) -> Option<Content> {
        self.blocks.content(content)
    }
}

impl<B: ModuleDisplay> ModuleDisplay for Stack<B> {}

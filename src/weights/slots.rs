//! The parameters of a module, as a checkpoint has them and as they are kept.

use std::collections::HashMap;

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Bool, DType, Int, Tensor},
};

use super::{Storage, WeightSource, names, unread::Unread};
#[cfg(any(feature = "cpu", feature = "gpu"))]
use super::{carried, unread::Blocks};
#[cfg(feature = "cpu")]
use super::{
    eight::{self, Products},
    packed, pairs, quantise,
};

/// What modules call the container of streamed blocks, or of such as could be.
pub(super) const CONTAINER: &str = "Stack";

/// Names and shapes of a module's parameters as a checkpoint has them, without allocating one.
pub fn shapes<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    let pair = |slot: Slot| (slot.name, slot.shape);
    slots(module).into_iter().map(pair).collect()
}

/// In what the file of a part has its tensors, as far as that is known.
#[derive(Debug, Clone)]
pub struct FileTypes {
    /// Of tensors of which nothing else is known.
    floats: DType,
    source: Option<WeightSource>,
}

impl FileTypes {
    /// Of `source`.
    pub fn of(source: WeightSource) -> Self {
        Self {
            floats: source.float_dtype().unwrap_or(DType::F32),
            source: Some(source),
        }
    }
}

impl From<DType> for FileTypes {
    fn from(floats: DType) -> Self {
        let source = None;
        Self { floats, source }
    }
}

/// What the parameters of a module take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// How many there are.
    pub(crate) parameters: u64,
    /// Bytes of all.
    pub(crate) bytes: u64,
    /// Bytes that are in memory at a time where blocks are streamed; `None` of a module that has none.
    pub(crate) streamed: Option<u64>,
    /// Bytes of the file that blocks are read from.
    pub(crate) read: u64,
}

/// What the parameters of a module take once they are filled from `file` and kept as `storage` says; without allocating one.
pub(crate) fn weight<M: Module>(module: &M, storage: Storage, file: &FileTypes) -> Weight {
    let slots = slots(module);
    let asked = slots.iter().map(Slot::asked).collect();
    let tensors = file.source.as_ref();
    let tensors = tensors.and_then(|source| names::canonical(source, &asked).ok());
    let tensors = tensors.unwrap_or_default();
    let (mut weight, mut in_blocks) = (Weight::default(), 0);
    let (mut blocks, mut through) = (HashMap::<&str, u64>::new(), 0);
    for slot in &slots {
        let elements = slot.shape.iter().product::<usize>();
        let tensor = tensors.get(&slot.name);
        let bytes = slot.bytes(slot.keeping(tensor, storage, file.floats));
        weight.parameters += elements as u64;
        weight.bytes += bytes;
        let Some((block, _)) = slot.in_block() else {
            continue;
        };
        let stored = tensor.map_or(elements * file.floats.size(), Unread::byte_len) as u64;
        weight.read += stored;
        through = through.max(stored);
        *blocks.entry(block).or_default() += bytes;
        in_blocks += bytes;
    }
    let widest = blocks.into_values().max();
    // One block runs while the next is read, a tensor at a time.
    weight.streamed = widest.map(|widest| weight.bytes - in_blocks + 2 * widest + through);
    weight
}

/// Number of a module's parameters, and the bytes they take once they are filled from `file` and kept as `storage` says; without allocating
/// one.
pub fn weight_bytes<M: Module>(module: &M, storage: Storage, file: &FileTypes) -> (u64, u64) {
    let weight = weight(module, storage, file);
    (weight.parameters, weight.bytes)
}

/// A parameter of a module.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// Path in the module.
    pub(super) path: String,
    /// Name in a checkpoint.
    pub(super) name: String,
    /// Shape in a checkpoint.
    pub(super) shape: Vec<usize>,
    /// Whether the module keeps it transposed.
    pub(super) transposed: bool,
    /// Whether it is the weight of a linear layer or a convolution, or a table that is widened where it is read.
    is_weight: bool,
    /// How much of the path is that of the block it stands in, where blocks can be streamed.
    block: Option<usize>,
}

impl Slot {
    /// Name and shape in a checkpoint.
    pub(super) fn asked(&self) -> (&str, &[usize]) {
        (&self.name, &self.shape)
    }

    /// The path of the block it stands in, and its own in there, where blocks can be streamed.
    pub(super) fn in_block(&self) -> Option<(&str, &str)> {
        let (block, inside) = self.path.split_at(self.block?);
        Some((block, inside.strip_prefix('.').unwrap_or(inside)))
    }

    /// How it is kept where the file has it as `tensor`, or, if there is none, in type `file`.
    pub(super) fn keeping(
        &self,
        tensor: Option<&Unread>,
        storage: Storage,
        file: DType,
    ) -> Keeping {
        #[cfg(feature = "cpu")]
        {
            let rounds = self.transposed
                && (matches!(storage, Storage::Quantised | Storage::Fours)
                    || storage.multiplies_in_8_bits());
            let group = rounds.then(|| quantise::group(&self.name, &self.shape));
            let group = group.flatten();
            let products = storage.multiplies_in_8_bits() && self.is_weight;
            let products = products.then(|| eight::products(&self.name, &self.shape));
            match products.flatten() {
                Some(Products::Eight) => return Keeping::Products,
                // Beside bf16 they are so whatever their weights are kept in.
                Some(Products::Sixteen) if storage == Storage::Products => return Keeping::Halves,
                _ => {}
            }
            if storage == Storage::Pairs && self.transposed && pairs::suits(&self.name, &self.shape)
            {
                return Keeping::Pairs;
            }
            let fours = storage == Storage::Fours && group.is_some() && packed::rounds(&self.shape);
            let blocks = tensor.and_then(Unread::blocks);
            let stay = |blocks: &&Blocks| {
                let wide = fours && blocks.kind.bits() > packed::BITS;
                let elsewhere = matches!(storage, Storage::As(_) | Storage::Carried(_));
                let packs = packed::packs(blocks.kind, &self.name, &self.shape);
                self.transposed && packs && !wide && !elsewhere
            };
            match blocks.filter(stay) {
                Some(blocks) => return Keeping::Blocks(blocks.clone()),
                None if fours => return Keeping::Fours,
                None => {}
            }
            if let Some(group) = group {
                return Keeping::Bytes(group);
            }
        }
        #[cfg(any(feature = "cpu", feature = "gpu"))]
        if let (Storage::Carried(_), Some(blocks)) = (storage, tensor.and_then(Unread::blocks))
            && self.transposed
            && carried::carries(blocks.kind, &self.name, &self.shape)
        {
            return Keeping::Carried(blocks.clone());
        }
        let file = tensor.map_or(file, |tensor| tensor.dtype);
        Keeping::Plain(storage.dtype(file, self.is_weight))
    }

    /// Bytes that it takes.
    fn bytes(&self, keeping: Keeping) -> u64 {
        let elements = self.shape.iter().product::<usize>();
        let bytes = match keeping {
            #[cfg(feature = "cpu")]
            Keeping::Blocks(blocks) => packed::memory(blocks.kind, &self.shape),
            #[cfg(any(feature = "cpu", feature = "gpu"))]
            Keeping::Carried(blocks) => carried::memory(blocks.kind, elements),
            #[cfg(feature = "cpu")]
            Keeping::Fours => packed::memory_of_fours(&self.shape),
            #[cfg(feature = "cpu")]
            Keeping::Products => eight::memory(&self.shape),
            #[cfg(feature = "cpu")]
            Keeping::Halves => elements * size_of::<u16>(),
            #[cfg(feature = "cpu")]
            Keeping::Pairs => pairs::memory(&self.shape),
            #[cfg(feature = "cpu")]
            Keeping::Bytes(group) => elements + elements / group * size_of::<f32>(),
            Keeping::Plain(dtype) => elements * dtype.size(),
        };
        bytes as u64
    }
}

/// How a parameter is kept.
pub(super) enum Keeping {
    /// In the file's blocks.
    #[cfg(feature = "cpu")]
    Blocks(Blocks),
    /// In the integers and scales of the file's blocks, as burn's quantised tensors.
    #[cfg(any(feature = "cpu", feature = "gpu"))]
    Carried(Blocks),
    /// Rounded to 4 bits.
    #[cfg(feature = "cpu")]
    Fours,
    /// Rounded to 8 bits, for products in 8 bits.
    #[cfg(feature = "cpu")]
    Products,
    /// In f16, for products in 16 bits; what f16 does not hold in f32.
    #[cfg(feature = "cpu")]
    Halves,
    /// Rounded to bf16, in order for products of bf16.
    #[cfg(feature = "cpu")]
    Pairs,
    /// Rounded to 8 bits, so many inputs under a scale.
    #[cfg(feature = "cpu")]
    Bytes(usize),
    Plain(DType),
}

pub(super) fn slots<M: Module>(module: &M) -> Vec<Slot> {
    let mut collector = Collector::default();
    module.visit(&mut collector);
    collector.slots
}

/// Where a traversal of a module stands.
#[derive(Default)]
pub(super) struct Trail {
    names: Vec<String>,
    containers: Vec<String>,
}

impl Trail {
    pub(super) fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    pub(super) fn exit(&mut self) {
        self.names.pop();
        self.containers.pop();
    }

    /// The path without the names of enum variants, which no checkpoint has.
    pub(super) fn path(&self) -> String {
        self.path_to(self.names.len())
    }

    /// Length of the path of the block that it stands in, where that can be streamed.
    fn block(&self) -> Option<usize> {
        let place = self.containers.iter().position(|one| one == CONTAINER)?;
        Some(self.path_to(place + 1).len())
    }

    /// The same of so many names.
    fn path_to(&self, depth: usize) -> String {
        let named = self.names.iter().zip(&self.containers).take(depth);
        let kept: Vec<_> = named
            .filter(|(_, container)| !container.starts_with("Enum:"))
            .map(|(name, _)| name.as_str())
            .collect();
        kept.join(".")
    }

    /// The innermost struct that holds the parameter.
    fn holder(&self) -> &str {
        let holds = |name: &&String| name.starts_with("Struct:") || name.starts_with("Enum:");
        self.containers
            .iter()
            .rev()
            .find(holds)
            .map_or("", |name| name.split_once(':').map_or("", |(_, kind)| kind))
    }
}

/// Collects parameters without making them.
#[derive(Default)]
struct Collector {
    trail: Trail,
    slots: Vec<Slot>,
}

impl Collector {
    fn add(&mut self, mut shape: Vec<usize>) {
        let path = self.trail.path();
        let holder = self.trail.holder();
        let transposed = holder == "Linear" && shape.len() == 2;
        if transposed {
            shape.reverse();
        }
        self.slots.push(Slot {
            name: names::checkpoint_name(&path, is_norm(holder)),
            path,
            is_weight: matches!(holder, "Linear" | "Conv2d" | "Conv3d" | "PlacedPatches")
                && shape.len() > 1,
            shape,
            transposed,
            block: self.trail.block(),
        });
    }
}

/// Whether a burn layer calls its parameters `gamma` and `beta` where torch has `weight` and `bias`.
fn is_norm(holder: &str) -> bool {
    matches!(holder, "GroupNorm" | "LayerNorm" | "BatchNorm" | "RmsNorm")
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.trail.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.trail.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(param.lazy_shape().to_vec());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(param.lazy_shape().to_vec());
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.add(param.lazy_shape().to_vec());
    }
}

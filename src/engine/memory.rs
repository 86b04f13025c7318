//! A forecast of memory.

use serde::Serialize;

use super::stages::{Stage, Stages};
use crate::{
    error::Error,
    pipeline::{Kept, Memory, Weights, file_types},
    weights::{Format, Storage},
};

/// The most that a run will hold, and what that is made of; bytes.
#[derive(Debug, Serialize)]
pub(crate) struct MemoryFacts {
    pub(crate) peak: u64,
    /// `encoding`, `denoising` or `decoding`.
    pub(crate) phase: &'static str,
    /// Of the denoiser.
    dtype: &'static str,
    /// What the weights are kept in, and why.
    pub(crate) assumption: String,
    pub(crate) weights: Vec<PartEntry>,
    pub(crate) encoding: u64,
    pub(crate) denoising: u64,
    pub(crate) cache: u64,
    pub(crate) decoding: u64,
    pub(crate) kernels: u64,
    program: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct PartEntry {
    pub(crate) part: String,
    parameters: u64,
    pub(crate) bytes: u64,
}

impl MemoryFacts {
    /// Models run one after the other, each dropped before the next is read: the one that takes most counts.
    pub(crate) fn forecast(stages: &Stages, format: Format) -> Result<Self, Error> {
        let kept = Kept::unnamed(format)?;
        let mut facts = Vec::new();
        for stage in stages.iter() {
            facts.extend(Self::of_texts(stage, kept)?);
            facts.push(Self::of_run(stage, kept)?);
        }
        let most = facts.into_iter().max_by_key(|facts| facts.peak);
        Ok(most.expect("a run has at least one model"))
    }

    /// Of a text encoder that is read before all else.
    fn of_texts(stage: &Stage, kept: Kept) -> Result<Option<Self>, Error> {
        let Stage { model, request, .. } = stage;
        if !model.config.reads_texts_first() {
            return Ok(None);
        }
        let file = |part: &str| file_types(&model.folder, part);
        let memory = Memory::of_texts(&model.config, request, kept, file)?;
        Ok(Some(Self::new(stage, kept, memory)))
    }

    /// Of all that comes after.
    fn of_run(stage: &Stage, kept: Kept) -> Result<Self, Error> {
        let Stage {
            model,
            request,
            resolved,
            ..
        } = stage;
        let config = model.config.clone().with_texts_read();
        let file = |part: &str| file_types(&model.folder, part);
        let memory = Memory::forecast(&config, request, resolved, kept, file)?;
        Ok(Self::new(stage, kept, memory))
    }

    fn new(stage: &Stage, kept: Kept, memory: Memory) -> Self {
        let model = &stage.model;
        let unseen = memory
            .weights
            .iter()
            .all(|one| !model.folder.has_weights(&one.part));
        Self {
            peak: memory.peak(),
            phase: memory.fullest().name(),
            dtype: kept.dtype.name(),
            assumption: assumption(kept, unseen),
            encoding: memory.encoding,
            denoising: memory.denoising,
            cache: memory.cache,
            decoding: memory.decoding,
            kernels: memory.kernels,
            program: memory.program,
            weights: memory.weights.into_iter().map(PartEntry::new).collect(),
        }
    }
}

impl PartEntry {
    fn new(weights: Weights) -> Self {
        let Weights {
            part,
            parameters,
            bytes,
        } = weights;
        Self {
            part,
            parameters,
            bytes,
        }
    }
}

/// What weights are taken to be kept in.
fn assumption(kept: Kept, unseen: bool) -> String {
    let files = if unseen {
        "half-precision files, as none are here"
    } else {
        "as the files have them"
    };
    let bits = match kept.denoiser {
        Storage::Quantised => Some(8),
        Storage::Fours => Some(4),
        _ => None,
    };
    if let Some(bits) = bits {
        format!("on the CPU, linear layers in {bits} bits, the rest {files}")
    } else if kept.on_processor {
        format!("on the CPU, {files}")
    } else {
        "on a GPU, text encoders and autoencoder in f32".to_owned()
    }
}

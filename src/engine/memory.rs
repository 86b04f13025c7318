//! A forecast of memory.

use serde::Serialize;

use super::stages::{Stage, Stages};
use crate::{
    error::Error,
    pipeline::{Arrangement, Kept, Memory, ModelConfig, Streaming, Weights, file_types},
    weights::{Format, Storage},
};

/// The most that a run will hold, and what that is made of; bytes.
#[derive(Debug, Serialize)]
pub(crate) struct MemoryFacts {
    pub(crate) peak: u64,
    /// The same with texts that are read before the denoiser is, where that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) released_peak: Option<u64>,
    /// The same with blocks that are read as they are needed, where that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) streamed_peak: Option<u64>,
    /// `encoding`, `denoising` or `decoding`.
    pub(crate) phase: &'static str,
    /// Of the denoiser.
    pub(crate) dtype: &'static str,
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
    /// Bytes of the file that are read each time all blocks are run, where they are read as they are needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) streamed: Option<u64>,
}

impl MemoryFacts {
    /// Of a run by itself. Models run one after the other, each dropped before the next is read: the one that takes most counts.
    pub(crate) fn forecast(
        stages: &Stages,
        format: Format,
        streaming: Streaming,
    ) -> Result<Self, Error> {
        let kept = Kept::unnamed(format)?.releasing_texts();
        let least = Self::fullest(stages, kept, Arrangement::least)?;
        if streaming == Streaming::Always {
            return Ok(least);
        }
        let usual = Self::fullest(stages, kept, Arrangement::of)?;
        let released = Self::fullest(stages, kept, Arrangement::releasing)?;
        Ok(Self {
            released_peak: Some(released.peak).filter(|peak| *peak < usual.peak),
            streamed_peak: Some(least.peak).filter(|peak| *peak < usual.peak),
            ..usual
        })
    }

    /// Of the model and the part of its run that takes most.
    fn fullest(
        stages: &Stages,
        kept: Kept,
        arrangement: fn(&ModelConfig) -> Arrangement,
    ) -> Result<Self, Error> {
        let mut facts = Vec::new();
        for stage in stages.iter() {
            let kept = kept.arranged(arrangement(&stage.model.config));
            facts.extend(Self::of_texts(stage, kept)?);
            facts.push(Self::of_run(stage, kept)?);
        }
        let most = facts.into_iter().max_by_key(|facts| facts.peak);
        Ok(most.expect("a run has at least one model"))
    }

    /// Of text encoders that are read before all else.
    fn of_texts(stage: &Stage, kept: Kept) -> Result<Option<Self>, Error> {
        let Stage { model, request, .. } = stage;
        if !kept.arrangement.texts_first {
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
        let file = |part: &str| file_types(&model.folder, part);
        let memory = Memory::forecast(&model.config, request, resolved, kept, file)?;
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
            released_peak: None,
            streamed_peak: None,
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
            streamed,
            released: _,
        } = weights;
        Self {
            part,
            parameters,
            bytes,
            streamed,
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
        Storage::Products => return format!("on the CPU, wide layers in 8 bits, the rest {files}"),
        Storage::ProductsBesideBf16 => {
            return "on the CPU, wide layers in 8 bits, the rest in bf16".to_owned();
        }
        _ => None,
    };
    if let Some(bits) = bits {
        format!("on the CPU, linear layers in {bits} bits, the rest {files}")
    } else if kept.denoiser == Storage::Pairs {
        "on the CPU, in bf16, text encoders in f32 or as the files have them".to_owned()
    } else if kept.on_processor {
        format!("on the CPU, {files}")
    } else {
        "on a GPU, text encoders and autoencoder in f32".to_owned()
    }
}

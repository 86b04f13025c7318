//! What the weights of a model take in memory, by configurations and the headers of files.

use burn::module::Module;
use burn::tensor::{DType, Device};

use super::kept::Kept;
use crate::catalog::ModelFolder;
use crate::error::Error;
use crate::models::control::ControlNetModel;
use crate::pipeline::config::{
    ModelConfig, PICTURE_ENCODER, Role, SENTENCE_ENCODER, SourceConfig, Visitor,
};
use crate::weights::{FileTypes, Weight, weight};

/// The type that weights are taken to have in files that are not there: the one that most are published in.
const UNSEEN: DType = DType::F16;

/// The weights of one part of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// `unet`, `vae`, `text_encoder`, …
    pub part: String,
    /// How many numbers.
    pub parameters: u64,
    /// Bytes of memory: of all, or where blocks are streamed of two of them, of what one is read through, and of all else.
    pub bytes: u64,
    /// Bytes of the file that are read each time all blocks are run, where they are streamed.
    pub streamed: Option<u64>,
    /// Whether they are released behind the prompts.
    pub released: bool,
}

/// In what `folder` has the weights of a part; half precision where it has none.
pub fn file_types(folder: &ModelFolder, part: &str) -> FileTypes {
    let source = folder.has_weights(part).then(|| folder.weights(part));
    let source = source.and_then(Result::ok);
    source.map_or_else(|| UNSEEN.into(), FileTypes::of)
}

/// Weighs modules that are never filled.
pub(super) struct Scales<F> {
    kept: Kept,
    file: F,
    /// The part that T5 is.
    sentences: &'static str,
    weights: Vec<Weights>,
}

impl<F: Fn(&str) -> FileTypes> Scales<F> {
    pub(super) fn new(kept: Kept, file: F) -> Self {
        Self {
            kept,
            file,
            sentences: SENTENCE_ENCODER,
            weights: Vec::new(),
        }
    }

    /// Of all that is in memory while the denoiser is.
    pub(super) fn of_run(
        mut self,
        config: &ModelConfig,
        device: &Device,
    ) -> Result<Vec<Weights>, Error> {
        if !self.kept.arrangement.texts_first {
            self.weigh_source(config, device)?;
        }
        config.trunk.visit(device, &mut self)?;
        config.space.visit(device, &mut self)?;
        for net in &config.controls {
            let net = ControlNetModel::new(net, device);
            self.part("controlnet", Role::Denoiser, &net)?;
        }
        Ok(self.weights)
    }

    /// Of the encoders of CLIP, and of that of T5.
    pub(super) fn of_texts(
        mut self,
        config: &ModelConfig,
        device: &Device,
    ) -> Result<[Vec<Weights>; 2], Error> {
        self.weigh_source(config, device)?;
        let is_t5 = |weights: &Weights| config.has_t5() && weights.part == self.sentences;
        let (t5, clip) = self.weights.into_iter().partition(is_t5);
        Ok([clip, t5])
    }

    fn weigh_source(&mut self, config: &ModelConfig, device: &Device) -> Result<(), Error> {
        if let SourceConfig::Joint(texts) = &config.source {
            [self.sentences, _] = texts.parts;
        }
        config.source.visit(device, self)
    }
}

impl<F: Fn(&str) -> FileTypes> Visitor for Scales<F> {
    fn part<M: Module>(&mut self, part: &'static str, role: Role, module: &M) -> Result<(), Error> {
        let (kept, arrangement) = (&self.kept, self.kept.arrangement);
        let (storage, streams) = match role {
            Role::Encoder => (kept.encoders, arrangement.streams_texts),
            Role::Table => (DType::F32.into(), false),
            Role::Denoiser => (kept.denoiser, arrangement.streams_denoiser),
            Role::Decoder => (kept.decoder, false),
        };
        let Weight {
            parameters,
            bytes,
            streamed,
            read,
        } = weight(module, storage, &(self.file)(part));
        let streamed = streamed.filter(|_| streams);
        self.weights.push(Weights {
            part: part.to_owned(),
            parameters,
            bytes: streamed.unwrap_or(bytes),
            streamed: streamed.map(|_| read),
            released: kept.releases_texts && role == Role::Encoder && part != PICTURE_ENCODER,
        });
        Ok(())
    }
}

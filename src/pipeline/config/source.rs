//! What a model makes its pictures from.

use burn::tensor::Device;

use super::encoders::TextConfig;
use super::joint::JointTextConfig;
use super::sentences::{SENTENCE_ENCODER, SentenceConfig};
use super::visit::{Role, Visitor};
use crate::error::{Error, RequestError};
use crate::guidance::Conditioned;
use crate::models::class_embedder::{ClassEmbedder, ClassEmbedderConfig};
use crate::models::clip::ClipTextModel;
use crate::models::clip_vision::{ClipVisionConfig, ClipVisionModel};
use crate::models::t5::T5EncoderModel;

/// What a model makes its pictures from.
#[derive(Debug, Clone)]
pub enum SourceConfig {
    /// Prompts, through text encoders.
    Texts(TextConfig),
    /// Prompts, through encoders of CLIP and that of T5.
    Joint(JointTextConfig),
    /// Prompts, through the encoder of T5.
    Sentences(SentenceConfig),
    /// Classes.
    Classes(ClassesConfig),
    /// A picture, through `image_encoder/config.json`; and as latents beside those that are denoised.
    Picture(ClipVisionConfig),
    /// Nothing but noise.
    Nothing,
}

/// The part that encodes pictures.
pub(in crate::pipeline) const PICTURE_ENCODER: &str = "image_encoder";

/// Classes and how they are told to the denoiser.
#[derive(Debug, Clone)]
pub struct ClassesConfig {
    /// How many; labels are 0 to one less.
    pub count: usize,
    /// The label that stands for no class.
    pub null_label: usize,
    /// Which half of the rows is the conditioned one, as in the published programs.
    pub conditioned: Conditioned,
    /// `class_embedder/config.json`, where the denoiser reads a class as a text of one token.
    pub embedder: Option<ClassEmbedderConfig>,
}

impl SourceConfig {
    /// Tokens that attention reads beside the picture's own, a row; of a prompt as many as are asked for, where that can be.
    pub(in crate::pipeline) fn tokens(&self, asked: Option<usize>) -> usize {
        match self {
            Self::Texts(texts) => texts.tokens(),
            Self::Joint(texts) => texts.tokens(asked),
            Self::Sentences(sentences) => asked.unwrap_or(sentences.tokens),
            Self::Classes(classes) => usize::from(classes.embedder.is_some()),
            Self::Picture(_) => 1,
            Self::Nothing => 0,
        }
    }

    /// How many texts of a prompt are read, each by an encoder of its own.
    pub(in crate::pipeline) fn texts_read(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.encoders.len(),
            Self::Joint(texts) => texts.clip.encoders.len() + 1,
            Self::Sentences(_) => 1,
            Self::Classes(_) | Self::Picture(_) | Self::Nothing => 0,
        }
    }

    /// The text encoders of CLIP.
    pub(super) fn texts(&self) -> Option<&TextConfig> {
        match self {
            Self::Texts(texts) | Self::Joint(JointTextConfig { clip: texts, .. }) => Some(texts),
            _ => None,
        }
    }

    /// The classes.
    pub(super) fn classes(&self) -> Option<&ClassesConfig> {
        match self {
            Self::Classes(classes) => Some(classes),
            _ => None,
        }
    }

    pub(in crate::pipeline) fn visit(
        &self,
        device: &Device,
        visitor: &mut impl Visitor,
    ) -> Result<(), Error> {
        match self {
            Self::Texts(texts) => texts.visit(device, visitor),
            Self::Joint(texts) => {
                texts.clip.visit(device, visitor)?;
                let visit = |t5| {
                    let model = T5EncoderModel::new(t5, device);
                    visitor.part(texts.parts[0], Role::Encoder, &model)
                };
                texts.t5.as_ref().map_or(Ok(()), visit)
            }
            Self::Sentences(sentences) => {
                let visit = |t5| {
                    let model = T5EncoderModel::new(t5, device);
                    visitor.part(SENTENCE_ENCODER, Role::Encoder, &model)
                };
                sentences.t5.as_ref().map_or(Ok(()), visit)
            }
            Self::Classes(ClassesConfig {
                embedder: Some(embedder),
                ..
            }) => {
                let model = ClassEmbedder::new(*embedder, device);
                visitor.part("class_embedder", Role::Table, &model)
            }
            Self::Picture(encoder) => {
                let model = ClipVisionModel::new(encoder, device);
                visitor.part(PICTURE_ENCODER, Role::Encoder, &model)
            }
            Self::Classes(_) | Self::Nothing => Ok(()),
        }
    }
}

impl TextConfig {
    fn visit(&self, device: &Device, visitor: &mut impl Visitor) -> Result<(), Error> {
        self.encoders.iter().try_for_each(|encoder| {
            let model = ClipTextModel::new(&encoder.clip, device);
            visitor.part(encoder.part, Role::Encoder, &model)
        })
    }
}

impl ClassesConfig {
    pub(in crate::pipeline) fn check_labels(&self, labels: &[usize]) -> Result<(), RequestError> {
        let classes = self.count;
        if labels.is_empty() {
            return Err(RequestError::NoClass { classes });
        }
        match labels.iter().find(|&&label| label >= classes) {
            Some(&label) => Err(RequestError::Class { label, classes }),
            None => Ok(()),
        }
    }
}

//! What the pictures show.

use crate::image_io::Picture;
use crate::pipeline::config::{ModelConfig, SourceConfig};

/// What a model makes its pictures or films from.
#[derive(Debug, Clone)]
pub enum Subject {
    /// A text each; an empty one is legal. For models that read text.
    Prompts(Vec<String>),
    /// A class each. For models of classes.
    Classes(Vec<usize>),
    /// A picture that becomes the first frame of a film, more or less. For models that make films of pictures; it is resized to the
    /// film's size.
    Picture {
        /// The picture.
        picture: Box<Picture>,
        /// What messages call it: the file it was read from.
        name: String,
    },
    /// Nothing but noise.
    Nothing,
}

impl Subject {
    /// What `prompts` or `classes` are for a model; where both are given or neither is, what its kind of model is told. What it does not
    /// take stays, for [`Request::resolve`](super::Request::resolve) to refuse.
    pub fn named(prompts: Vec<String>, classes: Vec<usize>, model: &ModelConfig) -> Self {
        let said = prompts.iter().any(|prompt| !prompt.is_empty());
        match &model.source {
            SourceConfig::Classes(_) if said => Self::Prompts(prompts),
            SourceConfig::Classes(_) => Self::Classes(classes),
            _ if !classes.is_empty() => Self::Classes(classes),
            _ if model.reads_text() && prompts.is_empty() => Self::Prompts(vec![String::new()]),
            SourceConfig::Texts(_) | SourceConfig::Joint(_) | SourceConfig::Sentences(_) => {
                Self::Prompts(prompts)
            }
            SourceConfig::Picture(_) | SourceConfig::Nothing if said => Self::Prompts(prompts),
            SourceConfig::Picture(_) | SourceConfig::Nothing => Self::Nothing,
        }
    }

    /// A picture in memory.
    pub fn picture(picture: Picture) -> Self {
        Self::Picture {
            picture: Box::new(picture),
            name: "a picture in memory".into(),
        }
    }

    /// How many there are; each is shown in a batch of pictures of its own.
    pub fn count(&self) -> usize {
        match self {
            Self::Prompts(prompts) => prompts.len(),
            Self::Classes(labels) => labels.len(),
            Self::Picture { .. } | Self::Nothing => 1,
        }
    }

    /// The prompts, where there are any.
    pub fn prompts(&self) -> &[String] {
        match self {
            Self::Prompts(prompts) => prompts,
            _ => &[],
        }
    }

    /// The classes, where there are any.
    pub fn classes(&self) -> &[usize] {
        match self {
            Self::Classes(labels) => labels,
            _ => &[],
        }
    }

    /// `a prompt`
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Prompts(_) => "a prompt",
            Self::Classes(_) => "a class",
            Self::Picture { .. } => "a picture",
            Self::Nothing => "nothing",
        }
    }
}

//! Class labels as what a conditional `UNet` reads in place of a text.
//!
//! Source: Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (arXiv 2112.10752, sections 4.1 and E.1):
//! every class, and *no class* for guidance, is one learnt token.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Deserialize;

use super::json::{self, Neutral};
use crate::error::{ConfigError, Error};

/// What a class embedder is built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassEmbedderConfig {
    /// Tokens: one a class, and the last for no class.
    pub tokens: usize,
    /// Width of a token: the `UNet`'s `cross_attention_dim`.
    pub width: usize,
}

#[derive(Deserialize)]
struct ClassEmbedderJson {
    num_classes: Option<usize>,
    embedding_dim: Option<usize>,
}

const NEUTRAL: &[Neutral] = &[("_class_name", &["\"ClassEmbedder\""])];

impl ClassEmbedderConfig {
    /// Reads the text of a `class_embedder/config.json`: `num_classes`, *no class* included, and `embedding_dim`.
    ///
    /// # Errors
    ///
    /// If it is not JSON, lacks a key, or has no class beside *no class*.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        const PART: &str = "class_embedder";
        let json: ClassEmbedderJson = json::parse(text, PART, "class embedder", NEUTRAL)?;
        let needed = |key, value: Option<usize>| {
            let part = "class_embedder/config.json";
            value.ok_or(ConfigError::Missing { key, part })
        };
        let config = Self {
            tokens: needed("num_classes", json.num_classes)?,
            width: needed("embedding_dim", json.embedding_dim)?,
        };
        if config.tokens < 2 {
            let hint = "it counts the classes and one more for no class";
            return Err(ConfigError::unsupported("num_classes", config.tokens, hint).into());
        }
        Ok(config)
    }

    /// Classes that a picture can have.
    pub fn classes(self) -> usize {
        self.tokens - 1
    }

    /// The label that stands for no class.
    pub fn null_label(self) -> usize {
        self.tokens - 1
    }
}

/// One token a class, named as in the checkpoint.
#[derive(Module, Debug)]
pub struct ClassEmbedder {
    embedding: Embedding,
}

impl ClassEmbedder {
    /// Builds the embedder; weights stay lazy until loaded.
    pub fn new(config: ClassEmbedderConfig, device: &Device) -> Self {
        Self {
            embedding: EmbeddingConfig::new(config.tokens, config.width).init(device),
        }
    }

    /// The context of one token a row: `[rows, 1, width]`.
    ///
    /// # Panics
    ///
    /// If there are no labels, or one is larger than the null label.
    pub fn forward(&self, labels: &[usize]) -> Tensor<3> {
        let table = self.embedding.weight.val(); // [tokens, width]
        let tokens = table.dims()[0];
        assert!(
            labels.iter().all(|&label| label < tokens),
            "labels {labels:?} of {tokens} tokens"
        );
        let labels = labels
            .iter()
            .map(|&label| i64::from(label as u32))
            .collect::<Vec<_>>();
        let count = labels.len();
        let data = TensorData::new(labels, [count]);
        let rows: Tensor<1, Int> = Tensor::from_data(data, &table.device());
        table.select(0, rows).unsqueeze_dim(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_token_is_no_class() {
        let config = ClassEmbedderConfig::from_json(r#"{"num_classes":1001,"embedding_dim":512}"#);
        let config = config.unwrap();
        assert_eq!((config.classes(), config.null_label()), (1000, 1000));
        assert_eq!((config.tokens, config.width), (1001, 512));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (text, key) in [
            (r#"{"num_classes":1001}"#, "`embedding_dim`"),
            (r#"{"num_classes":1,"embedding_dim":8}"#, "`num_classes`"),
            (r#"{"_class_name":"Other"}"#, "`_class_name`"),
        ] {
            let error = ClassEmbedderConfig::from_json(text).unwrap_err();
            assert!(
                error.is_config() && error.to_string().contains(key),
                "{error}"
            );
        }
    }
}

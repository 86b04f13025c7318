//! The text half of CLIP, which conditions Stable Diffusion.
//!
//! Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020, section 2.4):
//! a causal transformer with a layer norm in front of each branch.

mod config;
mod tower;

use std::ops::Range;

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};

pub use config::{ClipTextConfig, ClipTextJson};
pub(super) use tower::{ClipLayers, Tower, is_quick_gelu};

use crate::nn::layer_norm::LayerNorm;
use crate::ops;
use crate::text::{PooledTextEncoder, Summary, TextEncoder};

/// Added to the scores of later tokens: far below any score, and finite, as GPU compilers may assume no infinity.
const MASKED: f32 = -1e9;

#[derive(Module, Debug)]
struct ClipEmbeddings {
    token_embedding: Embedding,
    position_embedding: Embedding,
}

impl ClipEmbeddings {
    fn new(config: &ClipTextConfig, device: &Device) -> Self {
        let embedding = |entries| EmbeddingConfig::new(entries, config.width).init(device);
        Self {
            token_embedding: embedding(config.vocabulary),
            position_embedding: embedding(config.positions),
        }
    }

    /// `[rows, tokens]` to `[rows, tokens, width]`.
    fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [_, tokens] = ids.dims();
        let positions = self.position_embedding.weight.val().narrow(0, 0, tokens); // [tokens, width]
        self.token_embedding.forward(ids) + positions.unsqueeze()
    }
}

#[derive(Module, Debug)]
struct ClipTextTransformer {
    embeddings: ClipEmbeddings,
    encoder: ClipLayers,
    final_layer_norm: LayerNorm,
}

/// The text encoder. Its weights are loaded as f32, whatever the file holds.
#[derive(Module, Debug)]
pub struct ClipTextModel {
    text_model: ClipTextTransformer,
    text_projection: Option<Linear>,
}

impl ClipTextModel {
    /// Builds the encoder; weights stay lazy until loaded.
    pub fn new(config: &ClipTextConfig, device: &Device) -> Self {
        let tower = config.tower();
        let text_model = ClipTextTransformer {
            embeddings: ClipEmbeddings::new(config, device),
            encoder: ClipLayers::new(&tower, device),
            final_layer_norm: tower.norm(device),
        };
        let projection = |width| LinearConfig::new(config.width, width).with_bias(false);
        Self {
            text_model,
            text_projection: config
                .projection
                .map(|width| projection(width).init(device)),
        }
    }

    /// States after all layers but the last `clip_skip`, through the final layer norm.
    ///
    /// # Shapes
    ///
    /// - ids: `[rows, tokens]`
    /// - output: `[rows, tokens, width]`
    ///
    /// # Panics
    ///
    /// If `clip_skip` is more than the number of layers.
    pub fn encode(&self, ids: Tensor<2, Int>, clip_skip: usize) -> Tensor<3> {
        let layers = self.layers();
        assert!(clip_skip <= layers, "`clip_skip` exceeds the layers");
        let mask = causal_mask(ids.dims()[1], &ids.device());
        let hidden = self.text_model.embeddings.forward(ids);
        let hidden = self.through(0..layers - clip_skip, hidden, &mask);
        self.text_model.final_layer_norm.forward(hidden)
    }

    /// States after all layers but the last `1 + clip_skip`, without the final norm; and each whole text as one vector: the state of
    /// its end, at the place that `ends` names, after all layers, the norm and the projection, where there is one.
    ///
    /// # Shapes
    ///
    /// - ids: `[rows, tokens]`
    /// - states: `[rows, tokens, width]`
    /// - pooled: `[rows, projection or width]`
    ///
    /// # Panics
    ///
    /// If `clip_skip` is not less than the number of layers.
    pub fn summarise(&self, ids: Tensor<2, Int>, ends: &[usize], clip_skip: usize) -> Summary {
        let layers = self.layers();
        assert!(clip_skip < layers, "`clip_skip` exceeds the layers");
        let mask = causal_mask(ids.dims()[1], &ids.device());
        let depth = layers - 1 - clip_skip;
        let hidden = self.text_model.embeddings.forward(ids);
        let states = self.through(0..depth, hidden, &mask);
        let last = self.through(depth..layers, states.clone(), &mask);
        let last = self.text_model.final_layer_norm.forward(last);
        let whole = at_ends(&last, ends); // [rows, width]
        let pooled = match &self.text_projection {
            Some(projection) => ops::linear(projection, whole), // [rows, projection]
            None => whole,
        };
        Summary { states, pooled }
    }

    /// The table of tokens cut to the `vocabulary` of the configuration, with `rows` of learned words, row-major, after it.
    #[must_use]
    pub fn with_learned(mut self, vocabulary: usize, rows: &[f32]) -> Self {
        let table = &mut self.text_model.embeddings.token_embedding;
        table.weight = table.weight.clone().map(|table| {
            let ([entries, width], device) = (table.dims(), table.device());
            let table = if entries == vocabulary {
                table
            } else {
                table.narrow(0, 0, vocabulary) // [vocabulary, width]
            };
            if rows.is_empty() {
                return table;
            }
            let data = TensorData::new(rows.to_vec(), [rows.len() / width, width]);
            Tensor::cat(vec![table, Tensor::from_data(data, &device)], 0)
        });
        self
    }

    fn layers(&self) -> usize {
        self.text_model.encoder.len()
    }

    fn through(&self, layers: Range<usize>, hidden: Tensor<3>, mask: &Tensor<4>) -> Tensor<3> {
        self.text_model.encoder.through(layers, hidden, Some(mask))
    }

    /// `[rows, tokens]`
    fn ids(&self, ids: &[Vec<u32>]) -> Tensor<2, Int> {
        let (rows, tokens) = (ids.len(), ids.first().map_or(0, Vec::len));
        let flat = ids.iter().flatten().map(|&id| id.cast_signed());
        let data = TensorData::new(flat.collect::<Vec<i32>>(), [rows, tokens]);
        Tensor::from_data(data, &self.device())
    }

    fn device(&self) -> Device {
        self.text_model.final_layer_norm.gamma.val().device()
    }
}

impl TextEncoder for ClipTextModel {
    fn max_clip_skip(&self) -> usize {
        self.layers()
    }

    fn states(&self, ids: &[Vec<u32>], clip_skip: usize) -> Tensor<3> {
        self.encode(self.ids(ids), clip_skip)
    }
}

impl PooledTextEncoder for ClipTextModel {
    fn summary(&self, ids: &[Vec<u32>], ends: &[usize], clip_skip: usize) -> Summary {
        self.summarise(self.ids(ids), ends, clip_skip)
    }
}

/// Each row's state at its end: `[rows, tokens, width]` to `[rows, width]`.
fn at_ends(states: &Tensor<3>, ends: &[usize]) -> Tensor<2> {
    let row = |(row, &end): (usize, &usize)| {
        let state = states.clone().narrow(0, row, 1).narrow(1, end, 1); // [1, 1, width]
        state.squeeze_dim(1)
    };
    Tensor::cat(ends.iter().enumerate().map(row).collect(), 0)
}

/// `[1, 1, tokens, tokens]`: a row's token sees itself and what came before.
fn causal_mask(tokens: usize, device: &Device) -> Tensor<4> {
    let seen = |query, key| if key <= query { 0.0 } else { MASKED };
    let mask = (0..tokens)
        .flat_map(|query| (0..tokens).map(move |key| seen(query, key)))
        .collect::<Vec<f32>>();
    Tensor::from_data(TensorData::new(mask, [1, 1, tokens, tokens]), device)
}

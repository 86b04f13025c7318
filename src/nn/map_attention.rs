//! Self-attention over the positions of a feature map, without a transformer around it.
//!
//! Source: Ho et al., "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239, appendix B: one head); Dhariwal and Nichol,
//! "Diffusion Models Beat GANs on Image Synthesis" (arXiv 2105.05233, section 3: several heads).

use burn::module::Module;
use burn::nn::{GroupNorm, Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};

use super::attention::{merge_heads, split_heads};
use super::group_norm;
use super::transformer::{to_map, to_tokens};
use crate::recall::{Branch, Recall};

/// Attention scores held at a time.
const SCORE_BYTES: usize = 128 << 20;

/// What the layer is built from.
#[derive(Debug, Clone, Copy)]
pub struct MapAttentionConfig {
    /// Channels of the feature map.
    pub channels: usize,
    /// Number of heads; divides `channels`.
    pub heads: usize,
    /// Groups of the norm in front.
    pub groups: usize,
    /// Epsilon of that norm.
    pub epsilon: f64,
}

/// Positions attend to each other; the outcome is added to the input.
#[derive(Module, Debug)]
pub struct MapAttention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
}

impl MapAttention {
    /// Builds the layer; weights stay lazy until loaded.
    pub fn new(config: MapAttentionConfig, device: &Device) -> Self {
        let MapAttentionConfig {
            channels,
            heads,
            groups,
            epsilon,
        } = config;
        let linear = || LinearConfig::new(channels, channels).init(device);
        Self {
            group_norm: group_norm(groups, channels, epsilon, device),
            to_q: linear(),
            to_k: linear(),
            to_v: linear(),
            to_out: linear(),
            heads,
        }
    }

    /// `[rows, channels, height, width]` to the same.
    pub fn forward(&self, hidden: Tensor<4>, recall: &mut Recall<'_>) -> Tensor<4> {
        let size = hidden.dims();
        let attended = recall.branch(Branch::SelfAttention, || self.attend(hidden.clone()));
        hidden + to_map(attended, size)
    }

    /// What is added to a map, as tokens: `[rows, height · width, channels]`.
    fn attend(&self, hidden: Tensor<4>) -> Tensor<3> {
        let tokens = to_tokens(self.group_norm.forward(hidden)); // [rows, height · width, channels]
        let heads = |layer: &Linear| split_heads(layer.forward(tokens.clone()), self.heads);
        let (query, key, value) = (heads(&self.to_q), heads(&self.to_k), heads(&self.to_v));
        let mixed = chunked_attention(query, key, value, SCORE_BYTES);
        self.to_out.forward(merge_heads(mixed))
    }
}

/// `softmax(q kᵀ / √head_width) v`, all `[rows, heads, tokens, head_width]`, in groups of queries whose scores fit into `bytes`.
///
/// Written out, as flash kernels would round heads as wide as these to f16 or have no room for them.
fn chunked_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    bytes: usize,
) -> Tensor<4> {
    let [rows, heads, tokens, width] = query.dims();
    let chunk = (bytes / (rows * heads * tokens * size_of::<f32>())).clamp(1, tokens);
    let query = query * (width as f64).powf(-0.5);
    let key = key.swap_dims(2, 3); // [rows, heads, head_width, tokens]
    let chunks = (0..tokens).step_by(chunk).map(|start| {
        let queries = query.clone().narrow(2, start, chunk.min(tokens - start));
        softmax(queries.matmul(key.clone()), 3).matmul(value.clone()) // [rows, heads, chunk, head_width]
    });
    Tensor::cat(chunks.collect(), 2)
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    #[test]
    fn chunks_of_queries_change_nothing() {
        let device = Device::flex();
        let tensor = |shift: f32| {
            let values = (0..2 * 2 * 7 * 4).map(|i| (i as f32 * 0.37 + shift).sin());
            let data = TensorData::new(values.collect::<Vec<_>>(), [2, 2, 7, 4]);
            Tensor::<4>::from_data(data, &device)
        };
        let run = |bytes| {
            let mixed = chunked_attention(tensor(0.0), tensor(1.0), tensor(2.0), bytes);
            mixed.into_data().try_to_vec::<f32>().unwrap()
        };
        let whole = run(1 << 20);
        for (a, b) in whole.iter().zip(run(2 * 2 * 7 * 4 * 3)) {
            assert!((a - b).abs() < 1e-6);
        }
    }
}

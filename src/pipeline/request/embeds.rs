//! Prompts that were encoded before their run.

use burn::tensor::Tensor;

/// What the prompts of a request say, encoded: the models of a chain that read them through the same encoder go on from one reading.
///
/// Behaviour as the `prompt_embeds` and `negative_prompt_embeds` of diffusers' pipelines of `DeepFloyd` IF.
#[derive(Debug, Clone)]
pub struct PromptEmbeds {
    /// `[prompts, tokens, width]`
    pub prompts: Tensor<3>,
    /// What the pictures avoid, likewise: an empty text where nothing is said.
    pub negative: Tensor<3>,
    /// Each prompt as one vector, `[prompts, pooled width]`, and what the pictures avoid likewise: for models that read prompts through CLIP
    /// besides.
    pub pooled: Option<[Tensor<2>; 2]>,
    /// How many tokens of each prompt are text, for denoisers that look at no padding; none where all are read.
    pub prompt_lengths: Vec<usize>,
    /// The same of what the pictures avoid.
    pub negative_lengths: Vec<usize>,
}

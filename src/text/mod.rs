//! Text: tokenizing and the encoder contract.

mod clip_tokenizer;

pub use clip_tokenizer::{ClipTokenizer, TokenizerFiles, Tokens};

use burn::tensor::Tensor;

use crate::error::{Error, RequestError};

/// A transformer that turns token ids into states.
pub trait TextEncoder {
    /// How many of its last layers can be left out.
    fn max_clip_skip(&self) -> usize;

    /// States of `ids`, one row a prompt, all of one length, without the last `clip_skip` layers.
    ///
    /// # Shapes
    ///
    /// - output: `[rows, tokens, width]`, f32
    ///
    /// # Panics
    ///
    /// If `clip_skip` is more than [`max_clip_skip`](Self::max_clip_skip), or rows differ in length.
    fn states(&self, ids: &[Vec<u32>], clip_skip: usize) -> Tensor<3>;
}

/// Prompts as a denoiser takes them.
#[derive(Debug, Clone)]
pub struct Context {
    /// Text states, `[rows, tokens, width]`, f32.
    pub states: Tensor<3>,
    /// What each prompt lost because it was longer than the model reads; callers tell the user.
    pub cut: Vec<Option<String>>,
}

/// A tokenizer and its encoder: prompts to context.
#[derive(Debug)]
pub struct PromptEncoder<E> {
    tokenizer: ClipTokenizer,
    encoder: E,
}

impl<E: TextEncoder> PromptEncoder<E> {
    /// Joins the two.
    pub fn new(tokenizer: ClipTokenizer, encoder: E) -> Self {
        Self { tokenizer, encoder }
    }

    /// Encodes one row a prompt; `clip_skip` leaves out as many of the encoder's last layers.
    ///
    /// Negative prompts are encoded with all layers in diffusers, whatever the positive ones skip.
    ///
    /// # Errors
    ///
    /// If `clip_skip` is more than the encoder has layers, or a prompt cannot be tokenized.
    pub fn encode<S: AsRef<str>>(&self, prompts: &[S], clip_skip: usize) -> Result<Context, Error> {
        let layers = self.encoder.max_clip_skip();
        if clip_skip > layers {
            return Err(RequestError::ClipSkip { clip_skip, layers }.into());
        }
        let tokens = prompts
            .iter()
            .map(|prompt| self.tokenizer.encode(prompt.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        let (ids, cut): (Vec<_>, Vec<_>) = tokens
            .into_iter()
            .map(|tokens| (tokens.ids, tokens.cut))
            .unzip();
        let states = self.encoder.states(&ids, clip_skip); // [prompts, tokens, width]
        Ok(Context { states, cut })
    }
}

//! Text: tokenizing and the encoder contract.

mod characters;
mod clip_tokenizer;
mod embedding;
mod sentence_piece;
mod t5_tokenizer;
mod tokenizer_files;

pub use clip_tokenizer::{ClipTokenizer, Tokens};
pub use embedding::Embedding;
pub use t5_tokenizer::T5Tokenizer;
pub use tokenizer_files::TokenizerFiles;

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

/// What [`PooledTextEncoder`] gives.
#[derive(Debug, Clone)]
pub struct Summary {
    /// `[rows, tokens, width]`, f32, before the encoder's final norm.
    pub states: Tensor<3>,
    /// Each whole text as one vector, `[rows, projection]`; of encoders without a projection `[rows, width]`.
    pub pooled: Tensor<2>,
}

/// A transformer that also makes one vector of a whole text, and whose states are read before its last layer (SDXL).
pub trait PooledTextEncoder: TextEncoder {
    /// States without the last `1 + clip_skip` layers and the final norm, and the whole text from its token at `ends`, all layers
    /// passed.
    ///
    /// # Panics
    ///
    /// If `clip_skip` is not less than [`max_clip_skip`](TextEncoder::max_clip_skip), or rows differ in length.
    fn summary(&self, ids: &[Vec<u32>], ends: &[usize], clip_skip: usize) -> Summary;
}

/// A transformer in which nothing looks at what follows a text's end (T5).
pub trait SentenceEncoder {
    /// States of `ids`, one row a prompt, all of one length, whose texts end at `ends`.
    ///
    /// # Shapes
    ///
    /// - output: `[rows, tokens, width]`, f32
    fn states(&self, ids: &[Vec<u32>], ends: &[usize]) -> Tensor<3>;
}

/// Prompts as a denoiser takes them.
#[derive(Debug, Clone)]
pub struct Context {
    /// Text states, `[rows, tokens, width]`, f32.
    pub states: Tensor<3>,
    /// Each whole prompt as one vector, `[rows, projection or width]`, where it was asked for.
    pub pooled: Option<Tensor<2>>,
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

    /// The encoder.
    pub fn encoder(&self) -> &E {
        &self.encoder
    }

    /// Encodes one row a prompt; `clip_skip` leaves out as many of the encoder's last layers.
    ///
    /// Negative prompts are encoded with all layers in diffusers, whatever the positive ones skip.
    ///
    /// # Errors
    ///
    /// If `clip_skip` is more than the encoder has layers, or a prompt cannot be tokenized.
    pub fn encode<S: AsRef<str>>(&self, prompts: &[S], clip_skip: usize) -> Result<Context, Error> {
        self.check_clip_skip(clip_skip, self.encoder.max_clip_skip())?;
        let rows = self.rows(prompts)?;
        let states = self.encoder.states(&rows.ids, clip_skip); // [prompts, tokens, width]
        Ok(Context {
            states,
            pooled: None,
            cut: rows.cut,
        })
    }

    fn check_clip_skip(&self, clip_skip: usize, most: usize) -> Result<(), RequestError> {
        let layers = self.encoder.max_clip_skip();
        if clip_skip > most {
            return Err(RequestError::ClipSkip { clip_skip, layers });
        }
        Ok(())
    }

    fn rows<S: AsRef<str>>(&self, prompts: &[S]) -> Result<Rows, Error> {
        let mut rows = Rows::default();
        for prompt in prompts {
            let tokens = self.tokenizer.encode(prompt.as_ref())?;
            rows.ends.push(tokens.end);
            rows.ids.push(tokens.ids);
            rows.cut.push(tokens.cut);
        }
        Ok(rows)
    }
}

impl<E: PooledTextEncoder> PromptEncoder<E> {
    /// Encodes one row a prompt as SDXL reads them: the states before the last layer (`clip_skip` leaves out as many more), and the
    /// whole prompt as one vector.
    ///
    /// # Errors
    ///
    /// If `clip_skip` leaves no layer, or a prompt cannot be tokenized.
    pub fn encode_pooled<S: AsRef<str>>(
        &self,
        prompts: &[S],
        clip_skip: usize,
    ) -> Result<Context, Error> {
        let most = self.encoder.max_clip_skip().saturating_sub(1);
        self.check_clip_skip(clip_skip, most)?;
        let rows = self.rows(prompts)?;
        let Summary { states, pooled } = self.encoder.summary(&rows.ids, &rows.ends, clip_skip);
        Ok(Context {
            states,
            pooled: Some(pooled),
            cut: rows.cut,
        })
    }
}

/// Tokenized prompts.
#[derive(Default)]
struct Rows {
    ids: Vec<Vec<u32>>,
    ends: Vec<usize>,
    cut: Vec<Option<String>>,
}

//! Attention over texts of different lengths, without a mask: what is padding is not there.

use std::iter::repeat_n;
use std::ops::Range;

use burn::tensor::Tensor;

use super::attention::{Attention, KeyValue};

/// Keys and values of texts. Rows that follow each other and are as long stand together.
#[derive(Debug, Clone)]
pub struct RaggedContext(Vec<KeyValue>);

impl RaggedContext {
    /// Of `states`, `[rows, tokens, width]`, of which the first `lengths` of each row are read, or all where that is empty.
    pub fn new(attention: &Attention, states: &Tensor<3>, lengths: &[usize]) -> Self {
        let [rows, tokens, _] = states.dims();
        let all = vec![tokens; rows];
        let lengths = if lengths.is_empty() { &all } else { lengths };
        let mut first = 0;
        let groups = lengths.chunk_by(|one, next| one == next).map(|group| {
            let part = states.clone().narrow(0, first, group.len());
            first += group.len();
            attention.key_value(part.narrow(1, 0, group[0].clamp(1, tokens)))
        });
        Self(groups.collect())
    }

    /// Some of the rows.
    #[must_use]
    pub fn select(&self, rows: Range<usize>) -> Self {
        let mut first = 0;
        let parts = self.0.iter().filter_map(|part| {
            let start = rows.start.max(first);
            let end = rows.end.min(first + part.rows());
            let within = start.saturating_sub(first)..end.saturating_sub(first);
            first += part.rows();
            (start < end).then(|| part.select(within))
        });
        Self(parts.collect())
    }

    /// The same rows once per step, step-major.
    #[must_use]
    pub fn repeat(&self, steps: usize) -> Self {
        match &self.0[..] {
            [one] if steps > 1 => Self(vec![one.repeat(steps)]),
            parts => {
                let parts = repeat_n(parts, steps).flatten().cloned();
                Self(parts.collect())
            }
        }
    }

    /// What `hidden`, `[rows, tokens, width]`, reads of it through `attention`: the same shape.
    pub fn attended(&self, attention: &Attention, hidden: Tensor<3>) -> Tensor<3> {
        if let [one] = &self.0[..] {
            return attention.attend(hidden, one.clone());
        }
        let mut first = 0;
        let parts = self.0.iter().map(|part| {
            let rows = hidden.clone().narrow(0, first, part.rows());
            first += part.rows();
            attention.attend(rows, part.clone())
        });
        Tensor::cat(parts.collect(), 0)
    }
}

//! What a refresh leaves at the cut for the spans after it.

use burn::tensor::{DType, Tensor};

use super::spans::Span;
use crate::denoiser::Carry;

/// What reuse steps read.
#[derive(Debug)]
pub(super) struct Store<C> {
    held: Option<Held<C>>,
    /// Whether a recording left it, always in the same memory.
    pub(super) in_place: bool,
    /// The most bytes it held.
    pub(super) bytes: usize,
}

/// A carry, and the latents it was made from.
#[derive(Debug, Clone)]
pub(super) struct Held<C> {
    pub(super) carry: C,
    sample: Signature,
}

/// Size and type of the latents that a carry was made from.
pub(super) type Signature = ([usize; 4], DType);

pub(super) fn signature(sample: &Tensor<4>) -> Signature {
    (sample.dims(), sample.dtype())
}

impl<C> Held<C> {
    /// Whether it was made from latents such as these.
    pub(super) fn fits(&self, sample: &Tensor<4>) -> bool {
        self.sample == signature(sample)
    }
}

impl<C> Default for Store<C> {
    fn default() -> Self {
        Self {
            held: None,
            in_place: false,
            bytes: 0,
        }
    }
}

impl<C: Carry> Store<C> {
    /// What `span` reads, if it reads and something is there. Nothing stays behind its last reader.
    pub(super) fn read(&mut self, span: &Span) -> Option<Held<C>> {
        let held = self.held.take().filter(|_| !span.refresh)?;
        self.held = span.read_after.then(|| held.clone());
        Some(held)
    }

    /// What a refresh leaves, if anything is read of it.
    pub(super) fn fill(&mut self, carry: Option<C>, sample: Signature, in_place: bool) {
        let bytes = carry.as_ref().map_or(0, Carry::bytes);
        self.bytes = self.bytes.max(bytes);
        self.in_place = in_place;
        self.held = carry.map(|carry| Held { carry, sample });
    }

    /// Forgets what was made under other conditions, or for other rows.
    pub(super) fn void(&mut self) {
        self.held = None;
    }
}

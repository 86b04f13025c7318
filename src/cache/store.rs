//! What refreshes leave at the cut for the spans after them, and the forecasts that are made of it.

use std::collections::VecDeque;

use burn::tensor::{DType, Tensor};

use super::{plan::CachePlan, predictor::Predictor, spans::Span};
use crate::denoiser::Carry;

/// What reuse steps read.
#[derive(Debug)]
pub(super) struct Store<C> {
    predictor: Predictor,
    /// Whether refreshes are held against what was expected of them, which takes all that is left of those before.
    verifies: bool,
    /// The last refreshes, oldest first, all made from latents of one kind.
    past: VecDeque<Held<C>>,
    /// Whether a recording left it, always in the same memory.
    pub(super) in_place: bool,
    /// The most bytes it held.
    pub(super) bytes: usize,
}

/// A carry, the evaluation that computed it, and the latents it was made from.
#[derive(Debug, Clone)]
struct Held<C> {
    carry: C,
    evaluation: usize,
    sample: Signature,
}

/// Size and type of the latents that a carry was made from.
pub(super) type Signature = ([usize; 4], DType);

pub(super) fn signature(sample: &Tensor<4>) -> Signature {
    (sample.dims(), sample.dtype())
}

impl<C> Held<C> {
    fn place(&self) -> (usize, &C) {
        (self.evaluation, &self.carry)
    }
}

/// What would have stood in for what a refresh computes.
#[derive(Debug)]
pub(super) struct Expected<C> {
    /// The hidden tensor alone.
    pub(super) carry: C,
    /// The order of the forecast, which falls where there are few refreshes.
    pub(super) order: usize,
}

/// What a span reads: the carry of its evaluations, rows step-major, and the latents it was made from.
#[derive(Debug)]
pub(super) struct Forecast<C> {
    pub(super) carry: C,
    sample: Signature,
}

impl<C> Forecast<C> {
    /// Whether it was made from latents such as these.
    pub(super) fn fits(&self, sample: &Tensor<4>) -> bool {
        self.sample == signature(sample)
    }
}

impl<C: Carry> Store<C> {
    pub(super) fn of(plan: &CachePlan) -> Self {
        Self {
            predictor: plan.predictor,
            verifies: plan.verify.is_some(),
            past: VecDeque::new(),
            in_place: false,
            bytes: 0,
        }
    }

    /// What `span` reads, if it reads and something is there. Nothing stays after its last reader.
    pub(super) fn read(&mut self, span: &Span) -> Option<Forecast<C>> {
        if span.refresh {
            self.retain(self.read_beside(span));
            return None;
        }
        let sample = self.past.back()?.sample;
        let past: Vec<(usize, &C)> = self.past.iter().map(Held::place).collect();
        let carries = span.range().map(|evaluation| self.at(&past, evaluation));
        let carry = C::join(carries.collect());
        self.retain(span.keep);
        Some(Forecast { carry, sample })
    }

    /// How many of the refreshes before it a refresh, or one of the spans after it, reads.
    fn read_beside(&self, span: &Span) -> usize {
        if self.verifies {
            return usize::MAX;
        }
        let own = match span.len {
            1 => 0,
            _ => self.predictor.history(),
        };
        own.max(span.keep).saturating_sub(1)
    }

    /// Makes room for a refresh from these latents: what was made from others does not go with it.
    pub(super) fn admit(&mut self, sample: Signature) {
        self.past.retain(|held| held.sample == sample);
    }

    /// The carry of all evaluations of a span, rows step-major, whose first has computed `carry`.
    pub(super) fn ahead(&self, carry: C, span: &Span) -> C {
        let new = (span.first, &carry);
        let past: Vec<(usize, &C)> = self.past.iter().map(Held::place).chain([new]).collect();
        let rest = span.range().skip(1);
        let rest: Vec<C> = rest.map(|evaluation| self.at(&past, evaluation)).collect();
        C::join([carry].into_iter().chain(rest).collect())
    }

    /// What stands in for the carry of an evaluation.
    fn at(&self, past: &[(usize, &C)], evaluation: usize) -> C {
        let positions: Vec<f64> = past.iter().map(|(at, _)| *at as f64).collect();
        let weights = self.predictor.weights(&positions, evaluation as f64);
        let parts: Vec<(&C, f64)> = past.iter().map(|(_, carry)| *carry).zip(weights).collect();
        C::mix(&parts)
    }

    /// What the refreshes before would have stood in with for what `evaluation` computes.
    pub(super) fn expected(&self, evaluation: usize) -> Option<Expected<C>> {
        let read = self.predictor.history().min(self.past.len());
        let order = self.predictor.order().min(read.checked_sub(1)?);
        let hidden = self
            .past
            .iter()
            .map(|held| held.carry.clone().without_skips());
        let hidden: Vec<C> = hidden.collect();
        let past = self.past.iter().zip(&hidden);
        let past: Vec<(usize, &C)> = past.map(|(held, carry)| (held.evaluation, carry)).collect();
        let carry = self.at(&past, evaluation);
        Some(Expected { carry, order })
    }

    /// What a refresh leaves, if anything is read of it.
    pub(super) fn fill(
        &mut self,
        span: &Span,
        carry: Option<C>,
        sample: Signature,
        in_place: bool,
    ) {
        self.in_place = in_place;
        self.past.extend(carry.map(|carry| Held {
            carry,
            evaluation: span.first,
            sample,
        }));
        self.retain(span.keep);
        let bytes = self.past.iter().map(|held| held.carry.bytes()).sum();
        self.bytes = self.bytes.max(bytes);
    }

    /// Drops all but the last `count` refreshes.
    fn retain(&mut self, count: usize) {
        let old = self.past.len().saturating_sub(count);
        self.past.drain(..old);
    }

    /// Forgets what was made under other conditions, or for other rows.
    pub(super) fn void(&mut self) {
        self.past.clear();
    }
}

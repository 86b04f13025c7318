//! Decisions in the middle of an evaluation: the cells in front run, and what they give says whether the others must.
//!
//! On a plain line of cells, what the others add is stored and added again (a residual); where a skip leads around the others, what they
//! give is stored itself.

use std::collections::VecDeque;

use burn::tensor::Tensor;

use super::{
    decider::Decider,
    plan::CachePlan,
    spans::Span,
    step::{Asked, Line, Made},
    store::{Signature, signature},
};
use crate::denoiser::{Carry, StagedDenoiser, numbers};
use crate::recall::Recall;

/// By how much the last two stored tensors are extended at most, as a multiple of their difference.
const FARTHEST: f64 = 2.0;

/// What a decider remembers of a run.
#[derive(Debug)]
pub(super) struct Probe<C> {
    decider: Decider,
    /// The change that is summed up since everything was computed.
    sum: f64,
    /// The mark of the evaluation before.
    last: Option<C>,
    /// The last evaluations that computed everything, oldest first.
    past: VecDeque<Computed<C>>,
    sample: Option<Signature>,
    /// The most bytes it held.
    pub(super) bytes: usize,
}

/// An evaluation that computed everything: what the cells in front gave, and what the others.
#[derive(Debug)]
struct Computed<C> {
    mark: C,
    stored: C,
    /// The size of `mark`, once it was asked for.
    size: Option<Tensor<1>>,
}

impl<C: Carry> Probe<C> {
    /// Of a plan that decides in the middle of evaluations.
    pub(super) fn of(plan: &CachePlan) -> Option<Self> {
        let decider = plan.decider.filter(|decider| decider.probes())?;
        Some(Self {
            decider,
            sum: 0.0,
            last: None,
            past: VecDeque::new(),
            sample: None,
            bytes: 0,
        })
    }

    /// Forgets what was made under other conditions, or for other rows.
    pub(super) fn void(&mut self) {
        (self.last, self.sum) = (None, 0.0);
        self.past.clear();
    }

    /// The prediction of an evaluation whose rows of the latents are `sample`.
    pub(super) fn predict<D: StagedDenoiser<Carry = C> + ?Sized>(
        &mut self,
        asked: &Asked<'_, '_, D>,
        sample: Tensor<4>,
    ) -> Made {
        self.admit(signature(&sample));
        let Asked { line, span, .. } = *asked;
        let all = asked.all();
        let probed = || line.probed(sample, &all, span, self);
        let (prediction, refreshes) = line.caller.call(probed);
        Made {
            prediction,
            span: Span {
                refresh: refreshes,
                ..*span
            },
            refreshes,
            cells: line.plan.runs(refreshes),
        }
    }

    /// Forgets what was made from other latents than these.
    fn admit(&mut self, sample: Signature) {
        if self.sample.replace(sample) != Some(sample) {
            self.void();
        }
    }

    /// Evaluations it remembers.
    fn history(&self) -> usize {
        match self.decider {
            Decider::DiCache { .. } => 2,
            Decider::EasyCache { .. } | Decider::FirstBlock { .. } => 1,
        }
    }

    /// What stands in for the cells that `mark` says need not run; none where they must.
    fn recall(&mut self, mark: &C) -> Option<C> {
        let newest = self.past.back_mut()?;
        match self.decider {
            Decider::DiCache { threshold } => {
                let [changed, reach] = self.changes(mark);
                self.sum += changed;
                let weights = match self.past.len() {
                    1 => vec![1.0],
                    _ => vec![1.0 - reach, reach],
                };
                let stored = self.past.iter().map(|computed| &computed.stored);
                let parts: Vec<(&C, f64)> = stored.zip(weights).collect();
                (self.sum < threshold).then(|| C::mix(&parts))
            }
            Decider::EasyCache { threshold } | Decider::FirstBlock { threshold } => {
                let size = newest.size.get_or_insert_with(|| newest.mark.magnitude());
                let change = difference(mark, &newest.mark) / size.clone();
                (numbers(change)[0] <= threshold).then(|| newest.stored.clone())
            }
        }
    }

    /// By which share `mark` differs from that of the evaluation before, and where it stands, 1 being the last computed evaluation and 0
    /// the one before that.
    fn changes(&self, mark: &C) -> [f64; 2] {
        let computed: Vec<&C> = self.past.iter().map(|computed| &computed.mark).collect();
        let last = self.last.as_ref().unwrap_or(computed[computed.len() - 1]);
        let changed = difference(mark, last) / last.magnitude();
        let reach = match computed[..] {
            [before, newest] => difference(mark, before) / difference(newest, before),
            _ => changed.clone(),
        };
        let mut both = numbers(Tensor::cat(vec![changed, reach], 0)).into_iter();
        let (changed, reach) = (both.next(), both.next());
        let reach = reach.filter(|reach| reach.is_finite()).unwrap_or(1.0);
        [changed.unwrap_or(f64::NAN), reach.min(FARTHEST)]
    }

    /// What an evaluation leaves: its mark, and what the cells gave that it computed.
    fn keep(&mut self, mark: C, stored: Option<C>) {
        if let Decider::DiCache { .. } = self.decider {
            self.last = Some(mark.clone());
        }
        if let Some(stored) = stored {
            self.sum = 0.0;
            self.past.push_back(Computed {
                mark,
                stored,
                size: None,
            });
            let old = self.past.len().saturating_sub(self.history());
            self.past.drain(..old);
        }
        let held = self.past.iter();
        let held = held.map(|computed| computed.mark.bytes() + computed.stored.bytes());
        let last = self.last.as_ref().map_or(0, Carry::bytes);
        self.bytes = self.bytes.max(held.sum::<usize>() + last);
    }
}

/// Mean |one - other|, `[1]`.
fn difference<C: Carry>(one: &C, other: &C) -> Tensor<1> {
    minus(one, other).magnitude()
}

impl<D: StagedDenoiser + ?Sized> Line<'_, D> {
    /// The prediction of one evaluation, and whether it computed everything: where the span refreshes, or `probe` asks for it.
    fn probed(
        &self,
        sample: Tensor<4>,
        prepared: &D::Prepared,
        span: &Span,
        probe: &mut Probe<D::Carry>,
    ) -> (Tensor<4>, bool) {
        let advance = |carry, cells| self.advance(carry, cells, prepared, &mut Recall::none());
        let entered = self.denoiser.enter(sample, prepared);
        let head = advance(entered.clone(), 0..self.plan.prefix);
        let mark = match probe.decider {
            Decider::DiCache { .. } => head.clone().without_skips(),
            Decider::EasyCache { .. } | Decider::FirstBlock { .. } => minus(&head, &entered),
        };
        let around = self.plan.cut < self.plan.cells;
        let recalled = (!span.refresh).then(|| probe.recall(&mark)).flatten();
        let refreshes = recalled.is_none();
        let (carry, stored) = match recalled {
            Some(stored) if around => {
                let mut carry = head;
                carry.graft_deep(&stored);
                (carry, None)
            }
            Some(stored) => (D::Carry::mix(&[(&head, 1.0), (&stored, 1.0)]), None),
            None => {
                let carry = advance(head.clone(), self.plan.prefix..self.plan.cut);
                let stored = if around {
                    carry.clone().without_skips()
                } else {
                    minus(&carry, &head)
                };
                (carry, Some(stored))
            }
        };
        probe.keep(mark, stored);
        let carry = advance(carry, self.plan.cut..self.plan.cells);
        (self.denoiser.leave(carry, prepared), refreshes)
    }
}

/// What lies between two carries of one line.
fn minus<C: Carry>(one: &C, other: &C) -> C {
    C::mix(&[(one, 1.0), (other, -1.0)])
}

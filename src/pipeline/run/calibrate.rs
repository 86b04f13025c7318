//! Routers for Learning-to-Cache without training: how much every branch changes between neighbouring steps, measured on a few runs.
//!
//! A published router is trained; this one is greedy. Of all branches at all steps that may reuse, it takes first those whose output
//! changes least for the multiply-accumulates it costs, and the score of a branch says how far down that list it stands: with
//! `threshold=0.4`, two fifths of those multiply-accumulates are spared. One router serves every threshold.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use burn::tensor::{FloatDType, Tensor};

use crate::cache::Router;
use crate::conditioning::Conditioning;
use crate::denoiser::{Blueprint, Evaluation, StagedDenoiser};
use crate::recall::{BranchMemory, Recall, Site};

/// The score of branches that are always computed.
const COMPUTED: f32 = 50.0;

/// Runs as the denoiser inside and watches its branches.
pub(in crate::pipeline) struct Observed<'a, D: ?Sized> {
    inner: &'a D,
    changes: Mutex<Changes>,
}

impl<'a, D: ?Sized> Observed<'a, D> {
    pub(in crate::pipeline) fn new(inner: &'a D, changes: Changes) -> Self {
        Self {
            inner,
            changes: Mutex::new(changes),
        }
    }

    pub(in crate::pipeline) fn into_changes(self) -> Changes {
        self.changes
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: StagedDenoiser + ?Sized> StagedDenoiser for Observed<'_, D> {
    type Carry = D::Carry;
    type Run = D::Run;
    /// With the evaluation that is prepared for.
    type Prepared = (usize, D::Prepared);

    fn cells(&self) -> usize {
        self.inner.cells()
    }

    fn start(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> D::Run {
        self.inner.start(conditioning, evaluations)
    }

    fn prepare(&self, run: &D::Run, evaluations: &[Evaluation]) -> Self::Prepared {
        (evaluations[0].index, self.inner.prepare(run, evaluations))
    }

    fn select(&self, run: &D::Run, rows: Range<usize>) -> D::Run {
        self.inner.select(run, rows)
    }

    fn enter(&self, sample: Tensor<4>, prepared: &Self::Prepared) -> D::Carry {
        self.inner.enter(sample, &prepared.1)
    }

    fn advance(
        &self,
        carry: D::Carry,
        cells: Range<usize>,
        (evaluation, prepared): &Self::Prepared,
        _recall: &mut Recall<'_>,
    ) -> D::Carry {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.evaluation = *evaluation;
        let mut recall = Recall::with(&mut *changes);
        self.inner.advance(carry, cells, prepared, &mut recall)
    }

    fn leave(&self, carry: D::Carry, prepared: &Self::Prepared) -> Tensor<4> {
        self.inner.leave(carry, &prepared.1)
    }
}

/// How much branches change, summed over runs.
pub(in crate::pipeline) struct Changes {
    /// Evaluations of a run.
    evaluations: usize,
    evaluation: usize,
    last: BTreeMap<Site, Tensor<3>>,
    /// By evaluation and branch: distance from the output before, over the length of this one.
    sums: BTreeMap<(usize, Site), f64>,
}

impl Changes {
    pub(in crate::pipeline) fn new(evaluations: usize) -> Self {
        Self {
            evaluations,
            evaluation: 0,
            last: BTreeMap::new(),
            sums: BTreeMap::new(),
        }
    }

    /// Whether a router may reuse anything at an evaluation: counted from the last step, even ones may, and the first has nothing.
    fn may_reuse(&self, evaluation: usize) -> bool {
        evaluation > 0 && (self.evaluations - 1 - evaluation).is_multiple_of(2)
    }

    /// The router of these changes; half of what it may spare is spared at its own threshold.
    pub(in crate::pipeline) fn router(&self, trunk: &Blueprint) -> Router {
        let sites: Vec<Site> = trunk.sites().collect();
        let mut ranked: Vec<Candidate> = self
            .sums
            .iter()
            .filter_map(|(&(evaluation, site), &change)| {
                let branch = sites.iter().position(|other| *other == site)?;
                let macs = trunk.branch(site).macs;
                Some(Candidate {
                    change_by_cost: change / macs as f64,
                    row: self.evaluations - 1 - evaluation,
                    branch,
                    macs,
                })
            })
            .collect();
        ranked.sort_by(|a, b| a.change_by_cost.total_cmp(&b.change_by_cost));
        let all: u64 = ranked.iter().map(|candidate| candidate.macs).sum();
        let mut scores = vec![vec![COMPUTED; sites.len()]; self.evaluations];
        let mut taken = 0;
        for candidate in ranked {
            taken += candidate.macs;
            scores[candidate.row][candidate.branch] = logit(taken as f64 / all as f64);
        }
        Router::new("calibrated", scores, 0.5)
    }
}

/// A branch at a step where it may be reused.
struct Candidate {
    change_by_cost: f64,
    /// Steps from the last.
    row: usize,
    /// Its number in the trunk.
    branch: usize,
    macs: u64,
}

/// The score whose sigmoid is `share`.
#[allow(clippy::cast_possible_truncation, reason = "scores are kept in f32")]
fn logit(share: f64) -> f32 {
    let share = share.clamp(1e-9, 1.0 - 1e-9);
    (share / (1.0 - share)).ln() as f32
}

impl BranchMemory for Changes {
    fn recall(&mut self, _site: Site) -> Option<Tensor<3>> {
        None
    }

    fn keep(&mut self, site: Site, output: &Tensor<3>) {
        let last = self.last.insert(site, output.clone());
        let Some(last) = last.filter(|_| self.may_reuse(self.evaluation)) else {
            return;
        };
        let mean_square = |tensor: Tensor<3>| {
            let mean = tensor.cast(FloatDType::F32).square().mean();
            f64::from(mean.into_scalar::<f32>())
        };
        let change = mean_square(output.clone() - last);
        // A branch that gives nothing changes nothing.
        let size = mean_square(output.clone()).max(f64::MIN_POSITIVE);
        *self.sums.entry((self.evaluation, site)).or_default() += (change / size).sqrt();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoiser::{BranchCost, Cell};
    use crate::recall::Branch;

    #[test]
    fn what_changes_least_for_its_cost_is_taken_first() {
        let cost = |macs| BranchCost {
            branch: Branch::FeedForward,
            macs,
            elements: 1,
        };
        let trunk = Blueprint {
            cells: vec![Cell {
                name: "b0".into(),
                macs: 40,
                hidden: 1,
                pushes: 0,
                pops: false,
                branches: vec![cost(10), cost(30)],
                ..Cell::default()
            }],
            prepare_macs: 0,
            leave_macs: 0,
            prediction: 1,
        };
        let mut changes = Changes::new(4);
        assert_eq!(
            (0..4).map(|one| changes.may_reuse(one)).collect::<Vec<_>>(),
            [false, true, false, true]
        );
        let site = |ordinal| Site {
            cell: 0,
            ordinal,
            branch: Branch::FeedForward,
        };
        changes.sums = BTreeMap::from([
            ((1, site(0)), 1.0),
            ((1, site(1)), 0.3),
            ((3, site(0)), 5.0),
            ((3, site(1)), 2.0),
        ]);
        // By cost: the second branch at step 2 from the last, then at the last; then the first in the same order.
        let scores = changes.router(&trunk).scores().to_vec();
        let share = |score: f32| 1.0 / (1.0 + (-f64::from(score)).exp());
        for (row, branch, expected) in [(2, 1, 30.0), (0, 1, 60.0), (2, 0, 70.0), (0, 0, 80.0)] {
            let found = share(scores[row][branch]);
            assert!(
                (found - expected / 80.0).abs() < 1e-6,
                "{row}, {branch}: {found}"
            );
        }
        assert!(share(scores[1][0]) > 0.99 && share(scores[3][1]) > 0.99);
    }
}

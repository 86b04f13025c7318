//! Reuse inside cells: which branches answer from an earlier evaluation, and whose outputs are kept for that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use burn::tensor::Tensor;

use super::{course::Course, predictor::Predictor, router::Router, series::Series};
use crate::{
    denoiser::{Blueprint, weighted_sum},
    error::{Error, PlanError},
    recall::{Branch, BranchMemory, Site},
};

/// A method that works inside cells. It goes alone or with a rule that cuts the trunk.
#[derive(Debug, Clone, PartialEq)]
pub enum BranchRule {
    /// T-GATE (arXiv 2404.02747, section 4): from solver step `gate` on, cross-attention outputs are frozen at the mean of both
    /// guidance halves, and guidance ends.
    Gate {
        /// The first solver step that attends to the text no more.
        gate: usize,
    },
    /// Learning-to-Cache (arXiv 2406.01733, section 3): at every other evaluation, the branches that a trained router names are those
    /// of the evaluation before.
    Routed(Router),
    /// `TaylorSeer` (arXiv 2503.06923): outputs of attention layers are forecast between full evaluations.
    Series(Series),
}

impl BranchRule {
    /// For each evaluation, the branches that the method would not compute.
    pub(super) fn wanted(
        &self,
        course: &Course,
        trunk: &Blueprint,
    ) -> Result<Vec<BTreeSet<Site>>, Error> {
        let sites: Vec<Site> = trunk.sites().collect();
        match self {
            Self::Gate { gate } => gated(*gate, course, &sites),
            Self::Series(series) => series.wanted(course.evaluations(), &sites),
            Self::Routed(router) => match course.repeated_step() {
                Some((step, calls)) => Err(PlanError::RouterSolver { calls, step }.into()),
                None => router.wanted(course.evaluations(), &sites),
            },
        }
    }

    /// What stands in for outputs: `wanted`, but for a method that is a forecast itself.
    pub(super) fn predictor(&self, wanted: Predictor) -> Predictor {
        match self {
            Self::Series(series) => Predictor::TaylorSeer(series.order),
            Self::Gate { .. } | Self::Routed(_) => wanted,
        }
    }

    /// The evaluation from which on guidance is off.
    pub(super) fn guidance_end(&self, course: &Course) -> Option<usize> {
        match self {
            Self::Gate { gate } => course.first_evaluation(*gate),
            Self::Routed(_) | Self::Series(_) => None,
        }
    }
}

fn gated(gate: usize, course: &Course, sites: &[Site]) -> Result<Vec<BTreeSet<Site>>, Error> {
    if gate == 0 {
        return Err(PlanError::ZeroGate.into());
    }
    let crosses = |site: &&Site| site.branch == Branch::CrossAttention;
    let frozen: BTreeSet<Site> = sites.iter().filter(crosses).copied().collect();
    if frozen.is_empty() {
        return Err(PlanError::NoCrossAttention.into());
    }
    let begin = course.first_evaluation(gate);
    let begin = begin.unwrap_or(course.evaluations());
    let of = |evaluation| {
        if evaluation < begin {
            BTreeSet::new()
        } else {
            frozen.clone()
        }
    };
    Ok((0..course.evaluations()).map(of).collect())
}

/// What one evaluation does with the branches of its cells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Use {
    /// Not computed.
    reused: BTreeSet<Site>,
    /// How many outputs of a branch that runs, the last ones, later evaluations read.
    kept: BTreeMap<Site, usize>,
}

/// For every evaluation, the branches that answer from an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BranchPlan {
    evaluations: Vec<Use>,
    /// What stands in for outputs that are not computed.
    predictor: Predictor,
}

impl BranchPlan {
    /// From what a method would not compute. `runs` gives the cells that an evaluation runs; only their branches are asked for. What
    /// was never computed before cannot be reused.
    pub(super) fn new(
        wanted: Vec<BTreeSet<Site>>,
        predictor: Predictor,
        trunk: &Blueprint,
        runs: impl Fn(usize) -> [Range<usize>; 2],
    ) -> Self {
        let asked = |evaluation: usize| {
            let ranges = runs(evaluation);
            let runs = move |site: &Site| ranges.iter().any(|range| range.contains(&site.cell));
            trunk.sites().filter(runs)
        };
        let mut known = BTreeSet::new();
        let mut evaluations = Vec::with_capacity(wanted.len());
        for (evaluation, wanted) in wanted.iter().enumerate() {
            let reused = asked(evaluation)
                .filter(|site| wanted.contains(site) && known.contains(site))
                .collect();
            known.extend(asked(evaluation));
            let kept = BTreeMap::new();
            evaluations.push(Use { reused, kept });
        }
        let mut needed = BTreeMap::new();
        for (evaluation, this) in evaluations.iter_mut().enumerate().rev() {
            for site in asked(evaluation) {
                let later = needed.remove(&site).unwrap_or(0);
                this.kept.extend((later > 0).then_some((site, later)));
                let now = if this.reused.contains(&site) {
                    predictor.history()
                } else {
                    later.saturating_sub(1)
                };
                needed.extend((now > 0).then_some((site, now)));
            }
        }
        Self {
            evaluations,
            predictor,
        }
    }

    /// Branches that an evaluation does not compute.
    pub fn reused(&self, evaluation: usize) -> impl Iterator<Item = Site> {
        let this = self.evaluations.get(evaluation);
        this.into_iter()
            .flat_map(|this| this.reused.iter().copied())
    }

    /// Whether any branch is ever reused.
    pub fn reuses(&self) -> bool {
        self.evaluations.iter().any(|this| !this.reused.is_empty())
    }

    /// The most elements that one row keeps at any time.
    pub(super) fn kept_elements(&self, trunk: &Blueprint) -> u64 {
        let mut held = BTreeMap::new();
        let (mut elements, mut most) = (0, 0);
        for this in &self.evaluations {
            let sites = this.reused.iter().chain(this.kept.keys());
            for &site in sites.collect::<BTreeSet<_>>() {
                let computed = usize::from(!this.reused.contains(&site));
                let before = held.remove(&site).unwrap_or(0);
                let after = (before + computed).min(this.kept.get(&site).copied().unwrap_or(0));
                held.insert(site, after);
                let each = trunk.branch(site).elements;
                elements += after as u64 * each;
                elements -= before as u64 * each;
                most = most.max(elements);
            }
        }
        most
    }
}

/// The outputs that are kept between evaluations of one run.
#[derive(Debug, Default)]
pub(super) struct BranchStore {
    kept: BTreeMap<Site, VecDeque<Output>>,
    /// Branches that were not computed.
    pub(super) reused: usize,
    /// The most bytes held.
    pub(super) bytes: usize,
}

/// The output of a branch, `[rows, tokens, width]`, and the evaluation that computed it.
#[derive(Debug)]
struct Output {
    tensor: Tensor<3>,
    evaluation: usize,
}

impl Output {
    fn bytes(&self) -> usize {
        self.tensor.dims().iter().product::<usize>() * self.tensor.dtype().size()
    }
}

impl BranchStore {
    /// The memory of one evaluation.
    pub(super) fn at<'a>(
        &'a mut self,
        plan: &'a BranchPlan,
        evaluation: usize,
    ) -> impl BranchMemory + 'a {
        View {
            store: self,
            predictor: plan.predictor,
            evaluation,
            this: plan.evaluations.get(evaluation),
        }
    }

    /// Goes on with one guidance half: what is kept becomes the mean of both.
    pub(super) fn merge_halves(&mut self) {
        for output in self.kept.values_mut().flatten() {
            let halves = output.tensor.clone().chunk(2, 0);
            let count = halves.len() as f64;
            let sum = halves.into_iter().reduce(|sum, half| sum + half);
            output.tensor = sum.map_or_else(|| output.tensor.clone(), |sum| sum / count);
        }
    }

    /// Drops all but the last `count` outputs of a branch.
    fn retain(&mut self, site: Site, count: usize) {
        let Some(outputs) = self.kept.get_mut(&site) else {
            return;
        };
        let old = outputs.len().saturating_sub(count);
        outputs.drain(..old);
        if outputs.is_empty() {
            self.kept.remove(&site);
        }
    }
}

struct View<'a> {
    store: &'a mut BranchStore,
    predictor: Predictor,
    evaluation: usize,
    this: Option<&'a Use>,
}

impl View<'_> {
    /// How many outputs of a branch later evaluations read.
    fn kept(&self, site: Site) -> usize {
        let kept = self.this.and_then(|this| this.kept.get(&site));
        kept.copied().unwrap_or(0)
    }
}

impl BranchMemory for View<'_> {
    fn recall(&mut self, site: Site) -> Option<Tensor<3>> {
        self.this.filter(|this| this.reused.contains(&site))?;
        let outputs: Vec<&Output> = self.store.kept.get(&site)?.iter().collect();
        let positions: Vec<f64> = outputs
            .iter()
            .map(|output| output.evaluation as f64)
            .collect();
        let weights = self.predictor.weights(&positions, self.evaluation as f64);
        let parts: Vec<(&Output, f64)> = outputs.into_iter().zip(weights).collect();
        let output = weighted_sum(&parts, |output| &output.tensor);
        self.store.retain(site, self.kept(site));
        self.store.reused += 1;
        Some(output)
    }

    fn keep(&mut self, site: Site, output: &Tensor<3>) {
        let kept = self.kept(site);
        if kept > 0 {
            self.store.kept.entry(site).or_default().push_back(Output {
                tensor: output.clone(),
                evaluation: self.evaluation,
            });
        }
        self.store.retain(site, kept);
        let held = self.store.kept.values().flatten();
        self.store.bytes = self.store.bytes.max(held.map(Output::bytes).sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoiser::{BranchCost, Cell};

    /// Four cells of one cross-attention each.
    fn trunk() -> Blueprint {
        let cost = BranchCost {
            branch: Branch::CrossAttention,
            macs: 3,
            elements: 5,
        };
        let cell = Cell {
            macs: 10,
            hidden: 7,
            branches: vec![cost],
            ..Cell::default()
        };
        Blueprint {
            cells: vec![cell; 4],
            prepare_macs: 0,
            leave_macs: 0,
            prediction: 1,
        }
    }

    fn wanted(evaluations: &[bool]) -> Vec<BTreeSet<Site>> {
        let all: BTreeSet<Site> = trunk().sites().collect();
        let of = |&reuse: &bool| if reuse { all.clone() } else { BTreeSet::new() };
        evaluations.iter().map(of).collect()
    }

    fn counts(plan: &BranchPlan) -> Vec<[usize; 2]> {
        let uses = plan.evaluations.iter();
        uses.map(|this| [this.reused.len(), this.kept.len()])
            .collect()
    }

    #[test]
    fn outputs_are_kept_as_long_as_someone_reads_them() {
        let plan = BranchPlan::new(
            wanted(&[false, false, true, true, false]),
            Predictor::Hold,
            &trunk(),
            |_| [0..4, 4..4],
        );
        assert_eq!(counts(&plan), [[0, 0], [0, 4], [4, 4], [4, 0], [0, 0]]);
        assert_eq!(plan.kept_elements(&trunk()), 20);
    }

    #[test]
    fn nothing_is_reused_before_it_was_computed() {
        let plan = BranchPlan::new(
            wanted(&[true, true, false]),
            Predictor::Hold,
            &trunk(),
            |_| [0..4, 4..4],
        );
        assert_eq!(counts(&plan), [[0, 4], [4, 0], [0, 0]]);
    }

    /// `DeepCache` runs the inner cells at its refreshes only: their outputs wait there.
    #[test]
    fn cells_that_do_not_run_are_not_asked() {
        let shallow = |evaluation| match evaluation {
            0 | 3 => [0..3, 3..4],
            _ => [0..1, 3..4],
        };
        let plan = BranchPlan::new(
            wanted(&[false, false, true, true]),
            Predictor::Hold,
            &trunk(),
            shallow,
        );
        assert_eq!(counts(&plan), [[0, 2], [0, 2], [2, 2], [4, 0]]);
    }
}

//! Reuse inside cells: which branches answer from an earlier evaluation, and whose outputs are kept for that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use burn::tensor::Tensor;

use super::{course::Course, router::Router};
use crate::{
    denoiser::Blueprint,
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
            Self::Routed(router) => match course.repeated_step() {
                Some((step, calls)) => Err(PlanError::RouterSolver { calls, step }.into()),
                None => router.wanted(course.evaluations(), &sites),
            },
        }
    }

    /// The evaluation from which on guidance is off.
    pub(super) fn guidance_end(&self, course: &Course) -> Option<usize> {
        match self {
            Self::Gate { gate } => course.first_evaluation(*gate),
            Self::Routed(_) => None,
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
    /// A later evaluation reads these outputs.
    kept: BTreeSet<Site>,
}

/// For every evaluation, the branches that answer from an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BranchPlan {
    evaluations: Vec<Use>,
}

impl BranchPlan {
    /// From what a method would not compute. `runs` gives the cells that an evaluation runs; only their branches are asked for. What
    /// was never computed before cannot be reused.
    pub(super) fn new(
        wanted: Vec<BTreeSet<Site>>,
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
            let kept = BTreeSet::new();
            evaluations.push(Use { reused, kept });
        }
        let mut read_later = BTreeSet::new();
        for (evaluation, this) in evaluations.iter_mut().enumerate().rev() {
            let kept = |site: &Site| read_later.contains(site);
            this.kept = asked(evaluation).filter(kept).collect();
            read_later.retain(|site| !this.kept.contains(site) || this.reused.contains(site));
            read_later.extend(this.reused.iter().copied());
        }
        Self { evaluations }
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

    /// The most elements that one row keeps after an evaluation.
    pub(super) fn kept_elements(&self, trunk: &Blueprint) -> u64 {
        let behind = |this: &Use| {
            let kept = this.kept.iter();
            kept.map(|site| trunk.branch(*site).elements).sum()
        };
        self.evaluations.iter().map(behind).max().unwrap_or(0)
    }
}

/// The outputs that are kept between evaluations of one run.
#[derive(Debug, Default)]
pub(super) struct BranchStore {
    kept: BTreeMap<Site, Tensor<3>>,
    /// Branches that were not computed.
    pub(super) reused: usize,
    /// The most bytes held.
    pub(super) bytes: usize,
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
            this: plan.evaluations.get(evaluation),
        }
    }

    /// Goes on with one guidance half: what is kept becomes the mean of both.
    pub(super) fn merge_halves(&mut self) {
        for output in self.kept.values_mut() {
            let halves = output.clone().chunk(2, 0);
            let count = halves.len() as f64;
            let sum = halves.into_iter().reduce(|sum, half| sum + half);
            *output = sum.map_or_else(|| output.clone(), |sum| sum / count);
        }
    }

    fn keep(&mut self, site: Site, output: Tensor<3>) {
        self.kept.insert(site, output);
        let bytes =
            |output: &Tensor<3>| output.dims().iter().product::<usize>() * output.dtype().size();
        self.bytes = self.bytes.max(self.kept.values().map(bytes).sum());
    }
}

struct View<'a> {
    store: &'a mut BranchStore,
    this: Option<&'a Use>,
}

impl BranchMemory for View<'_> {
    fn recall(&mut self, site: Site) -> Option<Tensor<3>> {
        let this = self.this.filter(|this| this.reused.contains(&site))?;
        let output = if this.kept.contains(&site) {
            self.store.kept.get(&site).cloned()
        } else {
            self.store.kept.remove(&site)
        };
        self.store.reused += usize::from(output.is_some());
        output
    }

    fn keep(&mut self, site: Site, output: &Tensor<3>) {
        if self.this.is_some_and(|this| this.kept.contains(&site)) {
            self.store.keep(site, output.clone());
        }
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
        let plan = BranchPlan::new(wanted(&[false, false, true, true, false]), &trunk(), |_| {
            [0..4, 4..4]
        });
        assert_eq!(counts(&plan), [[0, 0], [0, 4], [4, 4], [4, 0], [0, 0]]);
        assert_eq!(plan.kept_elements(&trunk()), 20);
    }

    #[test]
    fn nothing_is_reused_before_it_was_computed() {
        let plan = BranchPlan::new(wanted(&[true, true, false]), &trunk(), |_| [0..4, 4..4]);
        assert_eq!(counts(&plan), [[0, 4], [4, 0], [0, 0]]);
    }

    /// `DeepCache` runs the inner cells at its refreshes only: their outputs wait there.
    #[test]
    fn cells_that_do_not_run_are_not_asked() {
        let shallow = |evaluation| match evaluation {
            0 | 3 => [0..3, 3..4],
            _ => [0..1, 3..4],
        };
        let plan = BranchPlan::new(wanted(&[false, false, true, true]), &trunk(), shallow);
        assert_eq!(counts(&plan), [[0, 2], [0, 2], [2, 2], [4, 0]]);
    }
}

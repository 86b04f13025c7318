//! A rule applied to one run of one trunk: which cells run at which evaluation.

use std::ops::Range;

use super::{
    branches::BranchPlan,
    course::Course,
    decider::Decider,
    predictor::Predictor,
    refresh::{Refresh, guarded, least_guard},
    rule::{CacheRule, Cut, OpenSkips},
    series::Series,
    spans::{self, Before, Span, Spans},
    warning::Warning,
};
use crate::{
    denoiser::Blueprint,
    error::{Error, PlanError},
};

/// Steps up to which neighbouring evaluations differ too much for any reuse to go unnoticed.
const FEW_STEPS: usize = 10;

/// A rule resolved for one run of one trunk.
#[derive(Debug, Clone, PartialEq)]
pub struct CachePlan {
    /// In order, without gaps.
    pub spans: Vec<Span>,
    /// The cell in front of which the line is split; the number of cells if nothing is reused, or whole predictions are.
    pub cut: usize,
    /// Cells of the line.
    pub cells: usize,
    /// Cells `0..prefix` run again at reuse steps, for their skips.
    pub prefix: usize,
    /// What happens to open skips.
    pub skips: OpenSkips,
    /// What stands in for the tensors at the cut where they are not computed.
    pub predictor: Predictor,
    /// Evaluations whose conditions are not those before: nothing that was stored before is read from there on.
    pub changes: Vec<usize>,
    /// What decides in the run, at evaluations that need not compute everything, whether they do; spans are then those of a run that
    /// computes as little as it may.
    pub decider: Option<Decider>,
    /// The error of a forecast above which refreshes come sooner; spans are then those of a run in which none is as large.
    pub verify: Option<f64>,
    /// What is reused inside cells.
    pub branches: BranchPlan,
    /// The evaluation from which on guidance is off.
    pub guidance_end: Option<usize>,
    /// What a user should know.
    pub warnings: Vec<Warning>,
}

impl CachePlan {
    /// A plan that reuses nothing: plain forward passes.
    pub fn plain(evaluations: usize, cells: usize) -> Self {
        Self {
            spans: spans::plain(evaluations),
            cut: cells,
            cells,
            prefix: 0,
            skips: OpenSkips::Hold,
            predictor: Predictor::Hold,
            changes: Vec::new(),
            decider: None,
            verify: None,
            branches: BranchPlan::default(),
            guidance_end: None,
            warnings: Vec::new(),
        }
    }

    /// Evaluations of the run.
    pub fn evaluations(&self) -> usize {
        self.spans.last().map_or(0, |span| span.range().end)
    }

    /// Evaluations that compute everything.
    pub fn refreshes(&self) -> impl Iterator<Item = usize> {
        let refreshing = self.spans.iter().filter(|span| span.refresh);
        refreshing.map(|span| span.first)
    }

    /// Whether an evaluation computes everything up to the cut.
    fn refreshes_at(&self, evaluation: usize) -> bool {
        self.span_at(evaluation).is_some_and(|span| span.refresh)
    }

    /// The span that begins with an evaluation.
    fn span_at(&self, evaluation: usize) -> Option<Span> {
        let spans = &self.spans;
        let index = spans.binary_search_by_key(&evaluation, |span| span.first);
        index.ok().map(|index| spans[index])
    }

    /// The span that an evaluation is in.
    pub(super) fn span_around(&self, evaluation: usize) -> Span {
        let next = self.spans.partition_point(|span| span.first <= evaluation);
        let span = next.checked_sub(1).and_then(|index| self.spans.get(index));
        *span.expect("a plan covers its run, and spans are asked for in order")
    }

    /// Whether any evaluation reuses anything.
    pub fn reuses(&self) -> bool {
        self.branches.reuses() || self.spans.iter().any(|span| !span.refresh || span.len > 1)
    }

    /// Whether whole predictions are stored: nothing runs where they are reused.
    pub fn whole(&self) -> bool {
        let reuses = self.spans.iter().any(|span| !span.refresh);
        reuses && self.prefix == 0 && self.cut == self.cells
    }

    /// Cells that run for one evaluation: all of them when it refreshes, else those before `prefix` and after `cut`.
    pub fn runs(&self, refresh: bool) -> [Range<usize>; 2] {
        let front = if refresh { self.cut } else { self.prefix };
        [0..front, self.cut..self.cells]
    }
}

/// All spans are known before the run.
impl Spans for &CachePlan {
    fn next(&mut self, before: &Before<'_>) -> Span {
        let span = self.span_at(before.evaluation);
        span.expect("a plan covers its run, and spans are asked for in order")
    }
}

impl CacheRule {
    /// Resolves the rule for a run of a trunk.
    ///
    /// # Errors
    ///
    /// If a number is out of range, the schedule does not exist for this run, the trunk has no such cut, or the evaluations cannot be
    /// decoded in batches.
    pub fn plan(&self, course: &Course, trunk: &Blueprint) -> Result<CachePlan, Error> {
        if self.auto.is_some() {
            let rule = self.to_string();
            return Err(PlanError::Unpicked { rule }.into());
        }
        self.check_numbers()?;
        self.check_decider()?;
        self.check_verified()?;
        if course.evaluations() == 0 {
            return Err(PlanError::NoEvaluations.into());
        }
        let course = self.course(course);
        let mut plan = self.line(&course, trunk)?;
        plan.guidance_end = course.guidance_end();
        if let Some(branches) = self.branches.as_ref().filter(|_| self.outputs().is_none()) {
            let wanted = branches.wanted(&course, trunk)?;
            let runs = |evaluation| plan.runs(plan.refreshes_at(evaluation));
            let predictor = branches.predictor(self.branch_forecast);
            plan.branches = BranchPlan::new(wanted, predictor, trunk, runs);
        }
        if self.cut != Cut::Nowhere || self.branches.is_some() {
            plan.warnings = self.warnings(&course, &plan);
        }
        Ok(plan)
    }

    /// The run as the rule makes it.
    fn course(&self, course: &Course) -> Course {
        let branches = self.branches.as_ref();
        let end = branches.and_then(|branches| branches.guidance_end(course));
        course.clone().unguided_from(end)
    }

    /// What is reused of the line.
    fn line(&self, course: &Course, trunk: &Blueprint) -> Result<CachePlan, Error> {
        let plain = CachePlan::plain(course.evaluations(), trunk.cells.len());
        if let Some(series) = self.outputs() {
            return self.whole_outputs(series, course, plain);
        }
        let Some((prefix, cut)) = self.cut.place(trunk)? else {
            return Ok(plain);
        };
        self.check_parallel(course)?;
        let flags = self.refresh_flags(course)?;
        if self.decider.is_none() {
            self.check_order(&flags)?;
        }
        let changes: Vec<usize> = course.changes().collect();
        let mut spans = spans::of(&flags, self.max_parallel);
        spans::keep(&mut spans, self.forecast.history(), &changes);
        Ok(CachePlan {
            spans,
            cut,
            prefix,
            skips: self.cut.skips(),
            predictor: self.forecast,
            changes,
            decider: self.decider,
            verify: self.verify,
            ..plain
        })
    }

    /// Whole predictions that a series forecasts.
    fn whole_outputs(
        &self,
        series: &Series,
        course: &Course,
        plain: CachePlan,
    ) -> Result<CachePlan, Error> {
        let mut flags = series.flags(course.evaluations())?;
        let changes: Vec<usize> = course.changes().collect();
        for &change in &changes {
            flags[change] = true;
        }
        let predictor = Predictor::TaylorSeer(series.order);
        let mut spans = spans::of(&flags, 1);
        spans::keep(&mut spans, predictor.history(), &changes);
        Ok(CachePlan {
            spans,
            predictor,
            changes,
            verify: self.verify,
            ..plain
        })
    }

    /// A forecast of second and higher order must reach it in the run.
    fn check_order(&self, refreshes: &[bool]) -> Result<(), Error> {
        let refreshes = refreshes.iter().filter(|&&refresh| refresh).count();
        let needed = self.forecast.order() + 1;
        if needed > 2 && needed > refreshes {
            return Err(PlanError::ForecastOrder {
                forecast: self.forecast.to_string(),
                needed,
                refreshes,
            }
            .into());
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), Error> {
        if !(0.0..=0.5).contains(&self.guard) {
            return Err(PlanError::Guard { guard: self.guard }.into());
        }
        match self.noise {
            Some(noise) if !(noise.alpha.is_finite() && (0.0..=1.0).contains(&noise.from)) => {
                Err(PlanError::Noise {
                    alpha: noise.alpha,
                    from: noise.from,
                }
                .into())
            }
            _ => Ok(()),
        }
    }

    /// A decision is made for every evaluation, with nothing batched and nothing reused inside cells, and some decide on what is stored.
    fn check_decider(&self) -> Result<(), Error> {
        let Some(decider) = self.decider else {
            return Ok(());
        };
        let threshold = decider.threshold();
        if !(threshold.is_finite() && threshold >= 0.0) {
            return Err(PlanError::DeciderThreshold { threshold }.into());
        }
        let rule = || self.to_string();
        if self.max_parallel > 1 {
            let parallel = self.max_parallel;
            return Err(PlanError::ParallelDecided {
                rule: rule(),
                parallel,
            }
            .into());
        }
        if self.branches.is_some() {
            return Err(PlanError::DecidedBranches { rule: rule() }.into());
        }
        if decider.probes() && !self.forecast.holds() {
            return Err(PlanError::DecidedForecast { rule: rule() }.into());
        }
        Ok(())
    }

    /// Refreshes are added to those that are planned, and only where nothing else counts on them.
    fn check_verified(&self) -> Result<(), Error> {
        let reason = match self {
            Self { verify: None, .. } => return Ok(()),
            Self {
                decider: Some(_), ..
            } => "it decides in the run when to refresh",
            Self {
                branches: Some(_), ..
            } if self.outputs().is_none() => {
                "what is reused inside cells is planned for the refreshes there are"
            }
            _ => return Ok(()),
        };
        let rule = self.to_string();
        Err(PlanError::Unverifiable { rule, reason }.into())
    }

    fn check_parallel(&self, course: &Course) -> Result<(), Error> {
        let parallel = self.max_parallel;
        if parallel == 0 {
            return Err(PlanError::ZeroParallel.into());
        }
        if parallel == 1 {
            return Ok(());
        }
        if self.cut.skips() == OpenSkips::Recompute {
            return Err(PlanError::ParallelRecompute { parallel }.into());
        }
        if self.branches.is_some() {
            let rule = self.to_string();
            return Err(PlanError::ParallelBranches { rule, parallel }.into());
        }
        match course.repeated_step() {
            Some((step, calls)) => Err(PlanError::ParallelSolver {
                parallel,
                calls,
                step,
            }
            .into()),
            None => Ok(()),
        }
    }

    /// For each evaluation, whether it refreshes. The evaluations of one solver step are of one kind, unless they are listed.
    fn refresh_flags(&self, course: &Course) -> Result<Vec<bool>, Error> {
        let count = course.solver_steps();
        let mut steps: Vec<bool> = (0..count)
            .map(|step| guarded(step, count, self.guard))
            .collect();
        for step in course.refreshing_steps() {
            steps[step] = true;
        }
        let listed = matches!(self.refresh, Refresh::At(_));
        if !listed {
            for step in self.refresh.steps(count)? {
                steps[step] = true;
            }
        }
        let mut flags: Vec<bool> = course.step_numbers().map(|step| steps[step]).collect();
        if listed {
            for evaluation in self.refresh.steps(flags.len())? {
                flags[evaluation] = true;
            }
        }
        Ok(flags)
    }

    fn warnings(&self, course: &Course, plan: &CachePlan) -> Vec<Warning> {
        if !plan.reuses() {
            return vec![Warning::NothingReused];
        }
        // Lists count a sampler's calls, as their program does, and are made for a number of steps that is asked for: PNDM makes 51 of 50.
        let steps = course.asked_steps();
        let largest = plan.spans.iter().map(|span| span.len).max().unwrap_or(1);
        let list = match self.refresh {
            Refresh::Keys(list) if list.made_for() != steps => Some(list),
            _ => None,
        };
        let single = plan.refreshes().take(2).count() == 1;
        let idle = (single && plan.decider.is_none() && !plan.predictor.holds())
            .then_some(Warning::NothingForecast);
        let takes_guard = self.cut != Cut::Nowhere && !self.picked;
        let few = (steps <= FEW_STEPS).then(|| Warning::FewSteps {
            steps,
            guard: least_guard(steps).filter(|_| takes_guard && !guarded(1, steps, self.guard)),
            remedy: self.remedy(),
        });
        let batched = (largest > 1).then_some(Warning::Batched {
            evaluations: largest,
        });
        let list = list.map(|list| Warning::ListOfOtherLength { list, steps });
        [few, batched, list, idle].into_iter().flatten().collect()
    }
}

impl Cut {
    /// How many leading cells reuse steps run, and the cell where they re-enter; `None` if nothing is reused.
    fn place(self, trunk: &Blueprint) -> Result<Option<(usize, usize)>, Error> {
        let cells = trunk.cells.len();
        match self {
            Self::Nowhere => Ok(None),
            Self::Skip(branch) => skip_place(trunk, branch).map(Some),
            Self::AfterMiddle => match popping(trunk).next() {
                Some(cut) => Ok(Some((0, cut))),
                None => Err(PlanError::NoSkips {
                    method: "encoder propagation",
                }
                .into()),
            },
            Self::End => Ok(Some((0, cells))),
            Self::Cell(cut) if (1..cells).contains(&cut) => Ok(Some((0, cut))),
            Self::Cell(cut) => Err(PlanError::CutPlace { cut, cells }.into()),
            Self::Proportional => Self::Cell(published_share(cells)).place(trunk),
            Self::Outermost | Self::Probe(_) if trunk.skips() > 0 => {
                let branch = if let Self::Probe(branch) = self {
                    branch
                } else {
                    0
                };
                skip_place(trunk, branch).map(Some)
            }
            Self::Outermost => Self::Cell(cells.saturating_sub(1)).place(trunk),
            Self::FirstCell if trunk.skips() > 0 => Err(PlanError::Skips.into()),
            Self::FirstCell => Self::Probe(0).place(trunk),
            Self::Probe(cell) if cell + 1 < cells => Ok(Some((cell + 1, cells))),
            Self::Probe(branch) => Err(PlanError::Probe { branch, cells }.into()),
        }
    }
}

/// 18 of 28, the cut of `DiT-XL/2`, in a line of `cells`.
fn published_share(cells: usize) -> usize {
    (cells * 18 + 14) / 28
}

/// Skip `branch` is pushed by the last cell of the prefix and popped by the cell at the cut.
fn skip_place(trunk: &Blueprint, branch: usize) -> Result<(usize, usize), Error> {
    let Some(last) = trunk.skips().checked_sub(1) else {
        return Err(PlanError::NoSkips {
            method: "DeepCache",
        }
        .into());
    };
    let pushing = trunk.cells.iter().enumerate();
    let pusher = pushing.filter(|(_, cell)| cell.pushes > 0).nth(branch);
    let popper = last
        .checked_sub(branch)
        .and_then(|order| popping(trunk).nth(order));
    match (pusher, popper) {
        (Some((cell, _)), Some(cut)) => Ok((cell + 1, cut)),
        _ => Err(PlanError::Branch { branch, last }.into()),
    }
}

/// Cells that pop a skip.
fn popping(trunk: &Blueprint) -> impl Iterator<Item = usize> {
    let cells = trunk.cells.iter().enumerate();
    cells.filter(|(_, cell)| cell.pops).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_cut_keeps_its_share() {
        assert_eq!([28, 24, 12, 6].map(published_share), [18, 15, 8, 4]);
    }
}

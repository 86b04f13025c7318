//! The evaluations of a run, as plans see them.

/// What a plan must know of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// For each evaluation, the number of its solver step among those executed.
    solver_steps: Vec<usize>,
    /// Solver steps that were asked for, where a sampler makes another number of them.
    asked: Option<usize>,
    /// Evaluations at which the store must not be read.
    must_refresh: Vec<usize>,
    /// The evaluation from which on guidance is off.
    guidance_end: Option<usize>,
}

impl Course {
    /// A run of `count` evaluations, one a solver step.
    pub fn steps(count: usize) -> Self {
        Self::grouped(0..count)
    }

    /// A run whose evaluations belong to these solver steps, in any ascending numbering (Heun: 0, 0, 1, 1, …, or 7, 7, 8, 8, …).
    pub fn grouped(solver_steps: impl IntoIterator<Item = usize>) -> Self {
        let given: Vec<usize> = solver_steps.into_iter().collect();
        let mut step = 0;
        let number = |index: usize| {
            step += usize::from(index > 0 && given[index] != given[index - 1]);
            step
        };
        Self {
            solver_steps: (0..given.len()).map(number).collect(),
            asked: None,
            must_refresh: Vec::new(),
            guidance_end: None,
        }
    }

    /// With the number of solver steps that was asked for, if that is known: PNDM makes the second of them twice.
    #[must_use]
    pub fn asked(mut self, steps: Option<usize>) -> Self {
        self.asked = steps;
        self
    }

    /// With evaluations that must refresh: a `ControlNet` switching on or off, a change of stage.
    #[must_use]
    pub fn refreshing_at(mut self, evaluations: impl IntoIterator<Item = usize>) -> Self {
        self.must_refresh.extend(evaluations);
        self
    }

    /// With guidance that is off from an evaluation on; the store, made for both halves, is not read there.
    #[must_use]
    pub fn unguided_from(mut self, evaluation: Option<usize>) -> Self {
        let ends = [self.guidance_end, evaluation];
        self.guidance_end = ends.into_iter().flatten().min();
        self.refreshing_at(evaluation)
    }

    /// With guidance for this share of the run, 0 to 1; it goes off at the beginning of a solver step.
    #[must_use]
    pub fn guided_until(self, share: Option<f64>) -> Self {
        let first = |share: f64| (share * self.evaluations() as f64).ceil() as usize;
        let end = share.and_then(|share| self.next_step(first(share)));
        self.unguided_from(end)
    }

    /// The first evaluation, from `evaluation` on, that begins a solver step.
    fn next_step(&self, evaluation: usize) -> Option<usize> {
        let begins =
            |&index: &usize| index == 0 || self.solver_steps[index] != self.solver_steps[index - 1];
        (evaluation..self.evaluations()).find(begins)
    }

    /// The first evaluation of a solver step, if the run has that step.
    pub(super) fn first_evaluation(&self, step: usize) -> Option<usize> {
        self.solver_steps.iter().position(|&found| found == step)
    }

    /// Model calls of the run.
    pub fn evaluations(&self) -> usize {
        self.solver_steps.len()
    }

    /// Solver steps of the run.
    pub fn solver_steps(&self) -> usize {
        self.solver_steps.last().map_or(0, |last| last + 1)
    }

    /// Solver steps of the run as its caller counts them.
    pub(super) fn asked_steps(&self) -> usize {
        self.asked.unwrap_or(self.solver_steps())
    }

    /// The first solver step with more than one evaluation, and how many it has.
    pub(super) fn repeated_step(&self) -> Option<(usize, usize)> {
        let mut groups = self.solver_steps.chunk_by(|a, b| a == b);
        let group = groups.find(|group| group.len() > 1)?;
        Some((group[0], group.len()))
    }

    /// For each evaluation, the number of its solver step.
    pub(super) fn step_numbers(&self) -> impl Iterator<Item = usize> {
        self.solver_steps.iter().copied()
    }

    /// Solver steps in which an evaluation must refresh.
    pub(super) fn refreshing_steps(&self) -> impl Iterator<Item = usize> {
        let evaluations = self.must_refresh.iter();
        evaluations.filter_map(|&evaluation| self.solver_steps.get(evaluation).copied())
    }

    /// Evaluations whose conditions are not those before.
    pub(super) fn changes(&self) -> impl Iterator<Item = usize> {
        self.must_refresh.iter().copied()
    }

    /// The evaluation from which on guidance is off.
    pub(super) fn guidance_end(&self) -> Option<usize> {
        self.guidance_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solver_steps_are_renumbered() {
        let course = Course::grouped([7, 7, 9, 9, 12]);
        assert_eq!(course.solver_steps, [0, 0, 1, 1, 2]);
        assert_eq!(course.repeated_step(), Some((0, 2)));
        assert_eq!((course.evaluations(), course.solver_steps()), (5, 3));
    }

    /// Half of five evaluations ends inside the second step.
    #[test]
    fn guidance_ends_between_solver_steps() {
        let end = |share: f64| {
            let course = Course::grouped([0, 0, 1, 1, 2]);
            course.guided_until(Some(share)).guidance_end
        };
        assert_eq!(
            [0.0, 0.4, 0.5, 0.9, 1.0].map(end),
            [Some(0), Some(2), Some(4), None, None]
        );
    }
}

//! What it costs to forecast a stretch of evaluations, for every pair of refreshes that it can be forecast from.

/// Errors of forecast stretches, by the refreshes before them.
///
/// An entry `(before, last, at)` is the error behind evaluation `at` when all evaluations behind the last refresh, `last`, were forecast,
/// and the refresh before it was `before`; `None` where there was no other, or where forecasts look at one refresh alone.
#[derive(Debug, Clone, PartialEq)]
pub struct CostTable {
    evaluations: usize,
    gap: usize,
    looks_back: bool,
    /// By `last`, then distance of `before` (0: none), then distance of `at` less 1.
    costs: Vec<f64>,
}

/// A place in a [`CostTable`]: the refresh before the last, the last, and the last evaluation that is forecast from them.
pub type CostEntry = (Option<usize>, usize, usize);

impl CostTable {
    /// A table of zeros for runs of so many evaluations with a refresh after `gap` of them at the latest. `looks_back` says that forecasts
    /// are made from two refreshes.
    pub fn new(evaluations: usize, gap: usize, looks_back: bool) -> Self {
        let gap = gap.clamp(1, evaluations.max(1));
        let distances = if looks_back { gap + 1 } else { 1 };
        Self {
            evaluations,
            gap,
            looks_back,
            costs: vec![0.0; evaluations * distances * (gap - 1)],
        }
    }

    /// Evaluations of a run.
    pub fn evaluations(&self) -> usize {
        self.evaluations
    }

    /// The most evaluations from one refresh to the next, or to the end.
    pub fn gap(&self) -> usize {
        self.gap
    }

    /// All entries that a schedule can ask for.
    pub fn entries(&self) -> impl Iterator<Item = CostEntry> + '_ {
        (1..self.evaluations).flat_map(|at| self.entries_at(at))
    }

    /// Those of one evaluation.
    pub fn entries_at(&self, at: usize) -> impl Iterator<Item = CostEntry> + '_ {
        let lasts = (at + 1).saturating_sub(self.gap)..at;
        lasts.flat_map(move |last| self.befores(last).map(move |before| (before, last, at)))
    }

    /// The refreshes that can stand before the refresh `last`: evaluation 0 always refreshes.
    pub(crate) fn befores(&self, last: usize) -> impl Iterator<Item = Option<usize>> + use<> {
        let earlier = if self.looks_back {
            last.saturating_sub(self.gap)..last
        } else {
            0..0
        };
        let none = earlier.is_empty().then_some(None);
        none.into_iter().chain(earlier.map(Some))
    }

    /// Adds to the error of an entry: errors of several runs add up.
    ///
    /// # Panics
    ///
    /// If it is none of [`entries`](Self::entries).
    pub fn add(&mut self, entry: CostEntry, error: f64) {
        let place = self.place(entry);
        self.costs[place] += error;
    }

    /// Multiplies the error of every stretch by that of `gains` in front of the evaluation behind it: what is left of it in the end.
    ///
    /// # Panics
    ///
    /// If there are fewer gains than evaluations and one more.
    pub fn weigh(&mut self, gains: &[f64]) {
        let width = self.gap - 1;
        for (place, cost) in self.costs.iter_mut().enumerate() {
            let row = place / width;
            let last = row / if self.looks_back { self.gap + 1 } else { 1 };
            // Entries beyond the end are never asked for.
            let behind = (last + place % width + 2).min(self.evaluations);
            *cost *= gains[behind];
        }
    }

    /// The error of an entry.
    ///
    /// # Panics
    ///
    /// If it is none of [`entries`](Self::entries).
    pub fn cost(&self, entry: CostEntry) -> f64 {
        self.costs[self.place(entry)]
    }

    /// The error of the stretch between the refresh `last` and the evaluation `next`.
    pub(super) fn stretch(&self, before: Option<usize>, last: usize, next: usize) -> f64 {
        if next == last + 1 {
            return 0.0;
        }
        self.cost((before, last, next - 1))
    }

    fn place(&self, (before, last, at): CostEntry) -> usize {
        let distances = if self.looks_back { self.gap + 1 } else { 1 };
        let back = before
            .filter(|_| self.looks_back)
            .map_or(0, |before| last - before);
        assert!(last < at && at < last + self.gap && back < distances);
        (last * distances + back) * (self.gap - 1) + (at - last - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stretch weighs what the evaluation behind it does.
    #[test]
    fn what_is_left_in_the_end_weighs() {
        for looks_back in [false, true] {
            let mut table = CostTable::new(7, 4, looks_back);
            let entries: Vec<CostEntry> = table.entries().collect();
            for &entry in &entries {
                table.add(entry, 2.0);
            }
            let gains: Vec<f64> = (0..=7).map(f64::from).collect();
            table.weigh(&gains);
            for entry in entries {
                let (_, _, at) = entry;
                assert_eq!(table.cost(entry), 2.0 * gains[at + 1], "{entry:?}");
            }
            assert_eq!(table.stretch(None, 0, 1), 0.0);
        }
    }
}

//! Where to refresh: the schedules of least error, by dynamic programming.
//!
//! **Source**: the idea of `DPCache` (2026), a programme over calibrated errors. The error of a stretch depends on the last two refreshes
//! at most, so those two are the state, and the schedules found are the best ones, not merely good ones.

use super::table::CostTable;

/// Which evaluations are computed in full, and what that costs in quality.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Ascending, from 0.
    pub refreshes: Vec<usize>,
    /// The table's errors, summed over all stretches that are forecast.
    pub error: f64,
}

/// The schedule of least error for every number of refreshes that the table's bound on gaps allows, fewest first. Of equal ones the one
/// whose refreshes come earlier, from the last on.
pub fn schedules(table: &CostTable) -> Vec<Schedule> {
    let mut found = Vec::new();
    let mut rounds = vec![Round::first(table)];
    for count in 1..=table.evaluations() {
        found.extend(finished(table, &rounds, count));
        let next = rounds[count - 1].next(table);
        rounds.push(next);
    }
    found
}

/// A way to the state of one round: the least error so far, and the refresh before `before`.
#[derive(Debug, Clone, Copy)]
struct Way {
    error: f64,
    came_from: Option<usize>,
}

/// All states after so many refreshes: by the last refresh, then by the distance of the one before (0: none).
#[derive(Debug)]
struct Round {
    ways: Vec<Vec<Option<Way>>>,
}

impl Round {
    fn empty(table: &CostTable) -> Self {
        Self {
            ways: vec![vec![None; table.gap() + 1]; table.evaluations()],
        }
    }

    /// One refresh, at evaluation 0.
    fn first(table: &CostTable) -> Self {
        let mut round = Self::empty(table);
        if let Some(ways) = round.ways.first_mut() {
            ways[0] = Some(Way {
                error: 0.0,
                came_from: None,
            });
        }
        round
    }

    /// The states with their least errors, as `(before, last, error)`.
    fn states(&self) -> impl Iterator<Item = (Option<usize>, usize, f64)> + '_ {
        let lasts = self.ways.iter().enumerate();
        lasts.flat_map(|(last, ways)| {
            let ways = ways.iter().enumerate();
            ways.filter_map(move |(distance, way)| {
                let before = (distance > 0).then(|| last - distance);
                way.map(|way| (before, last, way.error))
            })
        })
    }

    /// With one refresh more.
    fn next(&self, table: &CostTable) -> Self {
        let mut next = Self::empty(table);
        for (before, last, so_far) in self.states() {
            for refresh in last + 1..table.evaluations().min(last + table.gap() + 1) {
                let error = so_far + table.stretch(before, last, refresh);
                let way = &mut next.ways[refresh][refresh - last];
                if way.is_none_or(|known| error < known.error) {
                    *way = Some(Way {
                        error,
                        came_from: before,
                    });
                }
            }
        }
        next
    }

    fn way(&self, before: Option<usize>, last: usize) -> Option<Way> {
        self.ways[last][before.map_or(0, |before| last - before)]
    }
}

/// The best schedule of `count` refreshes, if any reaches the end of the run.
fn finished(table: &CostTable, rounds: &[Round], count: usize) -> Option<Schedule> {
    let end = table.evaluations();
    let reaching = rounds[count - 1]
        .states()
        .filter(|(_, last, _)| end - last <= table.gap());
    let ends = reaching.map(|(before, last, so_far)| {
        let error = so_far + table.stretch(before, last, end);
        (before, last, error)
    });
    let (mut before, mut last, error) = ends.min_by(|a, b| a.2.total_cmp(&b.2))?;
    let mut refreshes = vec![last];
    for round in rounds[..count].iter().rev() {
        let Some(earlier) = before else { break };
        let way = round.way(before, last)?;
        (before, last) = (way.came_from, earlier);
        refreshes.push(last);
    }
    refreshes.reverse();
    Some(Schedule { refreshes, error })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The error of a schedule, straight from the table; `None` where a gap is too long.
    fn error(table: &CostTable, refreshes: &[usize]) -> Option<f64> {
        let (mut before, mut sum) = (None, 0.0);
        let ends = refreshes[1..].iter().copied().chain([table.evaluations()]);
        for (&last, next) in refreshes.iter().zip(ends) {
            if next - last > table.gap() {
                return None;
            }
            sum += table.stretch(before, last, next);
            before = Some(last);
        }
        Some(sum)
    }

    /// All lists of refreshes that begin at 0.
    fn all(evaluations: usize) -> impl Iterator<Item = Vec<usize>> {
        (0..1_usize << (evaluations - 1)).map(move |bits| {
            let rest = (1..evaluations).filter(move |index| bits >> (index - 1) & 1 == 1);
            std::iter::once(0).chain(rest).collect()
        })
    }

    fn tables() -> impl Strategy<Value = CostTable> {
        (1..9_usize, 1..9_usize, any::<bool>()).prop_flat_map(|(evaluations, gap, looks_back)| {
            let empty = CostTable::new(evaluations, gap, looks_back);
            let entries: Vec<_> = empty.entries().collect();
            // Few values, so that ties are common.
            prop::collection::vec(0..20_u32, entries.len()).prop_map(move |costs| {
                let mut table = empty.clone();
                for (entry, cost) in entries.iter().zip(costs) {
                    table.add(*entry, f64::from(cost));
                }
                table
            })
        })
    }

    proptest! {
        /// Every budget that any list keeps has a schedule, of the least error that any list has.
        #[test]
        fn no_list_is_better(table in tables()) {
            let found = schedules(&table);
            for count in 1..=table.evaluations() {
                let lists = all(table.evaluations()).filter(|list| list.len() == count);
                let best = lists.filter_map(|list| error(&table, &list)).reduce(f64::min);
                let ours = found.iter().find(|one| one.refreshes.len() == count);
                prop_assert_eq!(ours.map(|one| one.error), best);
                let own = ours.and_then(|one| error(&table, &one.refreshes));
                prop_assert_eq!(own, best, "{:?}", ours);
            }
            prop_assert_eq!(schedules(&table), found);
        }
    }

    #[test]
    fn a_bound_on_gaps_rules_short_lists_out() {
        let table = CostTable::new(10, 4, true);
        let counts: Vec<_> = schedules(&table)
            .iter()
            .map(|one| one.refreshes.len())
            .collect();
        assert_eq!(counts, (3..=10).collect::<Vec<_>>());
        assert!(schedules(&CostTable::new(0, 4, true)).is_empty());
    }

    /// Where early evaluations change most, refreshes are dense there.
    #[test]
    fn refreshes_stand_where_the_error_is() {
        let mut table = CostTable::new(12, 12, false);
        let entries: Vec<_> = table.entries().collect();
        for (before, last, at) in entries {
            table.add(
                (before, last, at),
                ((at - last) as f64).powi(2) / (1 + at) as f64,
            );
        }
        let four = &schedules(&table)[3].refreshes;
        let gaps: Vec<_> = four.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.is_sorted() && gaps[0] < gaps[2], "{four:?}");
    }
}

//! What a plan costs: multiply-accumulates and stored bytes, from a trunk's blueprint alone.

use std::ops::AddAssign;

use super::{decider::Decider, plan::CachePlan, rule::OpenSkips, spans::Span};
use crate::denoiser::{Blueprint, Rows};

/// The cost of a plan on a trunk. Multiply-accumulates (MACs) are of the denoiser only, for all rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// For each cell, for how many evaluations it runs.
    pub cells: Vec<usize>,
    /// For each evaluation, its MACs.
    pub evaluation_macs: Vec<u64>,
    /// For each cell, its MACs over the whole run.
    pub cell_macs: Vec<u64>,
    /// MACs of the run if nothing were reused.
    pub plain_macs: u64,
    /// The most bytes that the store holds; 0 if no span reads it.
    pub store_bytes: u64,
    /// Whether it is decided in the run what is computed: between this and everything.
    pub decided: bool,
}

impl Forecast {
    /// Of a run that `next` goes on with, over the same cells with a store of its own.
    #[must_use]
    pub fn followed_by(mut self, next: Self) -> Self {
        add(&mut self.cells, &next.cells);
        add(&mut self.cell_macs, &next.cell_macs);
        self.evaluation_macs.extend(next.evaluation_macs);
        self.plain_macs += next.plain_macs;
        self.store_bytes = self.store_bytes.max(next.store_bytes);
        self.decided |= next.decided;
        self
    }

    /// With another call of `rows` rows at each of `evaluations`, of all cells of `trunk` but those that `skips` names: nothing of it is reused.
    #[must_use]
    pub fn with_calls(
        mut self,
        trunk: &Blueprint,
        evaluations: impl Iterator<Item = usize>,
        rows: u64,
        skips: impl Fn(usize) -> bool,
    ) -> Self {
        let cells = trunk.cells.iter().enumerate();
        let runs: Vec<u64> = cells
            .map(|(cell, cost)| {
                if skips(cell) {
                    0
                } else {
                    product([rows, cost.macs])
                }
            })
            .collect();
        let ends = product([rows, trunk.prepare_macs + trunk.leave_macs]);
        let call = sum(runs.iter().copied().chain([ends]));
        for evaluation in evaluations {
            if let Some(macs) = self.evaluation_macs.get_mut(evaluation) {
                *macs = sum([*macs, call]);
                self.plain_macs = sum([self.plain_macs, call]);
                add(&mut self.cell_macs, &runs);
            }
        }
        self
    }

    /// MACs of the run.
    pub fn total_macs(&self) -> u64 {
        sum(self.evaluation_macs.iter().copied())
    }

    /// MACs of the run, as a share of what they would be without reuse.
    pub fn ratio(&self) -> f64 {
        self.total_macs() as f64 / self.plain_macs.max(1) as f64
    }

    /// How much faster the denoising loop can be at best.
    pub fn speedup(&self) -> f64 {
        self.plain_macs as f64 / self.total_macs().max(1) as f64
    }

    /// How many of `steps` plain steps cost as much as this run: what a method must be compared with.
    pub fn plain_steps(&self, steps: usize) -> usize {
        ((steps as f64 * self.ratio()).round() as usize).max(1)
    }

    /// For each cell, its share of the run's MACs.
    pub fn cell_shares(&self) -> Vec<f64> {
        let total = self.total_macs().max(1) as f64;
        self.cell_macs
            .iter()
            .map(|&macs| macs as f64 / total)
            .collect()
    }
}

/// Adds `more` to `counts`, one by one.
pub(super) fn add<T: Copy + AddAssign>(counts: &mut [T], more: &[T]) {
    for (count, more) in counts.iter_mut().zip(more) {
        *count += *more;
    }
}

impl CachePlan {
    /// Forecasts a run of `rows` rows whose stored elements have `element_bytes` bytes.
    pub fn forecast(&self, trunk: &Blueprint, rows: Rows, element_bytes: usize) -> Forecast {
        let count = rows.total() as u64;
        let rows = self.rows(rows);
        let each = self.evaluation_macs(trunk).zip(&rows);
        Forecast {
            cells: self.executions(),
            evaluation_macs: each.map(|(macs, rows)| product([macs, *rows])).collect(),
            cell_macs: self.cell_macs(trunk, &rows),
            plain_macs: product([self.evaluations() as u64, trunk.full_macs(), count]),
            store_bytes: product([self.row_bytes(trunk, element_bytes as u64), count]),
            decided: self.decider.is_some() || self.verify.is_some(),
        }
    }

    /// For each evaluation, its rows: those of one half from where guidance ends.
    fn rows(&self, rows: Rows) -> Vec<u64> {
        let end = self.guidance_end.unwrap_or(usize::MAX);
        let of = |evaluation| {
            if evaluation < end {
                rows.total()
            } else {
                rows.half()
            }
        };
        (0..self.evaluations())
            .map(|evaluation| of(evaluation) as u64)
            .collect()
    }

    /// For each cell, its MACs over the whole run.
    fn cell_macs(&self, trunk: &Blueprint, rows: &[u64]) -> Vec<u64> {
        let mut macs = vec![0; self.cells];
        for ((evaluation, refresh), rows) in self.kinds().enumerate().zip(rows) {
            for cell in self.runs(refresh).into_iter().flatten() {
                macs[cell] = sum([macs[cell], product([*rows, trunk.cells[cell].macs])]);
            }
            for site in self.branches.reused(evaluation) {
                let spared = product([*rows, trunk.branch(site).macs]);
                macs[site.cell] = macs[site.cell].saturating_sub(spared);
            }
        }
        macs
    }

    /// For each cell, for how many evaluations it runs.
    fn executions(&self) -> Vec<usize> {
        let mut runs = vec![0; self.cells];
        for refresh in self.kinds() {
            for cell in self.runs(refresh).into_iter().flatten() {
                runs[cell] += 1;
            }
        }
        runs
    }

    /// For each evaluation, whether it runs every cell.
    fn kinds(&self) -> impl Iterator<Item = bool> {
        self.spans
            .iter()
            .flat_map(|span| (0..span.len).map(|position| span.refresh && position == 0))
    }

    /// One row of each evaluation.
    fn evaluation_macs(&self, trunk: &Blueprint) -> impl Iterator<Item = u64> {
        let whole = self.whole();
        self.spans.iter().flat_map(move |span| {
            (0..span.len).map(move |position| {
                let refresh = span.refresh && position == 0;
                let cells = self.runs(refresh).map(|cells| trunk.span_macs(cells));
                let reused = self.branches.reused(span.first + position);
                let spared: u64 = reused.map(|site| trunk.branch(site).macs).sum();
                if whole && !refresh {
                    return 0;
                }
                cells.iter().sum::<u64>() - spared + trunk.prepare_macs + trunk.leave_macs
            })
        })
    }

    /// Bytes that one row keeps, in elements of so many bytes; whole predictions are in f32 whatever is computed in.
    fn row_bytes(&self, trunk: &Blueprint, element: u64) -> u64 {
        let branches = product([self.branches.kept_elements(trunk), element]);
        let line = if self.whole() {
            product([self.most_kept(), trunk.prediction, size_of::<f32>() as u64])
        } else {
            product([self.store_elements(trunk), element])
        };
        sum([line, branches])
    }

    /// Elements of the line that one row keeps in the store: as many refreshes as later spans read.
    fn store_elements(&self, trunk: &Blueprint) -> u64 {
        let Some(last) = self.cut.checked_sub(1) else {
            return 0;
        };
        let skips = match self.skips {
            OpenSkips::Recompute => 0,
            OpenSkips::Hold => open_elements(trunk, self.cut),
        };
        let stored = sum([trunk.cells[last].hidden, skips]);
        let mark = self
            .prefix
            .checked_sub(1)
            .map(|last| trunk.cells[last].hidden);
        match (self.decider, mark) {
            (Some(Decider::FirstBlock { .. }), Some(mark)) => sum([mark, stored]),
            (Some(Decider::DiCache { .. }), Some(mark)) => {
                sum([product([2, sum([mark, stored])]), mark])
            }
            _ => product([self.most_kept(), stored]),
        }
    }

    /// The most refreshes that the store holds.
    fn most_kept(&self) -> u64 {
        if self.decider.is_some() || self.verify.is_some() {
            return self.predictor.history().min(self.evaluations()) as u64;
        }
        let mut held = 0;
        let after = |span: &Span| {
            let before = if self.changes.contains(&span.first) {
                0
            } else {
                held
            };
            held = (before + usize::from(span.refresh)).min(span.keep);
            held
        };
        self.spans.iter().map(after).max().unwrap_or(0) as u64
    }
}

/// A sum; the largest number where it does not fit.
pub(super) fn sum(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(0, u64::saturating_add)
}

/// A product; the largest number where it does not fit.
pub(super) fn product<const N: usize>(factors: [u64; N]) -> u64 {
    factors.into_iter().fold(1, u64::saturating_mul)
}

/// Elements of the skips that are open in front of cell `cut`, one row.
fn open_elements(trunk: &Blueprint, cut: usize) -> u64 {
    let mut open = Vec::new();
    for cell in &trunk.cells[..cut] {
        if cell.pops {
            open.pop();
        }
        if cell.pushes > 0 {
            open.push(cell.pushes);
        }
    }
    open.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cache::{CacheRule, Course, KeyList, Refresh},
        denoiser::Cell,
    };

    fn cell(name: &str, macs: u64, hidden: u64, pushes: u64, pops: bool) -> Cell {
        Cell {
            name: name.into(),
            macs,
            hidden,
            pushes,
            pops,
            ..Cell::default()
        }
    }

    /// Two skips; the costs of one row add up to 1000 as in SD 1.5: encoder and middle 325, decoder 675.
    fn small_unet() -> Blueprint {
        Blueprint {
            cells: vec![
                cell("e0", 100, 64, 64, false),
                cell("e1", 125, 16, 16, false),
                cell("mid", 100, 16, 0, false),
                cell("d1", 375, 32, 0, true),
                cell("d0", 300, 64, 0, true),
            ],
            prepare_macs: 0,
            leave_macs: 0,
            prediction: 4,
        }
    }

    fn dit() -> Blueprint {
        Blueprint {
            cells: vec![cell("block", 10, 100, 0, false); 28],
            prepare_macs: 0,
            leave_macs: 0,
            prediction: 4,
        }
    }

    const PAIR: Rows = Rows::new(2, 1);

    fn forecast(rule: &CacheRule, trunk: &Blueprint, steps: usize) -> Forecast {
        let plan = rule.plan(&Course::steps(steps), trunk).unwrap();
        plan.forecast(trunk, PAIR, 4)
    }

    fn list(name: &str) -> Refresh {
        KeyList::named(name).unwrap().into()
    }

    #[allow(
        clippy::float_cmp,
        reason = "ratios are rounded to the published digits"
    )]
    #[track_caller]
    fn assert_ratio(rule: &CacheRule, trunk: &Blueprint, steps: usize, expected: f64) {
        let ratio = forecast(rule, trunk, steps).ratio();
        assert_eq!((ratio * 1000.0).round() / 1000.0, expected, "{rule:?}");
    }

    /// Shares of the whole cost under the published lists (docs/methods.md).
    #[test]
    fn ratios_are_the_published_ones() {
        let unet = small_unet();
        assert_ratio(
            &CacheRule::encoder_propagation(list("50ls")),
            &unet,
            50,
            0.734,
        );
        assert_ratio(
            &CacheRule::encoder_propagation(list("50ls")),
            &unet,
            20,
            0.789,
        );
        for (name, expected) in [("a", 0.648), ("a-prime", 0.707), ("b", 0.807), ("c", 0.784)] {
            assert_ratio(
                &CacheRule::dit_propagation(18, list(name)),
                &dit(),
                250,
                expected,
            );
        }
    }

    #[test]
    fn the_store_holds_one_tensor_or_all_open_skips() {
        let unet = small_unet();
        let deep = forecast(&CacheRule::deepcache(3, 0), &unet, 9);
        assert_eq!(deep.store_bytes, 32 * 2 * 4);
        let held = forecast(&CacheRule::encoder_propagation(Refresh::every(3)), &unet, 9);
        assert_eq!(held.store_bytes, (64 + 16 + 16) * 2 * 4);
        let inside = forecast(&CacheRule::dit_propagation(4, Refresh::every(3)), &unet, 9);
        assert_eq!(inside.store_bytes, (32 + 64) * 2 * 4);
        assert_eq!(
            forecast(&CacheRule::deepcache(1, 0), &unet, 9).store_bytes,
            0
        );
    }

    #[test]
    fn macs_add_up() {
        let unet = small_unet();
        let forecast = forecast(&CacheRule::deepcache(3, 0), &unet, 7);
        assert_eq!(forecast.evaluation_macs[..3], [2000, 800, 800]);
        assert_eq!(forecast.cells, [7, 3, 3, 3, 7]);
        assert_eq!(
            forecast.cell_macs.iter().sum::<u64>(),
            forecast.total_macs()
        );
        assert_eq!(forecast.plain_macs, 14_000);
        assert!((forecast.cell_shares().iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((forecast.speedup() * forecast.ratio() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn plain_steps_cost_the_same() {
        let forecast = forecast(&CacheRule::deepcache(3, 0), &small_unet(), 9);
        assert_eq!(forecast.plain_steps(9), 5); // (3 · 1000 + 6 · 400) / 1000 = 5.4
        assert_eq!(forecast.plain_steps(1), 1);
    }

    #[test]
    fn embeddings_count_once_an_evaluation() {
        let mut unet = small_unet();
        unet.prepare_macs = 7;
        let rule = CacheRule::encoder_propagation(Refresh::every(3)).with_parallel(3);
        let forecast = forecast(&rule, &unet, 6);
        assert_eq!(forecast.evaluation_macs[..2], [2 * 1007, 2 * 682]);
        assert_eq!(forecast.store_bytes, 0, "whole groups never read the store");
    }
}

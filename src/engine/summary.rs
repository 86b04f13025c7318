//! What a plan saves, as numbers.

use serde::Serialize;

use crate::cache::{CachePlan, Forecast};
#[cfg(feature = "cli")]
use crate::pipeline::{Report, Resolved};

/// What a plan saves in all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) evaluations: usize,
    pub(crate) full_evaluations: usize,
    pub(crate) cells_run: usize,
    pub(crate) cells_total: usize,
    /// Outputs inside cells that are used again.
    pub(crate) branches_reused: usize,
    pub(crate) gmacs: f64,
    pub(crate) gmacs_without_cache: f64,
    pub(crate) predicted_speedup: f64,
    /// The run will decide what is computed: the prediction is the most that can be spared, and 1 is the least.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) decided_in_the_run: bool,
    /// In the type that the denoiser computes in.
    pub(crate) cache_bytes: u64,
}

impl Summary {
    pub(crate) fn new(plan: &CachePlan, forecast: &Forecast) -> Self {
        Self {
            evaluations: plan.evaluations(),
            full_evaluations: plan.refreshes().count(),
            cells_run: forecast.cells.iter().sum(),
            cells_total: plan.cells * plan.evaluations(),
            branches_reused: (0..plan.evaluations())
                .map(|evaluation| plan.branches.reused(evaluation).count())
                .sum(),
            gmacs: giga(forecast.total_macs()),
            gmacs_without_cache: giga(forecast.plain_macs),
            predicted_speedup: forecast.speedup(),
            decided_in_the_run: forecast.decided,
            cache_bytes: forecast.store_bytes,
        }
    }

    /// Of all loops of a run that was made: what its plans were, in the counts of what ran.
    #[cfg(feature = "cli")]
    pub(crate) fn of(resolved: &Resolved, report: &Report) -> Self {
        let plans = resolved.plans().map(|(plan, rows)| {
            let forecast = resolved.forecast_of(plan, rows, &resolved.blueprint, 1);
            Self::new(plan, &forecast)
        });
        let planned = Self::joined(plans);
        let done = &report.account;
        let gmacs = giga(resolved.spent(done));
        Self {
            full_evaluations: done.refreshes,
            cells_run: done.cells.iter().sum(),
            branches_reused: done.branches_reused,
            gmacs,
            predicted_speedup: planned.gmacs_without_cache / gmacs,
            decided_in_the_run: false,
            cache_bytes: done.store_bytes as u64,
            ..planned
        }
    }

    /// What several models, one after the other, save together; each has a store of its own, and one at a time.
    pub(crate) fn joined(parts: impl IntoIterator<Item = Self>) -> Self {
        let join = |one: Self, other: Self| {
            let gmacs = one.gmacs + other.gmacs;
            let gmacs_without_cache = one.gmacs_without_cache + other.gmacs_without_cache;
            Self {
                evaluations: one.evaluations + other.evaluations,
                full_evaluations: one.full_evaluations + other.full_evaluations,
                branches_reused: one.branches_reused + other.branches_reused,
                cells_run: one.cells_run + other.cells_run,
                cells_total: one.cells_total + other.cells_total,
                gmacs,
                gmacs_without_cache,
                predicted_speedup: gmacs_without_cache / gmacs,
                decided_in_the_run: one.decided_in_the_run || other.decided_in_the_run,
                cache_bytes: one.cache_bytes.max(other.cache_bytes),
            }
        };
        parts
            .into_iter()
            .reduce(join)
            .expect("a run has at least one model")
    }
}

/// Thousands of millions.
pub(crate) fn giga(macs: u64) -> f64 {
    macs as f64 / 1e9
}

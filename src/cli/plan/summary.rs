//! What a plan saves, as numbers and in words.

use serde::Serialize;

use super::ELEMENT_BYTES;
use crate::{
    cache::{CachePlan, Forecast},
    cli::console,
    pipeline::Resolved,
};

/// What a plan saves in all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::cli) struct Summary {
    pub(in crate::cli) evaluations: usize,
    pub(in crate::cli) full_evaluations: usize,
    pub(in crate::cli) cells_run: usize,
    pub(in crate::cli) cells_total: usize,
    /// Outputs inside cells that are used again.
    pub(in crate::cli) branches_reused: usize,
    pub(in crate::cli) gmacs: f64,
    pub(in crate::cli) gmacs_without_cache: f64,
    pub(in crate::cli) predicted_speedup: f64,
    /// The run decides what is computed: the prediction is the most that can be spared, and 1 is the least.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::cli) decided_in_the_run: bool,
    pub(in crate::cli) cache_bytes: u64,
}

impl Summary {
    pub(in crate::cli) fn new(plan: &CachePlan, forecast: &Forecast) -> Self {
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

    /// Of all loops of a run, in multiply-accumulates.
    pub(in crate::cli) fn of(resolved: &Resolved) -> Self {
        let plans = resolved.plans().map(|(plan, rows)| {
            let forecast = plan.forecast(&resolved.blueprint, rows, ELEMENT_BYTES);
            Self::new(plan, &forecast)
        });
        Self::joined(plans)
    }

    /// What several models, one after the other, save together; each has a store of its own, and one at a time.
    pub(in crate::cli) fn joined(parts: impl IntoIterator<Item = Self>) -> Self {
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

    /// `10 of 30 steps in full, 270 of 750 cells; predicted 2.59x for the denoising loop; 2.6 MiB kept`
    pub(in crate::cli) fn spared(&self) -> String {
        format!(
            "{} of {} steps in full, {} of {} cells{}; predicted {} for the denoising loop; {} kept",
            self.full_evaluations,
            self.evaluations,
            self.cells_run,
            self.cells_total,
            self.branches(),
            self.predicted(),
            console::bytes(self.cache_bytes),
        )
    }

    /// `2.59x`, or `1.00x to 6.68x, as the run decides,`
    fn predicted(&self) -> String {
        let most = format!("{:.2}x", self.predicted_speedup);
        if self.decided_in_the_run {
            return format!("1.00x to {most}, as the run decides,");
        }
        most
    }

    /// `, 248 branches in them reused`
    fn branches(&self) -> String {
        match self.branches_reused {
            0 => String::new(),
            reused => format!(", {reused} branches in them reused"),
        }
    }

    pub(super) fn text(&self) -> String {
        let Self {
            evaluations,
            full_evaluations,
            cells_run,
            cells_total,
            ..
        } = self;
        console::pairs(&[
            (
                "in full",
                format!(
                    "{}{full_evaluations} of {evaluations} evaluations",
                    if self.decided_in_the_run {
                        "at least "
                    } else {
                        ""
                    }
                ),
            ),
            (
                "cells",
                format!("{cells_run} of {cells_total}{}", self.branches()),
            ),
            (
                "GMACs",
                format!(
                    "{} of {}",
                    digits(self.gmacs),
                    digits(self.gmacs_without_cache)
                ),
            ),
            (
                "predicted",
                format!("{} for the denoising loop", self.predicted()),
            ),
            (
                "cache",
                format!("{} in f16", console::bytes(self.cache_bytes)),
            ),
        ])
    }
}

/// Enough digits for small models, not too many for large ones.
pub(super) fn digits(gmacs: f64) -> String {
    let decimals = match gmacs {
        100.0.. => 1,
        1.0.. => 2,
        _ => 4,
    };
    format!("{gmacs:.decimals$}")
}

pub(super) fn giga(macs: u64) -> f64 {
    macs as f64 / 1e9
}

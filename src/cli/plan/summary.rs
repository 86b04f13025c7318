//! What a plan saves, in words.

use crate::{cli::console, engine::Summary};

impl Summary {
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

    /// For a denoiser that computes in `dtype`.
    pub(super) fn text(&self, dtype: &str) -> String {
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
                format!("{}, computing in {dtype}", console::bytes(self.cache_bytes)),
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

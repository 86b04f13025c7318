//! What a session really computed.

use std::ops::Range;

use super::cost::{add, product, sum};
use super::spans::Span;
use super::verify::Verified;
use super::warning::Warning;
use crate::denoiser::Blueprint;

/// What was really computed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Account {
    /// For each cell, for how many evaluations it ran.
    pub cells: Vec<usize>,
    /// For each cell, how many rows it computed, over all evaluations that it ran for.
    pub cell_rows: Vec<u64>,
    /// Rows of all evaluations of which anything was computed: all but those that whole predictions stood in for.
    pub rows: u64,
    /// Evaluations that ran every cell.
    pub refreshes: usize,
    /// The evaluations that ran every cell, in order: as many as `refreshes`.
    pub refreshed: Vec<usize>,
    /// Evaluations that read the store, or shared the refresh of their span.
    pub reuses: usize,
    /// Refreshes that were not asked for, because the store was empty or did not fit.
    pub fallbacks: usize,
    /// Forecasts that were held against what a refresh computed, in order: where a rule verifies.
    pub verified: Vec<Verified>,
    /// Refreshes that were added because a forecast was off by more than the rule allows.
    pub added: usize,
    /// Branches inside cells that were not computed.
    pub branches_reused: usize,
    /// Evaluations whose launches came from a recording ([`with_step_graphs`](super::Session::with_step_graphs)).
    pub played: usize,
    /// The most bytes the store held, outputs of branches included.
    pub store_bytes: usize,
}

impl Account {
    /// Of a run that `next` goes on with, over the same cells with a store of its own.
    #[must_use]
    pub fn followed_by(mut self, next: &Self) -> Self {
        let before = self.refreshes + self.reuses;
        let refreshed = next.refreshed.iter().map(|evaluation| before + evaluation);
        self.refreshed.extend(refreshed);
        let verified = next.verified.iter().map(|one| Verified {
            evaluation: before + one.evaluation,
            ..*one
        });
        self.verified.extend(verified);
        self.added += next.added;
        let cells = self.cells.len().max(next.cells.len());
        self.cells.resize(cells, 0);
        self.cell_rows.resize(cells, 0);
        add(&mut self.cells, &next.cells);
        add(&mut self.cell_rows, &next.cell_rows);
        self.rows += next.rows;
        self.refreshes += next.refreshes;
        self.reuses += next.reuses;
        self.fallbacks += next.fallbacks;
        self.branches_reused += next.branches_reused;
        self.played += next.played;
        self.store_bytes = self.store_bytes.max(next.store_bytes);
        self
    }

    /// Multiply-accumulates of what was computed of `trunk`, whose branches count whether they were left out or not.
    pub fn macs(&self, trunk: &Blueprint) -> u64 {
        let cells = self.cell_rows.iter().zip(&trunk.cells);
        let cells = cells.map(|(rows, cell)| product([*rows, cell.macs]));
        let ends = product([self.rows, trunk.prepare_macs + trunk.leave_macs]);
        sum(cells.chain([ends]))
    }

    /// Of one half of guidance beside the other, where each is computed by itself: what either computed, and what both store.
    #[must_use]
    pub(super) fn beside(mut self, other: &Self) -> Self {
        for (own, other) in self.cells.iter_mut().zip(&other.cells) {
            *own = (*own).max(*other);
        }
        add(&mut self.cell_rows, &other.cell_rows);
        self.rows += other.rows;
        self.refreshed.extend(&other.refreshed);
        self.refreshed.sort_unstable();
        self.refreshed.dedup();
        let evaluations = self.refreshes + self.reuses;
        self.refreshes = self.refreshed.len();
        self.reuses = evaluations - self.refreshes;
        self.fallbacks += other.fallbacks;
        self.branches_reused = self.branches_reused.max(other.branches_reused);
        self.played += other.played;
        self.store_bytes += other.store_bytes;
        self
    }

    /// What is to be said of forecasts that were off by more than the rule allows, if any were; nothing of a plan that refreshes everywhere,
    /// where none stood in for anything.
    pub fn drift(&self) -> Option<Warning> {
        if self.reuses == 0 && self.added == 0 {
            return None;
        }
        let beyond = self.verified.iter().filter(|one| one.exceeds);
        let worst = beyond.clone().max_by(|a, b| a.error.total_cmp(&b.error))?;
        Some(Warning::Drifted {
            beyond: beyond.count(),
            of: self.verified.len(),
            error: worst.error,
            evaluation: worst.evaluation,
            added: self.added,
        })
    }

    /// Nothing yet, of a line of `cells`.
    pub(super) fn of(cells: usize) -> Self {
        Self {
            cells: vec![0; cells],
            cell_rows: vec![0; cells],
            ..Self::default()
        }
    }

    /// Notes what a span of so many rows an evaluation computes: cells in front of the cut for one evaluation, after it for all.
    pub(super) fn note(
        &mut self,
        span: &Span,
        refreshes: bool,
        [front, rest]: [Range<usize>; 2],
        rows: usize,
    ) {
        let mut most = 0;
        for (cells, evaluations) in [(front, 1), (rest, span.len)] {
            let computed = (evaluations * rows) as u64;
            for cell in cells {
                self.cells[cell] += evaluations;
                self.cell_rows[cell] += computed;
                most = most.max(computed);
            }
        }
        self.rows += most;
        self.refreshes += usize::from(refreshes);
        self.refreshed.extend(refreshes.then_some(span.first));
        self.reuses += span.len - usize::from(refreshes);
        if refreshes && !span.refresh {
            self.fallbacks += 1;
            tracing::warn!(
                evaluation = span.first,
                "the cache is empty or does not fit: computing in full"
            );
        }
    }
}

//! A linear layer with GEGLU after it: a tile has a vector of values and the vector of their gates, and what a task has of a token is gated
//! before it leaves the first-level cache.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "the inner loops are whole only where they are inlined; tasks write parts of the output that do not overlap"
)]

use super::{
    instruction::Instruction,
    linear::{Group, Job, Outputs},
    weight::PANEL,
};
use crate::kernels::cpu::{gate::gated_token, half::Element, product::Task};

/// Whether a layer to `2 · inner` outputs is one for this kernel.
pub(crate) fn suits(inner: usize) -> bool {
    inner.is_multiple_of(PANEL)
}

/// One task of what [`suits`], by tiles of `R` tokens.
///
/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
pub(super) unsafe fn multiply<I: Instruction, T: Element, const R: usize>(
    job: &Job<'_, I::Value, T>,
    task: &Task,
) {
    const { assert!(PANEL.is_multiple_of(I::LANES)) };
    let (inner, width) = (job.layer.weight.sizes.outputs / 2, task.columns.len());
    assert!(width.is_multiple_of(PANEL));
    let firsts = task.columns.clone().step_by(I::LANES);
    let outputs: Vec<_> = firsts
        .map(|first| Outputs::halves(&job.layer, first, I::LANES))
        .collect();
    // Values, then gates, of every token.
    let mut sums = vec![0.0; R * 2 * width];
    let mut room = Vec::new();
    for first in task.rows.clone().step_by(R) {
        let group = Group::<R>::of(&job.rows, first, task.rows.end);
        for outputs in &outputs {
            let place = outputs.first - task.columns.start;
            let mut to = [std::ptr::null_mut(); R];
            for r in 0..R {
                let start = r * 2 * width + place;
                to[r] = sums[start..][..width + I::LANES].as_mut_ptr();
            }
            // SAFETY: the caller's promise; a token's values have a vector's lanes there, and its gates as far behind them.
            unsafe { group.sums::<I, 2>(job, outputs, to, width) };
        }
        let tokens = sums.chunks_exact(2 * width).take(group.count);
        for (r, token) in tokens.enumerate() {
            let start = (first + r) * inner + task.columns.start;
            // SAFETY: no other task has these values of the token.
            let output = unsafe { job.output.part(start, width) };
            gated_token(token.split_at(width), output, &mut room);
        }
    }
}

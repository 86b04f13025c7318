//! The factor of a product that is put in order once.

#![allow(
    unsafe_code,
    reason = "bytes are looked at as the values that they are of"
)]

use ::half::bf16;
use rayon::prelude::*;

/// Outputs that lie side by side.
pub(in crate::kernels::cpu) const PANEL: usize = 16;

/// Values of the depth that lie side by side.
const PAIR: usize = 2;

/// Values of a panel.
fn stride(depth: usize) -> usize {
    depth.next_multiple_of(PAIR) * PANEL
}

/// Values that a weight of `[depth, outputs]` takes in panels.
pub(crate) fn size([depth, outputs]: [usize; 2]) -> usize {
    outputs.div_ceil(PANEL) * stride(depth)
}

/// A weight of `[depth, outputs]`, in panels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panels<'a> {
    /// `[outputs / PANEL, depth / 2, PANEL, 2]`, zeros after the last output and place.
    values: &'a [bf16],
    depth: usize,
    outputs: usize,
}

impl<'a> Panels<'a> {
    pub(crate) fn new(values: &'a [bf16], [depth, outputs]: [usize; 2]) -> Self {
        assert_eq!(values.len(), size([depth, outputs]));
        Self {
            values,
            depth,
            outputs,
        }
    }

    /// Of the bytes of what [`packed`] gives.
    pub(crate) fn of_bytes(bytes: &'a [u8], sizes: [usize; 2]) -> Self {
        // SAFETY: any two bytes are a bf16.
        let (before, values, after) = unsafe { bytes.align_to::<bf16>() };
        assert!(before.is_empty() && after.is_empty());
        Self::new(values, sizes)
    }

    pub(in crate::kernels::cpu) fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Pairs of the depth.
    pub(super) fn pairs(&self) -> usize {
        self.depth.div_ceil(PAIR)
    }

    /// Where the panel of an output has it, of a vector of outputs the first.
    pub(super) fn vector(&self, output: usize) -> *const bf16 {
        let stride = stride(self.depth);
        let panel = &self.values[output / PANEL * stride..][..stride];
        panel[PAIR * (output % PANEL)..].as_ptr()
    }
}

/// Puts a weight of `depth` by `outputs` in panels, as [`Panels`] reads them; `value` is that of a place and an output.
pub(crate) fn packed(
    [depth, outputs]: [usize; 2],
    value: impl Fn(usize, usize) -> bf16 + Sync,
) -> Vec<bf16> {
    let mut values = vec![bf16::ZERO; size([depth, outputs])];
    let panels = values.par_chunks_mut(stride(depth).max(1)).enumerate();
    panels.for_each(|(panel, values)| {
        let some = PANEL.min(outputs - panel * PANEL);
        for (pair, values) in values.chunks_exact_mut(PAIR * PANEL).enumerate() {
            let places = PAIR * pair..depth.min(PAIR * (pair + 1));
            for (half, place) in places.enumerate() {
                for output in 0..some {
                    values[PAIR * output + half] = value(place, panel * PANEL + output);
                }
            }
        }
    });
    values
}

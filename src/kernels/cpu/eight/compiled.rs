//! The kernels, compiled for the instructions that processors may have.

#![allow(
    unsafe_code,
    reason = "the instructions are there on some processors only"
)]

use std::mem::MaybeUninit;

#[cfg(target_arch = "x86_64")]
use super::instruction::{Avx2, Avx512Vnni, AvxVnni};
use super::{
    convolution, gated,
    instruction::{Instruction, Kind, Plain},
    linear,
    maps::{self, Block, Maps},
    rows::{self, Outliers, Rows},
    weight::Sizes,
};
use crate::kernels::cpu::{
    half::Element,
    product::{Output, Task},
    simd::{Unwritten, written},
};

/// Layers by one instruction: linear ones so many tokens and vectors of outputs at a time, convolutions so many outputs and vectors of
/// positions.
macro_rules! kernels {
    (
        $name:ident, $instruction:ty, [$tokens:literal, $of_outputs:literal], [$outputs:literal, $of_positions:literal]
        $(, $features:literal)?
    ) => {
        #[allow(unused_unsafe, reason = "without features nothing is promised")]
        mod $name {
            use super::*;

            type Value = <$instruction as Instruction>::Value;

            $(#[target_feature(enable = $features)])?
            fn round_tokens<T: Element>(
                tokens: &[T],
                inputs: usize,
                kept: &mut [MaybeUninit<Value>],
                scales: &mut [f32],
            ) -> Outliers {
                // SAFETY: whoever runs this has the instruction.
                unsafe { rows::round::<$instruction, T>(tokens, inputs, kept, scales) }
            }

            $(#[target_feature(enable = $features)])?
            fn multiply_tokens<T: Element>(job: &linear::Job<'_, Value, T>, task: &Task) {
                // SAFETY: whoever runs this has the instruction.
                unsafe { linear::multiply::<$instruction, T, $tokens, $of_outputs>(job, task) };
            }

            $(#[target_feature(enable = $features)])?
            fn multiply_gated<T: Element>(job: &linear::Job<'_, Value, T>, task: &Task) {
                // SAFETY: whoever runs this has the instruction.
                unsafe { gated::multiply::<$instruction, T, $tokens>(job, task) };
            }

            pub(super) fn of_tokens<T: Element>(layer: linear::Layer<'_, T>, gates: bool) -> Vec<T> {
                let Sizes { inputs, outputs, .. } = layer.weight.sizes;
                let rows = Rows::rounded(layer.input, inputs, |tokens, inputs, kept, scales| {
                    // SAFETY: a kind is one that the processor has.
                    unsafe { round_tokens(tokens, inputs, kept, scales) }
                });
                if gates {
                    // SAFETY: as above.
                    return layer.by(rows, outputs / 2, |job, task| unsafe { multiply_gated(job, task) });
                }
                // SAFETY: as above.
                layer.by(rows, outputs, |job, task| unsafe { multiply_tokens(job, task) })
            }

            $(#[target_feature(enable = $features)])?
            fn round_maps<T: Element>(
                block: &Block<'_, Value, T>,
                values: &[f32],
                scales: &mut [f32],
            ) -> Outliers {
                maps::round::<$instruction, T>(block, values, scales)
            }

            $(#[target_feature(enable = $features)])?
            fn multiply_maps<T: Element>(
                job: &convolution::Job<'_, Value, T>,
                task: &convolution::Task,
                room: &mut convolution::Room,
            ) {
                // SAFETY: whoever runs this has the instruction.
                unsafe {
                    convolution::multiply::<$instruction, T, $outputs, $of_positions>(
                        job, task, room,
                    );
                }
            }

            pub(super) fn fill<T: Element>(layer: convolution::Layer<'_, T>, output: Output<T>, onto: bool) {
                let maps = Maps::rounded(layer.source, |block, values, scales| {
                    // SAFETY: a kind is one that the processor has.
                    unsafe { round_maps(block, values, scales) }
                });
                let job = convolution::Job {
                    maps,
                    layer,
                    output,
                    onto,
                };
                // SAFETY: as above.
                job.run(|job, task, room| unsafe { multiply_maps(job, task, room) });
            }
        }
    };
}

kernels!(plain, Plain, [4, 1], [4, 1]);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, Avx2, [4, 2], [4, 2], "avx2");
#[cfg(target_arch = "x86_64")]
kernels!(avx_vnni, AvxVnni, [6, 2], [4, 3], "avx2,avxvnni");
#[cfg(target_arch = "x86_64")]
kernels!(
    avx512_vnni,
    Avx512Vnni,
    [8, 2],
    [8, 2],
    "avx512f,avx512vnni"
);

/// What a linear layer gives, and GEGLU after it if it `gates`, by a kind that the processor has.
pub(super) fn of_tokens<T: Element>(
    kind: Kind,
    layer: linear::Layer<'_, T>,
    gates: bool,
) -> Vec<T> {
    match kind {
        Kind::Plain => plain::of_tokens(layer, gates),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => avx2::of_tokens(layer, gates),
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni => avx_vnni::of_tokens(layer, gates),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => avx512_vnni::of_tokens(layer, gates),
    }
}

/// What a convolution gives, by a kind that the processor has.
pub(super) fn of_maps<T: Element>(kind: Kind, layer: convolution::Layer<'_, T>) -> Vec<T> {
    let geometry = &layer.geometry;
    let count = geometry.rows * geometry.channels[1] * geometry.positions();
    let write = |output: &mut Unwritten<T>| fill(kind, layer, Output::new(output), false);
    // SAFETY: the layer fills all of it.
    unsafe { written(count, write) }
}

/// Fills the output of a convolution, or adds it `onto` what is there, by a kind that the processor has.
pub(super) fn fill<T: Element>(
    kind: Kind,
    layer: convolution::Layer<'_, T>,
    output: Output<T>,
    onto: bool,
) {
    match kind {
        Kind::Plain => plain::fill(layer, output, onto),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => avx2::fill(layer, output, onto),
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni => avx_vnni::fill(layer, output, onto),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => avx512_vnni::fill(layer, output, onto),
    }
}

//! The kernels, compiled for the instructions that processors may have.

#![allow(
    unsafe_code,
    reason = "the instructions are there on some processors only"
)]

#[cfg(target_arch = "x86_64")]
use super::instruction::{Avx2, Avx512Vnni, AvxVnni};
use super::{
    instruction::{Instruction, Kind, Plain},
    products::{Job, Layer, Room, multiply},
    rows::{Outliers, Rows, Values, round},
};
use crate::kernels::cpu::product::Task;

/// A layer by one instruction, so many tokens and vectors of outputs at a time.
macro_rules! kernel {
    ($name:ident, $instruction:ty, $tokens:literal, $vectors:literal $(, $features:literal)?) => {
        #[allow(unused_unsafe, reason = "without features nothing is promised")]
        fn $name(layer: Layer<'_>) -> Vec<f32> {
            type Value = <$instruction as Instruction>::Value;

            $(#[target_feature(enable = $features)])?
            fn rounded(values: Values<'_>, kept: &mut [Value], scales: &mut [f32]) -> Outliers {
                round::<$instruction>(values, kept, scales)
            }

            $(#[target_feature(enable = $features)])?
            fn multiplied(job: &Job<'_, Value>, task: &Task, room: &mut Room) {
                // SAFETY: whoever runs this has the instruction.
                unsafe { multiply::<$instruction, $tokens, $vectors>(job, task, room) };
            }

            let rows = Rows::rounded(
                layer.source,
                <$instruction>::kept(0),
                // SAFETY: a kind is one that the processor has.
                |values, kept, scales| unsafe { rounded(values, kept, scales) },
            );
            // SAFETY: as above.
            layer.by(rows, |job, task, room| unsafe { multiplied(job, task, room) })
        }
    };
}

kernel!(by_plain, Plain, 4, 1);
#[cfg(target_arch = "x86_64")]
kernel!(by_avx2, Avx2, 4, 2, "avx2");
#[cfg(target_arch = "x86_64")]
kernel!(by_avx_vnni, AvxVnni, 6, 2, "avx2,avxvnni");
#[cfg(target_arch = "x86_64")]
kernel!(by_avx512_vnni, Avx512Vnni, 8, 2, "avx512f,avx512vnni");

/// What a layer gives, by a kind that the processor has.
pub(super) fn by(kind: Kind, layer: Layer<'_>) -> Vec<f32> {
    match kind {
        Kind::Plain => by_plain(layer),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => by_avx2(layer),
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni => by_avx_vnni(layer),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => by_avx512_vnni(layer),
    }
}

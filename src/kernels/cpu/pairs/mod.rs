//! Products of bf16, two at a time, summed in f32.
//!
//! Source: "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 2, `VDPBF16PS`. A lane adds the product of its second
//! values to its sum, then that of its first, each rounded once to the nearest, ties to even; numbers below 2^-126 count as zero, before and
//! after. Products of two bf16 are exact in f32, so any processor gives the same values by widening both, but for what is below 2^-126.
//!
//! [`run`] gives a [`Work`] the fastest [`Instruction`]; [`multiply`] is the product of a block of rows, as they are stored, with [`Panels`].

mod instruction;
mod linear;
mod products;
#[cfg(test)]
mod tests;
mod weight;

pub(super) use instruction::{Instruction, Pairs, Work, has_instruction, run, splat_pair};
#[cfg(test)]
pub(super) use instruction::{Kind, by};
pub(crate) use linear::{linear, linear_gated, suits_gated};
pub(super) use products::{Put, Rows, multiply};
pub(super) use weight::PANEL;
pub(crate) use weight::{Panels, packed, size};

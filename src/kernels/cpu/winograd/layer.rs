//! A layer's squares on their way into the space of products, and what comes back.

#![allow(
    clippy::inline_always,
    reason = "one instruction set runs through all of a kernel"
)]

use std::ops::Range;

use macerator::Simd;

use super::fixed;
use super::multiply::{Factors, Sums, multiply};
use super::schemes::{Apart, GROUP, MOST, Room, Scheme};
use super::squares::{Grid, Run, Source, gather, scatter};
use crate::kernels::cpu::aligned::Lined;
use crate::kernels::cpu::convolution::Job;
use crate::kernels::cpu::executed::{Operands, count};
use crate::kernels::cpu::integers;
use crate::kernels::cpu::norm::Shifted;
use crate::kernels::cpu::product::sized;

/// A layer, and how it is computed.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) norm: Option<&'a [Shifted]>,
    pub(super) onto: bool,
    pub(super) grid: Grid,
    /// What multiplies, if numbers are [`fixed`].
    pub(super) fixed: Option<integers::Kind>,
}

/// Products of some squares: a point's are `plane` after those of the point before, a channel's `stride`.
#[derive(Clone, Copy)]
pub(super) struct Products<'a> {
    pub(super) values: &'a [f32],
    pub(super) plane: usize,
    pub(super) stride: usize,
}

impl Layer<'_> {
    pub(super) fn before(&self) -> usize {
        self.job.layer.geometry.channels[0]
    }

    /// Squares of all items.
    pub(super) fn squares(&self) -> usize {
        self.job.layer.geometry.rows * self.grid.of_item()
    }

    /// Counts the products of all points.
    pub(super) fn count(&self, points: usize) {
        let operands = match self.fixed {
            Some(_) => Operands::I16,
            None => Operands::F32,
        };
        let after = self.job.layer.geometry.channels[1];
        count(operands, points * self.squares() * self.before() * after);
    }

    /// Runs of every group of some squares.
    pub(super) fn groups(&self, squares: &Range<usize>) -> Vec<Vec<Run>> {
        let firsts = squares.clone().step_by(GROUP);
        let group = |first: usize| first..squares.end.min(first + GROUP);
        let groups = firsts.map(|first| self.grid.runs(group(first)).collect());
        groups.collect()
    }

    /// Moves a group of squares of a block of channels into lines of `to`, which begin `width` after each other.
    #[inline(always)]
    pub(super) fn move_squares<S: Simd, C: Scheme>(
        &self,
        runs: &[Run],
        part: &Range<usize>,
        to: Room<'_>,
        width: usize,
        room: &mut Vec<f32>,
    ) {
        let source = Source {
            geometry: &self.job.layer.geometry,
            maps: self.job.layer.input,
            norm: self.norm,
        };
        let own = apart::<C>();
        let [block] = sized(
            [room],
            [if self.fixed.is_some() {
                fixed::BLOCK * own
            } else {
                0
            }],
        );
        let mut taps = Lined([[0.0; GROUP]; MOST]);
        let taps = &mut taps.0;
        let Room { values, apart } = to;
        for (line, channel) in part.clone().enumerate() {
            gather::<S, C>(source, channel, runs, taps);
            let from = Apart {
                values: taps.as_flattened(),
                apart: GROUP,
            };
            let to = if self.fixed.is_some() {
                Room {
                    values: &mut block[line * own..],
                    apart: GROUP,
                }
            } else {
                Room {
                    values: &mut values[line * width..],
                    apart,
                }
            };
            C::input::<S>(from, to);
        }
        for point in 0..if self.fixed.is_some() { C::INPUTS } else { 0 } {
            let (from, to) = (&block[point * GROUP..], &mut values[point * apart..]);
            fixed::put::<S>(fixed::Side::Squares, from, own, part.len(), to, width);
        }
    }

    /// Moves the products of some channels back.
    #[inline(always)]
    pub(super) fn move_back<S: Simd, C: Scheme>(
        &self,
        groups: &[Vec<Run>],
        channels: Range<usize>,
        products: Products<'_>,
    ) {
        let mut values = Lined([[0.0; GROUP]; 16]);
        let values = &mut values.0;
        for (row, channel) in channels.enumerate() {
            for (group, runs) in groups.iter().enumerate() {
                let from = Apart {
                    values: &products.values[row * products.stride + group * GROUP..],
                    apart: products.plane,
                };
                let to = Room {
                    values: values.as_flattened_mut(),
                    apart: GROUP,
                };
                C::output::<S>(from, to);
                scatter::<S, C>(self.job, self.onto, channel, runs, values);
            }
        }
    }

    /// Products of some lines, `R` rows and `N` vectors at a time where they are in f32.
    #[inline(always)]
    pub(super) fn multiply<S: Simd, const R: usize, const N: usize>(
        &self,
        factors: Factors<'_>,
        sums: Sums<'_>,
    ) {
        match self.fixed {
            Some(kind) => fixed::multiply(kind, factors, sums),
            None => multiply::<S, R, N>(factors, sums),
        }
    }
}

/// Numbers from a channel's squares to the next's on their way to fixed numbers: an odd number of lines of the cache, so that a point's do
/// not share a set of it.
const fn apart<C: Scheme>() -> usize {
    (C::INPUTS | 1) * GROUP
}

//! Which scheme a convolution is computed by, if by any.

use super::schemes::{Four, Scheme, Two};
use super::squares::Grid;
use super::{WEIGHTS, kept};
use crate::kernels::cpu::{convolution::Geometry, integers};

/// Channels on either side, at least: with fewer, moving the squares takes longer than it saves.
pub(super) const LEAST_CHANNELS: usize = 16;

/// A scheme for maps as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Two,
    Four,
}

/// Whether a convolution is one for this kernel, and large enough. What it gives an item does not depend on the others.
pub(crate) fn suits(geometry: &Geometry, rounds: bool) -> bool {
    kind(geometry, rounds).is_some()
}

/// The scheme that costs least, if that is less than the plain sums; numbers of the space of products may be rounded to 16 bits.
pub(super) fn kind(geometry: &Geometry, rounds: bool) -> Option<Kind> {
    if !moves(geometry) {
        return None;
    }
    let costs = if rounds && integers::best().is_some() {
        FIXED
    } else {
        FLOATS
    };
    let [two, four] = [cost::<Two>(geometry, costs), cost::<Four>(geometry, costs)];
    let [before, after] = geometry.channels;
    let plain = (9 * geometry.positions() * before * after) as f64 * costs.plain;
    if two.min(four) > plain {
        return None;
    }
    Some(if four < two { Kind::Four } else { Kind::Two })
}

/// What a product of 8 bits takes, in multiply-accumulates of f32, with gathering what is multiplied.
const EIGHT: f64 = 0.31;

/// Whether squares in 16 bits are those of a convolution whose weights are in 8, as its plain sums in 8 bits take longer.
pub(crate) fn suits_eights(geometry: &Geometry) -> bool {
    let [before, after] = geometry.channels;
    let plain = (9 * geometry.positions() * before * after) as f64 * EIGHT;
    let squares = || cost::<Two>(geometry, FIXED).min(cost::<Four>(geometry, FIXED));
    integers::best().is_some() && moves(geometry) && suits(geometry, true) && squares() < plain
}

/// What things take, in multiply-accumulates of f32.
#[derive(Clone, Copy)]
struct Costs {
    product: f64,
    /// Of the plain sums, with gathering what is multiplied.
    plain: f64,
    /// To move a number of a square, which vectors do.
    number: f64,
    /// To move a weight, and to read it back from the cache or from memory.
    weight: f64,
    far_weight: f64,
}

const FLOATS: Costs = Costs {
    product: 1.0,
    plain: 1.15,
    number: 8.0,
    weight: 10.0,
    far_weight: 12.0,
};

const FIXED: Costs = Costs {
    product: 0.5,
    plain: 0.58,
    number: 8.0,
    weight: 8.0,
    far_weight: 8.0,
};

/// Whether a convolution can be one for this kernel.
fn moves(geometry: &Geometry) -> bool {
    let [before, after] = geometry.channels;
    geometry.kernel == [3, 3]
        && geometry.stride == [1, 1]
        && geometry.padding.iter().all(|padding| *padding <= 2)
        && before.min(after) >= LEAST_CHANNELS
}

/// What an item takes, in multiply-accumulates.
fn cost<C: Scheme>(geometry: &Geometry, costs: Costs) -> f64 {
    let [before, after] = geometry.channels;
    let numbers = C::POINTS * before * after;
    // Few squares leave lanes empty.
    let squares = Grid::of::<C>(geometry).of_item().next_multiple_of(8) as f64;
    let moved = match numbers {
        _ if kept::suits(numbers) => 0.0,
        _ if numbers <= WEIGHTS / 2 => costs.weight,
        _ => costs.far_weight,
    };
    let around = costs.number * (C::INPUTS * before + C::POINTS * after) as f64;
    (costs.product * numbers as f64 + around) * squares + moved * numbers as f64
}

/// Whether a convolution of a map whose positions are repeated, twice in both directions, is one for this kernel: by a padding of one.
pub(crate) fn suits_doubled(geometry: &Geometry) -> bool {
    moves(geometry) && geometry.padding == [1, 1]
}

//! How far a picture moves from frame to frame.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData};

/// Sides of the picture that shifts are counted in, whatever the size of the real one.
const SIDE: f32 = 512.0;

/// A shift of the whole picture from each frame to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MotionField {
    /// To the left, in pixels of a picture that is 512 wide.
    pub x: f64,
    /// Upwards, in pixels of a picture that is 512 high.
    pub y: f64,
}

impl Default for MotionField {
    /// As published.
    fn default() -> Self {
        Self { x: 12.0, y: 12.0 }
    }
}

impl MotionField {
    /// What frames see of a first frame: `[items, channels, height, width]` to `[items · frames, channels, height, width]`. The nearest
    /// value is taken; what would come from outside is reflected.
    pub fn warp(self, first: &Tensor<4>, frames: Range<usize>) -> Tensor<4> {
        let [items, channels, height, width] = first.dims();
        let count = frames.len();
        let moved = frames.map(|frame| {
            let shift = |strength: f64| (strength * frame as f64) as f32;
            let rows = places(height, shift(self.y));
            let columns = places(width, shift(self.x));
            let device = first.device();
            let of = |places: Vec<i64>| {
                let count = places.len();
                Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &device)
            };
            first.clone().select(2, of(rows)).select(3, of(columns))
        });
        Tensor::stack::<5>(moved.collect(), 1).reshape([items * count, channels, height, width])
    }
}

/// For each of `side` places along an axis, the one that it sees under a shift. In f32, step by step as the reference does, so that
/// halves round alike.
fn places(side: usize, shift: f32) -> Vec<i64> {
    let size = side as f32;
    let place = |index: usize| {
        let unscaled = ((index as f32 + 0.5) * (SIDE / size) - 0.5).clamp(0.0, SIDE - 1.0);
        let seen = (unscaled + shift) / SIDE * 2.0 - 1.0; // -1 to 1 from edge to edge
        let seen = f32::midpoint((seen + 1.0) * size, -1.0); // in places of this axis
        reflected(seen, size).round_ties_even() as i64
    };
    (0..side).map(place).collect()
}

/// A place brought into an axis of `size` by reflection at its edges, which are half a place outside the outermost ones.
fn reflected(place: f32, size: f32) -> f32 {
    let distance = (place + 0.5).abs();
    let rest = distance % size;
    let turns = (distance / size).floor();
    let inside = if turns % 2.0 == 0.0 {
        rest - 0.5
    } else {
        size - rest - 0.5
    };
    inside.clamp(0.0, size - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_count_512_pixels_whatever_the_size() {
        for (side, part) in [(8, 1), (64, 8)] {
            let eighth = places(side, 64.0);
            assert_eq!(eighth[0], part, "side {side}");
            // Reflected at the edge.
            assert_eq!(eighth[side - 1], 7 * part, "side {side}");
        }
    }

    #[test]
    fn no_shift_moves_nothing() {
        for side in [1, 5, 64, 500] {
            let still: Vec<i64> = (0..).take(side).collect();
            assert_eq!(places(side, 0.0), still, "side {side}");
        }
    }
}

//! Pictures made larger or smaller without anything to learn.

use burn::tensor::{Tensor, TensorData};

/// `[items, channels, height, width]` brought to another height and width, corners onto corners, every pixel a mix of the four around it.
pub fn stretched(picture: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    mixed(picture, size, Places::Corners)
}

/// `[items, channels, height, width]` brought to the least size of its proportions that covers another, edges onto edges, every pixel a mix
/// of the four around it; and that cut from the middle.
pub fn covering(picture: Tensor<4>, [height, width]: [usize; 2]) -> Tensor<4> {
    let [_, _, made_height, made_width] = picture.dims();
    if [made_height, made_width] == [height, width] {
        return picture;
    }
    let share = |to: usize, from: usize| to as f64 / from as f64;
    let ratio = share(height, made_height).max(share(width, made_width));
    // One of the two is exact; a product that falls short of it by rounding is not cut below it.
    let side = |made: usize, least: usize| ((made as f64 * ratio) as usize).max(least);
    let (tall, wide) = (side(made_height, height), side(made_width, width));
    mixed(picture, [tall, wide], Places::Edges)
        .narrow(2, (tall - height) / 2, height)
        .narrow(3, (wide - width) / 2, width)
}

/// What comes to lie on what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Places {
    /// The middles of the outermost pixels.
    Corners,
    /// Their outer edges.
    Edges,
}

fn mixed(picture: Tensor<4>, [height, width]: [usize; 2], places: Places) -> Tensor<4> {
    let [items, channels, low_height, low_width] = picture.dims();
    let device = picture.device();
    let mix = |to, from| -> Tensor<4> {
        let weights = TensorData::new(weights(to, from, places), [1, 1, to, from]);
        let weights = Tensor::from_data(weights, &device);
        weights.repeat(&[items, channels, 1, 1])
    };
    let rows = mix(height, low_height).matmul(picture); // [items, channels, height, low_width]
    rows.matmul(mix(width, low_width).transpose())
}

/// What every one of `to` places takes of each of `from`, row-major; the first and the last stay where they are.
fn weights(to: usize, from: usize, places: Places) -> Vec<f32> {
    let last = from.saturating_sub(1);
    let at = |place: usize| match places {
        Places::Corners => last as f32 / to.saturating_sub(1).max(1) as f32 * place as f32,
        Places::Edges => {
            let step = from as f32 / to.max(1) as f32;
            ((place as f32 + 0.5) * step - 0.5).clamp(0.0, last as f32)
        }
    };
    let mut weights = vec![0.0; to * from];
    for (place, row) in weights.chunks_exact_mut(from.max(1)).enumerate() {
        let at = at(place);
        let low = (at as usize).min(last);
        let share = at - low as f32;
        row[low] += 1.0 - share;
        row[(low + 1).min(last)] += share;
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_stay_and_what_is_between_is_mixed() {
        let weights = |to, from| weights(to, from, Places::Corners);
        assert_eq!(weights(3, 2), [1.0, 0.0, 0.5, 0.5, 0.0, 1.0]);
        assert_eq!(weights(1, 3), [1.0, 0.0, 0.0]);
        assert_eq!(weights(2, 1), [1.0, 1.0]);
    }

    #[test]
    fn edges_stay_and_pixels_are_cut_from_the_middle() {
        let weights = |to, from| weights(to, from, Places::Edges);
        assert_eq!(weights(4, 2), [1.0, 0.0, 0.75, 0.25, 0.25, 0.75, 0.0, 1.0]);
        assert_eq!(weights(1, 3), [0.0, 1.0, 0.0]);
        let row = Tensor::<1>::from_floats([0.0, 8.0], &burn::tensor::Device::flex());
        let covering = covering(row.reshape([1, 1, 1, 2]), [2, 2]).into_data();
        assert_eq!(
            covering.iter::<f32>().collect::<Vec<_>>(),
            [2.0, 6.0, 2.0, 6.0]
        );
    }
}

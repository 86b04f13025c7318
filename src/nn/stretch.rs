//! Pictures made larger or smaller without anything to learn.

use burn::tensor::{Tensor, TensorData};

/// `[items, channels, height, width]` brought to another height and width, corners onto corners, every pixel a mix of the four around it.
pub fn stretched(picture: Tensor<4>, [height, width]: [usize; 2]) -> Tensor<4> {
    let [items, channels, low_height, low_width] = picture.dims();
    let device = picture.device();
    let mix = |to, from| -> Tensor<4> {
        let weights = TensorData::new(weights(to, from), [1, 1, to, from]);
        let weights = Tensor::from_data(weights, &device);
        weights.repeat(&[items, channels, 1, 1])
    };
    let rows = mix(height, low_height).matmul(picture); // [items, channels, height, low_width]
    rows.matmul(mix(width, low_width).transpose())
}

/// What every one of `to` places takes of each of `from`, row-major; the first and the last stay where they are.
fn weights(to: usize, from: usize) -> Vec<f32> {
    let last = from.saturating_sub(1);
    let step = last as f32 / to.saturating_sub(1).max(1) as f32;
    let mut weights = vec![0.0; to * from];
    for (place, row) in weights.chunks_exact_mut(from.max(1)).enumerate() {
        let at = step * place as f32;
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
        assert_eq!(weights(3, 2), [1.0, 0.0, 0.5, 0.5, 0.0, 1.0]);
        assert_eq!(weights(1, 3), [1.0, 0.0, 0.0]);
        assert_eq!(weights(2, 1), [1.0, 1.0]);
    }
}

//! Maps of frames, and what looks along the frames of a film.
//!
//! Everywhere else a frame is a row, and the frames of a film follow each other: `[films · frames, channels, height, width]`. Here the
//! frames of a film stand side by side.

use burn::module::Param;
use burn::nn::PaddingConfig2d;
use burn::nn::PaddingConfig3d;
use burn::nn::conv::{Conv2d, Conv3d, Conv3dConfig};
use burn::tensor::{Device, Tensor};

use crate::ops;

/// `[films · frames, channels, height, width]` as `[films, channels, frames, height · width]`.
pub fn side_by_side(map: Tensor<4>, frames: usize) -> Tensor<4> {
    let [rows, channels, height, width] = map.dims();
    map.reshape([rows / frames, frames, channels, height * width])
        .swap_dims(1, 2)
}

/// `[films, channels, frames, height · width]` as maps of `size`, `[films · frames, channels, height, width]`: the inverse of
/// [`side_by_side`].
pub fn one_by_one(films: Tensor<4>, [height, width]: [usize; 2]) -> Tensor<4> {
    let [count, channels, frames, _] = films.dims();
    films
        .swap_dims(1, 2)
        .reshape([count * frames, channels, height, width])
}

/// A convolution over three neighbouring frames, of one position each; the ends are padded with zeros.
pub(crate) fn conv_frames(input: usize, output: usize, device: &Device) -> Conv3d {
    Conv3dConfig::new([input, output], [3, 1, 1])
        .with_padding(PaddingConfig3d::Explicit(1, 0, 0))
        .init(device)
}

/// A layer of [`conv_frames`] over `[films, channels, frames, positions]`: it is one of two dimensions, frames being one and positions
/// the other.
pub(crate) fn along_frames(layer: &Conv3d, films: Tensor<4>) -> Tensor<4> {
    let [output, input, length, ..] = layer.weight.dims();
    let weight = layer.weight.val().reshape([output, input, length, 1]);
    let (before, after) = ((length - 1) / 2, length / 2);
    let flat = Conv2d {
        weight: Param::from_tensor(weight),
        bias: layer.bias.clone(),
        stride: [1, 1],
        kernel_size: [length, 1],
        dilation: [1, 1],
        groups: 1,
        padding: PaddingConfig2d::Explicit(before, 0, after, 0),
    };
    ops::conv2d(&flat, films)
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    fn counted(shape: [usize; 4]) -> Tensor<4> {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|value| value as f32).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    #[test]
    fn frames_are_put_side_by_side_and_back() {
        let map = counted([6, 2, 2, 5]);
        let films = side_by_side(map.clone(), 3);
        assert_eq!(films.dims(), [2, 2, 3, 10]);
        let second = films.clone().slice([1..2, 0..1, 1..2, 0..1]);
        assert_eq!(
            second.into_scalar::<f32>(),
            80.0,
            "film 1, frame 1 is row 4"
        );
        one_by_one(films, [2, 5])
            .into_data()
            .assert_eq(&map.into_data(), true);
    }

    /// The kernel that takes the frame before.
    #[test]
    fn a_convolution_looks_along_frames_only() {
        let mut layer = conv_frames(1, 1, &Device::flex());
        let before = Tensor::<5>::from_floats([[[[[1.0]], [[0.0]], [[0.0]]]]], &Device::flex());
        layer.weight = Param::from_tensor(before);
        layer.bias = layer.bias.map(|bias| bias.map(|bias| bias * 0.0));
        let shifted = along_frames(&layer, counted([1, 1, 3, 2]) + 1.0);
        let values: Vec<f32> = shifted.into_data().iter::<f32>().collect();
        assert_eq!(values, [0.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
    }
}

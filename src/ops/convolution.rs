//! What is done to maps: repeated positions, convolutions of those, channels side by side, maps as tokens.

use burn::backend::{Dispatch, DispatchTensor};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{DType, Tensor};

use super::quarantine::Kernel;
use super::{Operations, conv2d, fallback};

/// The weight and the bias of a layer, zeros where it has none.
pub(super) fn parameters(layer: &Conv2d) -> [DispatchTensor; 2] {
    let weight = layer.weight.val();
    let dtype = if is_quantised(layer) {
        DType::F32
    } else {
        weight.dtype()
    };
    let bias = match &layer.bias {
        Some(bias) => bias.val(),
        None => Tensor::zeros([weight.dims()[0]], (&weight.device(), dtype)),
    };
    [weight.into_dispatch(), bias.into_dispatch()]
}

/// `map`, `[rows, channels, height, width]`, with both sides brought to `size`, `[height, width]`, by repeating positions.
pub fn enlarged(map: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    let options = InterpolateOptions::new(InterpolateMode::Nearest).with_output_size(size);
    interpolate(map, options)
}

/// `layer` over `input`, `[rows, channels, height, width]`, [`enlarged`] to `size`: where that doubles the sides, the processor's kernel never
/// makes the larger map.
pub fn conv2d_enlarged(layer: &Conv2d, input: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    let [_, _, height, width] = input.dims();
    let doubles = size == [2 * height, 2 * width];
    if !keeps_sides(layer) || !doubles || fallback::of(Kernel::Convolution, &input).is_some() {
        return conv2d(layer, enlarged(input, size));
    }
    let [weight, bias] = parameters(layer);
    let input = input.into_dispatch();
    let doubled = if is_quantised(layer) {
        Dispatch::convolved_doubled_quantised
    } else {
        Dispatch::convolved_doubled
    };
    Tensor::from_dispatch(doubled(input, weight, bias))
}

/// Whether a layer's weight is in 8 bits.
pub(super) fn is_quantised(layer: &Conv2d) -> bool {
    matches!(layer.weight.val().dtype(), DType::QFloat(_))
}

/// Whether a layer is of 3x3, in the usual form that gives a map of the same sides.
pub(super) fn keeps_sides(layer: &Conv2d) -> bool {
    layer.kernel_size == [3, 3]
        && layer.stride == [1, 1]
        && layer.dilation == [1, 1]
        && layer.groups == 1
        && layer.padding == PaddingConfig2d::Explicit(1, 1, 1, 1)
}

/// `left`, `[rows, left, height, width]`, with the channels of `right` after its own.
pub fn join_channels(left: Tensor<4>, right: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::joined(
        left.into_dispatch(),
        right.into_dispatch(),
    ))
}

/// `[rows, channels, height, width]` as `[rows, height · width, channels]`.
pub fn to_tokens(map: Tensor<4>) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::as_tokens(map.into_dispatch()))
}

/// The inverse of [`to_tokens`], for a map of `size`.
pub fn to_map(tokens: Tensor<3>, size: [usize; 4]) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::as_map(tokens.into_dispatch(), size))
}

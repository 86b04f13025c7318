//! Convolutions of maps, and of maps whose positions are repeated.

use burn::backend::ops::ConvOptions;
use burn::backend::{Dispatch, DispatchTensor};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{DType, Tensor};

use super::quarantine::Kernel;
use super::{Operations, fallback};

/// `layer` over `input`, `[rows, channels, height, width]`. The kernel is for layers with a fixed padding, as models have.
pub fn conv2d(layer: &Conv2d, input: Tensor<4>) -> Tensor<4> {
    let kernel = match layer.kernel_size {
        [1, 1] => Kernel::PointwiseConvolution,
        _ => Kernel::Convolution,
    };
    if let Some(instead) = fallback::of(kernel, &input) {
        return fallback::conv2d(instead, layer, input);
    }
    let padding = match layer.padding {
        PaddingConfig2d::Valid => [(0, 0), (0, 0)],
        PaddingConfig2d::Explicit(top, left, bottom, right) => [(top, bottom), (left, right)],
        PaddingConfig2d::Same => return by_burn(layer, input),
    };
    let [weight, bias] = parameters(layer);
    let options =
        ConvOptions::new_with_padding(layer.stride, padding, layer.dilation, layer.groups);
    let convolved = if is_quantised(layer) {
        Dispatch::convolved_quantised
    } else {
        Dispatch::convolved
    };
    Tensor::from_dispatch(convolved(input.into_dispatch(), weight, bias, options))
}

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

/// burn's own, which wants the weight in the input's type.
pub(super) fn by_burn(layer: &Conv2d, input: Tensor<4>) -> Tensor<4> {
    let mut layer = layer.clone();
    layer.weight = layer.weight.map(|weight| weight.cast(input.dtype()));
    layer.forward(input)
}

/// `map` with both sides brought to `size` by repeating positions.
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
    Tensor::from_dispatch(Dispatch::convolved_doubled(input, weight, bias))
}

/// Whether a layer's weight is in 8 bits.
fn is_quantised(layer: &Conv2d) -> bool {
    matches!(layer.weight.val().dtype(), DType::QFloat(_))
}

/// Whether a layer is of 3x3, in the usual form that gives a map of the same sides, with a weight of floats.
pub(super) fn keeps_sides(layer: &Conv2d) -> bool {
    !is_quantised(layer)
        && layer.kernel_size == [3, 3]
        && layer.stride == [1, 1]
        && layer.dilation == [1, 1]
        && layer.groups == 1
        && layer.padding == PaddingConfig2d::Explicit(1, 1, 1, 1)
}

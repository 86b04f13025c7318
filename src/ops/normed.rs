//! Convolutions of what a norm and `SiLU` give, which the processor's kernel does on its way through the map.

use burn::backend::{Dispatch, DispatchTensor};
use burn::nn::GroupNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;

use super::convolution::{is_quantised, keeps_sides, parameters};
use super::quarantine::Kernel;
use super::{Grouping, Operations, conv2d, fallback, group_norm_silu};

/// `layer` over `SiLU` after `norm` over `input`, `[rows, channels, height, width]`.
pub fn group_norm_silu_conv2d(norm: &GroupNorm, layer: &Conv2d, input: Tensor<4>) -> Tensor<4> {
    let Some([scale, shift]) = together(norm, layer, &input) else {
        return conv2d(layer, group_norm_silu(norm, input));
    };
    let [weight, bias] = parameters(layer);
    let input = input.into_dispatch();
    let grouping = grouping(norm);
    let convolved = if is_quantised(layer) {
        Dispatch::normed_convolved_quantised
    } else {
        Dispatch::normed_convolved
    };
    Tensor::from_dispatch(convolved(input, scale, shift, grouping, weight, bias))
}

/// [`group_norm_silu_conv2d`], added to `onto`, `[rows, channels after, height, width]`: in its memory, where nobody else holds it.
pub fn group_norm_silu_conv2d_onto(
    norm: &GroupNorm,
    layer: &Conv2d,
    input: Tensor<4>,
    onto: Tensor<4>,
) -> Tensor<4> {
    let Some([scale, shift]) = together(norm, layer, &input) else {
        return onto + conv2d(layer, group_norm_silu(norm, input));
    };
    let [weight, bias] = parameters(layer);
    let (input, onto) = (input.into_dispatch(), onto.into_dispatch());
    let grouping = grouping(norm);
    let convolved = if is_quantised(layer) {
        Dispatch::normed_convolved_quantised_onto
    } else {
        Dispatch::normed_convolved_onto
    };
    Tensor::from_dispatch(convolved(input, scale, shift, grouping, weight, bias, onto))
}

fn grouping(norm: &GroupNorm) -> Grouping {
    Grouping {
        groups: norm.num_groups,
        epsilon: norm.epsilon,
    }
}

/// The norm's scale and shift, if both layers can be one operation.
fn together(norm: &GroupNorm, layer: &Conv2d, input: &Tensor<4>) -> Option<[DispatchTensor; 2]> {
    let quarantined = [Kernel::Convolution, Kernel::GroupNorm]
        .into_iter()
        .any(|kernel| fallback::of(kernel, input).is_some());
    if quarantined || !keeps_sides(layer) {
        return None;
    }
    let (scale, shift) = norm.gamma.as_ref().zip(norm.beta.as_ref())?;
    Some([scale, shift].map(|param| param.val().into_dispatch()))
}

//! Linear layers, and what follows them.

use burn::backend::Dispatch;
use burn::nn::Linear;
use burn::tensor::{DType, Tensor};

use super::quarantine::Kernel;
use super::{Gelu, Operations, fallback};

/// `layer` over `input`, `[…, width]`.
pub fn linear<const D: usize>(layer: &Linear, input: Tensor<D>) -> Tensor<D> {
    let kernel = match layer.weight.shape()[1] {
        1 => Kernel::Column,
        _ => Kernel::Linear,
    };
    if let Some(instead) = fallback::of(kernel, &input) {
        return fallback::linear(instead, layer, input);
    }
    let input = input.into_dispatch();
    let weight = layer.weight.val();
    let quantised = matches!(weight.dtype(), DType::QFloat(_));
    let weight = weight.into_dispatch();
    let bias = layer.bias.as_ref().map(|bias| bias.val().into_dispatch());
    Tensor::from_dispatch(match (bias, quantised) {
        (Some(bias), false) => Dispatch::projected(input, weight, bias),
        (Some(bias), true) => Dispatch::projected_quantised(input, weight, bias),
        (None, false) => Dispatch::multiplied(input, weight),
        (None, true) => Dispatch::multiplied_quantised(input, weight),
    })
}

/// GELU of every value.
pub fn gelu<const D: usize>(input: Tensor<D>, form: Gelu) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::gelu_of(input.into_dispatch(), form))
}

/// GEGLU: the first half of `[…, 2 · inner]` times GELU of the second, `[…, inner]`.
pub fn geglu<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    if let Some(instead) = fallback::of(Kernel::Geglu, &input) {
        return fallback::geglu(instead, input);
    }
    Tensor::from_dispatch(Dispatch::gated(input.into_dispatch()))
}

/// [`geglu`] of [`linear`], without what the layer gives being held where there is a kernel for it.
pub fn linear_geglu<const D: usize>(layer: &Linear, input: Tensor<D>) -> Tensor<D> {
    let instead = [Kernel::Linear, Kernel::Geglu].map(|kernel| fallback::of(kernel, &input));
    let bias = layer.bias.as_ref().filter(|_| instead == [None; 2]);
    let Some(bias) = bias else {
        return geglu(linear(layer, input));
    };
    let (weight, bias) = (layer.weight.val(), bias.val().into_dispatch());
    let kernel = match weight.dtype() {
        DType::QFloat(_) => Dispatch::projected_gated_quantised,
        _ => Dispatch::projected_gated,
    };
    Tensor::from_dispatch(kernel(input.into_dispatch(), weight.into_dispatch(), bias))
}

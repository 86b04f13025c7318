//! Linear layers, and what follows them; and what runs in place of either where a device computes it wrongly.

use burn::backend::Dispatch;
use burn::nn::Linear;
use burn::tensor::{DType, Tensor};

use super::fallback::{self, wide_param, widened};
use super::quarantine::{Fallback, Kernel};
use super::{Gelu, Operations, reference};

/// `layer` over `input`, `[…, width]`.
pub fn linear<const D: usize>(layer: &Linear, input: Tensor<D>) -> Tensor<D> {
    let kernel = match layer.weight.shape()[1] {
        1 => Kernel::Column,
        _ => Kernel::Linear,
    };
    if let Some(instead) = fallback::of(kernel, &input) {
        return linear_instead(instead, layer, input);
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
        return geglu_instead(instead, input);
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

/// What runs in place of [`linear`].
fn linear_instead<const D: usize>(
    fallback: Fallback,
    layer: &Linear,
    input: Tensor<D>,
) -> Tensor<D> {
    if matches!(layer.weight.val().dtype(), DType::QFloat(_)) {
        let mut layer = layer.clone();
        layer.weight = layer.weight.map(Tensor::dequantize);
        return linear_instead(fallback, &layer, input);
    }
    if fallback == Fallback::Composed {
        return match layer.weight.shape()[1] {
            1 => multiplied_and_summed(layer, input),
            _ => multiplied(layer, input),
        };
    }
    let mut layer = layer.clone();
    layer.weight = wide_param(&layer.weight);
    layer.bias = layer.bias.as_ref().map(wide_param);
    widened(input, |input| linear(&layer, input))
}

/// A matrix product, and the bias added in an operation of its own.
fn multiplied<const D: usize>(layer: &Linear, input: Tensor<D>) -> Tensor<D> {
    let mut shape = input.dims();
    let depth = shape[D - 1];
    let tokens = shape.iter().product::<usize>() / depth;
    let weight = layer.weight.val().cast(input.dtype());
    let product = input.reshape([tokens, depth]).matmul(weight); // [tokens, width]
    shape[D - 1] = product.dims()[1];
    let product = product.reshape(shape);
    match &layer.bias {
        Some(bias) => product + bias.val().unsqueeze(),
        None => product,
    }
}

/// A product with a single column as a sum over the last dimension.
fn multiplied_and_summed<const D: usize>(layer: &Linear, input: Tensor<D>) -> Tensor<D> {
    let mut shape = [1; D];
    shape[D - 1] = input.dims()[D - 1];
    let column = layer.weight.val().cast(input.dtype()).reshape(shape);
    let sum = (input * column).sum_dim(D - 1); // […, 1]
    match &layer.bias {
        Some(bias) => sum + bias.val().reshape([1; D]),
        None => sum,
    }
}

/// What runs in place of [`geglu`].
fn geglu_instead<const D: usize>(fallback: Fallback, input: Tensor<D>) -> Tensor<D> {
    match fallback {
        Fallback::Composed => {
            Tensor::from_dispatch(reference::gated::<Dispatch>(input.into_dispatch()))
        }
        Fallback::Widened => widened(input, geglu),
    }
}

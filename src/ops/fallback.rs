//! What runs in place of a kernel that a device computes wrongly: plain operations, or the same in f32.

use burn::backend::Dispatch;
use burn::module::Param;
use burn::nn::conv::Conv2d;
use burn::nn::{GroupNorm, PaddingConfig2d};
use burn::tensor::{FloatDType, Slice, Tensor};

use super::quarantine::{Fallback, Kernel, fallback};
use super::{AttentionPath, Precision, reference};

/// What runs in place of `kernel` over `input`, if it must not run itself.
pub(super) fn of<const D: usize>(kernel: Kernel, input: &Tensor<D>) -> Option<Fallback> {
    fallback(&input.device(), input.dtype(), kernel)
}

/// `work` over `input` in f32, rounded to the type of `input` at the end.
pub(super) fn widened<const D: usize, const E: usize>(
    input: Tensor<D>,
    work: impl FnOnce(Tensor<D>) -> Tensor<E>,
) -> Tensor<E> {
    let dtype = input.dtype();
    work(wide(input)).cast(dtype)
}

fn wide<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    tensor.cast(FloatDType::F32)
}

pub(super) fn wide_param<const D: usize>(param: &Param<Tensor<D>>) -> Param<Tensor<D>> {
    param.clone().map(wide)
}

pub(super) fn attention(
    fallback: Fallback,
    [query, key, value]: [Tensor<4>; 3],
    precision: Precision,
) -> Tensor<4> {
    match fallback {
        Fallback::Composed => {
            let [query, key, value] = [query, key, value].map(Tensor::into_dispatch);
            let path = AttentionPath::BOUNDED;
            Tensor::from_dispatch(reference::attention::<Dispatch>(query, key, value, path))
        }
        Fallback::Widened => widened(query, |query| {
            super::attention(query, wide(key), wide(value), precision)
        }),
    }
}

/// burn's own, which wants the weight in the input's type.
pub(super) fn by_burn(layer: &Conv2d, input: Tensor<4>) -> Tensor<4> {
    let mut layer = layer.clone();
    layer.weight = layer.weight.map(|weight| weight.cast(input.dtype()));
    layer.forward(input)
}

pub(super) fn conv2d(fallback: Fallback, layer: &Conv2d, input: Tensor<4>) -> Tensor<4> {
    if fallback == Fallback::Composed {
        return tap_by_tap(layer, input);
    }
    let mut layer = layer.clone();
    layer.weight = wide_param(&layer.weight);
    layer.bias = layer.bias.as_ref().map(wide_param);
    widened(input, |input| super::conv2d(&layer, input))
}

/// A convolution as the sum of one matrix product for every pixel of the kernel; grouped ones are left to burn.
fn tap_by_tap(layer: &Conv2d, input: Tensor<4>) -> Tensor<4> {
    let PaddingConfig2d::Explicit(top, left, bottom, right) = explicit(&layer.padding) else {
        return by_burn(layer, input);
    };
    if layer.groups != 1 {
        return by_burn(layer, input);
    }
    let weight = layer.weight.val().cast(input.dtype()); // [out, in, tall, wide]
    let [output, channels, tall, wide] = weight.dims();
    let input = input.pad((left, right, top, bottom), 0.0);
    let [rows, _, height, width] = input.dims();
    let size = |side, axis: usize, taps| {
        (side - layer.dilation[axis] * (taps - 1) - 1) / layer.stride[axis] + 1
    };
    let [high, broad] = [size(height, 0, tall), size(width, 1, wide)];
    let part = |axis: usize, tap: usize, count: usize| {
        let (start, step) = (tap * layer.dilation[axis], layer.stride[axis]);
        let end = start + (count - 1) * step + 1;
        Slice::new(
            start.cast_signed(),
            Some(end.cast_signed()),
            step.cast_signed(),
        )
    };
    let product = |(y, x): (usize, usize)| {
        let pixels = [
            Slice::full(),
            Slice::full(),
            part(0, y, high),
            part(1, x, broad),
        ];
        let pixels = input
            .clone()
            .slice(pixels)
            .reshape([rows, channels, high * broad]);
        let tap = weight
            .clone()
            .slice([0..output, 0..channels, y..y + 1, x..x + 1]);
        tap.reshape([1, output, channels])
            .repeat_dim(0, rows)
            .matmul(pixels)
    };
    let taps = (0..tall).flat_map(|y| (0..wide).map(move |x| (y, x)));
    let sum = taps.map(product).reduce(|sum, product| sum + product);
    let sum = sum
        .expect("a kernel has a pixel")
        .reshape([rows, output, high, broad]);
    match &layer.bias {
        Some(bias) => sum + bias.val().reshape([1, output, 1, 1]),
        None => sum,
    }
}

fn explicit(padding: &PaddingConfig2d) -> PaddingConfig2d {
    match padding {
        PaddingConfig2d::Valid => PaddingConfig2d::Explicit(0, 0, 0, 0),
        other => other.clone(),
    }
}

pub(super) fn group_norm(
    fallback: Fallback,
    norm: &GroupNorm,
    input: Tensor<4>,
    activate: bool,
) -> Tensor<4> {
    if fallback == Fallback::Widened {
        let mut norm = norm.clone();
        norm.gamma = norm.gamma.as_ref().map(wide_param);
        norm.beta = norm.beta.as_ref().map(wide_param);
        return widened(input, |input| {
            super::group_normalised(&norm, input, activate)
        });
    }
    let (Some(scale), Some(shift)) = (&norm.gamma, &norm.beta) else {
        return super::unscaled(norm, input, activate);
    };
    Tensor::from_dispatch(reference::group_norm::<Dispatch>(
        input.into_dispatch(),
        scale.val().into_dispatch(),
        shift.val().into_dispatch(),
        norm.num_groups,
        norm.epsilon,
        activate,
    ))
}

pub(super) fn layer_norm<const D: usize>(
    fallback: Fallback,
    input: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    match fallback {
        Fallback::Composed => Tensor::from_dispatch(reference::layer_norm::<Dispatch>(
            input.into_dispatch(),
            scale.into_dispatch(),
            shift.into_dispatch(),
            epsilon,
        )),
        Fallback::Widened => widened(input, |input| {
            super::layer_norm(input, wide(scale), wide(shift), epsilon)
        }),
    }
}

pub(super) fn standardised(fallback: Fallback, input: Tensor<3>, epsilon: f64) -> Tensor<3> {
    match fallback {
        Fallback::Composed => Tensor::from_dispatch(reference::standardise::<Dispatch>(
            input.into_dispatch(),
            epsilon,
        )),
        Fallback::Widened => widened(input, |input| super::standardised(input, epsilon)),
    }
}

//! Which kernel a linear layer takes, and how weights are kept that burn has no name for.

use ::half::{bf16, f16};
use burn::backend::ops::ModuleOps;
use burn::backend::{
    BackendTensor, DispatchKindConversion as _, DispatchTensor, Flex, TensorMetadata,
};
use burn::tensor::quantization::{QuantScheme, QuantStore, QuantValue, ScaleDtype};
use burn::tensor::{Bytes, DType, Shape, Tensor};
use burn_flex::{FlexQTensor, FlexTensor, Layout};

use super::super::Operations;
use super::super::kept::{HALVES, NARROW, PACKED, PAIRED, is_kept_as};
use super::{cast, contiguous, in_order, slice, tensor, typed, values};
use crate::kernels::cpu::eight::{self, Sizes, Weight};
use crate::kernels::cpu::linear::{linear, linear_gated, suits_gated};
use crate::kernels::cpu::packed::Packed;
use crate::kernels::cpu::pairs::{self, Panels};
use crate::kernels::cpu::product::Values;
use crate::kernels::cpu::quantised::Quantised;

/// Tokens that are too few to be worth gathering a layer's weights for.
const FEW_TOKENS: usize = 16;

pub(super) fn by_layer(
    input: FlexTensor,
    weight: FlexTensor,
    bias: Option<FlexTensor>,
) -> FlexTensor {
    let dtype = input.dtype();
    let [depth, width] = weight.shape().dims();
    let few = input.shape().num_elements() < FEW_TOKENS * depth && weight.dtype() == dtype;
    if dtype == DType::F64 || few {
        let bias = bias.map(|bias| cast(bias, dtype));
        return Flex::linear(input, cast(weight, dtype), bias);
    }
    let weight = in_order(weight);
    if [dtype, weight.dtype()] == [DType::BF16; 2] {
        let values: &[bf16] = typed(&weight);
        let panels = pairs::packed([depth, width], |place, output| {
            values[place * width + output]
        });
        return by_pairs(input, Panels::new(&panels, [depth, width]), bias);
    }
    by_values(input, values(&weight), bias, [depth, width])
}

/// [`by_layer`] with GEGLU after it.
pub(super) fn gated_by_layer(
    input: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
) -> FlexTensor {
    let [depth, width] = weight.shape().dims();
    let few = input.shape().num_elements() < FEW_TOKENS * depth;
    if few || input.dtype() != DType::F32 || !suits_gated(width / 2) {
        return Flex::gated(by_layer(input, weight, Some(bias)));
    }
    let weight = in_order(weight);
    gated_by_values(input, values(&weight), bias, [depth, width / 2])
}

/// [`by_quantised`] with GEGLU after it.
pub(super) fn gated_by_quantised(
    input: FlexTensor,
    weight: &FlexQTensor,
    bias: FlexTensor,
) -> FlexTensor {
    let integers = weight.tensor();
    let [depth, width] = integers.shape().dims();
    if is_narrow(weight) && eight::suits_gated(width / 2) {
        return gated_by_narrow(input, narrow_weight(weight), bias, width);
    }
    if is_kept_as(weight.dtype(), PAIRED) && pairs::suits_gated(width / 2) {
        let (dtype, shape) = (input.dtype(), halved(&input, width));
        let input = in_order(cast(input, DType::BF16));
        let panels = Panels::of_bytes(integers.bytes(), [depth, width]);
        let output = pairs::linear_gated(typed(&input), panels, Some(slice(&contiguous(bias))));
        return cast(tensor(output, shape), dtype);
    }
    if is_kept_as(weight.dtype(), PACKED) && input.dtype() == DType::F32 && suits_gated(width / 2) {
        let packed = Packed::new(integers.bytes(), weight.scales(), [depth, width]);
        return gated_by_values(input, Values::Packed(packed), bias, [depth, width / 2]);
    }
    if is_in_bytes(weight) && input.dtype() == DType::F32 && suits_gated(width / 2) {
        let bytes = Quantised::new(integers.storage(), weight.scales(), width);
        return gated_by_values(input, Values::Q8(bytes), bias, [depth, width / 2]);
    }
    Flex::gated(by_quantised(input, weight, Some(bias)))
}

fn gated_by_values(
    input: FlexTensor,
    weight: Values<'_>,
    bias: FlexTensor,
    [depth, inner]: [usize; 2],
) -> FlexTensor {
    let shape = halved(&input, 2 * inner);
    let (input, bias) = (contiguous(input), contiguous(bias));
    let output = linear_gated(slice(&input), weight, Some(slice(&bias)), [depth, inner]);
    tensor(output, shape)
}

/// The shape of tokens of half of `width` values.
fn halved(input: &FlexTensor, width: usize) -> Shape {
    let mut shape = input.shape();
    let last = shape.num_dims() - 1;
    shape[last] = width / 2;
    shape
}

/// A weight of less than 8 bits, `[inputs, outputs]`, as [`Packed`] reads it.
pub(crate) fn packed<const D: usize>(
    planes: Vec<u8>,
    scales: Vec<f32>,
    shape: [usize; 2],
) -> Tensor<D> {
    kept_as(PACKED, Bytes::from_bytes_vec(planes), scales, &shape)
}

/// A weight in 8 bits, `[inputs, outputs]`, under a scale for every group of inputs of an output, `[inputs / group, outputs]`. It is what
/// burn would make of them, but burn has both in one piece for a while, and keeps the room of the scales behind the integers.
pub(crate) fn in_bytes<const D: usize>(
    integers: Vec<i8>,
    scales: Vec<f32>,
    shape: [usize; 2],
) -> Tensor<D> {
    let group = integers.len() / scales.len().max(1);
    let scheme = QuantScheme::default()
        .with_value(QuantValue::Q8S)
        .with_store(QuantStore::Native)
        .per_block([u8::try_from(group).unwrap_or(u8::MAX), 1], ScaleDtype::F32);
    kept(scheme, Bytes::from_elems(integers), scales, &shape)
}

/// A weight for products in 8 bits as [`Weight`] reads it, of a linear layer, `[inputs, outputs]`, or of a convolution.
pub(crate) fn narrow<const D: usize>(
    integers: Vec<u8>,
    scales: Vec<f32>,
    shape: &[usize],
) -> Tensor<D> {
    kept_as(NARROW, Bytes::from_bytes_vec(integers), scales, shape)
}

/// A weight for products of bf16 as [`Panels`] reads them, of a linear layer, `[inputs, outputs]`.
pub(crate) fn paired<const D: usize>(values: Vec<bf16>, shape: [usize; 2]) -> Tensor<D> {
    // burn wants a scale.
    kept_as(PAIRED, Bytes::from_elems(values), vec![1.0], &shape)
}

/// A 3x3 convolution's weight, `[out, in, 3, 3]`, in f16, for products in 16 bits where it is computed in Winograd's space.
pub(crate) fn halves<const D: usize>(values: Vec<f16>, shape: &[usize]) -> Tensor<D> {
    kept_as(HALVES, Bytes::from_elems(values), vec![1.0], shape)
}

/// burn has no such tensors: they have the shape of the weight and bytes in an order of their own, so nobody but [`by_quantised`] and
/// [`convolved_quantised`](crate::ops::Operations::convolved_quantised) can read them.
fn kept_as<const D: usize>(
    value: QuantValue,
    bytes: Bytes,
    scales: Vec<f32>,
    shape: &[usize],
) -> Tensor<D> {
    let scheme = QuantScheme::default()
        .with_value(value)
        .with_store(QuantStore::Native);
    kept(scheme, bytes, scales, shape)
}

fn kept<const D: usize>(
    scheme: QuantScheme,
    bytes: Bytes,
    scales: Vec<f32>,
    shape: &[usize],
) -> Tensor<D> {
    let layout = Layout::contiguous(Shape::from(shape.to_vec()));
    let bytes = FlexTensor::new(bytes, layout, DType::I8);
    let weight = FlexQTensor::new(bytes, scheme, scales, None);
    let weight = BackendTensor::<Flex>::Quantized(weight);
    Tensor::from_dispatch(DispatchTensor::from_backend(weight))
}

/// Whether a weight is [`in_bytes`], and in order.
fn is_in_bytes(weight: &FlexQTensor) -> bool {
    is_kept_as(weight.dtype(), QuantValue::Q8S) && weight.tensor().is_contiguous()
}

/// Whether a weight is [`narrow`].
pub(super) fn is_narrow(weight: &FlexQTensor) -> bool {
    is_kept_as(weight.dtype(), NARROW)
}

/// A weight of [`halves`], in f16 as burn knows it.
pub(super) fn half_weight(weight: &FlexQTensor) -> Option<FlexTensor> {
    let halves = weight.tensor();
    let (bytes, layout) = (halves.data_arc(), halves.layout().clone());
    is_kept_as(weight.dtype(), HALVES).then(|| FlexTensor::from_arc(bytes, layout, DType::F16))
}

/// A [`narrow`] weight.
pub(super) fn narrow_weight(weight: &FlexQTensor) -> Weight<'_> {
    let integers = weight.tensor();
    let mut shape: Vec<usize> = integers.shape().iter().copied().collect();
    if shape.len() == 2 {
        shape.reverse();
    }
    Weight::new(Sizes::of(&shape), integers.bytes(), weight.scales())
}

/// By a weight as [`crate::weights`] makes them: with a scale for every group of inputs of an output, or packed tighter.
pub(super) fn by_quantised(
    input: FlexTensor,
    weight: &FlexQTensor,
    bias: Option<FlexTensor>,
) -> FlexTensor {
    let integers = weight.tensor();
    let [depth, width] = integers.shape().dims();
    if is_narrow(weight) {
        return by_narrow(input, narrow_weight(weight), bias, width);
    }
    if is_kept_as(weight.dtype(), PAIRED) {
        let panels = Panels::of_bytes(integers.bytes(), [depth, width]);
        return by_pairs(input, panels, bias);
    }
    if is_kept_as(weight.dtype(), PACKED) {
        let values = Packed::new(integers.bytes(), weight.scales(), [depth, width]);
        return by_values(input, Values::Packed(values), bias, [depth, width]);
    }
    assert!(
        integers.is_contiguous(),
        "a weight in 8 bits is kept in order"
    );
    let values = Quantised::new(integers.storage(), weight.scales(), width);
    by_values(input, Values::Q8(values), bias, [depth, width])
}

fn by_narrow(
    input: FlexTensor,
    weight: Weight<'_>,
    bias: Option<FlexTensor>,
    width: usize,
) -> FlexTensor {
    let (dtype, mut shape) = (input.dtype(), input.shape());
    let last = shape.num_dims() - 1;
    shape[last] = width;
    let bias = bias.map(contiguous);
    let bias = bias.as_ref().map(slice);
    if dtype == DType::BF16 {
        let input = in_order(input);
        return tensor(eight::linear::<bf16>(typed(&input), weight, bias), shape);
    }
    let output = eight::linear(slice(&contiguous(input)), weight, bias);
    cast(tensor(output, shape), dtype)
}

/// [`by_narrow`] with GEGLU after it.
fn gated_by_narrow(
    input: FlexTensor,
    weight: Weight<'_>,
    bias: FlexTensor,
    width: usize,
) -> FlexTensor {
    let (dtype, shape) = (input.dtype(), halved(&input, width));
    let bias = contiguous(bias);
    let bias = Some(slice(&bias));
    if dtype == DType::BF16 {
        let input = in_order(input);
        let output = eight::linear_gated::<bf16>(typed(&input), weight, bias);
        return tensor(output, shape);
    }
    let output = eight::linear_gated(slice(&contiguous(input)), weight, bias);
    cast(tensor(output, shape), dtype)
}

/// By products of bf16, whatever the input is in.
fn by_pairs(input: FlexTensor, weight: Panels<'_>, bias: Option<FlexTensor>) -> FlexTensor {
    let (dtype, mut shape) = (input.dtype(), input.shape());
    let last = shape.num_dims() - 1;
    shape[last] = weight.outputs();
    let input = in_order(cast(input, DType::BF16));
    let bias = bias.map(contiguous);
    let output = pairs::linear(typed(&input), weight, bias.as_ref().map(slice));
    cast(tensor(output, shape), dtype)
}

fn by_values(
    input: FlexTensor,
    weight: Values<'_>,
    bias: Option<FlexTensor>,
    [depth, width]: [usize; 2],
) -> FlexTensor {
    let (dtype, mut shape) = (input.dtype(), input.shape());
    let last = shape.num_dims() - 1;
    shape[last] = width;
    let (input, bias) = (contiguous(input), bias.map(contiguous));
    let output = linear(
        slice(&input),
        weight,
        bias.as_ref().map(slice),
        depth,
        width,
    );
    cast(tensor(output, shape), dtype)
}

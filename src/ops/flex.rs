//! The kernels behind burn's CPU backend.

use ::half::{bf16, f16};
use burn::backend::ops::{ConvOptions, FloatTensorOps, ModuleOps};
use burn::backend::tensor::{FloatTensor, QuantizedTensor};
use burn::backend::{
    BackendTensor, DispatchKindConversion as _, DispatchTensor, Flex, TensorMetadata,
};
use burn::tensor::quantization::{QuantScheme, QuantStore, QuantValue};
use burn::tensor::{Bytes, DType, Shape, Tensor, TensorData};
use burn_flex::{FlexQTensor, FlexTensor, Layout};

use crate::kernels::cpu::attention::{Heads, attention};
use crate::kernels::cpu::eight::{self, Sizes, Weight};
use crate::kernels::cpu::gate::{activated, gated};
use crate::kernels::cpu::linear::linear;
use crate::kernels::cpu::norm::{Affine, group_norm, layer_norm};
use crate::kernels::cpu::packed::Packed;
use crate::kernels::cpu::product::Values;
use crate::kernels::cpu::quantised::Quantised;

use super::{AttentionPath, Gelu, Grouping, Operations, reference};

mod maps;

/// Tokens that are too few to be worth gathering a layer's weights for.
const FEW_TOKENS: usize = 16;

impl Operations for Flex {
    fn scaled_dot_product(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        path: AttentionPath,
    ) -> FloatTensor<Self> {
        let dtype = query.dtype();
        if dtype == DType::F64 {
            return reference::attention::<Self>(query, key, value, path);
        }
        let (query, key, value) = (rows(query), rows(key), rows(value));
        let [batch, count, queries, width] = query.shape().dims();
        let mixed = attention(heads(&query), heads(&key), heads(&value));
        let mixed = tensor(mixed, Shape::new([batch, queries, count, width]));
        Self::float_swap_dims(cast(mixed, dtype), 1, 2)
    }

    fn convolved(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        maps::convolved(input, weight, bias, options)
    }

    fn convolved_doubled(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        maps::doubled(input, weight, bias)
    }

    fn normed_convolved(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: Grouping,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        maps::normed(input, [scale, shift], norm, [weight, bias])
    }

    fn normed_convolved_onto(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: Grouping,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        onto: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        maps::normed_onto(input, [scale, shift], norm, [weight, bias], onto)
    }

    fn convolved_quantised(
        input: FloatTensor<Self>,
        weight: QuantizedTensor<Self>,
        bias: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        assert!(
            is_kept_as(&weight, NARROW) && options.groups == 1 && options.dilation == [1, 1],
            "convolutions in 8 bits have one group, and nothing between their taps"
        );
        let dtype = input.dtype();
        let geometry = maps::geometry(&input, weight.tensor(), &options);
        let [rows, output] = [geometry.rows, geometry.channels[1]];
        let shape = Shape::new([rows, output, geometry.output[0], geometry.output[1]]);
        let (input, bias) = (contiguous(input), contiguous(bias));
        let weight = narrow_weight(&weight);
        let output = eight::convolve(slice(&input), weight, slice(&bias), geometry);
        cast(tensor(output, shape), dtype)
    }

    fn projected(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        by_layer(input, weight, Some(bias))
    }

    fn multiplied(input: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        by_layer(input, weight, None)
    }

    fn joined(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_cat(vec![left, right], 1)
    }

    // Maps stay in their logical order, in which the convolutions read and write them.
    fn as_tokens(map: FloatTensor<Self>) -> FloatTensor<Self> {
        let [rows, channels, height, width] = map.shape().dims();
        let flat = Self::float_reshape(map, Shape::new([rows, channels, height * width]));
        Self::float_swap_dims(flat, 1, 2)
    }

    fn as_map(tokens: FloatTensor<Self>, size: [usize; 4]) -> FloatTensor<Self> {
        Self::float_reshape(Self::float_swap_dims(tokens, 1, 2), Shape::new(size))
    }

    fn projected_quantised(
        input: FloatTensor<Self>,
        weight: QuantizedTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        by_quantised(input, &weight, Some(bias))
    }

    fn multiplied_quantised(
        input: FloatTensor<Self>,
        weight: QuantizedTensor<Self>,
    ) -> FloatTensor<Self> {
        by_quantised(input, &weight, None)
    }

    fn gelu_of(input: FloatTensor<Self>, form: Gelu) -> FloatTensor<Self> {
        let (dtype, shape) = (input.dtype(), input.shape());
        if dtype == DType::F64 {
            return reference::gelu::<Self>(input, form);
        }
        let output = activated(slice(&contiguous(input)), form);
        cast(tensor(output, shape), dtype)
    }

    fn gated(input: FloatTensor<Self>) -> FloatTensor<Self> {
        let (dtype, mut shape) = (input.dtype(), input.shape());
        if dtype == DType::F64 {
            return reference::gated::<Self>(input);
        }
        let last = shape.num_dims() - 1;
        shape[last] /= 2;
        let output = gated(slice(&contiguous(input)), shape[last]);
        cast(tensor(output, shape), dtype)
    }

    fn group_normalised(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        groups: usize,
        epsilon: f64,
        activate: bool,
    ) -> FloatTensor<Self> {
        let (dtype, shape) = (input.dtype(), input.shape());
        if dtype == DType::F64 {
            return reference::group_norm::<Self>(input, scale, shift, groups, epsilon, activate);
        }
        let (input, scale, shift) = (contiguous(input), contiguous(scale), contiguous(shift));
        let affine = Affine {
            scale: slice(&scale),
            shift: slice(&shift),
        };
        let positions = shape[2..].iter().product();
        let input = slice(&input);
        let output = group_norm(input, affine, groups, positions, epsilon, activate);
        cast(tensor(output, shape), dtype)
    }

    fn layer_normalised(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        if input.dtype() == DType::F64 {
            return reference::layer_norm::<Self>(input, scale, shift, epsilon);
        }
        let (scale, shift) = (contiguous(scale), contiguous(shift));
        let affine = Affine {
            scale: slice(&scale),
            shift: slice(&shift),
        };
        by_token(input, affine, epsilon)
    }

    fn standardised(input: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        if input.dtype() == DType::F64 {
            return reference::standardise::<Self>(input, epsilon);
        }
        let width = input.shape()[2];
        let affine = Affine {
            scale: &vec![1.0; width],
            shift: &vec![0.0; width],
        };
        by_token(input, affine, epsilon)
    }
}

fn by_layer(input: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
    let dtype = input.dtype();
    let [depth, width] = weight.shape().dims();
    let few = input.shape().num_elements() < FEW_TOKENS * depth && weight.dtype() == dtype;
    if dtype == DType::F64 || few {
        return Flex::linear(input, cast(weight, dtype), bias);
    }
    let weight = in_order(weight);
    by_values(input, values(&weight), bias, [depth, width])
}

/// A weight of less than 8 bits, `[inputs, outputs]`, as [`Packed`] reads it.
pub(crate) fn packed<const D: usize>(
    planes: Vec<u8>,
    scales: Vec<f32>,
    shape: [usize; 2],
) -> Tensor<D> {
    kept_as(PACKED, planes, scales, &shape)
}

/// A weight for products in 8 bits as [`Weight`] reads it, of a linear layer, `[inputs, outputs]`, or of a convolution.
pub(crate) fn narrow<const D: usize>(
    integers: Vec<u8>,
    scales: Vec<f32>,
    shape: &[usize],
) -> Tensor<D> {
    kept_as(NARROW, integers, scales, shape)
}

/// burn has no such tensors: they have the shape of the weight and bytes in an order of their own, so nobody but [`by_quantised`] and
/// [`convolved_quantised`](Operations::convolved_quantised) can read them.
fn kept_as<const D: usize>(
    value: QuantValue,
    bytes: Vec<u8>,
    scales: Vec<f32>,
    shape: &[usize],
) -> Tensor<D> {
    let scheme = QuantScheme::default()
        .with_value(value)
        .with_store(QuantStore::Native);
    let layout = Layout::contiguous(Shape::from(shape.to_vec()));
    let bytes = FlexTensor::new(Bytes::from_bytes_vec(bytes), layout, DType::I8);
    let weight = FlexQTensor::new(bytes, scheme, scales, None);
    let weight = BackendTensor::<Flex>::Quantized(weight);
    Tensor::from_dispatch(DispatchTensor::from_backend(weight))
}

/// How burn's schemes name what is [`packed`].
const PACKED: QuantValue = QuantValue::Q4S;

/// How they name what is [`narrow`].
const NARROW: QuantValue = QuantValue::Q8F;

fn is_kept_as(weight: &FlexQTensor, value: QuantValue) -> bool {
    matches!(weight.dtype(), DType::QFloat(scheme) if scheme.value == value)
}

/// A [`narrow`] weight.
fn narrow_weight(weight: &FlexQTensor) -> Weight<'_> {
    let integers = weight.tensor();
    let mut shape: Vec<usize> = integers.shape().iter().copied().collect();
    if shape.len() == 2 {
        shape.reverse();
    }
    Weight::new(Sizes::of(&shape), integers.bytes(), weight.scales())
}

/// By a weight as [`crate::weights`] makes them: with a scale for every group of inputs of an output, or packed tighter.
fn by_quantised(input: FlexTensor, weight: &FlexQTensor, bias: Option<FlexTensor>) -> FlexTensor {
    let integers = weight.tensor();
    let [depth, width] = integers.shape().dims();
    if is_kept_as(weight, NARROW) {
        return by_narrow(input, narrow_weight(weight), bias, width);
    }
    if is_kept_as(weight, PACKED) {
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
    let (input, bias) = (contiguous(input), bias.map(contiguous));
    let output = eight::linear(slice(&input), weight, bias.as_ref().map(slice));
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

fn by_token(input: FlexTensor, affine: Affine<'_>, epsilon: f64) -> FlexTensor {
    let (dtype, shape) = (input.dtype(), input.shape());
    let input = contiguous(input);
    let output = layer_norm(slice(&input), affine, epsilon);
    cast(tensor(output, shape), dtype)
}

fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

fn cast(tensor: FlexTensor, dtype: DType) -> FlexTensor {
    if tensor.dtype() == dtype {
        return tensor;
    }
    Flex::float_cast(tensor, dtype.into())
}

fn in_order(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// In f32 and in order.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    in_order(cast(tensor, DType::F32))
}

/// The values of a [`contiguous`] tensor.
fn slice(tensor: &FlexTensor) -> &[f32] {
    let start = tensor.layout().start_offset();
    &tensor.storage::<f32>()[start..start + tensor.layout().num_elements()]
}

/// The values of a tensor [`in_order`] as they are kept: in f32 or half precision.
fn values(tensor: &FlexTensor) -> Values<'_> {
    let start = tensor.layout().start_offset();
    let part = start..start + tensor.layout().num_elements();
    match tensor.dtype() {
        DType::F16 => Values::F16(&tensor.storage::<f16>()[part]),
        DType::BF16 => Values::Bf16(&tensor.storage::<bf16>()[part]),
        _ => Values::F32(&tensor.storage::<f32>()[part]),
    }
}

/// In f32, with the last dimension in order; the others may be strided, as those of heads are.
fn rows(tensor: FlexTensor) -> FlexTensor {
    let tensor = cast(tensor, DType::F32);
    let strides = tensor.layout().strides();
    if strides[3] == 1 && strides.iter().all(|stride| *stride >= 0) {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// A view of a tensor that [`rows`] has put in order.
fn heads(tensor: &FlexTensor) -> Heads<'_> {
    let stride = |dim: usize| tensor.layout().strides()[dim].unsigned_abs();
    Heads {
        values: tensor.storage(),
        offset: tensor.layout().start_offset(),
        strides: [stride(0), stride(1), stride(2)],
        dims: tensor.shape().dims(),
    }
}

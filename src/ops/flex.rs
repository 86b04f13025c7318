//! The kernels behind burn's CPU backend.

use ::half::{bf16, f16};
use burn::backend::ops::{ConvOptions, FloatTensorOps};
use burn::backend::tensor::{FloatTensor, QuantizedTensor};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, Element, Shape};
use burn_flex::{FlexTensor, Layout};
use macerator::Scalar;

use crate::kernels::cpu::attention::{Heads, Value, attention, coarse, rounded};
use crate::kernels::cpu::gate::{activated, gated};
use crate::kernels::cpu::norm::{Affine, group_norm, layer_norm};
use crate::kernels::cpu::product::Values;
use crate::kernels::cpu::turn::turned;

use super::{AttentionPath, Gelu, Grouping, Operations, reference};

mod layers;
mod maps;
mod memory;
mod narrow;
mod sums;

use layers::{by_layer, by_quantised};
pub(crate) use layers::{halves, in_bytes, narrow, packed, paired};

/// What some work makes of the values of a tensor [`in_order`], in their own type.
macro_rules! in_its_type {
    ($input:expr, $shape:expr, |$values:ident| $work:expr) => {
        match $input.dtype() {
            DType::F16 => {
                let $values = typed::<f16>(&$input);
                tensor($work, $shape)
            }
            DType::BF16 => {
                let $values = typed::<bf16>(&$input);
                tensor($work, $shape)
            }
            _ => {
                let $values = slice(&$input);
                tensor($work, $shape)
            }
        }
    };
}

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
        let operands = [dtype, key.dtype(), value.dtype()];
        let is_coarse = path == AttentionPath::Rounded;
        if operands == [DType::BF16; 3] {
            return attended::<bf16>([query, key, value], is_coarse);
        }
        if is_coarse && operands == [DType::F32; 3] {
            return attended::<f32>([query, key, value], true);
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
        maps::convolved(input, weight, bias, options, maps::Precision::Full)
    }

    fn convolved_doubled(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        maps::doubled(input, weight, bias, maps::Precision::Full)
    }

    fn convolved_doubled_quantised(
        input: FloatTensor<Self>,
        weight: QuantizedTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        narrow::doubled(input, &weight, bias)
    }

    fn normed_convolved(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: Grouping,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let precision = maps::Precision::Full;
        maps::normed(input, [scale, shift], norm, [weight, bias], precision)
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
        let precision = maps::Precision::Full;
        maps::normed_onto(input, [scale, shift], norm, [weight, bias], precision, onto)
    }

    fn convolved_quantised(
        input: FloatTensor<Self>,
        weight: QuantizedTensor<Self>,
        bias: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        narrow::convolved(input, &weight, bias, &options)
    }

    fn normed_convolved_quantised(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: Grouping,
        weight: QuantizedTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        narrow::normed(input, [scale, shift], norm, &weight, bias)
    }

    fn normed_convolved_quantised_onto(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: Grouping,
        weight: QuantizedTensor<Self>,
        bias: FloatTensor<Self>,
        onto: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        narrow::normed_onto(input, [scale, shift], norm, &weight, bias, onto)
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

    fn added(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self> {
        sums::added(left, right)
    }

    fn joined(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self> {
        maps::joined(left, right)
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
        let shape = input.shape();
        if input.dtype() == DType::F64 {
            return reference::gelu::<Self>(input, form);
        }
        let input = in_order(input);
        in_its_type!(input, shape, |values| activated(values, form))
    }

    fn gated(input: FloatTensor<Self>) -> FloatTensor<Self> {
        let mut shape = input.shape();
        if input.dtype() == DType::F64 {
            return reference::gated::<Self>(input);
        }
        let last = shape.num_dims() - 1;
        shape[last] /= 2;
        let (input, inner) = (in_order(input), shape[last]);
        in_its_type!(input, shape, |values| gated(values, inner))
    }

    fn projected_gated(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        layers::gated_by_layer(input, weight, bias)
    }

    fn projected_gated_quantised(
        input: FloatTensor<Self>,
        weight: QuantizedTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        layers::gated_by_quantised(input, &weight, bias)
    }

    fn group_normalised(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        groups: usize,
        epsilon: f64,
        activate: bool,
    ) -> FloatTensor<Self> {
        let shape = input.shape();
        if input.dtype() == DType::F64 {
            return reference::group_norm::<Self>(input, scale, shift, groups, epsilon, activate);
        }
        let (input, scale, shift) = (in_order(input), contiguous(scale), contiguous(shift));
        let affine = Affine {
            scale: slice(&scale),
            shift: slice(&shift),
        };
        let positions = shape[2..].iter().product();
        in_its_type!(input, shape, |values| {
            group_norm(values, affine, groups, positions, epsilon, activate)
        })
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

/// Attention by products of 16 bits, or of 8 where it may be coarse.
fn attended<T: Value + Element + Scalar>(operands: [FlexTensor; 3], is_coarse: bool) -> FlexTensor {
    let [query, key, value] = operands.map(in_rows);
    let [batch, count, queries, width] = query.shape().dims();
    let operands = [heads(&query), heads(&key), heads(&value)];
    let mixed: Vec<T> = if is_coarse {
        coarse(operands)
    } else {
        rounded(operands)
    };
    let mixed = tensor(mixed, Shape::new([batch, queries, count, width]));
    Flex::float_swap_dims(mixed, 1, 2)
}

fn by_token(input: FlexTensor, affine: Affine<'_>, epsilon: f64) -> FlexTensor {
    let shape = input.shape();
    let input = in_order(input);
    in_its_type!(input, shape, |values| layer_norm(values, affine, epsilon))
}

fn tensor<T: Element>(values: Vec<T>, shape: Shape) -> FlexTensor {
    memory::tensor(values, shape)
}

fn cast(tensor: FlexTensor, dtype: DType) -> FlexTensor {
    if tensor.dtype() == dtype {
        return tensor;
    }
    Flex::float_cast(tensor, dtype.into())
}

fn in_order(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() {
        return tensor;
    }
    match tensor.dtype() {
        DType::F32 => in_order_of::<f32>(tensor),
        DType::BF16 => in_order_of::<bf16>(tensor),
        _ => tensor.to_contiguous(),
    }
}

/// [`in_order`]; maps as tokens and tokens as maps on all threads.
fn in_order_of<T: Element + Scalar>(tensor: FlexTensor) -> FlexTensor {
    let Some([count, rows, columns]) = turned_sides(tensor.layout()) else {
        return tensor.to_contiguous();
    };
    let start = tensor.layout().start_offset();
    let values = &tensor.storage::<T>()[start..start + count * rows * columns];
    self::tensor(turned(values, count, [rows, columns]), tensor.shape())
}

/// Of a tensor that is `count` matrices of `[rows, columns]` in memory, each the other way round: those sides.
fn turned_sides(layout: &Layout) -> Option<[usize; 3]> {
    let signed = usize::cast_signed;
    let (shape, strides) = (&layout.shape()[..], layout.strides());
    let sides = match *shape {
        [count, columns, rows] => [count, rows, columns],
        [count, columns, height, width] => {
            let lines = strides[2] == signed(width * columns);
            [
                count,
                if lines { height * width } else { return None },
                columns,
            ]
        }
        _ => return None,
    };
    let [_, rows, columns] = sides;
    let turned = strides[0] == signed(rows * columns)
        && strides[1] == 1
        && strides[strides.len() - 1] == signed(columns);
    turned.then_some(sides)
}

/// In f32 and in order.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    in_order(cast(tensor, DType::F32))
}

/// The values of a [`contiguous`] tensor.
fn slice(tensor: &FlexTensor) -> &[f32] {
    typed(tensor)
}

/// The values of a tensor [`in_order`], of its type.
fn typed<T: Element + Scalar>(tensor: &FlexTensor) -> &[T] {
    let start = tensor.layout().start_offset();
    &tensor.storage::<T>()[start..start + tensor.layout().num_elements()]
}

/// The values of a tensor [`in_order`] as they are kept: in f32 or half precision.
fn values(tensor: &FlexTensor) -> Values<'_> {
    match tensor.dtype() {
        DType::F16 => Values::F16(typed(tensor)),
        DType::BF16 => Values::Bf16(typed(tensor)),
        _ => Values::F32(typed(tensor)),
    }
}

/// In f32, [`in_rows`].
fn rows(tensor: FlexTensor) -> FlexTensor {
    in_rows(cast(tensor, DType::F32))
}

/// With the last dimension in order; the others may be strided, as those of heads are.
fn in_rows(tensor: FlexTensor) -> FlexTensor {
    let strides = tensor.layout().strides();
    if strides[3] == 1 && strides.iter().all(|stride| *stride >= 0) {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// A view of a tensor that is [`in_rows`].
fn heads<T: Element + Scalar>(tensor: &FlexTensor) -> Heads<'_, T> {
    let stride = |dim: usize| tensor.layout().strides()[dim].unsigned_abs();
    Heads {
        values: tensor.storage(),
        offset: tensor.layout().start_offset(),
        strides: [stride(0), stride(1), stride(2)],
        dims: tensor.shape().dims(),
    }
}

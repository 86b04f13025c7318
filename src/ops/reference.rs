//! The operations composed of burn's own.

use burn::backend::ops::AttentionModuleOptions;
use burn::backend::tensor::{FloatTensor, QuantizedTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, FloatDType, Shape, Slice};

use super::{Gelu, Precision};

/// Attention scores held at a time where attention is written out.
pub(super) const SCORE_BYTES: usize = 128 << 20;

/// The widest head that fused kernels get (SD 1.x: 160): they would round one as wide as a level of LDM-4-G (384 to 960) to f16, or have
/// no room for it.
const FUSED_WIDTH: usize = 256;

pub(super) fn attention<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    precision: Precision,
) -> FloatTensor<B> {
    if precision == Precision::Operands || query.shape()[3] > FUSED_WIDTH {
        return written_out::<B>(query, key, value, SCORE_BYTES);
    }
    B::attention(
        query,
        key,
        value,
        None,
        None,
        AttentionModuleOptions::default(),
    )
}

/// Attention in plain operations, in groups of queries whose scores fit into `bytes`.
pub(super) fn written_out<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    bytes: usize,
) -> FloatTensor<B> {
    let [rows, heads, queries, width] = query.shape().dims();
    let row = rows * heads * key.shape()[2] * size_of::<f32>();
    let chunk = (bytes / row).clamp(1, queries);
    let query = B::float_mul_scalar(query, (width as f64).powf(-0.5).into());
    let key = B::float_swap_dims(key, 2, 3); // [rows, heads, head_width, tokens]
    let chunks = (0..queries).step_by(chunk).map(|start| {
        let some = Slice::from(start..(start + chunk).min(queries));
        let slices = [Slice::full(), Slice::full(), some];
        let scores = B::float_matmul(B::float_slice(query.clone(), &slices), key.clone());
        B::float_matmul(B::softmax(scores, 3), value.clone()) // [rows, heads, chunk, head_width]
    });
    B::float_cat(chunks.collect(), 2)
}

/// A weight in 8 bits in the data type of what it is multiplied by.
pub(super) fn dequantised<B: Backend>(
    weight: QuantizedTensor<B>,
    input: &FloatTensor<B>,
) -> FloatTensor<B> {
    B::dequantize(weight, input.dtype().into())
}

pub(super) fn group_norm<B: Backend>(
    input: FloatTensor<B>,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
    groups: usize,
    epsilon: f64,
    activate: bool,
) -> FloatTensor<B> {
    let shape = input.shape();
    let (rows, channels) = (shape[0], shape[1]);
    let hidden = shape.num_elements() / (rows * groups);
    let grouped = B::float_reshape(input, Shape::new([rows, groups, hidden]));
    let normed = B::float_reshape(normalised::<B>(grouped, epsilon), shape);
    let per_channel = |tensor| B::float_reshape(tensor, Shape::new([1, channels, 1, 1]));
    let scaled = B::float_mul(normed, per_channel(scale));
    let shifted = B::float_add(scaled, per_channel(shift));
    if activate {
        B::float_mul(shifted.clone(), B::sigmoid(shifted))
    } else {
        shifted
    }
}

/// The last of three dimensions to mean 0 and deviation 1; f16 squares overflow, so it is widened for that.
fn normalised<B: Backend>(input: FloatTensor<B>, epsilon: f64) -> FloatTensor<B> {
    let dtype = input.dtype();
    let wide = if dtype == DType::F16 {
        B::float_cast(input, FloatDType::F32)
    } else {
        input
    };
    let mean = B::float_mean_dim(wide.clone(), 2);
    let centred = B::float_sub(wide, mean);
    let squares = B::float_mul(centred.clone(), centred.clone());
    let variance = B::float_mean_dim(squares, 2);
    let deviation = B::float_sqrt(B::float_add_scalar(variance, epsilon.into()));
    let normed = B::float_div(centred, deviation);
    if dtype == DType::F16 {
        B::float_cast(normed, dtype.into())
    } else {
        normed
    }
}

pub(super) fn gelu<B: Backend>(input: FloatTensor<B>, form: Gelu) -> FloatTensor<B> {
    if form == Gelu::Exact {
        return B::gelu(input);
    }
    let square = B::float_mul(input.clone(), input.clone());
    let factor = B::float_add_scalar(B::float_mul_scalar(square, 0.044_715.into()), 1.0.into());
    let cubic = B::float_mul(input.clone(), factor);
    // (1 + tanh y) / 2 = sigmoid(2 y), y behind √(2/π)
    let gate = B::sigmoid(B::float_mul_scalar(cubic, 1.595_769_121_605_731.into()));
    B::float_mul(input, gate)
}

pub(super) fn gated<B: Backend>(input: FloatTensor<B>) -> FloatTensor<B> {
    let shape = input.shape();
    let last = shape.num_dims() - 1;
    let inner = shape[last] / 2;
    let half = |half: usize| {
        let mut slices: Vec<_> = shape.iter().map(|&size| Slice::from(0..size)).collect();
        slices[last] = Slice::from(half * inner..(half + 1) * inner);
        B::float_slice(input.clone(), &slices)
    };
    B::float_mul(half(0), B::gelu(half(1)))
}

pub(super) fn layer_norm<B: Backend>(
    input: FloatTensor<B>,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let dtype = input.dtype();
    if dtype != DType::F16 {
        return B::layer_norm(input, scale, Some(shift), epsilon);
    }
    let wide = |tensor| B::float_cast(tensor, FloatDType::F32);
    let normed = B::layer_norm(wide(input), wide(scale), Some(wide(shift)), epsilon);
    B::float_cast(normed, dtype.into())
}

pub(super) fn standardise<B: Backend>(input: FloatTensor<B>, epsilon: f64) -> FloatTensor<B> {
    let dtype = input.dtype();
    let wide = B::float_cast(input, FloatDType::F32);
    B::float_cast(normalised::<B>(wide, epsilon), dtype.into())
}

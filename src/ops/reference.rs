//! The operations composed of burn's own.

use burn::backend::ops::{
    AttentionModuleOptions, ConvOptions, InterpolateMode, InterpolateOptions,
};
use burn::backend::tensor::{FloatTensor, QuantizedTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, FloatDType, Shape, Slice};

use super::{AttentionPath, Gelu, Grouping, Operations};

pub(super) fn attention<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    path: AttentionPath,
) -> FloatTensor<B> {
    match path {
        AttentionPath::Fused { queries, width } => fused::<B>(query, key, value, queries, width),
        AttentionPath::WrittenOut { bytes } => written_out::<B>(query, key, value, bytes),
        AttentionPath::Rounded => attention::<B>(query, key, value, AttentionPath::BOUNDED),
    }
}

/// burn's own attention over zeros after the operands, up to `queries` and `width`. Fused kernels know only the scale of the width they
/// are given, so the queries bring the rest of theirs.
fn fused<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    queries: usize,
    width: usize,
) -> FloatTensor<B> {
    let [rows, heads, asked, narrow] = query.shape().dims();
    let query = if width == narrow {
        query
    } else {
        B::float_mul_scalar(query, (width as f64 / narrow as f64).sqrt().into())
    };
    let query = padded::<B>(padded::<B>(query, 3, width), 2, queries);
    let [key, value] = [key, value].map(|tensor| padded::<B>(tensor, 3, width));
    let options = AttentionModuleOptions::default();
    let mixed = B::attention(query, key, value, None, None, options);
    if [asked, narrow] == [queries, width] {
        return mixed;
    }
    B::float_slice(
        mixed,
        &[0..rows, 0..heads, 0..asked, 0..narrow].map(Slice::from),
    )
}

/// The map made, then convolved.
pub(super) fn convolved_doubled<B: Operations>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> FloatTensor<B> {
    let [_, _, height, width] = input.shape().dims();
    let nearest = InterpolateOptions::new(InterpolateMode::Nearest);
    let doubled = B::interpolate(input, [2 * height, 2 * width], nearest);
    B::convolved(doubled, weight, bias, keeping_sides())
}

/// One after the other.
pub(super) fn normed_convolved<B: Operations>(
    input: FloatTensor<B>,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
    norm: Grouping,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> FloatTensor<B> {
    let normed = B::group_normalised(input, scale, shift, norm.groups, norm.epsilon, true);
    B::convolved(normed, weight, bias, keeping_sides())
}

/// Of a kernel of 3x3 that gives a map of the same sides.
pub(super) fn keeping_sides() -> ConvOptions<2> {
    ConvOptions::new_with_padding([1, 1], [(1, 1), (1, 1)], [1, 1], 1)
}

/// `tensor` with zeros after it up to `size` along `dim`.
fn padded<B: Backend>(tensor: FloatTensor<B>, dim: usize, size: usize) -> FloatTensor<B> {
    let mut shape = tensor.shape();
    if shape[dim] == size {
        return tensor;
    }
    shape[dim] = size - shape[dim];
    let zeros = B::float_zeros(shape, &tensor.device(), tensor.dtype().into());
    B::float_cat(vec![tensor, zeros], dim)
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
    let mix = |query| {
        let scores = B::float_matmul(query, key.clone()); // [rows, heads, chunk, tokens]
        B::float_matmul(weights::<B>(scores), value.clone()) // [rows, heads, chunk, head_width]
    };
    if chunk == queries {
        return mix(query);
    }
    let chunks = (0..queries).step_by(chunk).map(|start| {
        let some = Slice::from(start..(start + chunk).min(queries));
        mix(B::float_slice(
            query.clone(),
            &[Slice::full(), Slice::full(), some],
        ))
    });
    B::float_cat(chunks.collect(), 2)
}

/// The softmax of `scores` over the last of four dimensions, made in f32: a sum of many halves loses the small ones.
fn weights<B: Backend>(scores: FloatTensor<B>) -> FloatTensor<B> {
    let dtype = scores.dtype();
    if !is_half(dtype) {
        return B::softmax(scores, 3);
    }
    let wide = B::float_cast(scores, FloatDType::F32);
    B::float_cast(B::softmax(wide, 3), dtype.into())
}

/// Brings `[rows, channels, height, width]` into the order that cubecl's convolutions write, `[rows, height, width, channels]`.
const CHANNELS_LAST: [usize; 4] = [0, 2, 3, 1];

/// The inverse of [`CHANNELS_LAST`].
const CHANNELS_FIRST: [usize; 4] = [0, 3, 1, 2];

pub(super) fn joined<B: Backend>(left: FloatTensor<B>, right: FloatTensor<B>) -> FloatTensor<B> {
    let parts = [left, right].map(|part| B::float_permute(part, &CHANNELS_LAST));
    B::float_permute(B::float_cat(parts.into(), 3), &CHANNELS_FIRST)
}

pub(super) fn as_tokens<B: Backend>(map: FloatTensor<B>) -> FloatTensor<B> {
    let [rows, channels, height, width] = map.shape().dims();
    let last = B::float_permute(map, &CHANNELS_LAST);
    B::float_reshape(last, Shape::new([rows, height * width, channels]))
}

pub(super) fn as_map<B: Backend>(tokens: FloatTensor<B>, size: [usize; 4]) -> FloatTensor<B> {
    let [rows, channels, height, width] = size;
    let last = B::float_reshape(tokens, Shape::new([rows, height, width, channels]));
    B::float_permute(last, &CHANNELS_FIRST)
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

/// Whether sums and squares of the type are made in f32: those of f16 overflow, those of bfloat16 keep two digits.
fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// The last of three dimensions to mean 0 and deviation 1.
fn normalised<B: Backend>(input: FloatTensor<B>, epsilon: f64) -> FloatTensor<B> {
    let dtype = input.dtype();
    let wide = if is_half(dtype) {
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
    if is_half(dtype) {
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
    if !is_half(dtype) {
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

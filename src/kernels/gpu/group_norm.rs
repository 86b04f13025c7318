//! Group normalisation, and `SiLU` after it, of maps whose channels lie innermost.
//!
//! Convolutions on cubecl devices read and write `[rows, height, width, channels]` under the logical order `[rows, channels, height,
//! width]`. A norm in tensor operations groups channels in the logical order, so the map is copied twice, into that order and back
//! for the next convolution. These three kernels read either order and write the convolutions':
//!
//! 1. moments of every channel over a stretch of positions, a unit a vector of channels;
//! 2. moments of every group from those, and what each of its channels is multiplied by and shifted by;
//! 3. the values, read once more and written.
//!
//! Statistics are f32 whatever the map is. Source: Chan, Golub and `LeVeque`, "Updating formulae and a pairwise algorithm for computing
//! sample variances" (1979); every sum is taken around a value of its own data, so that a large mean cancels nothing.

#![allow(
    clippy::used_underscore_binding,
    reason = "what defines an element type is read by the code that `cube` writes, not by the kernel"
)]

use burn_cubecl::CubeDevice;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::zspace::metadata::Metadata;
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::ops::permute_nhwc_to_nchw;
use burn_cubecl::tensor::CubeTensor;

use burn::backend::TensorMetadata as _;
use burn::tensor::{DType, Shape};

use super::elements;

/// What the first kernel leaves of a channel and a stretch, and the second of a channel.
const PARTS: usize = 3;

/// Stretches of positions a map is cut into, at most; with channels and rows enough units for any GPU.
const STRETCHES: usize = 256;

/// Positions that are worth a unit's start.
const POSITIONS: usize = 16;

/// Units of a workgroup, at most.
const UNITS: u32 = 256;

/// What is done to a map besides its learned scale and shift.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Groups of channels; divides their number.
    pub(crate) groups: usize,
    /// Added to the variance.
    pub(crate) epsilon: f64,
    /// Whether `SiLU` follows.
    pub(crate) activate: bool,
}

/// Whether there are kernels for maps and parameters of these types.
pub(crate) fn suits(input: DType, parameters: DType) -> bool {
    elements(input).is_some() && elements(parameters).is_some()
}

/// `input`, `[rows, channels, height, width]`, normalised over groups of channels, times `scale` plus `shift`, `[channels]` each. The
/// output's channels lie innermost.
///
/// # Panics
///
/// If there are no kernels for the types: [`suits`] tells.
pub(crate) fn group_norm(
    input: CubeTensor,
    scale: CubeTensor,
    shift: CubeTensor,
    options: Options,
) -> CubeTensor {
    let shape = input.shape();
    let input = by_position(input);
    let stretches = Stretches::new(shape[2] * shape[3]);
    let partials = moments(&input, stretches);
    let coefficients = coefficients(partials, [scale, shift], stretches, options);
    let output = normalised(input, coefficients, &shape, options.activate);
    permute_nhwc_to_nchw(output)
}

/// A view `[rows, channels, positions]`; a copy where positions have no common stride.
fn by_position(input: CubeTensor) -> CubeTensor {
    let [rows, channels, height, width] = input.shape().dims();
    let strides = input.meta.strides();
    let even = height == 1 || width == 1 || strides[2] == width * strides[3];
    let mut input = if even { input } else { into_contiguous(input) };
    let strides = input.meta.strides().to_vec();
    let step = if width == 1 { strides[2] } else { strides[3] };
    let shape = Shape::new([rows, channels, height * width]);
    let strides = [strides[0], strides[1], step];
    *input.meta = Metadata::new(shape, strides);
    input
}

/// How the positions of a map are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretches {
    count: usize,
    each: usize,
    positions: usize,
}

impl Stretches {
    fn new(positions: usize) -> Self {
        let each = positions.div_ceil(STRETCHES).max(POSITIONS);
        let count = positions.div_ceil(each);
        Self {
            count,
            each,
            positions,
        }
    }
}

/// Channels that a unit takes at once: the widest vector that the device loads well and the strides allow.
fn vector_size(client: &Client, input: &CubeTensor) -> usize {
    let (shape, strides) = (input.meta.shape(), input.meta.strides());
    let offset = input.handle.offset_start.unwrap_or(0) as usize / input.elem_size();
    let fits = |size: &usize| {
        let steps = [shape[1], strides[0], strides[2], offset];
        *size == 1 || strides[1] == 1 && steps.iter().all(|step| step.is_multiple_of(*size))
    };
    let sizes = client.io_optimized_vector_sizes(input.elem_size());
    sizes.filter(fits).max().unwrap_or(1)
}

/// Units of a workgroup for `wanted` of them: no more than the device has, and whole planes where that is possible.
fn units(client: &Client, wanted: usize) -> u32 {
    let hardware = &client.properties().hardware;
    let most = hardware.max_units_per_cube.min(hardware.max_cube_dim.0);
    let planes = wanted.next_multiple_of(hardware.plane_size_max.max(1) as usize);
    most.min(UNITS).min(planes as u32).max(1)
}

fn single(like: &CubeTensor, shape: Shape) -> CubeTensor {
    let (client, device): (_, CubeDevice) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, shape, DType::F32)
}

/// First value, mean less that, and sum of squares around the mean, `[rows, stretches, 3, channels]`.
fn moments(input: &CubeTensor, stretches: Stretches) -> CubeTensor {
    let client = input.client.clone();
    let [rows, channels, _] = input.meta.shape().dims();
    let partials = single(input, Shape::new([rows, stretches.count, PARTS, channels]));
    let size = vector_size(&client, input);
    let units = units(&client, channels / size);
    let cubes = (channels / size).div_ceil(units as usize);
    channel_moments::launch(
        &client,
        CubeCount::Static(cubes as u32, stretches.count as u32, rows as u32),
        CubeDim::new_1d(units),
        size,
        input.clone().into_tensor_arg(),
        partials.clone().into_tensor_arg(),
        stretches.each,
        elements(input.dtype).expect("the caller asked whether the type is one of these"),
    );
    partials
}

/// Centre, factor and summand of every channel, `[rows, 3, channels]`.
fn coefficients(
    partials: CubeTensor,
    [scale, shift]: [CubeTensor; 2],
    stretches: Stretches,
    options: Options,
) -> CubeTensor {
    let client = partials.client.clone();
    let [rows, count, _, channels] = partials.meta.shape().dims();
    let coefficients = single(&partials, Shape::new([rows, PARTS, channels]));
    let each = channels / options.groups;
    // Sums are halved until one is left, so the units are a power of two.
    let units = 1 << units(&client, count * each).ilog2();
    let kind = elements(scale.dtype).expect("the caller asked whether the type is one of these");
    group_coefficients::launch(
        &client,
        CubeCount::Static(options.groups as u32, rows as u32, 1),
        CubeDim::new_1d(units),
        partials.into_tensor_arg(),
        scale.into_tensor_arg(),
        shift.into_tensor_arg(),
        coefficients.clone().into_tensor_arg(),
        each,
        stretches.each,
        stretches.positions,
        options.epsilon as f32,
        units as usize,
        kind,
    );
    coefficients
}

/// `[rows, height, width, channels]`.
fn normalised(
    input: CubeTensor,
    coefficients: CubeTensor,
    shape: &Shape,
    activate: bool,
) -> CubeTensor {
    let (client, dtype) = (input.client.clone(), input.dtype);
    let [rows, channels, height, width] = shape.dims();
    let shape = Shape::new([rows, height, width, channels]);
    let device = input.device.clone();
    let output = empty_device_contiguous_dtype(client.clone(), device, shape, dtype);
    let size = vector_size(&client, &input);
    let vectors = output.meta.num_elements() / size;
    let dim = CubeDim::new_1d(units(&client, vectors));
    normalise::launch(
        &client,
        calculate_cube_count_elemwise(&client, vectors, dim),
        dim,
        size,
        input.into_tensor_arg(),
        coefficients.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        vectors,
        activate,
        elements(dtype).expect("the caller asked whether the type is one of these"),
    );
    output
}

/// Moments of a vector of channels over the positions of a stretch; `input` is `[rows, channels, positions]`.
#[cube(launch)]
fn channel_moments<F: Float, N: Size>(
    input: &Tensor<Vector<F, N>>,
    partials: &mut Tensor<Vector<f32, N>>,
    each: usize,
    #[define(F)] _kind: ElemType,
) {
    let vectors = input.shape(1) / N::value();
    let vector = ABSOLUTE_POS_X as usize;
    if vector >= vectors {
        terminate!();
    }
    let stretch = CUBE_POS_Y as usize;
    let row = CUBE_POS_Z as usize;
    let step = input.stride(2) / N::value();
    let start = stretch * each;
    let mut end = start + each;
    if end > input.shape(2) {
        end = input.shape(2);
    }
    let base = row * (input.stride(0) / N::value()) + vector * input.stride(1);
    let first = Vector::<f32, N>::cast_from(input[base + start * step]);
    let mut mean = Vector::<f32, N>::new(0.0);
    let mut squares = Vector::<f32, N>::new(0.0);
    let mut count = 0.0f32;
    for position in start..end {
        let value = Vector::<f32, N>::cast_from(input[base + position * step]) - first;
        count += 1.0;
        let apart = value - mean;
        mean += apart * Vector::new(1.0 / count);
        squares += apart * (value - mean);
    }
    let out = (row * CUBE_COUNT_Y as usize + stretch) * 3 * vectors + vector;
    partials[out] = first;
    partials[out + vectors] = mean;
    partials[out + 2 * vectors] = squares;
}

/// Moments of a group from those of its channels' stretches, by one workgroup. A second look at them takes squares around the mean.
#[cube(launch)]
fn group_coefficients<A: Float>(
    partials: &Tensor<f32>,
    scale: &Tensor<A>,
    shift: &Tensor<A>,
    coefficients: &mut Tensor<f32>,
    channels_each: usize,
    positions_each: usize,
    positions: usize,
    epsilon: f32,
    #[comptime] units: usize,
    #[define(A)] _kind: ElemType,
) {
    let mut sums = Shared::<[f32]>::new_slice(units);
    let unit = UNIT_POS as usize;
    let row = CUBE_POS_Y as usize;
    let channels = partials.shape(3);
    let stretches = partials.shape(1);
    let channel = CUBE_POS_X as usize * channels_each;
    let base = row * stretches * 3 * channels + channel;
    let items = stretches * channels_each;
    let total = f32::cast_from((positions * channels_each) as u32);
    let centre = partials[base] + partials[base + channels];

    let mut sum = 0.0f32;
    let mut item = unit;
    while item < items {
        let at = base + item / channels_each * 3 * channels + item % channels_each;
        let count = stretch_length(item / channels_each, positions_each, positions);
        sum += count * (partials[at] - centre + partials[at + channels]);
        item += units;
    }
    let offset = sum_of_units(&mut sums, sum) / total;

    let mut sum = 0.0f32;
    let mut item = unit;
    while item < items {
        let at = base + item / channels_each * 3 * channels + item % channels_each;
        let count = stretch_length(item / channels_each, positions_each, positions);
        let apart = partials[at] - centre + partials[at + channels] - offset;
        sum += partials[at + 2 * channels] + count * apart * apart;
        item += units;
    }
    let variance = sum_of_units(&mut sums, sum) / total;
    let inverse = 1.0 / (variance + epsilon).sqrt();

    let mut item = unit;
    while item < channels_each {
        let out = row * 3 * channels + channel + item;
        let factor = f32::cast_from(scale[(channel + item) * scale.stride(0)]) * inverse;
        let summand = f32::cast_from(shift[(channel + item) * shift.stride(0)]);
        coefficients[out] = centre;
        coefficients[out + channels] = factor;
        coefficients[out + 2 * channels] = summand - offset * factor;
        item += units;
    }
}

/// Positions of a stretch: the last one is shorter.
#[cube]
fn stretch_length(stretch: usize, each: usize, positions: usize) -> f32 {
    let mut length = positions - stretch * each;
    if length > each {
        length = each;
    }
    f32::cast_from(length as u32)
}

/// The sum of every unit's `value`, known to all of them.
#[cube]
fn sum_of_units(sums: &mut Shared<[f32]>, value: f32) -> f32 {
    let unit = UNIT_POS as usize;
    sums[unit] = value;
    sync_cube();
    let mut left = CUBE_DIM as usize / 2;
    while left > 0 {
        if unit < left {
            let other = sums[unit + left];
            sums[unit] += other;
        }
        sync_cube();
        left /= 2;
    }
    let sum = sums[0];
    sync_cube();
    sum
}

/// One vector of channels: `(value - centre) · factor + summand`; `input` is `[rows, channels, positions]`.
#[cube(launch)]
fn normalise<F: Float, N: Size>(
    input: &Tensor<Vector<F, N>>,
    coefficients: &Tensor<Vector<f32, N>>,
    output: &mut Tensor<Vector<F, N>>,
    count: usize,
    #[comptime] activate: bool,
    #[define(F)] _kind: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let vectors = input.shape(1) / N::value();
    let vector = ABSOLUTE_POS % vectors;
    let position = ABSOLUTE_POS / vectors % input.shape(2);
    let row = ABSOLUTE_POS / vectors / input.shape(2);
    let from = row * (input.stride(0) / N::value())
        + vector * input.stride(1)
        + position * (input.stride(2) / N::value());
    let of = row * 3 * vectors + vector;
    let centred = Vector::<f32, N>::cast_from(input[from]) - coefficients[of];
    let mut value = centred * coefficients[of + vectors] + coefficients[of + 2 * vectors];
    if activate {
        value = silu::<N>(value);
    }
    output[ABSOLUTE_POS] = Vector::cast_from(value);
}

/// Shaders may assume that nothing overflows, and e^80 does not.
#[cube]
fn silu<N: Size>(value: Vector<f32, N>) -> Vector<f32, N> {
    let bounded = max(value, Vector::new(-80.0));
    value / (Vector::new(1.0) + (-bounded).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_cover_every_position_once() {
        for positions in [1, 15, 16, 17, 4096, 4900, 16_384, 1 << 20] {
            let Stretches { count, each, .. } = Stretches::new(positions);
            assert!(count <= STRETCHES && each >= POSITIONS, "{positions}");
            let before_last = (count - 1) * each;
            assert!(before_last < positions && positions <= count * each);
        }
    }

    #[test]
    fn there_are_kernels_for_floats_of_up_to_four_bytes() {
        assert!(suits(DType::F16, DType::F32) && suits(DType::BF16, DType::BF16));
        assert!(!suits(DType::F64, DType::F32) && !suits(DType::F32, DType::F64));
    }
}

//! Which kernel convolves a map.

use ::half::bf16;
use burn::backend::ops::{ConvOptions, FloatTensorOps, ModuleOps};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, Element, Shape};
use burn_flex::FlexTensor;
use macerator::Scalar;

use super::super::{Grouping, reference};
use super::{cast, contiguous, in_order, slice, tensor, typed, values};
use crate::kernels::cpu::convolution::{Convolution, Geometry, convolve};
use crate::kernels::cpu::direct;
use crate::kernels::cpu::few;
use crate::kernels::cpu::join;
use crate::kernels::cpu::maps::{Kept, KeptMut};
use crate::kernels::cpu::norm::{Affine, Shifted, group_shifts};
use crate::kernels::cpu::product::Values;
use crate::kernels::cpu::winograd::{self, Owner, Whole};

/// A weight and a bias, or a scale and a shift.
type Pair = [FlexTensor; 2];

/// What numbers of Winograd's space of products are multiplied in, where that is what a layer is computed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    /// As the maps are kept.
    Full,
    /// In 16 bits.
    Sixteen,
}

impl Precision {
    /// Whether they are in 16 bits, for maps in `dtype`.
    fn rounds(self, dtype: DType) -> bool {
        self == Self::Sixteen || dtype == DType::BF16
    }
}

pub(super) fn convolved(
    input: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    options: ConvOptions<2>,
    precision: Precision,
) -> FlexTensor {
    let dtype = input.dtype();
    if dtype == DType::F64 || options.groups != 1 || options.dilation != [1, 1] {
        return Flex::conv2d(input, cast(weight, dtype), Some(bias), options);
    }
    let geometry = geometry(&input, &weight, &options);
    let layer = Layer::new(input, [weight, bias], precision);
    let convolution = layer.convolution(geometry);
    let output = if winograd::suits(&geometry, layer.rounds) {
        layer.by(geometry, None, winograd::convolve)
    } else if few::suits(&geometry) {
        few::convolve(convolution)
    } else if direct::suits(&convolution) {
        direct::convolve(convolution)
    } else {
        convolve(convolution)
    };
    kept(output, &geometry, dtype)
}

/// Channels of the one, then of the other.
pub(super) fn joined(left: FlexTensor, right: FlexTensor) -> FlexTensor {
    match [left.dtype(), right.dtype()] {
        [DType::F32, DType::F32] => joined_as::<f32>(left, right),
        [DType::BF16, DType::BF16] => joined_as::<bf16>(left, right),
        _ => Flex::float_cat(vec![left, right], 1),
    }
}

fn joined_as<T: Element + Scalar>(left: FlexTensor, right: FlexTensor) -> FlexTensor {
    let (mut shape, others) = (left.shape(), right.shape()[1]);
    let (left, right) = (in_order(left), in_order(right));
    let joined = join::joined([typed::<T>(&left), typed(&right)], shape[0]);
    shape[1] += others;
    tensor(joined, shape)
}

/// Of the map with both sides doubled, which is never made.
pub(super) fn doubled(
    input: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    precision: Precision,
) -> FlexTensor {
    let dtype = input.dtype();
    let plain = geometry(&input, &weight, &reference::keeping_sides());
    let geometry = Geometry {
        output: plain.input.map(|side| 2 * side),
        ..plain
    };
    if dtype == DType::F64 || !winograd::suits_doubled(&geometry) {
        return reference::convolved_doubled::<Flex>(input, weight, bias);
    }
    let layer = Layer::new(input, [weight, bias], precision);
    let output = layer.by(geometry, None, winograd::convolve_doubled);
    kept(output, &geometry, dtype)
}

/// Of what norm and `SiLU` give.
pub(super) fn normed(
    input: FlexTensor,
    [scale, shift]: Pair,
    norm: Grouping,
    [weight, bias]: Pair,
    precision: Precision,
) -> FlexTensor {
    let dtype = input.dtype();
    let geometry = geometry(&input, &weight, &reference::keeping_sides());
    if dtype == DType::F64 || !winograd::suits(&geometry, precision.rounds(dtype)) {
        return reference::normed_convolved::<Flex>(input, scale, shift, norm, weight, bias);
    }
    let layer = Layer::new(input, [weight, bias], precision);
    let shifts = layer.shifts([scale, shift], norm);
    let output = layer.by(geometry, Some(&shifts), winograd::convolve);
    kept(output, &geometry, dtype)
}

/// [`normed`], added to `onto`, in its place if nobody else holds it.
pub(super) fn normed_onto(
    input: FlexTensor,
    affine: Pair,
    norm: Grouping,
    [weight, bias]: Pair,
    precision: Precision,
    mut onto: FlexTensor,
) -> FlexTensor {
    let geometry = geometry(&input, &weight, &reference::keeping_sides());
    let dtype = input.dtype();
    let number = if dtype == DType::BF16 {
        size_of::<bf16>()
    } else {
        size_of::<f32>()
    };
    let whole = onto.is_contiguous() && onto.bytes().len() == number * size(&geometry);
    let written = matches!(dtype, DType::F32 | DType::BF16) && onto.dtype() == dtype;
    let suits = winograd::suits(&geometry, precision.rounds(dtype));
    if !written || !whole || !onto.is_unique() || !suits {
        return Flex::float_add(onto, normed(input, affine, norm, [weight, bias], precision));
    }
    let layer = Layer::new(input, [weight, bias], precision);
    let shifts = layer.shifts(affine, norm);
    let output = match dtype {
        DType::BF16 => KeptMut::Bf16(onto.storage_mut()),
        _ => KeptMut::F32(onto.storage_mut()),
    };
    layer.by(geometry, Some(&shifts), |whole| {
        winograd::convolve_onto(whole, output);
    });
    onto
}

/// A layer and its input, in order.
struct Layer {
    input: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    rounds: bool,
}

impl Layer {
    fn new(input: FlexTensor, [weight, bias]: Pair, precision: Precision) -> Self {
        Self {
            rounds: precision.rounds(input.dtype()),
            input: in_order(input),
            weight: in_order(weight),
            bias: contiguous(bias),
        }
    }

    fn convolution(&self, geometry: Geometry) -> Convolution<'_> {
        Convolution {
            geometry,
            input: values(&self.input),
            weight: values(&self.weight),
            bias: slice(&self.bias),
        }
    }

    /// By one of the kernels that keep small weights as they need them, if somebody keeps the weight itself for the next call.
    fn by<T>(
        &self,
        geometry: Geometry,
        norm: Option<&[Shifted]>,
        kernel: impl FnOnce(&Whole<'_>) -> T,
    ) -> T {
        let owner = (!self.weight.is_unique()).then(|| -> Owner { self.weight.data_arc() });
        kernel(&Whole {
            convolution: self.convolution(geometry),
            owner: owner.as_ref(),
            norm,
            rounds: self.rounds,
        })
    }

    fn shifts(&self, [scale, shift]: Pair, norm: Grouping) -> Vec<Shifted> {
        let (scale, shift) = (contiguous(scale), contiguous(shift));
        let affine = Affine {
            scale: slice(&scale),
            shift: slice(&shift),
        };
        let positions = self.input.shape()[2..].iter().product();
        let Grouping { groups, epsilon } = norm;
        match values(&self.input) {
            Values::F32(values) => group_shifts(values, affine, groups, positions, epsilon),
            Values::F16(values) => group_shifts(values, affine, groups, positions, epsilon),
            Values::Bf16(values) => group_shifts(values, affine, groups, positions, epsilon),
            _ => unreachable!("no map is kept so"),
        }
    }
}

/// A kernel's maps as a tensor.
pub(super) fn kept(maps: Kept, geometry: &Geometry, dtype: DType) -> FlexTensor {
    let shape = shape(geometry);
    let maps = match maps {
        Kept::F32(values) => tensor(values, shape),
        Kept::Bf16(values) => tensor(values, shape),
    };
    cast(maps, dtype)
}

fn shape(geometry: &Geometry) -> Shape {
    let [height, width] = geometry.output;
    Shape::new([geometry.rows, geometry.channels[1], height, width])
}

/// Values of the output.
fn size(geometry: &Geometry) -> usize {
    shape(geometry).num_elements()
}

pub(super) fn geometry(
    input: &FlexTensor,
    weight: &FlexTensor,
    options: &ConvOptions<2>,
) -> Geometry {
    let [rows, channels, height, width] = input.shape().dims();
    let [output, _, tall, wide] = weight.shape().dims();
    let [(top, bottom), (left, right)] = options.padding;
    let [down, across] = options.stride;
    Geometry {
        rows,
        channels: [channels, output],
        input: [height, width],
        output: [
            (height + top + bottom - tall) / down + 1,
            (width + left + right - wide) / across + 1,
        ],
        kernel: [tall, wide],
        stride: options.stride,
        padding: [top, left],
    }
}

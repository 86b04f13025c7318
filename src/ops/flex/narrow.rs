//! Convolutions whose products are in 8 bits.

use burn::backend::Flex;
use burn::backend::ops::{ConvOptions, FloatTensorOps};
use burn::tensor::{DType, Shape};
use burn_flex::{FlexQTensor, FlexTensor};

use super::super::{Grouping, reference};
use super::layers::{is_narrow, narrow_weight};
use super::maps::geometry;
use super::{cast, contiguous, slice, tensor};
use crate::kernels::cpu::convolution::Geometry;
use crate::kernels::cpu::eight::{self, Source};
use crate::kernels::cpu::norm::{Affine, Shifted, group_shifts};

/// A convolution's maps and bias, in f32 and in order, and its weight.
struct Layer<'a> {
    input: FlexTensor,
    bias: FlexTensor,
    weight: &'a FlexQTensor,
    geometry: Geometry,
}

impl<'a> Layer<'a> {
    fn new(
        input: FlexTensor,
        weight: &'a FlexQTensor,
        bias: FlexTensor,
        options: &ConvOptions<2>,
    ) -> Self {
        assert!(
            is_narrow(weight) && options.groups == 1 && options.dilation == [1, 1],
            "convolutions in 8 bits have one group, and nothing between their taps"
        );
        let geometry = geometry(&input, weight.tensor(), options);
        Self {
            input: contiguous(input),
            bias: contiguous(bias),
            weight,
            geometry,
        }
    }

    fn source<'b>(&'b self, norm: Option<&'b [Shifted]>) -> Source<'b> {
        Source {
            values: slice(&self.input),
            norm,
            inputs: self.geometry.channels[0],
            positions: self.geometry.input.iter().product(),
        }
    }

    fn shifts(&self, [scale, shift]: [FlexTensor; 2], norm: Grouping) -> Vec<Shifted> {
        let (scale, shift) = (contiguous(scale), contiguous(shift));
        let affine = Affine {
            scale: slice(&scale),
            shift: slice(&shift),
        };
        let Source {
            values, positions, ..
        } = self.source(None);
        group_shifts(values, affine, norm.groups, positions, norm.epsilon)
    }

    fn output_shape(&self) -> Shape {
        let Geometry {
            rows,
            channels,
            output: [height, width],
            ..
        } = self.geometry;
        Shape::new([rows, channels[1], height, width])
    }

    fn convolved(&self, norm: Option<&[Shifted]>) -> FlexTensor {
        let (weight, bias) = (narrow_weight(self.weight), slice(&self.bias));
        let output = eight::convolve(self.source(norm), weight, bias, self.geometry);
        tensor(output, self.output_shape())
    }
}

pub(super) fn convolved(
    input: FlexTensor,
    weight: &FlexQTensor,
    bias: FlexTensor,
    options: &ConvOptions<2>,
) -> FlexTensor {
    let dtype = input.dtype();
    cast(
        Layer::new(input, weight, bias, options).convolved(None),
        dtype,
    )
}

/// Of what norm and `SiLU` give.
pub(super) fn normed(
    input: FlexTensor,
    affine: [FlexTensor; 2],
    norm: Grouping,
    weight: &FlexQTensor,
    bias: FlexTensor,
) -> FlexTensor {
    let dtype = input.dtype();
    let layer = Layer::new(input, weight, bias, &reference::keeping_sides());
    let shifts = layer.shifts(affine, norm);
    cast(layer.convolved(Some(&shifts)), dtype)
}

/// [`normed`], added to `onto`, in its place if nobody else holds it.
pub(super) fn normed_onto(
    input: FlexTensor,
    affine: [FlexTensor; 2],
    norm: Grouping,
    weight: &FlexQTensor,
    bias: FlexTensor,
    mut onto: FlexTensor,
) -> FlexTensor {
    let in_f32 = [&input, &onto].map(FlexTensor::dtype) == [DType::F32; 2];
    let layer = Layer::new(input, weight, bias, &reference::keeping_sides());
    let shifts = layer.shifts(affine, norm);
    let size = size_of::<f32>() * layer.output_shape().num_elements();
    if !in_f32 || !onto.is_contiguous() || onto.bytes().len() != size || !onto.is_unique() {
        let convolved = cast(layer.convolved(Some(&shifts)), onto.dtype());
        return Flex::float_add(onto, convolved);
    }
    let (weight, bias) = (narrow_weight(weight), slice(&layer.bias));
    let source = layer.source(Some(&shifts));
    let output = onto.storage_mut::<f32>();
    eight::convolve_onto(source, weight, bias, layer.geometry, output);
    onto
}

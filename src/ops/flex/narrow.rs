//! Convolutions whose products are in 8 bits, or in 16 where they are computed in Winograd's space.

use ::half::bf16;
use burn::backend::Flex;
use burn::backend::ops::{
    ConvOptions, FloatTensorOps, InterpolateMode, InterpolateOptions, ModuleOps,
};
use burn::tensor::{DType, Element, Shape};
use burn_flex::{FlexQTensor, FlexTensor};
use macerator::Scalar;

use super::super::{Grouping, reference};
use super::layers::{half_weight, is_narrow, narrow_weight};
use super::maps::{self, Precision, geometry};
use super::{cast, contiguous, in_order, slice, tensor, typed, values};
use crate::kernels::cpu::convolution::{Convolution, Geometry};
use crate::kernels::cpu::eight::{self, Source};
use crate::kernels::cpu::half;
use crate::kernels::cpu::maps::KeptMut;
use crate::kernels::cpu::norm::{Affine, Shifted, group_shifts};
use crate::kernels::cpu::product::Values;
use crate::kernels::cpu::winograd::{self, Whole};

/// What maps are kept in.
trait Value: half::Element + Element + Scalar {}

impl Value for f32 {}
impl Value for bf16 {}

/// A convolution's maps, in bf16 or f32, and bias, in f32, both in order; and its weight.
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
        let input = match input.dtype() {
            DType::BF16 => in_order(input),
            _ => contiguous(input),
        };
        Self {
            input,
            bias: contiguous(bias),
            weight,
            geometry,
        }
    }

    fn dtype(&self) -> DType {
        self.input.dtype()
    }

    fn source<'b, T: Element + Scalar>(&'b self, norm: Option<&'b [Shifted]>) -> Source<'b, T> {
        Source {
            values: typed(&self.input),
            norm,
            inputs: self.geometry.channels[0],
            positions: self.geometry.input.iter().product(),
        }
    }

    fn shifts(&self, affine: [FlexTensor; 2], norm: Grouping) -> Vec<Shifted> {
        match self.dtype() {
            DType::BF16 => self.shifts_of::<bf16>(affine, norm),
            _ => self.shifts_of::<f32>(affine, norm),
        }
    }

    fn shifts_of<T: Value>(&self, [scale, shift]: [FlexTensor; 2], norm: Grouping) -> Vec<Shifted> {
        let (scale, shift) = (contiguous(scale), contiguous(shift));
        let affine = Affine {
            scale: slice(&scale),
            shift: slice(&shift),
        };
        let Source {
            values, positions, ..
        } = self.source::<T>(None);
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

    /// By squares in 16 bits, of the weights in 8.
    fn squares<'b>(&'b self, norm: Option<&'b [Shifted]>) -> Whole<'b> {
        Whole {
            convolution: Convolution {
                geometry: self.geometry,
                input: values(&self.input),
                weight: Values::Panelled(narrow_weight(self.weight).panelled()),
                bias: slice(&self.bias),
            },
            owner: None,
            norm,
            rounds: true,
        }
    }

    fn convolved(&self, norm: Option<&[Shifted]>) -> FlexTensor {
        if winograd::suits_eights(&self.geometry) {
            let output = winograd::convolve(&self.squares(norm));
            return maps::kept(output, &self.geometry, self.dtype());
        }
        match self.dtype() {
            DType::BF16 => self.convolved_in::<bf16>(norm),
            _ => self.convolved_in::<f32>(norm),
        }
    }

    fn convolved_in<T: Value>(&self, norm: Option<&[Shifted]>) -> FlexTensor {
        let (weight, bias) = (narrow_weight(self.weight), slice(&self.bias));
        let output = eight::convolve(self.source::<T>(norm), weight, bias, self.geometry);
        tensor(output, self.output_shape())
    }

    fn add<T: Value>(&self, norm: &[Shifted], onto: &mut FlexTensor) {
        let (weight, bias) = (narrow_weight(self.weight), slice(&self.bias));
        let source = self.source::<T>(Some(norm));
        eight::convolve_onto(source, weight, bias, self.geometry, onto.storage_mut::<T>());
    }

    fn add_squares(&self, norm: &[Shifted], onto: &mut FlexTensor) {
        let output = match self.dtype() {
            DType::BF16 => KeptMut::Bf16(onto.storage_mut()),
            _ => KeptMut::F32(onto.storage_mut()),
        };
        winograd::convolve_onto(&self.squares(Some(norm)), output);
    }
}

pub(super) fn convolved(
    input: FlexTensor,
    weight: &FlexQTensor,
    bias: FlexTensor,
    options: &ConvOptions<2>,
) -> FlexTensor {
    let dtype = input.dtype();
    if let Some(halves) = half_weight(weight) {
        return maps::convolved(input, halves, bias, options.clone(), Precision::Sixteen);
    }
    cast(
        Layer::new(input, weight, bias, options).convolved(None),
        dtype,
    )
}

/// Of the map with both sides doubled, which is never made where products are in 16 bits.
pub(super) fn doubled(input: FlexTensor, weight: &FlexQTensor, bias: FlexTensor) -> FlexTensor {
    if let Some(halves) = half_weight(weight) {
        return maps::doubled(input, halves, bias, Precision::Sixteen);
    }
    let [height, width] = geometry(&input, weight.tensor(), &reference::keeping_sides()).input;
    let nearest = InterpolateOptions::new(InterpolateMode::Nearest);
    let doubled = Flex::interpolate(input, [2 * height, 2 * width], nearest);
    convolved(doubled, weight, bias, &reference::keeping_sides())
}

/// Of what norm and `SiLU` give.
pub(super) fn normed(
    input: FlexTensor,
    affine: [FlexTensor; 2],
    norm: Grouping,
    weight: &FlexQTensor,
    bias: FlexTensor,
) -> FlexTensor {
    if let Some(halves) = half_weight(weight) {
        return maps::normed(input, affine, norm, [halves, bias], Precision::Sixteen);
    }
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
    if let Some(halves) = half_weight(weight) {
        let layer = [halves, bias];
        return maps::normed_onto(input, affine, norm, layer, Precision::Sixteen, onto);
    }
    let layer = Layer::new(input, weight, bias, &reference::keeping_sides());
    let shifts = layer.shifts(affine, norm);
    let (dtype, count) = (layer.dtype(), layer.output_shape().num_elements());
    let whole = onto.is_contiguous() && onto.bytes().len() == dtype.size() * count;
    if onto.dtype() != dtype || !whole || !onto.is_unique() {
        let convolved = cast(layer.convolved(Some(&shifts)), onto.dtype());
        return Flex::float_add(onto, convolved);
    }
    match dtype {
        _ if winograd::suits_eights(&layer.geometry) => layer.add_squares(&shifts, &mut onto),
        DType::BF16 => layer.add::<bf16>(&shifts, &mut onto),
        _ => layer.add::<f32>(&shifts, &mut onto),
    }
    onto
}

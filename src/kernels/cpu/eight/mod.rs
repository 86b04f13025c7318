//! Layers whose products are in 8 bits: weights rounded once, activations on their way in.
//!
//! Source: Dettmers et al., "`LLM.int8()`" (arXiv 2208.07339): vector-wise scales and values that are kept apart. Sums of products are whole
//! numbers and exact, what follows them is in one order: every instruction gives the same values, to the last bit.

mod compiled;
mod convolution;
mod gated;
mod instruction;
mod kept;
mod linear;
mod maps;
mod rows;
#[cfg(test)]
mod tests;
mod weight;

use compiled::{fill, of_maps, of_tokens};
use convolution::Layer as Convolution;
pub(crate) use gated::suits as suits_gated;
use instruction::Kind;
use linear::Layer as Linear;
pub(crate) use maps::Source;
pub(crate) use weight::{Sizes, Weight, rounded};

use super::{convolution::Geometry, half::Element, product::Output};

/// Frees this thread's working memory.
pub(super) fn give_back() {
    convolution::give_back();
    maps::give_back();
}

/// Tokens, `[tokens, inputs]`, through a linear layer: `[tokens, outputs]`.
pub(crate) fn linear<T: Element>(input: &[T], weight: Weight<'_>, bias: Option<&[f32]>) -> Vec<T> {
    linear_by(Kind::best(), input, weight, bias)
}

fn linear_by<T: Element>(
    kind: Kind,
    input: &[T],
    weight: Weight<'_>,
    bias: Option<&[f32]>,
) -> Vec<T> {
    of_tokens(kind, layer_of(input, weight, bias), false)
}

/// [`linear`] with GEGLU after it, for what [`suits_gated`], rounded once: `[tokens, outputs / 2]`.
pub(crate) fn linear_gated<T: Element>(
    input: &[T],
    weight: Weight<'_>,
    bias: Option<&[f32]>,
) -> Vec<T> {
    gated_by(Kind::best(), input, weight, bias)
}

fn gated_by<T: Element>(
    kind: Kind,
    input: &[T],
    weight: Weight<'_>,
    bias: Option<&[f32]>,
) -> Vec<T> {
    let outputs = weight.sizes.outputs;
    assert!(outputs.is_multiple_of(2) && suits_gated(outputs / 2));
    of_tokens(kind, layer_of(input, weight, bias), true)
}

fn layer_of<'a, T: Element>(
    input: &'a [T],
    weight: Weight<'a>,
    bias: Option<&'a [f32]>,
) -> Linear<'a, T> {
    let Sizes {
        inputs,
        outputs,
        taps,
    } = weight.sizes;
    assert_eq!((input.len() % inputs, taps), (0, 1));
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
    Linear {
        input,
        weight,
        bias,
    }
}

/// Maps through a convolution, `[rows, channels, height, width]`.
pub(crate) fn convolve<T: Element>(
    source: Source<'_, T>,
    weight: Weight<'_>,
    bias: &[f32],
    geometry: Geometry,
) -> Vec<T> {
    convolve_by(Kind::best(), source, weight, bias, geometry)
}

fn convolve_by<T: Element>(
    kind: Kind,
    source: Source<'_, T>,
    weight: Weight<'_>,
    bias: &[f32],
    geometry: Geometry,
) -> Vec<T> {
    of_maps(kind, convolution_of(source, weight, bias, geometry))
}

/// [`convolve`], added to what is in `output`.
pub(crate) fn convolve_onto<T: Element>(
    source: Source<'_, T>,
    weight: Weight<'_>,
    bias: &[f32],
    geometry: Geometry,
    output: &mut [T],
) {
    let layer = convolution_of(source, weight, bias, geometry);
    let count = geometry.rows * geometry.channels[1] * geometry.positions();
    assert_eq!(output.len(), count);
    fill(Kind::best(), layer, Output::over(output), true);
}

fn convolution_of<'a, T>(
    source: Source<'a, T>,
    weight: Weight<'a>,
    bias: &'a [f32],
    geometry: Geometry,
) -> Convolution<'a, T> {
    let geometry = geometry.in_line();
    let [inputs, outputs] = geometry.channels;
    let sizes = Sizes {
        outputs,
        inputs,
        taps: geometry.kernel.iter().product(),
    };
    assert_eq!(weight.sizes, sizes);
    assert_eq!(bias.len(), outputs);
    let positions = geometry.input.iter().product();
    assert_eq!([source.inputs, source.positions], [inputs, positions]);
    assert_eq!(source.values.len(), geometry.rows * inputs * positions);
    assert!(
        source
            .norm
            .is_none_or(|norm| norm.len() == geometry.rows * inputs)
    );
    Convolution {
        source,
        weight,
        bias,
        geometry,
    }
}

//! Layers whose products are in 8 bits: weights rounded once, activations on their way in.
//!
//! Source: Dettmers et al., "`LLM.int8()`" (arXiv 2208.07339): vector-wise scales and values that are kept apart. Sums of products are whole
//! numbers and exact, what follows them is in one order: every instruction gives the same values, to the last bit.

mod compiled;
mod instruction;
mod products;
mod rows;
mod source;
#[cfg(test)]
mod tests;
mod weight;

use compiled::by;
use instruction::Kind;
use products::Layer;
use source::Source;
pub(crate) use weight::{Sizes, Weight, rounded};

use super::convolution::Geometry;

/// Tokens, `[tokens, inputs]`, through a linear layer: `[tokens, outputs]`.
pub(crate) fn linear(input: &[f32], weight: Weight<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    by(Kind::best(), over_tokens(input, weight, bias))
}

/// Maps, `[rows, channels, height, width]`, through a convolution.
pub(crate) fn convolve(
    input: &[f32],
    weight: Weight<'_>,
    bias: &[f32],
    geometry: Geometry,
) -> Vec<f32> {
    by(Kind::best(), over_maps(input, weight, bias, geometry))
}

fn over_tokens<'a>(input: &'a [f32], weight: Weight<'a>, bias: Option<&'a [f32]>) -> Layer<'a> {
    let inputs = weight.sizes.inputs;
    let tokens = input.len() / inputs;
    assert_eq!(input.len(), tokens * inputs);
    assert!(bias.is_none_or(|bias| bias.len() == weight.sizes.outputs));
    assert_eq!(weight.sizes.taps, 1);
    let source = Source {
        values: input,
        inputs,
        positions: None,
    };
    let line = Geometry {
        rows: 1,
        channels: [inputs, weight.sizes.outputs],
        input: [1, tokens],
        output: [1, tokens],
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0, 0],
    };
    Layer {
        source,
        weight,
        bias,
        geometry: line,
    }
}

fn over_maps<'a>(
    input: &'a [f32],
    weight: Weight<'a>,
    bias: &'a [f32],
    geometry: Geometry,
) -> Layer<'a> {
    let [inputs, outputs] = geometry.channels;
    let sizes = Sizes {
        outputs,
        inputs,
        taps: geometry.kernel.iter().product(),
    };
    assert_eq!(weight.sizes, sizes);
    assert_eq!(bias.len(), outputs);
    let positions = geometry.input.iter().product();
    assert_eq!(input.len(), geometry.rows * inputs * positions);
    Layer {
        source: Source {
            values: input,
            inputs,
            positions: Some(positions),
        },
        weight,
        bias: Some(bias),
        geometry,
    }
}

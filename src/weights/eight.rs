//! Weights for products in 8 bits: which layers have them, and how they are rounded.

use burn::tensor::{DType, Tensor, TensorData};

use super::quantise;
use crate::{
    kernels::cpu::eight::{Sizes, multiplies_bytes, rounded as by_output},
    ops,
};

/// Channels of a convolution on either side, at least.
const LEAST_SIDE: usize = 64;

/// Parts of the names of layers that stay as they are without products in 8 bits: they make modulations of the timestep, a token at a time.
const MODULATIONS: [&str; 2] = [".linear.weight", "proj_out_1."];

/// The same of the first and last layers, where rounding has the whole denoiser before it, or nothing behind it.
const ENDS: [&str; 7] = [
    "conv_in.",
    "conv_out.",
    "pos_embed.",
    "x_embedder.",
    "context_embedder.",
    "caption_projection.",
    "proj_out_2.",
];

/// The last layer of transformers that have but one; blocks have their own of this name.
const LAST: &str = "proj_out.weight";

/// Channels of a 3x3 convolution on either side, at least, where the processor multiplies bytes in 16 bits: against fewer products in f32
/// (`winograd`) those of 8 bits took 1.3 to 2.6 times as long with 64 to 960 channels, 0.7 to 0.9 with more.
const LEAST_WITHOUT_VNNI: usize = 1024;

/// Whether the products of the weight `name`, `[outputs, inputs]` or `[outputs, inputs, height, width]`, are in 8 bits on this processor.
pub(super) fn rounds(name: &str, shape: &[usize]) -> bool {
    suits(name, shape) && pays(shape, multiplies_bytes())
}

/// Whether they take less time than in f32, with an instruction that multiplies bytes or without.
fn pays(shape: &[usize], multiplies_bytes: bool) -> bool {
    match *shape {
        [outputs, inputs, 3, 3] => multiplies_bytes || outputs.min(inputs) >= LEAST_WITHOUT_VNNI,
        _ => true,
    }
}

/// Whether they can be.
fn suits(name: &str, shape: &[usize]) -> bool {
    let stays = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if stays(&MODULATIONS) || stays(&ENDS) || name == LAST {
        return false;
    }
    let large = match *shape {
        [_, _] => quantise::group(name, shape).is_some(),
        [outputs, inputs, _, _] => {
            outputs.min(inputs) >= LEAST_SIDE && !quantise::reads_timestep(name)
        }
        _ => false,
    };
    large && Sizes::of(shape).fit()
}

/// Bytes of memory that such a weight takes.
pub(super) fn memory(shape: &[usize]) -> usize {
    Sizes::of(shape).memory()
}

/// A weight for products in 8 bits.
pub(super) fn rounded<const D: usize>(weight: &TensorData) -> Tensor<D> {
    let (mut shape, dtype) = (weight.shape().to_vec(), weight.dtype());
    let sizes = Sizes::of(&shape);
    let size = sizes.inputs * sizes.taps * dtype.size();
    let (integers, scales) = by_output(sizes, |output, room| {
        let bytes = weight.as_bytes()[output * size..][..size].to_vec();
        let values = TensorData::from_bytes_vec(bytes, [room.len()], dtype);
        let values = values.convert_dtype(DType::F32);
        let (values, _) = values.as_bytes().as_chunks::<4>();
        for (room, value) in room.iter_mut().zip(values) {
            *room = f32::from_ne_bytes(*value);
        }
    });
    if shape.len() == 2 {
        shape.reverse(); // as linear layers keep theirs
    }
    ops::narrow(integers, scales, &shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_layers_between_the_ends_are_rounded() {
        for (name, shape) in [
            ("mid_block.attentions.0.proj_in.weight", &[320, 320][..]),
            ("mid_block.attentions.0.proj_out.weight", &[320, 320, 1, 1]),
            ("down_blocks.0.resnets.0.conv1.weight", &[96, 64, 3, 3]),
            ("up_blocks.0.upsamplers.0.conv.weight", &[128, 128, 3, 3]),
        ] {
            assert!(suits(name, shape), "{name}");
        }
    }

    #[test]
    fn ends_and_what_reads_the_timestep_stay() {
        for (name, shape) in [
            ("conv_in.weight", &[320, 64, 3, 3][..]),
            ("conv_out.weight", &[64, 320, 3, 3]),
            ("proj_out.weight", &[64, 3072]),
            ("x_embedder.weight", &[3072, 64]),
            ("time_embedding.linear_1.weight", &[1280, 320]),
            ("down_blocks.0.resnets.0.time_emb_proj.weight", &[320, 1280]),
            ("transformer_blocks.0.norm1.linear.weight", &[6912, 1152]),
            ("norm_out.linear.weight", &[6144, 3072]),
            ("down_blocks.0.resnets.0.conv1.weight", &[96, 32, 3, 3]),
            (
                "down_blocks.0.temp_convs.0.conv1.2.weight",
                &[96, 96, 3, 1, 1],
            ),
            ("conv_norm_out.weight", &[320]),
        ] {
            assert!(!suits(name, shape), "{name}");
        }
    }

    #[test]
    fn without_an_instruction_for_bytes_convolutions_of_few_channels_stay() {
        for (shape, with, without) in [
            (&[320, 320, 3, 3][..], true, false),
            (&[1280, 2560, 3, 3], true, true),
            (&[320, 320, 1, 1], true, true),
            (&[320, 320], true, true),
        ] {
            let found = [pays(shape, true), pays(shape, false)];
            assert_eq!(found, [with, without], "{shape:?}");
        }
    }

    #[test]
    fn memory_is_what_is_kept() {
        for shape in [&[70, 66][..], &[64, 100, 3, 3]] {
            let count = shape.iter().product();
            let sizes = Sizes::of(shape);
            let (integers, scales) = by_output(sizes, |_, room| room.fill(1.0));
            let bytes = integers.len() + size_of_val(scales.as_slice());
            assert_eq!(bytes, memory(shape));
            assert!((count..2 * count).contains(&bytes), "{bytes}");
        }
    }
}

//! Weights for products in 8 bits: which layers have them, and how they are rounded.

use ::half::f16;
use burn::tensor::{DType, Tensor, TensorData};

use super::quantise;
use crate::{
    kernels::cpu::eight::{Sizes, rounded as by_output},
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

/// Channels that a 3x3 convolution gives, at least, to have weights in 8 bits. With fewer its products in 16 bits, of which Winograd's squares
/// leave a quarter, take less time than nine in 8 bits, and they are the more exact. With more, these are most of a model's weights, and maps
/// are small: where one is not, squares are made of the weights in 8 bits.
const LEAST_IN_8_BITS: usize = 1024;

/// Part of the names of convolutions by steps of two, which are no squares.
const BY_STEPS: &str = "downsamplers.";

/// The same of those of maps that are enlarged: by squares, which make a sixth of the products, they make no map of the larger size.
const ENLARGING: &str = "upsamplers.";

/// What a layer's products are rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Products {
    /// 8 bits.
    Eight,
    /// 16 bits, in Winograd's space.
    Sixteen,
}

/// What the products of the weight `name`, `[outputs, inputs]` or `[outputs, inputs, height, width]`, are rounded to, if to anything.
pub(super) fn products(name: &str, shape: &[usize]) -> Option<Products> {
    if !suits(name, shape) {
        return None;
    }
    match *shape {
        [_, _, 3, 3] if name.contains(ENLARGING) => Some(Products::Sixteen),
        [outputs, _, 3, 3] if outputs < LEAST_IN_8_BITS && !name.contains(BY_STEPS) => {
            Some(Products::Sixteen)
        }
        _ => Some(Products::Eight),
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

/// A weight for products in 16 bits, if f16 holds it.
pub(super) fn halves<const D: usize>(weight: &TensorData) -> Option<Tensor<D>> {
    let shape = weight.shape().to_vec();
    let weight = weight.clone().convert_dtype(DType::F16);
    let (values, _) = weight.as_bytes().as_chunks::<2>();
    let values = values.iter().map(|value| f16::from_ne_bytes(*value));
    let values: Vec<f16> = values.collect();
    let held = values.iter().all(|value| value.is_finite());
    held.then(|| ops::halves(values, &shape))
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
    fn convolutions_to_few_channels_are_of_16_bits() {
        let (eight, sixteen) = (Some(Products::Eight), Some(Products::Sixteen));
        let resnet = "down_blocks.0.resnets.0.conv1.weight";
        let down = "down_blocks.0.downsamplers.0.conv.weight";
        let up = "up_blocks.0.upsamplers.0.conv.weight";
        for (name, shape, expected) in [
            (resnet, &[320, 960, 3, 3][..], sixteen),
            (resnet, &[640, 1920, 3, 3], sixteen),
            (resnet, &[1280, 640, 3, 3], eight),
            (resnet, &[320, 320, 1, 1], eight),
            (resnet, &[320, 320], eight),
            (down, &[320, 320, 3, 3], eight),
            (up, &[1280, 1280, 3, 3], sixteen),
        ] {
            assert_eq!(products(name, shape), expected, "{name} {shape:?}");
        }
    }

    #[test]
    fn halves_hold_what_they_can() {
        let weight = |value: f32| TensorData::new(vec![value; 9], [1, 1, 3, 3]);
        let kept: Tensor<4> = halves(&weight(0.5)).expect("a small weight");
        assert_eq!(kept.dims(), [1, 1, 3, 3]);
        for value in [1e5, f32::NAN, f32::INFINITY] {
            assert!(halves::<4>(&weight(value)).is_none(), "{value}");
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

//! Layers shared by the models. Field names are the checkpoint's (diffusers layout).

pub mod activation;
pub mod attention;
pub mod embed;
pub mod frames;
pub mod head_norm;
pub mod layer_norm;
pub mod map_attention;
pub mod modulation;
pub mod ragged;
pub mod resnet;
pub mod rotary;
pub mod spatio_temporal;
pub mod stretch;
pub mod temporal;
pub mod temporal_transformer;
pub mod text_map_attention;
pub mod text_time;
pub mod transformer;

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, PaddingConfig2d};
use burn::tensor::Device;

/// A 3x3 convolution that keeps the sides (stride 1) or halves them rounding up (stride 2).
pub(crate) fn conv3x3(input: usize, output: usize, stride: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new([input, output], [3, 3])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(device)
}

/// A 1x1 convolution.
pub(crate) fn conv1x1(input: usize, output: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new([input, output], [1, 1]).init(device)
}

/// Group normalisation with learned scale and shift.
pub(crate) fn group_norm(
    groups: usize,
    channels: usize,
    epsilon: f64,
    device: &Device,
) -> GroupNorm {
    GroupNormConfig::new(groups, channels)
        .with_epsilon(epsilon)
        .init(device)
}

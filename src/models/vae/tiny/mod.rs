//! The tiny autoencoder: two short rows of plain convolutions, trained to do what a large autoencoder does with an eighteenth of its work.
//!
//! Source: Bohan, "TAESD: Tiny `AutoEncoder` for Stable Diffusion" (github.com/madebyollin/taesd), with its kin for other latents (TAESDXL,
//! TAESD3, TAEF1, TAEF2); behaviour as diffusers' `AutoencoderTiny`.

#![allow(
    clippy::large_enum_variant,
    reason = "most layers are the large ones, and there are a few dozen"
)]

mod config;

pub(super) use config::TinyJson;
pub use config::{TinyConfig, TinyHalf};

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, PaddingConfig2d, Relu};
use burn::tensor::{DType, Device, Tensor};

use crate::nn::{conv3x3, group_norm};
use crate::ops::{self, enlarged};

/// Latents are bent into -3 to 3 before they are decoded.
const BOUND: f64 = 3.0;
/// Groups of the norm in a block's pool, and times that the pool widens the map for it.
const POOL: usize = 4;
/// Epsilon of that norm.
const EPSILON: f64 = 1e-5;

/// A layer, numbered among its neighbours as in the file.
#[derive(Module, Debug)]
enum Layer {
    Conv(Conv2d),
    Norm(GroupNorm),
    Relu(Relu),
    Double(Double),
    Block(Block),
}

impl Layer {
    fn conv(input: usize, output: usize, device: &Device) -> Self {
        Self::Conv(conv3x3(input, output, 1, device))
    }

    /// Without a bias, as where sides change; `stride` 2 halves them, rounding up.
    fn unbiased(channels: usize, stride: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([channels, channels], [3, 3])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .with_bias(false);
        Self::Conv(conv.init(device))
    }

    fn pointwise(input: usize, output: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([input, output], [1, 1]).with_bias(false);
        Self::Conv(conv.init(device))
    }

    fn relu() -> Self {
        Self::Relu(Relu::new())
    }

    fn forward(&self, map: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Conv(conv) => ops::conv2d(conv, map),
            Self::Norm(norm) => ops::group_norm(norm, map),
            Self::Relu(curve) => curve.forward(map),
            Self::Double(_) => {
                let [_, _, height, width] = map.dims();
                enlarged(map, [2 * height, 2 * width])
            }
            Self::Block(block) => block.forward(map),
        }
    }
}

/// Twice the sides, by repetition.
#[derive(Module, Debug)]
struct Double {}

/// Three convolutions beside the map itself; in front of them, in some models, a wider map that is normalised.
#[derive(Module, Debug)]
struct Block {
    conv: Vec<Layer>,
    pool: Vec<Layer>,
}

impl Block {
    fn new(channels: usize, pooled: bool, device: &Device) -> Self {
        let conv = || Layer::conv(channels, channels, device);
        let wide = POOL * channels;
        let pool = || {
            vec![
                Layer::pointwise(channels, wide, device),
                Layer::Norm(group_norm(POOL, wide, EPSILON, device)),
                Layer::relu(),
                Layer::pointwise(wide, channels, device),
            ]
        };
        Self {
            conv: vec![conv(), Layer::relu(), conv(), Layer::relu(), conv()],
            pool: if pooled { pool() } else { Vec::new() },
        }
    }

    fn forward(&self, map: Tensor<4>) -> Tensor<4> {
        let map = if self.pool.is_empty() {
            map
        } else {
            map.clone() + run(&self.pool, map)
        };
        Relu::new().forward(run(&self.conv, map.clone()) + map)
    }
}

fn run(layers: &[Layer], map: Tensor<4>) -> Tensor<4> {
    layers.iter().fold(map, |map, layer| layer.forward(map))
}

/// Pixels to latents.
#[derive(Module, Debug)]
pub(super) struct TinyEncoder {
    layers: Vec<Layer>,
}

impl TinyEncoder {
    /// From pixels of `pixels` channels to latents of `latents`.
    pub(super) fn new(tiny: &TinyConfig, pixels: usize, latents: usize, device: &Device) -> Self {
        let TinyHalf { channels, blocks } = &tiny.encoder;
        let mut layers = Vec::new();
        for (level, &count) in blocks.iter().enumerate() {
            layers.push(match level {
                0 => Layer::conv(pixels, *channels, device),
                _ => Layer::unbiased(*channels, 2, device),
            });
            let pooled = tiny.pooled && level + 1 == blocks.len();
            let block = || Layer::Block(Block::new(*channels, pooled, device));
            layers.extend((0..count).map(|_| block()));
        }
        layers.push(Layer::conv(*channels, latents, device));
        Self { layers }
    }

    /// `[rows, in_channels, height, width]` in -1 to 1 to `[rows, latent_channels, height / factor, width / factor]`.
    pub(super) fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        run(&self.layers, (pixels + 1.0) / 2.0)
    }
}

/// Latents to pixels.
#[derive(Module, Debug)]
pub(super) struct TinyDecoder {
    layers: Vec<Layer>,
}

impl TinyDecoder {
    /// From latents of `latents` channels to pixels of `pixels`.
    pub(super) fn new(tiny: &TinyConfig, latents: usize, pixels: usize, device: &Device) -> Self {
        let TinyHalf { channels, blocks } = &tiny.decoder;
        let mut layers = vec![Layer::conv(latents, *channels, device), Layer::relu()];
        for (level, &count) in blocks.iter().enumerate() {
            let pooled = tiny.pooled && level == 0;
            let block = || Layer::Block(Block::new(*channels, pooled, device));
            layers.extend((0..count).map(|_| block()));
            if level + 1 < blocks.len() {
                layers.push(Layer::Double(Double {}));
                layers.push(Layer::unbiased(*channels, 1, device));
            }
        }
        layers.push(Layer::conv(*channels, pixels, device));
        Self { layers }
    }

    /// The type it computes in, which inputs must have too.
    pub(super) fn dtype(&self) -> DType {
        match &self.layers[0] {
            Layer::Conv(conv) => ops::dtype(conv.bias.as_ref()),
            _ => DType::F32,
        }
    }

    /// `[rows, latent_channels, height, width]` to `[rows, out_channels, factor · height, factor · width]`, in -1 to 1.
    pub(super) fn forward(&self, latents: Tensor<4>) -> Tensor<4> {
        let bent = (latents / BOUND).tanh() * BOUND;
        run(&self.layers, bent) * 2.0 - 1.0
    }
}

//! Learned perceptual image patch similarity on `AlexNet`, and the features that it looks at.
//!
//! Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (arXiv 1801.03924, section 3),
//! version 0.1 of the linear heads.

use std::path::Path;

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::MaxPool2dConfig;
use burn::tensor::activation::relu;
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::{FeatureSpace, read_back, to_batch};
use crate::error::{Error, EvaluationError};
use crate::image_io::Picture;
use crate::weights::{WeightSource, load_strict};

/// What messages call it.
const NETWORK: &str = "network of LPIPS";

/// Pixels that a picture's shorter side has at least: less leaves nothing after the second pooling.
const LEAST_SIDE: usize = 31;

/// Mean and spread of the channels that the network was trained on, for pixels in -1 to 1.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];

/// Keeps lengths away from zero.
const EPSILON: f64 = 1e-10;

/// Features of a picture: channels of the last layer.
const FEATURES: usize = 256;

#[allow(
    non_snake_case,
    clippy::struct_field_names,
    reason = "fields have the checkpoint's names"
)]
mod layers {
    use super::{Conv2d, Module};

    #[derive(Module, Debug)]
    pub(super) struct AlexNet {
        pub(super) Conv_0: Conv2d,
        pub(super) Conv_1: Conv2d,
        pub(super) Conv_2: Conv2d,
        pub(super) Conv_3: Conv2d,
        pub(super) Conv_4: Conv2d,
    }

    #[derive(Module, Debug)]
    pub(super) struct NetLinLayer {
        pub(super) Conv_0: Conv2d,
    }

    #[derive(Module, Debug)]
    pub(super) struct Network {
        pub(super) AlexNet_0: AlexNet,
        pub(super) NetLinLayer_0: NetLinLayer,
        pub(super) NetLinLayer_1: NetLinLayer,
        pub(super) NetLinLayer_2: NetLinLayer,
        pub(super) NetLinLayer_3: NetLinLayer,
        pub(super) NetLinLayer_4: NetLinLayer,
    }
}

use layers::{AlexNet, NetLinLayer, Network};

impl Network {
    fn new(device: &Device) -> Self {
        let convolution = |channels: [usize; 2], kernel, stride, padding| {
            Conv2dConfig::new(channels, [kernel, kernel])
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(
                    padding, padding, padding, padding,
                ))
                .init(device)
        };
        let head = |channels| NetLinLayer {
            Conv_0: Conv2dConfig::new([channels, 1], [1, 1])
                .with_bias(false)
                .init(device),
        };
        Self {
            AlexNet_0: AlexNet {
                Conv_0: convolution([3, 64], 11, 4, 2),
                Conv_1: convolution([64, 192], 5, 1, 2),
                Conv_2: convolution([192, 384], 3, 1, 1),
                Conv_3: convolution([384, 256], 3, 1, 1),
                Conv_4: convolution([256, FEATURES], 3, 1, 1),
            },
            NetLinLayer_0: head(64),
            NetLinLayer_1: head(192),
            NetLinLayer_2: head(384),
            NetLinLayer_3: head(256),
            NetLinLayer_4: head(FEATURES),
        }
    }

    fn heads(&self) -> [&NetLinLayer; 5] {
        [
            &self.NetLinLayer_0,
            &self.NetLinLayer_1,
            &self.NetLinLayer_2,
            &self.NetLinLayer_3,
            &self.NetLinLayer_4,
        ]
    }
}

impl AlexNet {
    /// The outputs of the five rectifiers, `[items, channels, height, width]` each, of normalised pixels.
    fn forward(&self, pixels: Tensor<4>) -> [Tensor<4>; 5] {
        let pool = MaxPool2dConfig::new([3, 3]).with_strides([2, 2]).init();
        let pooled = |map: &Tensor<4>| pool.forward(map.clone());
        let first = relu(self.Conv_0.forward(pixels)); // [items, 64, height / 4, width / 4]
        let second = relu(self.Conv_1.forward(pooled(&first))); // [items, 192, height / 8, width / 8]
        let third = relu(self.Conv_2.forward(pooled(&second))); // [items, 384, height / 16, width / 16]
        let fourth = relu(self.Conv_3.forward(third.clone())); // [items, 256, …]
        let fifth = relu(self.Conv_4.forward(fourth.clone())); // [items, 256, …]
        [first, second, third, fourth, fifth]
    }
}

/// The metric, loaded.
#[derive(Debug, Clone)]
pub struct Lpips {
    network: Network,
    device: Device,
}

impl Lpips {
    /// Reads the weights, a safetensors file with the tensors `AlexNet_0.Conv_0.weight` to `NetLinLayer_4.Conv_0.weight`.
    ///
    /// # Errors
    ///
    /// If the file is unreadable or holds other tensors.
    pub fn load(path: &Path, device: &Device) -> Result<Self, Error> {
        let source = WeightSource::open(path)?;
        let network = load_strict(Network::new(device), &source, "lpips", DType::F32)?;
        Ok(Self {
            network,
            device: device.clone(),
        })
    }

    /// How far each of `a` is from its twin in `b`; 0 for equal pictures.
    ///
    /// # Errors
    ///
    /// If the device fails.
    ///
    /// # Panics
    ///
    /// If there is no picture, counts or sizes differ, or a side is shorter than 31 pixels.
    pub fn distances(&self, a: &[Picture], b: &[Picture]) -> Result<Vec<f64>, Error> {
        assert_eq!(a.len(), b.len(), "pairs of pictures");
        let (a, b) = (self.layers(a), self.layers(b));
        let layers = a.into_iter().zip(b).zip(self.network.heads());
        let terms = layers.map(|((a, b), head)| {
            let difference = (unit(a) - unit(b)).powi_scalar(2);
            head.Conv_0.forward(difference).mean_dims(&[2, 3]) // [items, 1, 1, 1]
        });
        let sum = terms.reduce(|sum, term| sum + term);
        read_back(sum.expect("there are five layers"), NETWORK)
    }

    fn layers(&self, pictures: &[Picture]) -> [Tensor<4>; 5] {
        let channels = |values: [f32; 3]| {
            Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, 3, 1, 1]), &self.device)
        };
        let pixels = to_batch(pictures, &self.device) * 2.0 - 1.0; // [items, 3, height, width]
        self.network
            .AlexNet_0
            .forward((pixels - channels(SHIFT)) / channels(SCALE))
    }
}

/// The last layer, its mean over positions.
impl FeatureSpace for Lpips {
    fn name(&self) -> &'static str {
        "AlexNet relu5, mean over positions"
    }

    fn width(&self) -> usize {
        FEATURES
    }

    fn check_size(&self, width: usize, height: usize) -> Result<(), Error> {
        if width.min(height) >= LEAST_SIDE {
            return Ok(());
        }
        Err(EvaluationError::TooSmall {
            width,
            height,
            least: LEAST_SIDE,
        }
        .into())
    }

    fn features(&self, pictures: &[Picture]) -> Result<Vec<Vec<f64>>, Error> {
        let [.., last] = self.layers(pictures);
        let features = read_back(last.mean_dims(&[2, 3]), NETWORK)?; // [items, features, 1, 1]
        Ok(features
            .chunks_exact(FEATURES)
            .map(<[f64]>::to_vec)
            .collect())
    }
}

/// Every position's channels scaled to length 1.
fn unit(map: Tensor<4>) -> Tensor<4> {
    let length = map.clone().powi_scalar(2).sum_dim(1).sqrt();
    map / (length + EPSILON)
}

//! Residual convolution blocks, and the resamplers between levels.
//!
//! Source: He et al. (arXiv 1512.03385) as in Ho et al. (arXiv 2006.11239, appendix B); group norm and `SiLU` before each convolution.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Device, Tensor};

use super::activation::Activation;
use super::{conv1x1, conv3x3, group_norm};
use crate::ops;

/// What a residual block is built from.
#[derive(Debug, Clone, Copy)]
pub struct ResnetConfig {
    /// Channels in.
    pub input: usize,
    /// Channels out.
    pub output: usize,
    /// Width of the time embedding; `None` in autoencoders.
    pub time_width: Option<usize>,
    /// Groups of both norms.
    pub groups: usize,
    /// Epsilon of both norms.
    pub epsilon: f64,
}

/// What the time embedding does to a residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeShift {
    /// It is added in front of the second norm (arXiv 2006.11239).
    #[default]
    Add,
    /// It scales and shifts what the second norm gives (arXiv 2105.05233, section 3.1, adaptive group norm).
    ScaleShift,
}

/// What makes residual blocks of one network differ from those of another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResnetForm {
    /// What the time embedding does.
    pub shift: TimeShift,
    /// What comes after the norms.
    pub activation: Activation,
    /// What the sum of both branches is divided by, if by anything.
    pub divisor: Option<f64>,
}

impl Default for ResnetForm {
    /// Time added, `SiLU`, the plain sum.
    fn default() -> Self {
        Self {
            shift: TimeShift::Add,
            activation: Activation::Silu,
            divisor: None,
        }
    }
}

/// `x + conv2(silu(norm2(conv1(silu(norm1(x))) + time)))`, or with `norm2(…) · (1 + scale) + shift`, or otherwise as its
/// [form](ResnetForm) says.
#[derive(Module, Debug)]
pub struct ResnetBlock2d {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    #[module(skip)]
    form: ResnetForm,
}

impl ResnetBlock2d {
    /// Builds the block in the form of Stable Diffusion's; weights stay lazy until loaded.
    pub fn new(config: ResnetConfig, device: &Device) -> Self {
        Self::with_form(config, ResnetForm::default(), device)
    }

    /// Builds the block; weights stay lazy until loaded.
    pub fn with_form(config: ResnetConfig, form: ResnetForm, device: &Device) -> Self {
        let ResnetConfig {
            input,
            output,
            time_width,
            groups,
            epsilon,
        } = config;
        let features = match form.shift {
            TimeShift::Add => output,
            TimeShift::ScaleShift => 2 * output,
        };
        Self {
            norm1: group_norm(groups, input, epsilon, device),
            conv1: conv3x3(input, output, 1, device),
            time_emb_proj: time_width.map(|width| LinearConfig::new(width, features).init(device)),
            norm2: group_norm(groups, output, epsilon, device),
            conv2: conv3x3(output, output, 1, device),
            conv_shortcut: (input != output).then(|| conv1x1(input, output, device)),
            form,
        }
    }

    /// # Shapes
    ///
    /// - hidden: `[rows, input, height, width]`
    /// - time: `[rows, time_width]`, already activated; `None` in autoencoders
    /// - output: `[rows, output, height, width]`
    pub fn forward(&self, hidden: Tensor<4>, time: Option<&Tensor<2>>) -> Tensor<4> {
        let activation = self.form.activation;
        let branch = activation.convolved(&self.norm1, &self.conv1, hidden.clone());
        self.joined(hidden, branch, time)
    }

    /// [`forward`](Self::forward) with both sides of the map changed by `resample`, in front of the first convolution and in the
    /// shortcut: the resamplers of the ADM family (arXiv 2105.05233, section 3).
    pub fn resampled(
        &self,
        hidden: Tensor<4>,
        time: Option<&Tensor<2>>,
        resample: impl Fn(Tensor<4>) -> Tensor<4>,
    ) -> Tensor<4> {
        let branch = resample(self.form.activation.after(&self.norm1, hidden.clone()));
        let branch = ops::conv2d(&self.conv1, branch);
        self.joined(resample(hidden), branch, time)
    }

    /// The rest of the `branch` after its first convolution, `[rows, output, height, width]`, and the shortcut over `hidden`.
    fn joined(&self, hidden: Tensor<4>, branch: Tensor<4>, time: Option<&Tensor<2>>) -> Tensor<4> {
        let time = self.time_emb_proj.as_ref().zip(time);
        let time = time.map(|(project, time)| per_channel(ops::linear(project, time.clone())));
        let shortcut = match &self.conv_shortcut {
            Some(shortcut) => ops::conv2d(shortcut, hidden),
            None => hidden,
        };
        let sum = self.added(shortcut, branch, time);
        match self.form.divisor {
            Some(divisor) => sum / divisor,
            None => sum,
        }
    }

    /// `onto` plus the second convolution, with the time embedding, `[rows, features, 1, 1]`, brought in around the norm in front of it.
    fn added(&self, onto: Tensor<4>, branch: Tensor<4>, time: Option<Tensor<4>>) -> Tensor<4> {
        let activation = self.form.activation;
        let (norm, layer) = (&self.norm2, &self.conv2);
        match time {
            None => activation.convolved_onto(norm, layer, branch, onto),
            Some(time) if self.form.shift == TimeShift::ScaleShift => {
                let channels = branch.dims()[1];
                let scale = time.clone().narrow(1, 0, channels);
                let shift = time.narrow(1, channels, channels);
                let normed = ops::group_norm(norm, branch) * (scale + 1.0) + shift;
                ops::add(onto, ops::conv2d(layer, activation.of(normed)))
            }
            Some(time) => activation.convolved_onto(norm, layer, ops::add(branch, time), onto),
        }
    }
}

/// Halves both sides of `[rows, channels, height, width]`, rounding down, by the mean of every square of four.
pub fn halved(map: Tensor<4>) -> Tensor<4> {
    avg_pool2d(map, AvgPoolOptions::new([2, 2]).with_stride([2, 2]))
}

/// `[rows, channels]` as `[rows, channels, 1, 1]`.
fn per_channel(features: Tensor<2>) -> Tensor<4> {
    features.unsqueeze_dims(&[2, 3])
}

/// Halves both sides with a strided convolution.
#[derive(Module, Debug)]
pub struct Downsample2d {
    conv: Conv2d,
}

impl Downsample2d {
    /// Pads evenly, as `UNets` do: odd sides round up.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            conv: conv3x3(channels, channels, 2, device),
        }
    }

    /// Pads below and to the right only, as autoencoders and DDPM do: odd sides round down.
    pub fn new_asymmetric(channels: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([channels, channels], [3, 3])
            .with_stride([2, 2])
            .with_padding(PaddingConfig2d::Explicit(0, 0, 1, 1))
            .init(device);
        Self { conv }
    }

    /// `[rows, channels, height, width]` to `[rows, channels, height/2, width/2]`.
    pub fn forward(&self, hidden: Tensor<4>) -> Tensor<4> {
        ops::conv2d(&self.conv, hidden)
    }
}

/// Enlarges by repetition, then convolves.
#[derive(Module, Debug)]
pub struct Upsample2d {
    conv: Conv2d,
}

impl Upsample2d {
    /// Keeps the number of channels.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            conv: conv3x3(channels, channels, 1, device),
        }
    }

    /// To `[rows, channels, size[0], size[1]]`: twice the sides, or one less where the level above has an odd side.
    pub fn forward(&self, hidden: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
        ops::conv2d_enlarged(&self.conv, hidden, size)
    }
}

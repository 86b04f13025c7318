//! Every kernel over the shapes that models have.
//!
//! Sizes are those of the networks, with fewer rows and heads where those only repeat the same work. The regimes of known defects are
//! among them: 1x1 convolutions of 96 channels over 32768 pixels and more in f16 (cubek#519), products with a single column under
//! fusion (burn#5122), flash attention in f16 (burn#4325), norms of values whose squares f16 does not hold.

use burn::{
    module::Param,
    nn::{GroupNormConfig, LinearConfig, PaddingConfig2d, conv::Conv2dConfig},
    tensor::Tensor,
};

use super::{Check, Kernel, Operands};
use crate::{
    device::OpenDevice,
    ops::{self, Precision},
    weights::placed,
};

/// Models that have shapes in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Models {
    /// Stable Diffusion 1.x and 2.x, and other small `UNets`.
    StableDiffusion,
    /// Stable Diffusion XL.
    Xl,
    /// `DiT`.
    Dit,
    /// Decoders of latents.
    Vae,
    /// Whichever meets a regime of a known defect.
    KnownDefects,
}

/// The checks for `device`, of the models named or, if none is, of all; software rasterisers get one tiny shape a kernel, since they
/// compile for seconds a shape.
pub fn checks(device: &OpenDevice, models: &[Models]) -> Vec<Check> {
    if device.is_software() {
        return smallest();
    }
    let wanted = |model: &Models| models.is_empty() || models.contains(model);
    let all = of_models().into_iter();
    all.filter(|(model, _)| wanted(model))
        .map(|(_, check)| check)
        .collect()
}

/// How many checks of models [`checks`] leaves out on `device`.
#[cfg(feature = "cli")]
pub(crate) fn left_out(device: &OpenDevice) -> usize {
    if device.is_software() {
        of_models().len()
    } else {
        0
    }
}

fn smallest() -> Vec<Check> {
    vec![
        attention([1, 1], [16, 16], 16),
        convolution([8, 8], [4, 4], Shape::SAME),
        convolution([8, 8], [4, 4], Shape::POINT),
        linear(16, 8, 16),
        linear(16, 8, 1),
        geglu(16, 16),
        group_norm([8, 4, 4], 4, 1.0),
        layer_norm(16, 8),
    ]
}

fn of_models() -> Vec<(Models, Check)> {
    let all = [
        (Models::StableDiffusion, stable_diffusion()),
        (Models::Xl, xl()),
        (Models::Dit, dit()),
        (Models::Vae, vae()),
        (Models::KnownDefects, known_defects()),
    ];
    let named = |(models, checks): (Models, Vec<Check>)| {
        let checks = checks.into_iter();
        checks.map(move |check| (models, check))
    };
    let mut checks: Vec<_> = all.into_iter().flat_map(named).collect();
    checks.sort_by_key(|(_, check)| check.kernel());
    checks
}

fn stable_diffusion() -> Vec<Check> {
    vec![
        attention([1, 2], [4096, 4096], 40),
        attention([2, 2], [4096, 77], 40),
        attention([2, 2], [1024, 1024], 80),
        attention([2, 2], [1024, 77], 80),
        attention([2, 2], [256, 256], 160),
        attention([2, 2], [64, 77], 160),
        convolution([4, 320], [64, 64], Shape::SAME),
        convolution([320, 320], [64, 64], Shape::SAME),
        convolution([320, 320], [64, 64], Shape::HALF),
        convolution([1280, 1280], [8, 8], Shape::SAME),
        convolution([320, 4], [64, 64], Shape::SAME),
        convolution([960, 640], [32, 32], Shape::POINT),
        linear(4096, 320, 320),
        linear(77, 768, 320),
        linear(2, 320, 1280),
        geglu(4096, 1280),
        group_norm([320, 64, 64], 32, 1.0),
        layer_norm(4096, 320),
    ]
}

fn xl() -> Vec<Check> {
    vec![
        attention([2, 2], [1024, 1024], 64),
        attention([2, 2], [4096, 77], 64),
        convolution([640, 640], [32, 32], Shape::SAME),
        convolution([1920, 1280], [32, 32], Shape::POINT),
        linear(1024, 640, 5120),
        geglu(1024, 2560),
        group_norm([1280, 32, 32], 32, 1.0),
        layer_norm(1024, 1280),
    ]
}

fn dit() -> Vec<Check> {
    vec![
        attention([2, 4], [256, 256], 72),
        convolution([4, 1152], [32, 32], Shape::PATCH),
        linear(256, 1152, 4608),
        standardised(256, 1152),
    ]
}

fn vae() -> Vec<Check> {
    vec![
        attention([1, 1], [1024, 1024], 512),
        convolution([128, 128], [128, 128], Shape::SAME),
        convolution([128, 128], [64, 64], Shape::LOW_HALF),
        convolution([256, 128], [192, 192], Shape::POINT),
        convolution([128, 3], [192, 192], Shape::SAME),
        group_norm([128, 256, 256], 32, 1.0),
    ]
}

fn known_defects() -> Vec<Check> {
    vec![
        attention([1, 1], [100, 31], 64),
        convolution([96, 96], [192, 192], Shape::POINT),
        convolution([97, 33], [9, 7], Shape::POINT),
        linear(4096, 320, 1),
        linear(2, 1152, 1),
        group_norm([320, 32, 32], 32, 2000.0),
    ]
}

fn attention([rows, heads]: [usize; 2], [queries, tokens]: [usize; 2], width: usize) -> Check {
    let case = format!("{rows}x{heads} heads of {width}, {queries} by {tokens}");
    let run = move |operands: &mut Operands| {
        // As models hand them over: heads beside one another in a token.
        let mut split = |tokens| {
            operands
                .normal([rows, tokens, heads, width], 1.0)
                .swap_dims(1, 2)
        };
        let [query, key, value] = [queries, tokens, tokens].map(&mut split);
        ops::attention(query, key, value, Precision::Fused)
    };
    Check::new(Kernel::FusedAttention, case, run)
}

/// The kernel, stride and padding of a convolution.
#[derive(Clone, Copy)]
struct Shape {
    side: usize,
    stride: usize,
    /// In front and behind.
    padding: [usize; 2],
}

impl Shape {
    const SAME: Self = Self::new(3, 1, [1, 1]);
    const HALF: Self = Self::new(3, 2, [1, 1]);
    const LOW_HALF: Self = Self::new(3, 2, [0, 1]);
    const POINT: Self = Self::new(1, 1, [0, 0]);
    const PATCH: Self = Self::new(2, 2, [0, 0]);

    const fn new(side: usize, stride: usize, padding: [usize; 2]) -> Self {
        Self {
            side,
            stride,
            padding,
        }
    }

    fn text(self) -> String {
        let Self { side, stride, .. } = self;
        match stride {
            1 => format!("{side}x{side}"),
            stride => format!("{side}x{side} by {stride}"),
        }
    }
}

fn convolution([input, output]: [usize; 2], [height, width]: [usize; 2], shape: Shape) -> Check {
    let case = format!("{} {input} to {output}, {width}x{height}", shape.text());
    let run = move |operands: &mut Operands| {
        let Shape {
            side,
            stride,
            padding: [front, behind],
        } = shape;
        let mut layer = Conv2dConfig::new([input, output], [side, side])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(front, front, behind, behind))
            .init(operands.device());
        let deviation = ((input * side * side) as f32).powf(-0.5);
        let filters = operands.normal([output, input, side, side], deviation);
        layer.weight = param(placed(filters.into_data(), operands.device()));
        layer.bias = Some(param(operands.normal([output], 1.0)));
        ops::conv2d(&layer, operands.normal([1, input, height, width], 1.0))
    };
    let kernel = match shape.side {
        1 => Kernel::PointwiseConvolution,
        _ => Kernel::Convolution,
    };
    Check::new(kernel, case, run)
}

fn linear(tokens: usize, depth: usize, width: usize) -> Check {
    let case = format!("{tokens} tokens, {depth} to {width}");
    let run = move |operands: &mut Operands| {
        let mut layer = LinearConfig::new(depth, width).init(operands.device());
        let deviation = (depth as f32).powf(-0.5);
        layer.weight = param(operands.normal([depth, width], deviation));
        layer.bias = Some(param(operands.normal([width], 1.0)));
        ops::linear(&layer, operands.normal([1, tokens, depth], 1.0))
    };
    let kernel = match width {
        1 => Kernel::Column,
        _ => Kernel::Linear,
    };
    Check::new(kernel, case, run)
}

fn geglu(tokens: usize, inner: usize) -> Check {
    let case = format!("{tokens} tokens, {} to {inner}", 2 * inner);
    Check::new(Kernel::Geglu, case, move |operands| {
        ops::geglu(operands.normal([1, tokens, 2 * inner], 2.0))
    })
}

fn group_norm([channels, height, width]: [usize; 3], groups: usize, deviation: f32) -> Check {
    let large = if deviation > 1.0 {
        ", large values"
    } else {
        ""
    };
    let case = format!("{channels} channels in {groups} groups, {width}x{height}{large}");
    Check::new(Kernel::GroupNorm, case, move |operands| {
        let mut norm = GroupNormConfig::new(groups, channels).init(operands.device());
        norm.gamma = Some(param(operands.normal([channels], 1.0)));
        norm.beta = Some(param(operands.normal([channels], 1.0)));
        let input = operands.normal([1, channels, height, width], deviation);
        ops::group_norm_silu(&norm, input)
    })
}

fn layer_norm(tokens: usize, width: usize) -> Check {
    let case = format!("{tokens} tokens of {width}");
    Check::new(Kernel::LayerNorm, case, move |operands| {
        let scale = operands.normal([width], 1.0);
        let shift = operands.normal([width], 1.0);
        ops::layer_norm(operands.normal([1, tokens, width], 2.0), scale, shift, 1e-5)
    })
}

fn standardised(tokens: usize, width: usize) -> Check {
    let case = format!("{tokens} tokens of {width}, bare");
    Check::new(Kernel::LayerNorm, case, move |operands| {
        ops::standardised(operands.normal([1, tokens, width], 2.0), 1e-6)
    })
}

fn param<const D: usize>(values: Tensor<D>) -> Param<Tensor<D>> {
    Param::from_tensor(values)
}

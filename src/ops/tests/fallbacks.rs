//! What runs where a kernel is quarantined.

use burn::nn::conv::Conv2dConfig;
use burn::nn::{GroupNormConfig, LinearConfig, PaddingConfig2d};
use burn::tensor::{DType, Device, FloatDType, Tensor};

use super::{assert_close, wave};
use crate::ops::quarantine::{self, Fallback, Kernel, Quarantine, trial};
use crate::ops::{
    Precision, attention, conv2d, geglu, group_norm_silu, layer_norm, linear, standardised,
};

/// Every fallback of every kernel, tried on the processor, agrees with the kernel it replaces.
#[test]
fn fallbacks_are_the_kernels() {
    let device = Device::flex();
    let conv = |kernel: usize, stride: usize, padding: PaddingConfig2d| {
        Conv2dConfig::new([5, 6], [kernel, kernel])
            .with_stride([stride, stride])
            .with_padding(padding)
            .init(&device)
    };
    let norm = GroupNormConfig::new(2, 5 * 2).init(&device);
    let wide = LinearConfig::new(12, 7).init(&device);
    let column = LinearConfig::new(12, 1).init(&device);
    let padded = conv(3, 1, PaddingConfig2d::Explicit(1, 1, 1, 1));
    let strided = conv(3, 2, PaddingConfig2d::Explicit(0, 0, 1, 1));
    let pointwise = conv(1, 1, PaddingConfig2d::Valid);
    let cases: [(Kernel, &dyn Fn(Tensor<4>) -> Tensor<4>); 10] = [
        (Kernel::FusedAttention, &|x| {
            attention(x.clone(), x.clone() * 0.5, x, Precision::Fused)
        }),
        (Kernel::Convolution, &|x| conv2d(&padded, x)),
        (Kernel::Convolution, &|x| conv2d(&strided, x)),
        (Kernel::PointwiseConvolution, &|x| conv2d(&pointwise, x)),
        (Kernel::Linear, &|x| linear(&wide, x)),
        (Kernel::Column, &|x| linear(&column, x)),
        (Kernel::Geglu, &|x| geglu(x)),
        (Kernel::GroupNorm, &|x| {
            group_norm_silu(&norm, x.repeat_dim(1, 2))
        }),
        (Kernel::LayerNorm, &|x| {
            layer_norm(x, wave([12], 3.0), wave([12], 4.0), 1e-5)
        }),
        (Kernel::LayerNorm, &|x| {
            standardised(x.flatten(1, 2), 1e-6).unsqueeze()
        }),
    ];
    let input = wave([2, 5, 9, 12], 0.0);
    for (kernel, run) in cases {
        let expected = run(input.clone());
        let dtype = DType::F32;
        for &fallback in Fallback::of(dtype) {
            let found = trial(kernel, dtype, Some(fallback), || run(input.clone()));
            assert_close(
                found,
                expected.clone(),
                1e-5,
                &format!("{kernel} {fallback}"),
            );
        }
    }
}

#[test]
fn widened_kernels_round_once() {
    let half = wave([1, 20, 8], 0.0).cast(FloatDType::F16);
    let run = || geglu(half.clone());
    let found = trial(Kernel::Geglu, DType::F16, Some(Fallback::Widened), run);
    let expected = geglu(half.clone().cast(FloatDType::F32)).cast(FloatDType::F16);
    assert_close(found, expected, 0.0, "widened");
}

/// Kernels that are asked for by the name of a device are replaced there, and only in their data type.
#[test]
fn quarantines_are_honoured() {
    use quarantine::{fallback, is_quarantined, set};

    let device = Device::flex();
    let mut quarantine = Quarantine::default();
    // bf16 is a type that no other test of this process computes in.
    quarantine.insert(Kernel::Geglu, DType::BF16, Fallback::Composed);
    quarantine.insert(Kernel::Geglu, DType::BF16, Fallback::Widened);
    set(&device, quarantine.clone());
    assert_eq!(quarantine.entries().len(), 1);
    let found = fallback(&device, DType::BF16, Kernel::Geglu);
    assert_eq!(found, Some(Fallback::Widened));
    assert!(!is_quarantined(&device, DType::F32, Kernel::Geglu));
    assert!(!is_quarantined(&device, DType::BF16, Kernel::LayerNorm));
    set(&device, Quarantine::default());
    assert!(!is_quarantined(&device, DType::BF16, Kernel::Geglu));
}

//! Operations with a kernel of their own on the CPU; elsewhere the composed version of burn's operations runs.
//!
//! One trait, [`Operations`], dispatches on the device at run time. Its default bodies are the composed versions (`reference`),
//! which every test compares the kernels with; wgpu and CUDA devices, with or without fusion, inherit them.

mod reference;

#[cfg(feature = "cpu")]
mod attention;
#[cfg(feature = "cpu")]
mod flex;
#[cfg(feature = "cpu")]
mod norm;
#[cfg(feature = "cpu")]
mod simd;
#[cfg(all(test, feature = "cpu"))]
mod tests;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::nn::GroupNorm;
use burn::tensor::Tensor;

/// How attention is computed where the backend has fused kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// As the backend does it fastest: tensor-core kernels stage their operands in f16.
    Fused,
    /// In the precision of the operands.
    Operands,
}

/// What a backend may bring kernels for.
#[backend_extension(Cube: cfg(feature = "gpu"), Flex: cfg(feature = "cpu"), Fusion: cfg(feature = "gpu"))]
pub trait Operations: Backend {
    /// `softmax(q kᵀ / √head_width) v`, all `[rows, heads, tokens, head_width]`.
    #[fusion(default)]
    fn scaled_dot_product(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        reference::attention::<Self>(query, key, value, precision)
    }

    /// Group normalisation of `[rows, channels, height, width]`, and `SiLU` behind it if `activate` says so.
    #[fusion(default)]
    fn group_normalised(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        groups: usize,
        epsilon: f64,
        activate: bool,
    ) -> FloatTensor<Self> {
        reference::group_norm::<Self>(input, scale, shift, groups, epsilon, activate)
    }

    /// Normalisation over the last dimension of `[…, width]`, with a learned scale and shift.
    #[fusion(default)]
    fn layer_normalised(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        reference::layer_norm::<Self>(input, scale, shift, epsilon)
    }

    /// The last dimension of `[rows, tokens, width]` to mean 0 and deviation 1, with statistics in f32.
    #[fusion(default)]
    fn standardised(input: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        reference::standardise::<Self>(input, epsilon)
    }
}

#[cfg(feature = "gpu")]
impl Operations for burn_cubecl::CubeBackend {}

/// `softmax(q kᵀ / √head_width) v`.
///
/// # Shapes
///
/// - query, output: `[rows, heads, queries, head_width]`
/// - key, value: `[rows, heads, tokens, head_width]`
pub fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    precision: Precision,
) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::scaled_dot_product(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        precision,
    ))
}

/// `norm` over `input`, `[rows, channels, height, width]`.
pub fn group_norm(norm: &GroupNorm, input: Tensor<4>) -> Tensor<4> {
    group_normalised(norm, input, false)
}

/// `SiLU` behind `norm` over `input`, `[rows, channels, height, width]`.
pub fn group_norm_silu(norm: &GroupNorm, input: Tensor<4>) -> Tensor<4> {
    group_normalised(norm, input, true)
}

fn group_normalised(norm: &GroupNorm, input: Tensor<4>, activate: bool) -> Tensor<4> {
    let (Some(scale), Some(shift)) = (&norm.gamma, &norm.beta) else {
        let normed = norm.forward(input);
        return if activate {
            burn::tensor::activation::silu(normed)
        } else {
            normed
        };
    };
    Tensor::from_dispatch(Dispatch::group_normalised(
        input.into_dispatch(),
        scale.val().into_dispatch(),
        shift.val().into_dispatch(),
        norm.num_groups,
        norm.epsilon,
        activate,
    ))
}

/// Every token of `[…, width]` to mean 0 and deviation 1, then times `scale` plus `shift`, `[width]` each.
pub fn layer_norm<const D: usize>(
    input: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::layer_normalised(
        input.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        epsilon,
    ))
}

/// Every token of `[rows, tokens, width]` to mean 0 and deviation 1, with statistics in f32.
pub fn standardised(input: Tensor<3>, epsilon: f64) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::standardised(input.into_dispatch(), epsilon))
}

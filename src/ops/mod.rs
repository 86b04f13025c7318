//! Operations with kernels of their own (`kernels`), most of them on the CPU; elsewhere the composed version of burn's operations runs.
//!
//! One trait, [`Operations`], dispatches on the device at run time. Its default bodies are the composed versions (`reference`), which
//! every test compares the kernels with. On cubecl devices (wgpu, CUDA) fusion sees through the inherited ones, and waits for those
//! with a kernel.

#![cfg_attr(
    not(any(feature = "cpu", feature = "gpu")),
    allow(
        unused_variables,
        reason = "a build without any backend has nothing to dispatch to"
    )
)]

mod convolution;
mod fallback;
mod graph;
mod kept;
mod linear;
mod memory;
mod normed;
pub mod quarantine;
mod reference;
mod route;
mod sum;
mod workers;

#[cfg(feature = "gpu")]
mod cube;
#[cfg(feature = "cpu")]
mod flex;
#[cfg(all(test, feature = "cpu"))]
mod tests;
#[cfg(all(test, feature = "cpu"))]
mod threads;

use burn::backend::ops::ConvOptions;
use burn::backend::tensor::{FloatTensor, QuantizedTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::module::Param;
use burn::nn::conv::Conv2d;
use burn::nn::{GroupNorm, PaddingConfig2d};
use burn::tensor::{DType, Tensor};

pub use crate::kernels::{ExecutedMacs, Gelu, Grouping};
pub use convolution::{conv2d_enlarged, enlarged, join_channels, to_map, to_tokens};
use convolution::{is_quantised, parameters};
#[cfg(feature = "cpu")]
pub(crate) use flex::{halves, in_bytes, narrow, packed, paired};
pub(crate) use graph::{Graph, copied, overwrite};
pub use kept::multiplies_in_8_bits;
pub use linear::{geglu, gelu, linear, linear_geglu};
#[cfg(feature = "serve")]
pub(crate) use memory::give_back;
pub use memory::{Reuse, executed_macs, kept_bytes};
pub(crate) use memory::{let_go, trim};
pub use normed::{group_norm_silu_conv2d, group_norm_silu_conv2d_onto};
use quarantine::Kernel;
use route::{Abilities, AttentionShape};
pub use route::{AttentionPath, Precision};
pub use sum::add;
pub(crate) use workers::Caller;

/// What a backend may bring kernels for.
#[backend_extension(Cube: cfg(feature = "gpu"), Flex: cfg(feature = "cpu"), Fusion: cfg(feature = "gpu"))]
pub trait Operations: Backend {
    /// `softmax(q kᵀ / √head_width) v`, all `[rows, heads, tokens, head_width]`.
    #[fusion(default)]
    fn scaled_dot_product(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        path: AttentionPath,
    ) -> FloatTensor<Self> {
        reference::attention::<Self>(query, key, value, path)
    }

    /// Convolution of `[rows, in, height, width]` under `weight`, `[out, in, height, width]`, plus `bias`, `[out]`.
    #[fusion(default)]
    fn convolved(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        Self::conv2d(input, weight, Some(bias), options)
    }

    /// [`convolved`](Self::convolved), by a kernel of 3x3 that keeps the sides, of the map with both sides doubled by repeating every
    /// position.
    #[fusion(default)]
    fn convolved_doubled(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        reference::convolved_doubled::<Self>(input, weight, bias)
    }

    /// [`convolved`](Self::convolved), by a kernel of 3x3 that keeps the sides, of the input after [group
    /// normalisation](Self::group_normalised) and `SiLU`.
    #[fusion(default)]
    fn normed_convolved(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: Grouping,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        reference::normed_convolved::<Self>(input, scale, shift, norm, weight, bias)
    }

    /// [`normed_convolved`](Self::normed_convolved), added to `onto`.
    #[fusion(default)]
    fn normed_convolved_onto(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: Grouping,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        onto: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let convolved = Self::normed_convolved(input, scale, shift, norm, weight, bias);
        Self::float_add(onto, convolved)
    }

    /// [`convolved`](Self::convolved) by a weight in 8 bits.
    #[fusion(default)]
    fn convolved_quantised(
        input: FloatTensor<Self>,
        weight: QuantizedTensor<Self>,
        bias: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        let weight = reference::dequantised::<Self>(weight, &input);
        Self::conv2d(input, weight, Some(bias), options)
    }

    /// [`convolved_doubled`](Self::convolved_doubled) by a weight in 8 bits, or for products in 16.
    #[fusion(default)]
    fn convolved_doubled_quantised(
        input: FloatTensor<Self>,
        weight: QuantizedTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let weight = reference::dequantised::<Self>(weight, &input);
        reference::convolved_doubled::<Self>(input, weight, bias)
    }

    /// [`normed_convolved`](Self::normed_convolved) by a weight in 8 bits.
    #[fusion(default)]
    fn normed_convolved_quantised(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: Grouping,
        weight: QuantizedTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let Grouping { groups, epsilon } = norm;
        let normed = Self::group_normalised(input, scale, shift, groups, epsilon, true);
        Self::convolved_quantised(normed, weight, bias, reference::keeping_sides())
    }

    /// [`normed_convolved_quantised`](Self::normed_convolved_quantised), added to `onto`.
    #[fusion(default)]
    fn normed_convolved_quantised_onto(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: Grouping,
        weight: QuantizedTensor<Self>,
        bias: FloatTensor<Self>,
        onto: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let convolved = Self::normed_convolved_quantised(input, scale, shift, norm, weight, bias);
        Self::float_add(onto, convolved)
    }

    /// `[…, in]` times `weight`, `[in, out]`, plus `bias`, `[out]`.
    #[fusion(default)]
    fn projected(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::linear(input, weight, Some(bias))
    }

    /// `[…, in]` times `weight`, `[in, out]`.
    #[fusion(default)]
    fn multiplied(input: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::linear(input, weight, None)
    }

    /// [`projected`](Self::projected) by a weight in 8 bits.
    #[fusion(default)]
    fn projected_quantised(
        input: FloatTensor<Self>,
        weight: QuantizedTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let weight = reference::dequantised::<Self>(weight, &input);
        Self::linear(input, weight, Some(bias))
    }

    /// [`multiplied`](Self::multiplied) by a weight in 8 bits.
    #[fusion(default)]
    fn multiplied_quantised(
        input: FloatTensor<Self>,
        weight: QuantizedTensor<Self>,
    ) -> FloatTensor<Self> {
        let weight = reference::dequantised::<Self>(weight, &input);
        Self::linear(input, weight, None)
    }

    /// GELU of every value.
    #[fusion(default)]
    fn gelu_of(input: FloatTensor<Self>, form: Gelu) -> FloatTensor<Self> {
        reference::gelu::<Self>(input, form)
    }

    /// The first half of `[…, 2 · inner]` times GELU of the second, `[…, inner]`.
    #[fusion(default)]
    fn gated(input: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::gated::<Self>(input)
    }

    /// [`gated`](Self::gated) after [`projected`](Self::projected).
    #[fusion(default)]
    fn projected_gated(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::gated(Self::projected(input, weight, bias))
    }

    /// [`gated`](Self::gated) after [`projected_quantised`](Self::projected_quantised).
    #[fusion(default)]
    fn projected_gated_quantised(
        input: FloatTensor<Self>,
        weight: QuantizedTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::gated(Self::projected_quantised(input, weight, bias))
    }

    /// The sum of two tensors, `right` repeated where its sides are 1.
    #[fusion(default)]
    fn added(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_add(left, right)
    }

    /// `[rows, left, height, width]` and `[rows, right, height, width]` as `[rows, left + right, height, width]`.
    #[fusion(default)]
    fn joined(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::joined::<Self>(left, right)
    }

    /// `[rows, channels, height, width]` as `[rows, height · width, channels]`.
    #[fusion(default)]
    fn as_tokens(map: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::as_tokens::<Self>(map)
    }

    /// `[rows, height · width, channels]` as a map of `size`, `[rows, channels, height, width]`.
    #[fusion(default)]
    fn as_map(tokens: FloatTensor<Self>, size: [usize; 4]) -> FloatTensor<Self> {
        reference::as_map::<Self>(tokens, size)
    }

    /// Group normalisation of `[rows, channels, height, width]`, and `SiLU` after it if `activate` says so.
    #[fusion(dtype = input, shape = input)]
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

    /// `target` with the values of `source`, both of one shape and type: in the memory of `target` itself, whoever else holds it, where
    /// launches can be recorded; else simply `source`.
    #[fusion(dtype = target, shape = target)]
    fn overwritten(target: FloatTensor<Self>, source: FloatTensor<Self>) -> FloatTensor<Self> {
        let _ = target;
        source
    }
}

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
    if precision == Precision::Fused
        && let Some(instead) = fallback::of(Kernel::FusedAttention, &query)
    {
        return fallback::attention(instead, [query, key, value], precision);
    }
    let [_, _, queries, width] = query.dims();
    let shape = AttentionShape {
        queries,
        tokens: key.dims()[2],
        width,
    };
    let abilities = Abilities::of(&query.device());
    let path = AttentionPath::new(shape, query.dtype(), precision, abilities);
    attention_along(query, key, value, path)
}

/// [`attention`] along a path that the caller has chosen.
pub(crate) fn attention_along(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    path: AttentionPath,
) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::scaled_dot_product(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        path,
    ))
}

/// The type a layer computes in, told from its bias: the weight may be kept in less ([`crate::weights::Storage`]). Without a bias,
/// f32.
pub fn dtype(bias: Option<&Param<Tensor<1>>>) -> DType {
    bias.map_or(DType::F32, |bias| bias.val().dtype())
}

/// `layer` over `input`, `[rows, channels, height, width]`. The kernel is for layers with a fixed padding, as models have.
pub fn conv2d(layer: &Conv2d, input: Tensor<4>) -> Tensor<4> {
    let kernel = match layer.kernel_size {
        [1, 1] => Kernel::PointwiseConvolution,
        _ => Kernel::Convolution,
    };
    if let Some(instead) = fallback::of(kernel, &input) {
        return fallback::conv2d(instead, layer, input);
    }
    let padding = match layer.padding {
        PaddingConfig2d::Valid => [(0, 0), (0, 0)],
        PaddingConfig2d::Explicit(top, left, bottom, right) => [(top, bottom), (left, right)],
        PaddingConfig2d::Same => return fallback::by_burn(layer, input),
    };
    let [weight, bias] = parameters(layer);
    let options =
        ConvOptions::new_with_padding(layer.stride, padding, layer.dilation, layer.groups);
    let convolved = if is_quantised(layer) {
        Dispatch::convolved_quantised
    } else {
        Dispatch::convolved
    };
    Tensor::from_dispatch(convolved(input.into_dispatch(), weight, bias, options))
}

/// `norm` over `input`, `[rows, channels, height, width]`.
pub fn group_norm(norm: &GroupNorm, input: Tensor<4>) -> Tensor<4> {
    group_normalised(norm, input, false)
}

/// `SiLU` after `norm` over `input`, `[rows, channels, height, width]`.
pub fn group_norm_silu(norm: &GroupNorm, input: Tensor<4>) -> Tensor<4> {
    group_normalised(norm, input, true)
}

fn group_normalised(norm: &GroupNorm, input: Tensor<4>, activate: bool) -> Tensor<4> {
    if let Some(instead) = fallback::of(Kernel::GroupNorm, &input) {
        return fallback::group_norm(instead, norm, input, activate);
    }
    let (Some(scale), Some(shift)) = (&norm.gamma, &norm.beta) else {
        return unscaled(norm, input, activate);
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

/// A norm without a learned scale and shift, by burn.
fn unscaled(norm: &GroupNorm, input: Tensor<4>, activate: bool) -> Tensor<4> {
    let normed = norm.forward(input);
    if activate {
        burn::tensor::activation::silu(normed)
    } else {
        normed
    }
}

/// Every token of `[…, width]` to mean 0 and deviation 1, then times `scale` plus `shift`, `[width]` each.
pub fn layer_norm<const D: usize>(
    input: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    if let Some(instead) = fallback::of(Kernel::LayerNorm, &input) {
        return fallback::layer_norm(instead, input, scale, shift, epsilon);
    }
    Tensor::from_dispatch(Dispatch::layer_normalised(
        input.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        epsilon,
    ))
}

/// Every token of `[rows, tokens, width]` to mean 0 and deviation 1, with statistics in f32.
pub fn standardised(input: Tensor<3>, epsilon: f64) -> Tensor<3> {
    if let Some(instead) = fallback::of(Kernel::LayerNorm, &input) {
        return fallback::standardised(instead, input, epsilon);
    }
    Tensor::from_dispatch(Dispatch::standardised(input.into_dispatch(), epsilon))
}

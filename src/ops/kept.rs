//! How weights are kept that burn has no name for: in the shape of the weight, as bytes in an order of their own, under names of burn's
//! schemes that nobody else uses here.

use burn::nn::Linear;
use burn::tensor::DType;
use burn::tensor::quantization::QuantValue;

/// The name of a weight of less than 8 bits ([`packed`](crate::ops::packed)).
#[cfg(feature = "cpu")]
pub(super) const PACKED: QuantValue = QuantValue::Q4S;

/// That of one for products in 8 bits ([`narrow`](crate::ops::narrow)).
pub(super) const NARROW: QuantValue = QuantValue::Q8F;

/// That of one for products of bf16 ([`paired`](crate::ops::paired)).
#[cfg(feature = "cpu")]
pub(super) const PAIRED: QuantValue = QuantValue::E5M2;

/// That of one of a 3x3 convolution whose products are in 16 bits ([`halves`](crate::ops::halves)).
#[cfg(feature = "cpu")]
pub(super) const HALVES: QuantValue = QuantValue::E4M3;

/// Whether weights of this type are kept so.
pub(super) fn is_kept_as(dtype: DType, value: QuantValue) -> bool {
    matches!(dtype, DType::QFloat(scheme) if scheme.value == value)
}

/// Whether a layer's products are in 8 bits.
pub fn multiplies_in_8_bits(layer: &Linear) -> bool {
    is_kept_as(layer.weight.val().dtype(), NARROW)
}

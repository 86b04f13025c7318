//! Named tolerances, relative to the reference's standard deviation. Loosening one needs the measured value.

/// f32 on the CPU against f32 in torch: other summation orders only.
pub(crate) const F32_CPU: f64 = 1e-4;

/// Models that fill masks: the masked picture's latents carry 1e-5 of a standard deviation of rounding, in torch as in ours, and the
/// tiny random networks amplify it (1e-6 on these channels moves a guided prediction by 3.5e-5). torch in f32 is up to 2.7e-4 from
/// torch in f64; measured 1.5e-3.
pub(crate) const FILLED: f64 = 3e-3;

/// The same for the tiny SDXL, which amplifies more: torch in f32 is up to 8.1e-3 from torch in f64; measured 2.1e-2.
pub(crate) const FILLED_XL: f64 = 3e-2;

/// Weights of linear layers in 8 bits against those of the file, by the root of the mean square of a prediction's differences: the weights
/// themselves are off by 0.6 % (in the same sense). Measured 2.4e-3 on `scenes` (4.4e-3 under a strong `LoRA`), 3.0e-3 on
/// `scenes-dit`, 2.8e-5 on `fashion-ddpm`.
pub(crate) const Q8: f64 = 1e-2;

/// f32 on a GPU: other summation orders, and transcendental functions of the driver's precision.
pub(crate) const F32_GPU: f64 = 1e-3;

/// Half precision: about two more digits are lost than in f32.
pub(crate) const F16: f64 = 2e-2;

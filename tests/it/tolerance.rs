//! Named tolerances, relative to the reference's standard deviation. Loosening one needs the measured value.

/// f32 on the CPU against f32 in torch, from the same latents: other summation orders only.
pub(crate) const F32_CPU: f64 = 1e-4;

/// How far a whole run may be off, for each unit of what its case amplifies: the change that a unit relative change of all that goes into
/// it makes in the reference (`tests/fixtures/parity.json`). Two runs of torch itself, on two processors, are off by 1e-6 of it.
pub(crate) const F32_RUN: f64 = 1e-5;

/// Weights of linear layers in 8 bits against those of the file, by the root of the mean square of a prediction's differences: the weights
/// themselves are off by 0.6 % (in the same sense). Measured 2.4e-3 on `scenes` (4.4e-3 under a strong `LoRA`), 3.0e-3 on
/// `scenes-dit`, 2.8e-5 on `fashion-ddpm`.
pub(crate) const Q8: f64 = 1e-2;

/// The same in 4 bits. Measured 1.5e-2 on `scenes`, 5.1e-2 on `scenes-dit`, 4.2e-4 on `fashion-ddpm`.
pub(crate) const Q4: f64 = 1e-1;

/// Products of weights and activations in 8 bits, likewise. Measured 2.6e-3 on `scenes`, 7.2e-3 on `scenes-dit`, 4.7e-4 on `fashion-ddpm`.
pub(crate) const W8A8: f64 = 2e-2;

/// f32 on a GPU: other summation orders, and transcendental functions of the driver's precision.
pub(crate) const F32_GPU: f64 = 1e-3;

/// Half precision: about two more digits are lost than in f32.
pub(crate) const F16: f64 = 2e-2;

/// bf16 on the CPU against f32, likewise, by model: no more than `PyTorch` 2.15 is off by with diffusers 0.42.1 and as random a sample at
/// timestep 500 (of two seeds the smaller; of the `DiT` the root of the mean square of 24 samples of four classes, 6.9e-3 to 9.1e-3).
/// Measured 6.0e-3, 7.7e-3 and 2.8e-3.
pub(crate) const BF16: [(&str, f64); 3] = [
    ("scenes", 6.2e-3),
    ("scenes-dit", 8.07e-3),
    ("fashion-ddpm", 3.0e-3),
];

/// The autoencoder of `scenes` in bf16, likewise: what it decodes normal latents to (seed 0), and encodes that to. No more than `PyTorch`
/// 2.15 is off by in bf16 with the same latents.
pub(crate) const BF16_DECODED: f64 = 8.77e-3;
pub(crate) const BF16_ENCODED: f64 = 4.70e-3;

//! Named tolerances, relative to the reference's standard deviation. Loosening one needs the measured value.

/// f32 on the CPU against f32 in torch: other summation orders only.
pub(crate) const F32_CPU: f64 = 1e-4;

/// f32 on a GPU: other summation orders, and transcendental functions of the driver's precision.
pub(crate) const F32_GPU: f64 = 1e-3;

//! Running checks, and what is made of their results.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

#[cfg(feature = "cpu")]
use burn::tensor::Device;
use burn::tensor::{DType, FloatDType, Tensor};

use super::{Check, Fallback, Kernel, Operands, Quarantine};
use crate::{
    device::OpenDevice,
    ops::quarantine::{self, trial},
};

/// What became of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel is right.
    Right,
    /// The kernel is wrong here or in another case, and this is right in all.
    Replaced(Fallback),
    /// The kernel is wrong here or in another case, and so is all that could take its place.
    Wrong,
}

/// The result of one check.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What was checked.
    pub kernel: Kernel,
    /// Over what.
    pub case: String,
    /// In which type.
    pub dtype: DType,
    /// The largest difference from the processor, in standard deviations of what is right; infinite where something is not a number.
    pub error: f64,
    /// The error that counts as right.
    pub tolerance: f64,
    /// What the device said instead of a result.
    pub failure: Option<String>,
    /// What became of it.
    pub verdict: Verdict,
    /// What the kernel took, making its input, tuning and compiling included.
    pub time: Duration,
}

impl Finding {
    /// Whether the kernel itself was right in this case.
    pub fn is_right(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// All findings about a device.
#[derive(Debug, Clone, Default)]
pub struct Examination {
    /// One a check and data type.
    pub findings: Vec<Finding>,
    /// What the device does without.
    pub quarantine: Quarantine,
    /// What is wrong and cannot be replaced.
    pub wrong: Vec<(Kernel, DType)>,
    pub(super) dtypes: Vec<DType>,
}

/// Runs `checks` in every one of `dtypes`, f32 first, and has this process honour what comes of it; `watch` sees every check as it
/// begins.
///
/// Without the cargo feature `cpu` there is nothing to compare with, and nothing is found.
pub fn examine(
    device: &OpenDevice,
    dtypes: &[FloatDType],
    checks: &[Check],
    mut watch: impl FnMut(&Check),
) -> Examination {
    let mut dtypes: Vec<DType> = dtypes.iter().map(|&dtype| dtype.into()).collect();
    dtypes.sort_by_key(|dtype| *dtype != DType::F32);
    let mut examination = Examination {
        dtypes: dtypes.clone(),
        ..Examination::default()
    };
    quarantine::set(device.device(), Quarantine::default());
    for dtype in dtypes {
        let patient = Patient {
            device,
            dtype,
            tolerance: tolerance(device, dtype),
        };
        for kernel in kernels(checks) {
            let of_kernel = checks.iter().filter(|check| check.kernel == kernel);
            let of_kernel: Vec<_> = of_kernel.collect();
            examination.add(&patient, kernel, &of_kernel, &mut watch);
        }
        // What is wrong in f32 must not stand in for anything.
        quarantine::set(device.device(), examination.quarantine.clone());
    }
    examination
}

impl Examination {
    /// Runs all checks of one kernel, and looks for what can take its place if one is wrong.
    fn add(
        &mut self,
        patient: &Patient<'_>,
        kernel: Kernel,
        checks: &[&Check],
        watch: &mut impl FnMut(&Check),
    ) {
        let mut findings: Vec<_> = checks
            .iter()
            .filter_map(|check| {
                watch(check);
                patient.find(check, None)
            })
            .collect();
        if !findings.iter().all(Finding::is_right) {
            let verdict = patient.replaced(checks);
            match verdict {
                Verdict::Replaced(fallback) => {
                    self.quarantine.insert(kernel, patient.dtype, fallback);
                }
                _ => self.wrong.push((kernel, patient.dtype)),
            }
            for finding in &mut findings {
                finding.verdict = verdict;
            }
        }
        self.findings.append(&mut findings);
    }
}

/// The kernels of `checks`, in their order, each once.
fn kernels(checks: &[Check]) -> Vec<Kernel> {
    let mut kernels = Vec::new();
    for check in checks {
        if !kernels.contains(&check.kernel) {
            kernels.push(check.kernel);
        }
    }
    kernels
}

/// Errors that still count as right, in standard deviations. A wrong kernel is off by whole ones.
fn tolerance(device: &OpenDevice, dtype: DType) -> f64 {
    match dtype {
        // Matrix units take f32 as TF32 or f16: eleven bits.
        DType::F32 if device.info().matrix_units == Some(true) => 1e-2,
        DType::F32 => 1e-3,
        DType::F16 => 2e-2,
        _ => 1.5e-1,
    }
}

/// A device in one data type.
struct Patient<'a> {
    device: &'a OpenDevice,
    dtype: DType,
    tolerance: f64,
}

impl Patient<'_> {
    /// What `check` gives with its kernel, or with what takes its place. Nothing where there is nothing to compare with.
    fn find(&self, check: &Check, fallback: Option<Fallback>) -> Option<Finding> {
        let expected = expected(check, self.dtype)?;
        let start = Instant::now();
        let operands = Operands::on(self.device.device(), self.dtype);
        let found = computed(check, self.dtype, fallback, operands);
        let time = start.elapsed();
        let (error, failure) = match found {
            Ok(found) => (difference(&found, &expected), None),
            Err(reason) => (f64::INFINITY, Some(reason)),
        };
        Some(Finding {
            kernel: check.kernel,
            case: check.case.clone(),
            dtype: self.dtype,
            error,
            tolerance: self.tolerance,
            failure,
            verdict: Verdict::Right,
            time,
        })
    }

    /// The first fallback that is right in all of `checks`.
    fn replaced(&self, checks: &[&Check]) -> Verdict {
        let is_right = |fallback: &&Fallback| {
            let mut findings = checks
                .iter()
                .filter_map(|check| self.find(check, Some(**fallback)));
            findings.all(|finding| finding.is_right())
        };
        let right = Fallback::of(self.dtype).iter().find(is_right);
        right.map_or(Verdict::Wrong, |fallback| Verdict::Replaced(*fallback))
    }
}

/// What plain operations on the processor give over the same numbers, in f32.
#[cfg(feature = "cpu")]
fn expected(check: &Check, dtype: DType) -> Option<Vec<f32>> {
    let operands = Operands::widened(&Device::flex(), dtype);
    computed(check, DType::F32, Some(Fallback::Composed), operands).ok()
}

#[cfg(not(feature = "cpu"))]
fn expected(_check: &Check, _dtype: DType) -> Option<Vec<f32>> {
    None
}

/// The numbers of `check`, or what the device says instead: broken drivers panic.
fn computed(
    check: &Check,
    dtype: DType,
    fallback: Option<Fallback>,
    mut operands: Operands,
) -> Result<Vec<f32>, String> {
    let run = || {
        values(trial(check.kernel, dtype, fallback, || {
            (check.run)(&mut operands)
        }))
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(text.unwrap_or("the driver failed without a message").into())
    })
}

fn values(tensor: Tensor<1>) -> Result<Vec<f32>, String> {
    let data = tensor.try_into_data().map_err(|error| error.to_string())?;
    Ok(data.iter::<f32>().collect())
}

/// The largest difference in standard deviations of `expected`.
fn difference(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() || !found.iter().all(|value| value.is_finite()) {
        return f64::INFINITY;
    }
    let count = expected.len() as f64;
    let wide = || expected.iter().map(|&value| f64::from(value));
    let mean = wide().sum::<f64>() / count;
    let deviation = (wide().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    let differences = found
        .iter()
        .zip(expected)
        .map(|(a, b)| f64::from((a - b).abs()));
    differences.fold(0.0, f64::max) / deviation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_in_deviations() {
        let expected = [1.0, -1.0, 1.0, -1.0];
        assert_eq!(difference(&expected, &expected), 0.0);
        assert_eq!(difference(&[1.0, -1.0, 1.5, -1.0], &expected), 0.5);
        assert_eq!(
            difference(&[f32::NAN, 0.0, 0.0, 0.0], &expected),
            f64::INFINITY
        );
        assert_eq!(difference(&[1.0], &expected), f64::INFINITY);
    }
}

//! Which kernels a device computes wrongly.
//!
//! GPU kernels are chosen and compiled on the machine they run on, and drivers differ: the same operation may be right on one and wrong
//! on the next. [`examine`] runs every kernel over the shapes that models have and compares it with plain operations on the processor
//! in f32. What is wrong and has a [`Fallback`] that is right goes into a [`Quarantine`], which [`crate::ops`] honours from then on;
//! [`Records`] keeps it for later processes.
//!
//! ```no_run
//! # fn main() -> Result<(), afterimage::Error> {
//! use afterimage::{device, doctor};
//!
//! let device = device::open("auto".parse()?)?;
//! let dtypes = doctor::dtypes(device.dtype(None)?);
//! let records = doctor::Records::at("/var/cache/my-program");
//! match records.read(&device) {
//!     Some(record) if record.covers(&dtypes) => record.honour(&device),
//!     _ => {
//!         let checks = doctor::checks(&device, &[]);
//!         let examination = doctor::examine(&device, &dtypes, &checks, |_| {});
//!         records.write(&device, &examination.record(&device))?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod checks;
mod examination;
mod record;

use std::fmt;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

pub use crate::ops::quarantine::{Fallback, Kernel, Quarantine};
#[cfg(feature = "cli")]
pub(crate) use checks::left_out;
pub use checks::{Models, checks};
pub use examination::{Examination, Finding, Verdict, examine};
pub use record::{Record, Records, Turn};

use crate::rng::TorchRng;

/// The types that a run in `dtype` computes in: f32 is in every one, for text encoders and decoders.
pub fn dtypes(dtype: FloatDType) -> Vec<FloatDType> {
    let mut dtypes = vec![FloatDType::F32];
    dtypes.extend(Some(dtype).filter(|dtype| *dtype != FloatDType::F32));
    dtypes
}

/// Seeds the numbers of every check.
const SEED: u64 = 40;

/// What a check computes with: a device, a data type, and numbers that are the same everywhere.
#[derive(Debug)]
pub struct Operands {
    device: Device,
    /// What the numbers are rounded to.
    rounded: DType,
    /// What they come in.
    dtype: DType,
    numbers: TorchRng,
}

impl Operands {
    /// Numbers of `dtype` on `device`.
    fn on(device: &Device, dtype: DType) -> Self {
        Self {
            device: device.clone(),
            rounded: dtype,
            dtype,
            numbers: TorchRng::new(SEED),
        }
    }

    /// The same numbers in f32.
    #[cfg(feature = "cpu")]
    fn widened(device: &Device, dtype: DType) -> Self {
        Self {
            dtype: DType::F32,
            ..Self::on(device, dtype)
        }
    }

    /// Where the check computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What the check computes in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The next normally distributed numbers, times `deviation`.
    pub fn normal<const D: usize>(&mut self, shape: [usize; D], deviation: f32) -> Tensor<D> {
        let mut values = self.numbers.normal(shape.iter().product());
        for value in &mut values {
            *value *= deviation;
        }
        // Rounded here: drivers round in ways of their own.
        let data = TensorData::new(values, shape).convert_dtype(self.rounded);
        Tensor::from_data(data.convert_dtype(self.dtype), (&self.device, self.dtype))
    }
}

/// A kernel over one shape.
pub struct Check {
    kernel: Kernel,
    case: String,
    run: Box<dyn Fn(&mut Operands) -> Tensor<1> + Send + Sync>,
}

impl Check {
    /// `run` computes `kernel` over numbers that it takes from the operands; `case` tells its shape in a table.
    ///
    /// The processor runs it too, with every kernel replaced by plain operations, to have what is right.
    pub fn new<const D: usize>(
        kernel: Kernel,
        case: impl Into<String>,
        run: impl Fn(&mut Operands) -> Tensor<D> + Send + Sync + 'static,
    ) -> Self {
        let flat = move |operands: &mut Operands| {
            let output = run(operands);
            let count = output.shape().num_elements();
            output.reshape([count])
        };
        Self {
            kernel,
            case: case.into(),
            run: Box::new(flat),
        }
    }

    /// What it checks.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Over what.
    pub fn case(&self) -> &str {
        &self.case
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Check({}: {})", self.kernel, self.case)
    }
}

//! What a device computes wrongly: looked up before a run, and found out before a GPU's first one.

use burn::tensor::FloatDType;

use super::listener::Listener;
use crate::{
    device::{Backend, DeviceClass, OpenDevice},
    doctor::{self, Check, Examination, Kernel, Record, Records},
};

/// Has the process honour what is known of `device`, and checks a GPU of which nothing is known unless `skip`.
pub(super) fn look_at(
    device: &OpenDevice,
    dtype: FloatDType,
    skip: bool,
    listener: &mut dyn Listener,
) {
    let dtypes = doctor::dtypes(dtype);
    let mut record = Records::of_user().and_then(|records| records.read(device));
    let is_known = record.as_ref().is_some_and(|record| record.covers(&dtypes));
    let is_gpu = device.info().class != DeviceClass::Processor;
    if is_gpu && !is_known && !skip && Backend::Cpu.is_built() {
        listener.note("checking the kernels (first run on this device)");
        let checks = doctor::checks(device, &[]);
        let examination = examine(device, &dtypes, &checks, listener);
        record = Some(keep(device, &examination, listener));
    }
    let Some(record) = record else { return };
    record.honour(device);
    for (kernel, dtype) in record.wrong() {
        let kernel = named(kernel, dtype);
        listener.warn(&format!(
            "{kernel} computed wrongly on {device} and nothing can take the place\nhint: use `--device cpu`, or see `afterimage doctor`"
        ));
    }
}

/// Runs `checks`, the listener being told of each.
pub(crate) fn examine(
    device: &OpenDevice,
    dtypes: &[FloatDType],
    checks: &[Check],
    listener: &mut dyn Listener,
) -> Examination {
    let total = checks.len() * dtypes.len();
    doctor::examine(device, dtypes, checks, |check| listener.check(check, total))
}

/// Keeps the findings for later processes, beside those about other data types, and has this one honour them all.
pub(crate) fn keep(
    device: &OpenDevice,
    examination: &Examination,
    listener: &mut dyn Listener,
) -> Record {
    let mut record = examination.record(device);
    if let Some(records) = Records::of_user() {
        let _turn = records.turn();
        record = record.with(records.read(device));
        if let Err(error) = records.write(device, &record) {
            listener.warn(&format!("kernels will be checked again: {error}"));
        }
    } else {
        listener.warn("kernels will be checked again: the system names no cache directory");
    }
    record.honour(device);
    record
}

/// `fused attention in f16`
pub(crate) fn named(kernel: Kernel, dtype: &str) -> String {
    format!("{kernel} in {dtype}")
}

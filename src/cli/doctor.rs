//! `afterimage doctor`: which kernels a device computes wrongly.

use std::path::PathBuf;

use burn::tensor::DType;
use serde::Serialize;

use super::{args, console, job, progress::Preparation};
use crate::{
    catalog::Overrides,
    device::{self, Backend, OpenDevice},
    doctor::{self, Examination, Fallback, Finding, Kernel, Records, Verdict},
    engine::{examine, keep, named},
    error::{DeviceError, Error},
};

pub(super) fn run(arguments: &args::Doctor) -> Result<(), Error> {
    let models = match &arguments.model {
        Some(name) => job::configs(Some(name), Overrides::default())?
            .config
            .examined_as(),
        None => Vec::new(),
    };
    Backend::Cpu.require()?;
    let device = device::open(arguments.place.device)?;
    let dtypes = doctor::dtypes(device.dtype(arguments.place.dtype)?);
    let checks = doctor::checks(&device, &models);
    let examination = examine(&device, &dtypes, &checks, &mut Preparation::new());
    if models.is_empty() {
        keep(&device, &examination, &mut Preparation::new());
    }
    let report = Report::new(&device, &examination);
    if arguments.form.json {
        console::json(&report)?;
    } else {
        console::data(&report.text(&device, &examination))?;
    }
    let wrong = examination.wrong.iter();
    let wrong: Vec<_> = wrong
        .map(|&(kernel, dtype)| named(kernel, dtype.name()))
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(DeviceError::Unsound {
        device: device.info().selector.clone(),
        kernels: format!("{} computed wrongly", wrong.join(", ")),
    }
    .into())
}

#[derive(Serialize)]
struct Report {
    device: String,
    runtime: &'static str,
    driver: Option<String>,
    findings: Vec<Line>,
    quarantined: Vec<Replaced>,
    healthy: bool,
    /// Checks of models that a software rasteriser has no time for.
    left_out: usize,
    /// Where the list is kept.
    list: Option<PathBuf>,
}

#[derive(Serialize)]
struct Line {
    kernel: Kernel,
    case: String,
    dtype: &'static str,
    /// In standard deviations; `null` where there is no number.
    error: Option<f64>,
    tolerance: f64,
    right: bool,
    failure: Option<String>,
    seconds: f64,
}

#[derive(Serialize)]
struct Replaced {
    kernel: Kernel,
    dtype: &'static str,
    fallback: Fallback,
}

impl Line {
    fn new(finding: &Finding) -> Self {
        Self {
            kernel: finding.kernel,
            case: finding.case.clone(),
            dtype: finding.dtype.name(),
            error: Some(finding.error).filter(|error| error.is_finite()),
            tolerance: finding.tolerance,
            right: finding.is_right(),
            failure: finding.failure.clone(),
            seconds: finding.time.as_secs_f64(),
        }
    }
}

impl Report {
    fn new(device: &OpenDevice, examination: &Examination) -> Self {
        let info = device.info();
        let replaced = |&(kernel, dtype, fallback): &(Kernel, DType, Fallback)| Replaced {
            kernel,
            dtype: dtype.name(),
            fallback,
        };
        Self {
            device: device.to_string(),
            runtime: info.runtime,
            driver: info.driver.clone(),
            findings: examination.findings.iter().map(Line::new).collect(),
            quarantined: examination
                .quarantine
                .entries()
                .iter()
                .map(replaced)
                .collect(),
            healthy: examination.wrong.is_empty(),
            left_out: doctor::left_out(device),
            list: Records::of_user().map(|records| records.path(device)),
        }
    }

    fn text(&self, device: &OpenDevice, examination: &Examination) -> String {
        let head = [
            "KERNEL", "CASE", "TYPE", "ERROR", "ALLOWED", "VERDICT", "TIME",
        ];
        let mut rows = vec![head.map(String::from).to_vec()];
        rows.extend(examination.findings.iter().map(row));
        let mut lines = vec![console::table(&rows, &[3, 4, 6]), String::new()];
        for finding in &examination.findings {
            if let Some(failure) = &finding.failure {
                let kernel = named(finding.kernel, finding.dtype.name());
                lines.push(format!("{kernel}, {}: {failure}", finding.case));
            }
        }
        if self.left_out > 0 {
            lines.push(format!(
                "left out: {} shapes of models, for which a software rasteriser takes hours",
                self.left_out
            ));
        }
        let driver = self
            .driver
            .as_ref()
            .map(|driver| format!(", driver {driver}"));
        let driver = driver.unwrap_or_default();
        lines.push(format!("device: {device}, {}{driver}", self.runtime));
        lines.join("\n")
    }
}

fn row(finding: &Finding) -> Vec<String> {
    vec![
        finding.kernel.to_string(),
        finding.case.clone(),
        finding.dtype.name().into(),
        format!("{:.1e}", finding.error),
        format!("{:.0e}", finding.tolerance),
        verdict(finding),
        format!("{:.2} s", finding.time.as_secs_f64()),
    ]
}

/// What is wrong in one case is replaced in all.
fn verdict(finding: &Finding) -> String {
    let own = if finding.is_right() { "right" } else { "wrong" };
    match finding.verdict {
        Verdict::Right | Verdict::Wrong => own.into(),
        Verdict::Replaced(fallback) => format!("{own}, {fallback} instead"),
    }
}

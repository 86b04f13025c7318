//! `afterimage devices`: what there is, and what `auto` takes.

use super::console;
use crate::{
    device::{self, Backend, DeviceInfo},
    error::Error,
};

const HEAD: [&str; 8] = [
    "DEVICE",
    "NAME",
    "KIND",
    "RUNTIME",
    "MEMORY",
    "TYPES",
    "SUBGROUPS",
    "MATRIX UNITS",
];

pub(super) fn run() -> Result<(), Error> {
    let mut rows = vec![HEAD.map(String::from).to_vec()];
    for device in device::list() {
        match device {
            Ok(info) => rows.push(row(&info)),
            Err(error) => console::warning(&error.to_string()),
        }
    }
    console::data(&console::table(&rows, &[4]))?;
    console::data("")?;
    for backend in [Backend::Cpu, Backend::Wgpu, Backend::Cuda] {
        if !backend.is_built() {
            let feature = backend.feature();
            console::data(&format!(
                "{backend}: not in this build (cargo feature `{feature}`)"
            ))?;
        }
    }
    let (auto, reason) = device::automatic()?;
    console::data(&format!("auto: {} ({reason})", auto.selector))?;
    Ok(())
}

fn row(info: &DeviceInfo) -> Vec<String> {
    let dtypes: Vec<_> = info.dtypes.iter().map(|dtype| dtype.name()).collect();
    vec![
        info.selector.clone(),
        info.name.clone(),
        info.class.name().into(),
        info.runtime.into(),
        info.memory.map_or("unknown".into(), console::bytes),
        dtypes.join(" "),
        subgroups(info),
        yes_or_no(info.matrix_units).into(),
    ]
}

fn subgroups(info: &DeviceInfo) -> String {
    match (info.subgroups, info.subgroup_size) {
        (Some(true), Some((smallest, largest))) if smallest == largest => {
            format!("yes, {smallest} lanes")
        }
        (Some(true), Some((smallest, largest))) => format!("yes, {smallest} to {largest} lanes"),
        (known, _) => yes_or_no(known).into(),
    }
}

fn yes_or_no(known: Option<bool>) -> &'static str {
    match known {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    }
}

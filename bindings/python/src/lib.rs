//! Afterimage as a Python module: what `afterimage/__init__.py` is written over.
//!
//! Requests are recipes as JSON, which the Python side writes. The interpreter's lock is released while the engine works, and taken again for
//! callbacks and to look for signals once a model call: Ctrl-C ends a run with `KeyboardInterrupt`.

mod engine;
mod errors;
mod evaluation;
mod finished;
mod watch;

use afterimage::{device, pipeline::Recipe};
use pyo3::prelude::*;

use crate::{errors::raised, watch::Told};

/// What a recipe would do, as JSON; weights are not read.
#[pyfunction]
fn plan(py: Python<'_>, recipe: &str, warn: Option<Py<PyAny>>) -> PyResult<String> {
    let recipe = Recipe::from_json(recipe).map_err(|error| raised(&error))?;
    let mut told = Told::new(warn);
    let plan = py.detach(|| afterimage::engine::plan(&recipe, &mut told));
    told.settle(plan)
}

/// Raises what is wrong with a recipe's JSON, whatever it would be run on.
#[pyfunction]
fn check(recipe: &str) -> PyResult<()> {
    let read = Recipe::from_json(recipe);
    read.map(drop).map_err(|error| raised(&error))
}

/// The devices that this build reaches and that start: how they are picked, and what they are called.
#[pyfunction]
fn devices(py: Python<'_>) -> Vec<(String, String)> {
    let found = py.detach(device::list);
    let started = found.into_iter().flatten();
    started.map(|info| (info.selector, info.name)).collect()
}

#[pymodule]
fn _afterimage(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<evaluation::Evaluation>()?;
    module.add_class::<finished::Finished>()?;
    module.add_function(wrap_pyfunction!(plan, module)?)?;
    module.add_function(wrap_pyfunction!(check, module)?)?;
    module.add_function(wrap_pyfunction!(devices, module)?)?;
    module.add_function(wrap_pyfunction!(evaluation::measured, module)?)?;
    errors::add(module)
}

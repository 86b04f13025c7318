//! A model in memory.

use afterimage::{
    device::DeviceChoice,
    engine::{Cancel, Engine as Held, EngineOptions},
    pipeline::Recipe,
};
use pyo3::prelude::*;

use crate::{
    errors::raised,
    finished::Finished,
    watch::{Told, Watch},
};

/// A model in memory. Runs of several threads wait for each other.
#[pyclass(frozen, module = "afterimage._afterimage")]
pub(crate) struct Engine(Held);

#[pymethods]
impl Engine {
    /// Opens a model; of `recipe` (JSON) only what it says of model, adapters, data type and weights is read.
    #[new]
    #[pyo3(signature = (recipe, device, warn = None))]
    fn open(py: Python<'_>, recipe: &str, device: &str, warn: Option<Py<PyAny>>) -> PyResult<Self> {
        let device: DeviceChoice = device.parse().map_err(|error| raised(&error))?;
        let options = EngineOptions {
            recipe: Recipe::from_json(recipe).map_err(|error| raised(&error))?,
            device,
            ..EngineOptions::default()
        };
        let mut told = Told::new(warn);
        let engine = py.detach(|| Held::open(&options, &mut told));
        told.settle(engine).map(Self)
    }

    /// The name that the model was opened by.
    #[getter]
    fn model(&self) -> &str {
        self.0.model()
    }

    /// Where it computes.
    #[getter]
    fn device(&self) -> String {
        self.0.device().to_string()
    }

    /// Runs a recipe (JSON).
    #[pyo3(signature = (recipe, progress = None, preview = None, preview_every = 5, warn = None))]
    fn run(
        &self,
        py: Python<'_>,
        recipe: &str,
        progress: Option<Py<PyAny>>,
        preview: Option<Py<PyAny>>,
        preview_every: usize,
        warn: Option<Py<PyAny>>,
    ) -> PyResult<Finished> {
        let recipe = Recipe::from_json(recipe).map_err(|error| raised(&error))?;
        let mut watch = Watch {
            told: Told::new(warn),
            progress,
            preview,
            preview_every: preview_every.max(1),
        };
        let made = py.detach(|| {
            let made = self.0.run(&recipe, &Cancel::default(), &mut watch)?;
            Finished::of(made)
        });
        watch.told.settle(made)
    }
}

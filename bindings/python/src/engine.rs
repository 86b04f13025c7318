//! A model in memory.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use afterimage::{
    Error,
    cache::CacheRule,
    device::DeviceChoice,
    engine::{Cancel, Engine as Held, EngineOptions, Watched},
    image_io::{check_writable, write_atomically},
    pipeline::{Effort, Recipe},
};
use pyo3::prelude::*;

use crate::{
    errors::raised,
    finished::Finished,
    watch::{Told, Watch},
};

/// A model in memory. Runs of several threads wait for each other.
#[pyclass(frozen, module = "afterimage._afterimage")]
pub(crate) struct Engine(pub(crate) Arc<Held>);

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
        told.settle(engine).map(|engine| Self(Arc::new(engine)))
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
    #[pyo3(signature = (recipe, progress = None, preview = None, preview_every = 5, preview_decoded = false, warn = None))]
    #[expect(clippy::too_many_arguments, reason = "they are named in Python")]
    fn run(
        &self,
        py: Python<'_>,
        recipe: &str,
        progress: Option<Py<PyAny>>,
        preview: Option<Py<PyAny>>,
        preview_every: usize,
        preview_decoded: bool,
        warn: Option<Py<PyAny>>,
    ) -> PyResult<Finished> {
        let recipe = Recipe::from_json(recipe).map_err(|error| raised(&error))?;
        let mut watch = Watch {
            preview,
            preview_every: preview_every.max(1),
            preview_decoded,
            ..Watch::new(progress, warn)
        };
        let made = py.detach(|| {
            let made = self.0.run(&recipe, &Cancel::default(), &mut watch)?;
            Finished::of(made)
        });
        watch.told.settle(made)
    }
    /// Calibrates a plan for `rules`, or a router where there is none, writes it to `output`, and gives a plan as JSON.
    #[pyo3(signature = (recipe, rules, prompts, seeds, gap, quick, output, progress = None, warn = None))]
    #[expect(
        clippy::needless_pass_by_value,
        clippy::too_many_arguments,
        reason = "arguments from Python are owned, and named there"
    )]
    fn calibrate(
        &self,
        py: Python<'_>,
        recipe: &str,
        rules: Vec<String>,
        prompts: Vec<String>,
        seeds: Vec<u64>,
        gap: usize,
        quick: bool,
        output: PathBuf,
        progress: Option<Py<PyAny>>,
        warn: Option<Py<PyAny>>,
    ) -> PyResult<Option<String>> {
        let watched = Watched {
            recipe: Recipe::from_json(recipe).map_err(|error| raised(&error))?,
            prompts,
            seeds,
            effort: if quick {
                Effort::Quick
            } else {
                Effort::Thorough
            },
        };
        let mut watch = Watch::new(progress, warn);
        let plan = py.detach(|| self.calibrated(&watched, (&rules, gap), &output, &mut watch));
        watch.told.settle(plan)
    }
}

impl Engine {
    fn calibrated(
        &self,
        watched: &Watched,
        (rules, gap): (&[String], usize),
        output: &Path,
        watch: &mut Watch,
    ) -> Result<Option<String>, Error> {
        check_writable(output, "the calibration")?;
        let cancel = Cancel::default();
        if rules.is_empty() {
            let router = self.0.calibrate_router(watched, &cancel, watch)?;
            write_atomically(output, "the router", |file| router.write(file))?;
            return Ok(None);
        }
        let rules = rules.iter().map(|rule| rule.parse::<CacheRule>());
        let rules = rules.collect::<Result<_, _>>()?;
        let plan = self.0.calibrate(watched, (rules, gap), &cancel, watch)?;
        let json = plan.to_json();
        write_atomically(output, "the plan", |file| writeln!(file, "{json}"))?;
        Ok(Some(json))
    }
}

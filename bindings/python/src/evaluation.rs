//! Evaluations.

use std::path::PathBuf;

use afterimage::{
    Error,
    cache::CacheRule,
    device::{self, DeviceChoice},
    evaluation::{Evaluator, Instruments, Joined, Measures, Peers, Sampling, Shard, measure},
    pipeline::Recipe,
};
use pyo3::prelude::*;

use crate::{engine::Engine, errors::raised, watch::Watch};

/// An evaluation on a model in memory. Any number of processes may make parts of it.
#[pyclass(frozen, module = "afterimage._afterimage")]
pub(crate) struct Evaluation(Evaluator);

#[pymethods]
impl Evaluation {
    /// Plans one; `recipe` (JSON) describes the plain run, and its batch how many pictures are made together.
    #[new]
    #[pyo3(signature = (engine, recipe, rules, samples, seed, prompts = None, peers = Vec::new(), converged = None))]
    #[expect(
        clippy::needless_pass_by_value,
        clippy::too_many_arguments,
        reason = "arguments from Python are owned, and named there"
    )]
    fn plan(
        py: Python<'_>,
        engine: &Engine,
        recipe: &str,
        rules: Vec<String>,
        samples: usize,
        seed: u64,
        prompts: Option<Vec<String>>,
        peers: Vec<String>,
        converged: Option<usize>,
    ) -> PyResult<Self> {
        let plan = || {
            let rules = rules.iter().map(|rule| rule.parse::<CacheRule>());
            let peers = peers.iter().map(|sampler| sampler.parse());
            let sampling = Sampling {
                recipe: Recipe::from_json(recipe)?,
                rules: rules.collect::<Result<_, _>>()?,
                peers: Peers {
                    samplers: peers.collect::<Result<_, _>>()?,
                    converged,
                },
                samples,
                seed,
                prompts,
            };
            Evaluator::new(engine.0.clone(), &sampling)
        };
        py.detach(plan).map(Self).map_err(|error| raised(&error))
    }

    /// Batches in all.
    #[getter]
    fn batches(&self) -> usize {
        self.0.study().batches()
    }

    /// Makes those batches of a shard, as in `1/4`, that `folder` does not have; gives how many it has then, and how many the shard has.
    #[pyo3(signature = (folder, shard, progress = None, warn = None))]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "arguments from Python are owned"
    )]
    fn fill(
        &self,
        py: Python<'_>,
        folder: PathBuf,
        shard: &str,
        progress: Option<Py<PyAny>>,
        warn: Option<Py<PyAny>>,
    ) -> PyResult<(usize, usize)> {
        let shard: Shard = shard.parse().map_err(|error| raised(&error))?;
        let mut watch = Watch::new(progress, warn);
        let tally = py.detach(|| self.0.fill(&folder, shard, &mut watch, |_| {}));
        let tally = watch.told.settle(tally)?;
        Ok((tally.done, tally.total))
    }
}

/// Measures what the folders of all shards hold together, writes `results.json` into `output`, and gives it.
#[pyfunction]
#[pyo3(signature = (folders, output, device, lpips = None, classifier = None, data = None, shapes = false, clip = None))]
#[expect(
    clippy::needless_pass_by_value,
    clippy::too_many_arguments,
    reason = "arguments from Python are owned, and named there"
)]
pub(crate) fn measured(
    py: Python<'_>,
    folders: Vec<PathBuf>,
    output: PathBuf,
    device: &str,
    lpips: Option<PathBuf>,
    classifier: Option<PathBuf>,
    data: Option<PathBuf>,
    shapes: bool,
    clip: Option<PathBuf>,
) -> PyResult<String> {
    let measures = Measures {
        lpips,
        classifier,
        data,
        shapes,
        clip,
    };
    let mut interrupted = None;
    let mut go_on = || {
        let heard = Python::attach(|py| {
            py.check_signals()?;
            Ok(())
        });
        heard.map_err(|signal| {
            interrupted = Some(signal);
            Error::cancelled()
        })
    };
    let work = || {
        let joined = Joined::open(&folders)?;
        let device: DeviceChoice = device.parse()?;
        let device = device::open(device)?;
        let instruments = Instruments::load(&measures, device.device(), &mut go_on)?;
        let results = measure(&joined, &instruments, |_, _| {})?;
        results.write(&output)?;
        Ok(results.to_json())
    };
    let results = py.detach(work);
    match interrupted {
        Some(signal) => Err(signal),
        None => results.map_err(|error: Error| raised(&error)),
    }
}

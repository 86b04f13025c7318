//! An evaluation on a model in memory.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    run::{PipelineMaker, Tally, fill},
    sampling::Sampling,
    store::Store,
    study::{Shard, Study},
};
use crate::{
    denoise::Observer,
    engine::{Engine, Lent},
    error::Error,
    pipeline::Request,
};

/// Makes an evaluation on the model of an [`Engine`], which any number of processes may share: each makes other batches of it, into one folder or into
/// several.
#[derive(Debug)]
pub struct Evaluator {
    engine: Arc<Engine>,
    lent: Lent,
    request: Request,
    study: Study,
    /// Whether pictures were made: kernels are compiled and tuned by the first.
    warm: AtomicBool,
}

impl Evaluator {
    /// Plans an evaluation; nothing is made yet.
    ///
    /// # Errors
    ///
    /// If what is asked for does not fit the model or the memory.
    pub fn new(engine: Arc<Engine>, sampling: &Sampling) -> Result<Self, Error> {
        let lent = engine.lent(sampling.recipe.clone())?;
        let config = &lent.model.config;
        let request = sampling.request(&lent.model)?;
        let resolved = request.resolve(config)?;
        lent.machine.check_memory(config, &request, &resolved)?;
        let study = sampling.study((&lent.model, &lent.machine), (&request, &resolved))?;
        Ok(Self {
            engine,
            lent,
            request,
            study,
            warm: AtomicBool::new(false),
        })
    }

    /// What is evaluated.
    pub fn study(&self) -> &Study {
        &self.study
    }

    /// Makes the batches of a shard that are not in `folder` yet, as [`fill`] does.
    ///
    /// # Errors
    ///
    /// If the folder holds another evaluation or cannot be written, the observer ends it, or the device fails. What was made before stays.
    pub fn fill(
        &self,
        folder: &Path,
        shard: Shard,
        observer: &mut dyn Observer,
        progress: impl FnMut(Tally),
    ) -> Result<Tally, Error> {
        let store = Store::begin(folder, &self.study)?;
        let total = self.study.batches();
        if shard.batches(total).all(|batch| store.has(batch)) {
            let total = shard.batches(total).count();
            return Ok(Tally { done: total, total });
        }
        self.engine.work_on(&self.lent, |pipeline| {
            let mut maker = PipelineMaker {
                pipeline,
                request: self.request.clone(),
                device: self.engine.device().to_string(),
                warm: self.warm.load(Ordering::Relaxed),
                observer,
            };
            let tally = fill(&store, shard, &mut maker, progress)?;
            self.warm.store(true, Ordering::Relaxed);
            Ok(tally)
        })
    }
}

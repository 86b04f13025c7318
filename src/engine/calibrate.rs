//! Calibrations: runs that are watched to find out what may be reused.

use super::{
    cancel::{Cancel, Stoppable},
    held::{Engine, Lent},
};
use crate::{
    cache::{CacheRule, PlanFile, Router},
    denoise::Observer,
    error::{Error, EvaluationError, RequestError},
    pipeline::{
        Calibration, Effort, ModelConfig, Recipe, RecipePictures, Request, Seeds, SourceConfig,
        Subject,
    },
};

/// The runs that a calibration watches.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// Steps, size, sampler, guidance, classes, and how many pictures are made together. Its prompts, seeds and rule are not looked at.
    pub recipe: Recipe,
    /// What the pictures show, for models that read texts: they go round the seeds.
    pub prompts: Vec<String>,
    /// One a picture.
    pub seeds: Vec<u64>,
    /// How much is measured for a plan.
    pub effort: Effort,
}

impl Engine {
    /// A plan for runs such as `watched`: for each of `rules` the best schedule of every number of refreshes, at most `gap` evaluations apart,
    /// what it saves and how close it comes to the plain run. The same runs give the same plan.
    ///
    /// # Errors
    ///
    /// If a rule has no schedules to find, the runs do not fit the model or its memory, it is cancelled, or the device fails.
    pub fn calibrate(
        &self,
        watched: &Watched,
        (rules, gap): (Vec<CacheRule>, usize),
        cancel: &Cancel,
        observer: &mut dyn Observer,
    ) -> Result<PlanFile, Error> {
        let lent = self.lent(watched.recipe.clone())?;
        let requests = watched.requests(&lent.model.config)?;
        check_memory(&lent, requests.first().ok_or(RequestError::NoPictures)?)?;
        let asked = Calibration {
            model: lent.model.folder.weights_hash()?,
            rules,
            requests,
            gap,
            effort: watched.effort,
        };
        let observer = &mut Stoppable { observer, cancel };
        self.work_on(&lent, |pipeline| pipeline.plan(&asked, observer))
    }

    /// A router for Learning-to-Cache, from the first prompt or the classes of `watched` under each of its seeds.
    ///
    /// # Errors
    ///
    /// If the model has no branches to leave out, the runs do not fit it or its memory, it is cancelled, or the device fails.
    pub fn calibrate_router(
        &self,
        watched: &Watched,
        cancel: &Cancel,
        observer: &mut dyn Observer,
    ) -> Result<Router, Error> {
        let lent = self.lent(watched.recipe.clone())?;
        let config = &lent.model.config;
        let prompts: Vec<_> = watched.prompts.first().cloned().into_iter().collect();
        let subject = Subject::named(prompts, watched.recipe.classes.clone(), config);
        let request = Request {
            subject,
            ..plain(&watched.recipe, config)?
        };
        check_memory(&lent, &request)?;
        let observer = &mut Stoppable { observer, cancel };
        let seeds = &watched.seeds;
        self.work_on(&lent, |pipeline| {
            pipeline.calibrate(&request, seeds, observer)
        })
    }
}

/// Refuses runs that do not fit into the device's memory.
fn check_memory(lent: &Lent, request: &Request) -> Result<(), Error> {
    let config = &lent.model.config;
    let resolved = request.resolve(config)?;
    lent.machine.check_memory(config, request, &resolved)
}

/// The run that a recipe describes, without a rule.
fn plain(recipe: &Recipe, config: &ModelConfig) -> Result<Request, Error> {
    let mut recipe = Recipe {
        seed: Some(Seeds::One(0)),
        prompts: Vec::new(),
        ..recipe.clone()
    };
    recipe.reuse(Some(CacheRule::none()));
    recipe.request(config, RecipePictures::default())
}

impl Watched {
    /// A picture a seed, going round what there is to show, so many together.
    pub(crate) fn requests(&self, config: &ModelConfig) -> Result<Vec<Request>, Error> {
        if matches!(config.source, SourceConfig::Picture(_)) {
            return Err(EvaluationError::FilmsOfPictures.into());
        }
        if !self.prompts.is_empty() && !config.reads_text() {
            let condition = "prompts";
            return Err(RequestError::Unconditional { condition }.into());
        }
        let numbered: Vec<(usize, u64)> = self.seeds.iter().copied().enumerate().collect();
        // Quickly, one alone is followed and compared.
        let together = match self.effort {
            Effort::Thorough => numbered.len(),
            Effort::Quick => 1,
        };
        let together = self.recipe.batch.unwrap_or(together).max(1);
        let plain = plain(&self.recipe, config)?;
        let of = |chunk: &[(usize, u64)]| {
            let subject = self.subject(chunk, config);
            let batch = match subject {
                Subject::Nothing => chunk.len(),
                _ => 1,
            };
            Request {
                subject,
                batch,
                seeds: Seeds::Each(chunk.iter().map(|(_, seed)| *seed).collect()),
                ..plain.clone()
            }
        };
        Ok(numbered.chunks(together).map(of).collect())
    }

    /// What the pictures of these numbers show; classes that are not named are spread over all there are.
    fn subject(&self, chunk: &[(usize, u64)], config: &ModelConfig) -> Subject {
        let numbers = chunk.iter().map(|(number, _)| *number);
        let named = &self.recipe.classes;
        let classes = config.classes().map_or(0, |classes| classes.count);
        if config.reads_text() {
            let prompt = |number: usize| {
                let prompt = self.prompts.get(number % self.prompts.len().max(1));
                prompt.cloned().unwrap_or_default()
            };
            return Subject::Prompts(numbers.map(prompt).collect());
        }
        if classes == 0 {
            return Subject::Nothing;
        }
        let label = |number: usize| {
            let spread = number * classes / self.seeds.len();
            let named = named.get(number % named.len().max(1));
            named.copied().unwrap_or(spread)
        };
        Subject::Classes(numbers.map(label).collect())
    }
}

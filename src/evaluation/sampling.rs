//! What is asked of an evaluation, and the study that follows from it for a model.

use std::path::Path;

use super::method::{Method, Peers};
use super::study::{Study, Subjects};
use crate::cache::CacheRule;
use crate::engine::{Machine, Model};
use crate::error::{Error, EvaluationError, RequestError, check_seeds};
use crate::pipeline::{
    Adapters, Recipe, RecipePictures, Request, Resolved, Seeds, SourceConfig, Subject,
};

/// What is asked of an evaluation.
#[derive(Debug, Clone, Default)]
pub struct Sampling {
    /// The plain run: steps, size, sampler, guidance, classes; its batch says how many pictures are made together. Its prompts, seeds and rule
    /// are not looked at.
    pub recipe: Recipe,
    /// What is compared with the plain run.
    pub rules: Vec<CacheRule>,
    /// What rules are compared with, beside fewer steps of their own sampler.
    pub peers: Peers,
    /// Samples; every method makes a picture of each.
    pub samples: usize,
    /// Seed of the first sample; each next has the next.
    pub seed: u64,
    /// What the pictures show; samples go round them. None for models that read no texts.
    pub prompts: Option<Vec<String>>,
}

impl Sampling {
    /// A run of as many pictures as a batch has.
    pub(crate) fn request(&self, model: &Model) -> Result<Request, Error> {
        let config = &model.config;
        if matches!(config.source, SourceConfig::Picture(_)) {
            return Err(EvaluationError::FilmsOfPictures.into());
        }
        check_seeds(self.seed, self.samples)?;
        let classes = match (&config.source, &self.recipe.classes[..]) {
            (SourceConfig::Classes(_), []) => vec![0],
            (_, named) => named.to_vec(),
        };
        let mut recipe = Recipe {
            seed: Some(Seeds::One(self.seed)),
            prompts: Vec::new(),
            ..self.recipe.clone()
        };
        recipe.reuse(Some(CacheRule::none()));
        let mut request = recipe.request(config, RecipePictures::default())?;
        request.subject = Subject::named(Vec::new(), classes, config);
        let batch = request.batch.min(self.samples);
        request.batch = 1;
        match &mut request.subject {
            Subject::Classes(labels) => labels.resize(batch, labels[0]),
            Subject::Prompts(prompts) => prompts.resize(batch, String::new()),
            Subject::Picture { .. } | Subject::Nothing => request.batch = batch,
        }
        Ok(request)
    }

    /// Everything that decides which pictures are made, `request` being a batch of the plain run.
    pub(crate) fn study(
        &self,
        (model, machine): (&Model, &Machine),
        (request, resolved): (&Request, &Resolved),
    ) -> Result<Study, Error> {
        let [height, width] = resolved.size;
        let own = model.config.sampler.name();
        let sampler = request.sampler.map_or(own, |kind| kind.name());
        Ok(Study {
            version: env!("CARGO_PKG_VERSION").into(),
            model: model.folder.name().into(),
            weights: identity(model.folder.weights_hash()?, &model.adapters),
            dtype: machine.arithmetic().to_string(),
            sampler: sampler.into(),
            guidance_scale: resolved.guidance.asked(),
            width,
            height,
            frames: resolved.rows.frames,
            samples: self.samples,
            batch: request.items(),
            seed: self.seed,
            methods: Method::all(request, &self.rules, &self.peers, &model.config)?,
            subjects: self.subjects(model)?,
        })
    }

    /// What the samples show, which is the family's affair.
    fn subjects(&self, model: &Model) -> Result<Subjects, Error> {
        let config = &model.config;
        if let Some(known) = config.classes() {
            let classes = known.count;
            return match self.prompts {
                None => Ok(self.classes(classes, model)),
                Some(_) => Err(RequestError::NoText { classes }.into()),
            };
        }
        match &self.prompts {
            Some(prompts) if config.reads_text() && !prompts.is_empty() => {
                Ok(Subjects::Prompts(prompts.clone()))
            }
            None if config.reads_text() => Ok(Subjects::Prompts(vec![String::new()])),
            Some(prompts) if prompts.is_empty() => Err(RequestError::NoPictures.into()),
            Some(_) => {
                let condition = "prompts";
                Err(RequestError::Unconditional { condition }.into())
            }
            None => Ok(Subjects::Nothing),
        }
    }

    /// The classes named, or all there are, with their names.
    fn classes(&self, count: usize, model: &Model) -> Subjects {
        let named = &self.recipe.classes;
        let labels = if named.is_empty() {
            (0..count).collect()
        } else {
            named.clone()
        };
        let name = |label| model.folder.index().label(label).unwrap_or_default();
        let labels = labels.into_iter();
        Subjects::Classes(
            labels
                .map(|label| (label, name(label).to_owned()))
                .collect(),
        )
    }
}

/// What an evaluation knows the weights by: the model's `hash`, and the adapters by file name, as their folders may lie elsewhere.
fn identity(hash: String, adapters: &Adapters) -> String {
    let file = |path: &str| {
        let name = Path::new(path).file_name();
        name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    };
    let loras = adapters.loras.iter();
    let loras = loras.map(|lora| format!("{}={}", file(lora.origin()), lora.scale()));
    let words = adapters.embeddings.iter();
    let words = words.map(|word| format!("{}={}", word.token(), file(word.origin())));
    let customs = adapters
        .custom_diffusions
        .iter()
        .map(|custom| file(custom.origin()));
    let adapters = loras.chain(words).chain(customs);
    adapters.fold(hash, |text, adapter| format!("{text} + {adapter}"))
}

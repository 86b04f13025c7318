//! From a request to a recipe.

use std::path::Path;

use super::{Recipe, RecipeControl, RecipeFile, RecipeFraming};
use crate::cache::CacheRule;
use crate::models::vae::Tiling;
use crate::pipeline::request::{Control, Request, Subject};

impl Recipe {
    /// The recipe of a request in memory: [`request`](Self::request) makes the same of it again. `nets` are the folders of the
    /// `ControlNets` beside the model, by number. Model, refiner, upscalers and adapters are not the request's, and the caller's to name.
    ///
    /// Contents of files are kept nowhere: pictures are named as the request calls them, which is their file where they were read from
    /// one; masks, latents and small pictures have no name there. What stands for these is no file, which
    /// [`hash_files`](Self::hash_files) says, until the caller names one. A negative framing that is silent where the other is not cannot
    /// be said.
    pub fn of(request: &Request, nets: &[&str]) -> Self {
        let nonzero = |value: f64| (value != 0.0).then_some(value);
        let edit = request.edit.as_ref();
        let added = &request.added;
        let mut recipe = Self {
            prompts: request.subject.prompts().to_vec(),
            negative_prompts: request.negative_prompts.clone(),
            second_prompts: added.second_prompts.clone(),
            second_negative_prompts: added.second_negative_prompts.clone(),
            third_prompts: added.third_prompts.clone(),
            third_negative_prompts: added.third_negative_prompts.clone(),
            classes: request.subject.classes().to_vec(),
            batch: (request.batch != 1).then_some(request.batch),
            seed: Some(request.seeds.clone()),
            steps: request.steps,
            guidance_scale: request.guidance_scale,
            true_guidance_scale: request.true_guidance_scale,
            guidance_rescale: nonzero(request.guidance_rescale),
            guidance_until: request.guidance_until,
            guidance_channels: request.guidance_channels,
            skip_layers: request.skip_layers.clone(),
            clip_skip: (request.clip_skip > 0).then_some(request.clip_skip),
            text_length: request.text_length,
            size: request.size.map(|(width, height)| [width, height]),
            resolution_binning: (!request.resolution_binning).then_some(false),
            sampler: request.sampler,
            eta: nonzero(request.eta),
            film: request.film.clone(),
            framing: RecipeFraming::of(added),
            init_image: start(request),
            noise_level: request.noise_level,
            strength: edit.and_then(|edit| edit.strength),
            mask: edit.and_then(|edit| in_memory(!edit.masks.is_empty(), "a mask in memory")),
            controls: controls(request, nets),
            initial_latents: in_memory(request.initial_latents.is_some(), "latents in memory"),
            tiling: (request.tiling != Tiling::default()).then_some(request.tiling),
            ..Self::default()
        };
        recipe.reuse((request.cache != CacheRule::none()).then(|| request.cache.clone()));
        recipe
    }

    /// Has `rule` in place of the present one, and its router's file.
    pub fn reuse(&mut self, rule: Option<CacheRule>) {
        let router = rule.as_ref().and_then(CacheRule::router);
        let file = router.map(|router| RecipeFile::new(Path::new(router.name())));
        self.router = file;
        self.cache = rule;
    }
}

fn in_memory(given: bool, name: &str) -> Option<RecipeFile> {
    given.then(|| RecipeFile::new(Path::new(name)))
}

/// The picture that the request starts from, films or enlarges.
fn start(request: &Request) -> Option<RecipeFile> {
    let named = match (&request.edit, &request.subject) {
        (Some(edit), _) => Some(&edit.name),
        (None, Subject::Picture { name, .. }) => Some(name),
        (None, _) => None,
    };
    let named = named.map(|name| RecipeFile::new(Path::new(name)));
    named.or_else(|| in_memory(request.low.is_some(), "a picture in memory"))
}

fn controls(request: &Request, nets: &[&str]) -> Vec<RecipeControl> {
    let control = |control: &Control| RecipeControl {
        model: nets
            .get(control.net)
            .copied()
            .unwrap_or_default()
            .to_owned(),
        hash: None,
        image: RecipeFile::new(Path::new(&control.name)),
        canny: None,
        scale: control.scale,
        window: [control.window.start, control.window.end],
        guess: control.guess,
    };
    request.controls.iter().map(control).collect()
}

//! From the words of the command line to a recipe: one that is replayed, changed by the options beside it, or one of these alone.

#[cfg(test)]
mod tests;

use super::{
    adapters,
    args::{self, Corner},
    pictures::{groups, spread},
};
use crate::{
    cache::CacheRule,
    engine::{Model, no_refiner},
    error::{Error, RequestError},
    pipeline::{
        Recipe, RecipeControl, RecipeEmbedding, RecipeFile, RecipeLora, RecipePictures,
        RecipeRefiner, RecipeUpscaler, Request, Seeds, SkipLayers, Subject,
    },
};

/// The recipe that `arguments` ask for. What they are silent about is that of the recipe they name.
///
/// # Errors
///
/// If that cannot be read or followed, or an option changes what is not there.
pub(super) fn asked(arguments: &args::Generate) -> Result<Recipe, Error> {
    let mut recipe = match &arguments.replay {
        Some(path) if arguments.cache.rules.is_empty() => Recipe::read(path)?,
        Some(path) => Recipe::read_without_rule(path)?,
        None => Recipe::default(),
    };
    model(&mut recipe, &arguments.model);
    refiner(&mut recipe, &arguments.links)?;
    upscalers(&mut recipe, &arguments.links)?;
    prompts(&mut recipe, arguments);
    course(&mut recipe, &arguments.course);
    numbers(&mut recipe, arguments)?;
    framing(&mut recipe, &arguments.xl);
    adapted(&mut recipe, &arguments.adapt)?;
    start(&mut recipe, &arguments.start)?;
    follow(&mut recipe, &arguments.follow)?;
    recipe.check_files()?;
    Ok(recipe)
}

/// The request for `model` that `course` describes; the rest as the model would have it.
pub(super) fn request(
    model: &Model,
    course: &args::Course,
    subject: Subject,
    rule: CacheRule,
    seed: u64,
) -> Result<Request, Error> {
    let mut recipe = Recipe {
        seed: Some(Seeds::One(seed)),
        ..Recipe::default()
    };
    self::course(&mut recipe, course);
    recipe.reuse(Some(rule));
    let request = recipe.request(&model.config, RecipePictures::default())?;
    Ok(Request { subject, ..request })
}

/// Puts what is given in the place of what is there.
fn set<T: Clone>(place: &mut Option<T>, given: Option<&T>) {
    if given.is_some() {
        *place = given.cloned();
    }
}

/// A model or an autoencoder that is named by the caller is the right one, whatever it holds.
pub(super) fn model(recipe: &mut Recipe, given: &args::Model) {
    let said = &given.said;
    if given.name.is_some() || said.vae.is_some() || said.tiny_vae.is_some() {
        recipe.model.hash = None;
    }
    if said.vae.is_some() {
        recipe.model.tiny_vae = None;
    }
    set(&mut recipe.model.name, given.name.as_ref());
    set(&mut recipe.model.prediction, said.prediction.as_ref());
    set(&mut recipe.model.vae, said.vae.as_ref());
    set(&mut recipe.model.tiny_vae, said.tiny_vae.as_ref());
}

fn refiner(recipe: &mut Recipe, given: &args::Links) -> Result<(), RequestError> {
    let from = recipe.refiner.as_ref().and_then(|refiner| refiner.from);
    if let Some(name) = &given.refiner {
        let (name, hash) = (name.clone(), None);
        recipe.refiner = Some(RecipeRefiner { name, hash, from });
    }
    match (&mut recipe.refiner, given.refiner_from) {
        (Some(refiner), Some(from)) => refiner.from = Some(from),
        (None, Some(_)) => return Err(no_refiner()),
        _ => {}
    }
    Ok(())
}

/// The chain of models after the first; without one, a level of noise is the model's own.
fn upscalers(recipe: &mut Recipe, given: &args::Links) -> Result<(), RequestError> {
    if !given.upscaler.is_empty() {
        let level = |number: usize| recipe.upscalers.get(number)?.noise_level;
        let upscalers = given.upscaler.iter().enumerate();
        let upscalers = upscalers.map(|(number, name)| RecipeUpscaler {
            name: name.clone(),
            hash: None,
            noise_level: level(number),
        });
        recipe.upscalers = upscalers.collect();
    }
    let given = &given.noise_level;
    if recipe.upscalers.is_empty() && given.len() < 2 {
        set(&mut recipe.noise_level, given.first());
        return Ok(());
    }
    let levels = levels(given, recipe.upscalers.len())?;
    for (upscaler, level) in recipe.upscalers.iter_mut().zip(&levels) {
        set(&mut upscaler.noise_level, level.as_ref());
    }
    Ok(())
}

/// The level of every upscaler: none, one for all, or one each.
pub(super) fn levels(
    given: &[usize],
    upscalers: usize,
) -> Result<Vec<Option<usize>>, RequestError> {
    match given {
        [] => Ok(vec![None; upscalers]),
        [one] => Ok(vec![Some(*one); upscalers]),
        each if each.len() == upscalers => Ok(each.iter().copied().map(Some).collect()),
        each => Err(RequestError::NoiseLevels {
            found: each.len(),
            upscalers,
        }),
    }
}

fn prompts(recipe: &mut Recipe, given: &args::Generate) {
    if let Some(prompt) = &given.prompt {
        recipe.prompts = vec![prompt.clone()];
    }
    if let Some(prompt) = &given.negative_prompt {
        recipe.negative_prompts = vec![prompt.clone()];
    }
}

/// What every command that runs a model is told of the run.
pub(super) fn course(recipe: &mut Recipe, given: &args::Course) {
    film(recipe, &given.film);
    if !given.class_label.is_empty() {
        recipe.classes.clone_from(&given.class_label);
    }
    let size = given.size.map(|(width, height)| [width, height]);
    set(&mut recipe.size, size.as_ref());
    if given.no_resolution_binning {
        recipe.resolution_binning = Some(false);
    }
    set(&mut recipe.text_length, given.text_length.as_ref());
    set(&mut recipe.batch, given.batch.as_ref());
    set(&mut recipe.steps, given.steps.as_ref());
    set(&mut recipe.guidance_scale, given.guidance_scale.as_ref());
    set(&mut recipe.sampler, given.sampler.as_ref());
}

fn numbers(recipe: &mut Recipe, given: &args::Generate) -> Result<(), Error> {
    set(
        &mut recipe.guidance_rescale,
        given.guidance_rescale.as_ref(),
    );
    let away = given.true_guidance_scale.as_ref();
    set(&mut recipe.true_guidance_scale, away);
    set(&mut recipe.guidance_until, given.guidance_until.as_ref());
    let channels = given.guidance_channels.as_ref();
    set(&mut recipe.guidance_channels, channels);
    skip_layers(&mut recipe.skip_layers, &given.skip);
    set(&mut recipe.clip_skip, given.clip_skip.as_ref());
    set(&mut recipe.eta, given.eta.as_ref());
    let latents = given.initial_latents.as_deref().map(RecipeFile::new);
    set(&mut recipe.initial_latents, latents.as_ref());
    match given.seed {
        Some(args::Seed::Given(seed)) => recipe.seed = Some(Seeds::One(seed)),
        Some(args::Seed::Random) => recipe.seed = None,
        None => {}
    }
    if !given.cache.rules.is_empty() {
        recipe.reuse(Some(CacheRule::combine(given.cache.rules.iter().cloned())?));
    }
    set(&mut recipe.dtype, given.machine.place.dtype.as_ref());
    set(&mut recipe.weights, given.machine.weights.as_ref());
    let activations = given.machine.activations.as_ref();
    set(&mut recipe.activations, activations);
    let streaming = given.machine.blocks.stream_weights.as_ref();
    set(&mut recipe.stream_weights, streaming);
    Ok(())
}

/// Sets what is given of layers whose absence guides.
pub(super) fn skip_layers(skip: &mut SkipLayers, given: &args::Skip) {
    if !given.skip_layers.is_empty() {
        skip.layers = Some(given.skip_layers.clone());
    }
    set(&mut skip.scale, given.skip_layer_scale.as_ref());
    set(&mut skip.from, given.skip_layer_from.as_ref());
    set(&mut skip.until, given.skip_layer_until.as_ref());
}

fn framing(recipe: &mut Recipe, given: &args::Xl) {
    if let Some(prompt) = &given.prompt_2 {
        recipe.second_prompts = vec![prompt.clone()];
    }
    if let Some(prompt) = &given.negative_prompt_2 {
        recipe.second_negative_prompts = vec![prompt.clone()];
    }
    if let Some(prompt) = &given.prompt_3 {
        recipe.third_prompts = vec![prompt.clone()];
    }
    if let Some(prompt) = &given.negative_prompt_3 {
        recipe.third_negative_prompts = vec![prompt.clone()];
    }
    let size = |given: Option<(usize, usize)>| given.map(|(width, height)| [width, height]);
    let corner = |given: Option<Corner>| given.map(|Corner { x, y }| [x, y]);
    let framing = &mut recipe.framing;
    for (place, given) in [
        (&mut framing.original_size, size(given.original_size)),
        (&mut framing.crop, corner(given.crop)),
        (&mut framing.target_size, size(given.target_size)),
        (
            &mut framing.negative_original_size,
            size(given.negative_original_size),
        ),
        (&mut framing.negative_crop, corner(given.negative_crop)),
        (
            &mut framing.negative_target_size,
            size(given.negative_target_size),
        ),
    ] {
        set(place, given.as_ref());
    }
    set(&mut framing.aesthetic_score, given.aesthetic_score.as_ref());
    let negative = given.negative_aesthetic_score.as_ref();
    set(&mut framing.negative_aesthetic_score, negative);
}

fn film(recipe: &mut Recipe, given: &args::Film) {
    let (film, given) = (&mut recipe.film, given.request());
    for (place, given) in [
        (&mut film.frames, given.frames),
        (&mut film.fps, given.fps),
        (&mut film.motion_bucket, given.motion_bucket),
        (&mut film.decode_chunk, given.decode_chunk),
        (&mut film.motion_t0, given.motion_t0),
        (&mut film.motion_t1, given.motion_t1),
    ] {
        set(place, given.as_ref());
    }
    for (place, given) in [
        (&mut film.noise_aug, given.noise_aug),
        (&mut film.guidance_first_frame, given.guidance_first_frame),
        (&mut film.motion_x, given.motion_x),
        (&mut film.motion_y, given.motion_y),
    ] {
        set(place, given.as_ref());
    }
}

fn adapted(recipe: &mut Recipe, given: &args::Adapt) -> Result<(), Error> {
    adapters::check_there(given)?;
    if !given.lora.is_empty() {
        let loras = given.lora.iter().map(|lora| RecipeLora {
            file: RecipeFile::new(&lora.path),
            scale: lora.scale,
        });
        recipe.loras = loras.collect();
    }
    if !given.embedding.is_empty() {
        let words = given.embedding.iter().map(|word| RecipeEmbedding {
            file: RecipeFile::new(&word.path),
            token: word.token.clone(),
        });
        recipe.embeddings = words.collect();
    }
    if !given.custom_diffusion.is_empty() {
        let files = given.custom_diffusion.iter();
        recipe.custom_diffusions = files.map(|path| RecipeFile::new(path)).collect();
    }
    Ok(())
}

fn start(recipe: &mut Recipe, given: &args::Start) -> Result<(), RequestError> {
    let file = |path: &Option<std::path::PathBuf>| path.as_deref().map(RecipeFile::new);
    set(&mut recipe.init_image, file(&given.init_image).as_ref());
    set(&mut recipe.mask, file(&given.mask).as_ref());
    set(&mut recipe.strength, given.strength.as_ref());
    let alone = [
        ("--strength", given.strength.is_some()),
        ("--mask", given.mask.is_some()),
    ];
    let mut alone = alone.into_iter().filter(|(_, given)| *given);
    match alone.next().filter(|_| recipe.init_image.is_none()) {
        Some((option, _)) => Err(RequestError::Without {
            option,
            what: "a picture to start from",
            needed: "--init-image",
        }),
        None => Ok(()),
    }
}

fn follow(recipe: &mut Recipe, given: &args::Follow) -> Result<(), RequestError> {
    let named = !given.nets.control_model.is_empty();
    if named {
        recipe.controls = controls(given)?;
    } else if recipe.controls.is_empty() {
        // Options of nets have none to change.
        groups(&given.nets)?;
    } else {
        change(recipe, &given.nets)?;
    }
    let nets = recipe.controls.len();
    let images = given.control_image.len();
    if images != nets && (named || images > 0) {
        return Err(RequestError::ControlImages { images, nets });
    }
    let images = given.control_image.iter();
    for (control, path) in recipe.controls.iter_mut().zip(images) {
        control.image = RecipeFile::new(path);
    }
    if let Some(thresholds) = given.control_canny {
        let canny = [thresholds.low, thresholds.high];
        let controls = recipe.controls.iter_mut();
        controls.for_each(|control| control.canny = Some(canny));
        if nets == 0 {
            return Err(RequestError::Without {
                option: "--control-canny",
                what: "a ControlNet",
                needed: "--control-model",
            });
        }
    }
    Ok(())
}

/// The nets that are named, which follow nothing yet.
fn controls(given: &args::Follow) -> Result<Vec<RecipeControl>, RequestError> {
    let groups = groups(&given.nets)?.into_iter();
    let control = groups.map(|group| RecipeControl {
        model: group.model.to_owned(),
        hash: None,
        image: RecipeFile::default(),
        canny: None,
        scale: group.scale,
        window: [group.window.start, group.window.end],
        guess: given.nets.control_guess,
    });
    Ok(control.collect())
}

/// Changes how the nets of a recipe steer.
fn change(recipe: &mut Recipe, given: &args::Nets) -> Result<(), RequestError> {
    let nets = recipe.controls.len();
    let scales = spread("--control-scale", &given.control_scale, nets, &1.0)?;
    let whole = args::Window(0.0..1.0);
    let windows = spread("--control-window", &given.control_window, nets, &whole)?;
    let settings = scales.into_iter().zip(windows);
    for (control, (scale, args::Window(window))) in recipe.controls.iter_mut().zip(settings) {
        if !given.control_scale.is_empty() {
            control.scale = scale;
        }
        if !given.control_window.is_empty() {
            control.window = [window.start, window.end];
        }
        control.guess |= given.control_guess;
    }
    Ok(())
}

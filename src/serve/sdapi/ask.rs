//! Requests of the web interface as recipes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{
    control, layers,
    missed::{self, About},
    numbers, picked, prompt, samplers,
    settings::{Settings, Vae},
};
use crate::serve::{asked::Ask, fault::Fault, openai::seeds, pictures, read, server::Server};

/// What there is to say of a picture that is to be made. What is absent is the model's default
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(in crate::serve) struct SdRequest {
    /// What the picture shows; `<lora:NAME:0.8>` adds an adapter
    pub(super) prompt: String,
    /// What it avoids
    pub(super) negative_prompt: String,
    /// Seed of the first picture; -1 draws one
    #[serde(deserialize_with = "numbers::whole")]
    pub(super) seed: Option<i64>,
    /// Denoising steps
    #[serde(deserialize_with = "numbers::whole")]
    pub(super) steps: Option<usize>,
    /// How strongly the text guides
    #[serde(deserialize_with = "numbers::number")]
    pub(super) cfg_scale: Option<f64>,
    #[serde(deserialize_with = "numbers::whole")]
    pub(super) width: Option<usize>,
    #[serde(deserialize_with = "numbers::whole")]
    pub(super) height: Option<usize>,
    /// Pictures made together
    #[serde(deserialize_with = "numbers::whole")]
    pub(super) batch_size: Option<usize>,
    /// How often so many
    #[serde(deserialize_with = "numbers::whole")]
    pub(super) n_iter: Option<usize>,
    pub(super) sampler_name: Option<String>,
    pub(super) sampler_index: Option<String>,
    pub(super) scheduler: Option<String>,
    /// A rule that makes it sooner, as `deepcache:interval=3,branch=0`
    pub(super) cache: Option<String>,
    /// The model, if `override_settings` does not name one
    pub(super) model: Option<String>,
    #[schema(value_type = Object)]
    pub(super) override_settings: Map<String, Value>,
    /// Layers of the text encoder that are not read, and 1
    #[serde(deserialize_with = "numbers::whole")]
    pub(super) clip_skip: Option<usize>,
    /// Pictures to change, in base64; one is taken
    pub(super) init_images: Vec<String>,
    /// What is light in it is painted anew
    pub(super) mask: Option<String>,
    /// 1 if what is dark is
    pub(super) inpainting_mask_invert: Option<Value>,
    #[serde(deserialize_with = "numbers::number")]
    pub(super) denoising_strength: Option<f64>,
    /// Whether pictures are in the answer
    #[serde(deserialize_with = "numbers::truth")]
    pub(super) send_images: Option<bool>,
    /// Whether they stay in the gallery
    #[serde(deserialize_with = "numbers::truth")]
    pub(super) save_images: Option<bool>,
    /// `controlnet` is read
    #[schema(value_type = Object)]
    pub(super) alwayson_scripts: BTreeMap<String, Value>,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub(super) without: Without,
}

macro_rules! without_effect {
    ($($key:ident),* $(,)?) => {
        /// Keys that programs send and that have no effect here, but for `eta` of `DDIM`
        #[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
        #[serde(default)]
        pub(in crate::serve) struct Without { $($key: Option<Value>),* }
    };
}

without_effect! {
    styles, subseed, subseed_strength, seed_resize_from_h, seed_resize_from_w, restore_faces, tiling, do_not_save_samples,
    do_not_save_grid, eta, s_min_uncond, s_churn, s_tmax, s_tmin, s_noise, override_settings_restore_afterwards,
    refiner_checkpoint, refiner_switch_at, disable_extra_networks, firstpass_image, comments, enable_hr, firstphase_width,
    firstphase_height, hr_scale, hr_upscaler, hr_second_pass_steps, hr_resize_x, hr_resize_y, hr_checkpoint_name,
    hr_sampler_name, hr_scheduler, hr_prompt, hr_negative_prompt, hr_cfg, hr_distilled_cfg, hr_additional_modules,
    distilled_cfg_scale, force_task_id, script_name, script_args, infotext, mask_blur, mask_blur_x, mask_blur_y,
    inpainting_fill, inpaint_full_res, inpaint_full_res_padding, initial_noise_multiplier, latent_mask, include_init_images,
    resize_mode, image_cfg_scale, mask_round, use_async, user,
}

/// Understands a request of `owner`; `of_picture` says that it changes one.
pub(super) fn ask(
    server: &Server,
    owner: &str,
    request: SdRequest,
    of_picture: bool,
    mut warnings: Vec<String>,
) -> Result<Ask, Fault> {
    let mut ask = Ask {
        recipe: recipe(server, owner, &request, &mut warnings)?,
        warnings,
        ..Ask::default()
    };
    let sides = if of_picture {
        Some(start(server, &request, &mut ask)?)
    } else {
        None
    };
    miss(&request, sides, &mut ask);
    control::add(server, &request.alwayson_scripts, &mut ask)?;
    let others = request
        .alwayson_scripts
        .keys()
        .filter(|script| !script.eq_ignore_ascii_case("controlnet"));
    let others = others.map(|script| {
        format!(
            "the script `{}` is not known and was ignored",
            read::short(script)
        )
    });
    ask.warnings.extend(others);
    Ok(ask)
}

/// Tells of keys that would have changed the picture; `sides` are those of the one that is changed.
fn miss(request: &SdRequest, sides: Option<[usize; 2]>, ask: &mut Ask) {
    let given = serde_json::to_value(&request.without).unwrap_or_default();
    let given = given.as_object().cloned().unwrap_or_default();
    let sampler = ask.recipe["sampler"].as_str().map(str::to_owned);
    let size = request.width.zip(request.height).map(<[usize; 2]>::from);
    let about = About {
        sampler: sampler.as_deref(),
        of_picture: sides.is_some(),
        resized: sides.is_some() && size.is_some() && size != sides,
        masked: ask.files.contains_key("mask"),
    };
    if let Some(eta) = missed::eta(&given, &about) {
        ask.recipe["eta"] = eta.into();
    }
    ask.warnings.extend(missed::words(&given, &about));
}

fn recipe(
    server: &Server,
    owner: &str,
    request: &SdRequest,
    warnings: &mut Vec<String>,
) -> Result<Value, Fault> {
    let settings = Settings::read(&request.override_settings, warnings)?;
    let shelf = server.shelf();
    let picked = picked(server, owner);
    let asked = settings.model().or(request.model.as_deref());
    let (name, _) = shelf.model(asked.or(picked.model.as_deref()))?;
    let said = prompt::read(&request.prompt, &request.negative_prompt, &shelf);
    warnings.extend(said.warnings);
    let pictures = pictures(request)?;
    let size = size(request)?;
    let names = [&request.sampler_name, &request.sampler_index];
    let mut names = names.into_iter().filter_map(Option::as_deref);
    let sampler = names.find(|name| !name.is_empty());
    let layers = settings.clip_stop.or(request.clip_skip);
    let layers = layers.or(picked.clip_stop).unwrap_or(1);
    let mut recipe = json!({
        "model": {"name": name},
        "prompts": [said.prompt],
        "seed": seeds(request.seed, pictures)?,
    });
    let vae = settings.vae();
    if let Some(vae) = vae.map_or(picked.vae.as_deref(), Vae::name) {
        recipe["model"]["vae"] = vae.into();
    }
    let given = [
        (
            "negative_prompts",
            (!said.negative.is_empty()).then(|| json!([said.negative])),
        ),
        ("batch", (pictures > 1).then(|| pictures.into())),
        ("size", size),
        ("steps", request.steps.map(Value::from)),
        ("guidance_scale", request.cfg_scale.map(Value::from)),
        (
            "sampler",
            samplers::word(sampler, request.scheduler.as_deref(), warnings)?.map(Value::from),
        ),
        ("cache", request.cache.clone().map(Value::from)),
        ("clip_skip", (layers > 1).then(|| (layers - 1).into())),
        ("loras", (!said.loras.is_empty()).then(|| said.loras.into())),
        (
            "embeddings",
            (!said.embeddings.is_empty()).then(|| said.embeddings.into()),
        ),
    ];
    for (key, value) in given {
        if let Some(value) = value {
            recipe[key] = value;
        }
    }
    Ok(recipe)
}

/// How many pictures are asked for.
fn pictures(request: &SdRequest) -> Result<usize, Fault> {
    let rounds = request.n_iter.unwrap_or(1);
    let pictures = request.batch_size.unwrap_or(1).saturating_mul(rounds);
    if pictures == 0 {
        return Err(Fault::value("batch_size", "no picture is asked for"));
    }
    Ok(pictures)
}

/// Width and height, where they are said.
fn size(request: &SdRequest) -> Result<Option<Value>, Fault> {
    match (request.width, request.height) {
        (Some(width), Some(height)) => Ok(Some(json!([width, height]))),
        (None, None) => Ok(None),
        _ => Err(Fault::value("width", "`width` and `height` go together")),
    }
}

/// The picture to change and its mask; its width and height.
fn start(server: &Server, request: &SdRequest, ask: &mut Ask) -> Result<[usize; 2], Fault> {
    let limits = &server.options.limits;
    let Some(first) = request.init_images.first() else {
        return Err(Fault::value(
            "init_images",
            "`init_images` is missing or empty",
        ));
    };
    if request.init_images.len() > 1 {
        let word = "the first of `init_images` is changed, and the others were ignored";
        ask.warnings.push(word.to_owned());
    }
    let image = read::base64("init_images", first)?;
    let sides = limits.check_picture("init_images", &image)?;
    let flat = layers::on_white(&image)?;
    if flat.is_some() {
        let word = "`init_images` has a picture that is transparent in parts, which lies on white";
        ask.warnings.push(word.to_owned());
    }
    let image = flat.unwrap_or(image);
    ask.recipe["init_image"] = json!({"path": "init_image"});
    ask.files.insert("init_image".into(), image);
    if let Some(strength) = request.denoising_strength {
        ask.recipe["strength"] = strength.into();
    }
    let Some(mask) = request.mask.as_ref().filter(|mask| !mask.is_empty()) else {
        return Ok(sides);
    };
    let mask = read::base64("mask", mask)?;
    pictures::check_mask(limits.check_picture("mask", &mask)?, "init_images", sides)?;
    let mask = layers::mask(&mask)?.unwrap_or(mask);
    let inverted = match &request.inpainting_mask_invert {
        Some(Value::Bool(inverted)) => *inverted,
        Some(Value::String(text)) => numbers::word(text).unwrap_or(!text.trim().is_empty()),
        Some(value) => value.as_f64().is_some_and(|number| number != 0.0),
        None => false,
    };
    let mask = if inverted {
        control::inverted(&mask)?
    } else {
        mask
    };
    ask.recipe["mask"] = json!({"path": "mask"});
    ask.files.insert("mask".into(), mask);
    Ok(sides)
}

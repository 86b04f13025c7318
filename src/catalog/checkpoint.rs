//! Single-file checkpoints: which card fits, the parts in it, and what the file's own words change of the card.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use serde::Deserialize;
use serde_json::Value;

use super::{
    ModelFolder, Overrides, cards,
    claims::{Claim, Claims},
    distilled::Distillation,
    said::{SCHEDULER, Said, TRANSFORMER, UNET},
    shapes::Shapes,
    unfamiliar::{other_flux, unfamiliar},
    unknown::unknown,
};
use crate::{
    error::{ConfigError, Error},
    noise::Prediction,
    weights::{
        WeightSource, dit, flux, mmdit,
        original::{Parts, Structure, split, unwrapped},
    },
};

/// A checkpoint in parts, and the card that gave it its configs.
#[derive(Debug, Clone)]
pub(super) struct Checkpoint {
    parts: BTreeMap<&'static str, WeightSource>,
    leftovers: Vec<String>,
    pub(super) card: &'static str,
    /// What could not be told about the card.
    pub(super) note: Option<String>,
    /// What else there is to say of the file.
    pub(super) notes: Vec<String>,
    /// What the file is called.
    pub(super) title: Option<String>,
}

/// A checkpoint that is recognised, not yet cut.
pub(super) struct Recognised {
    source: WeightSource,
    claims: Claims,
    pub(super) card: &'static cards::Card,
    note: Option<String>,
}

impl Recognised {
    /// Opens a file and finds its card: `chosen`, if it is of the file's family, or the one that the file's shapes and words call for.
    pub(super) fn open(
        path: &Path,
        overrides: &Overrides,
        chosen: Option<&str>,
    ) -> Result<Self, Error> {
        let opened = WeightSource::open(path)?;
        let claims = Claims::read(&opened, path, overrides.prediction)?;
        let source = unwrapped(&opened)?;
        let fitting = fitting(&source, &claims)?;
        let (card, note) = match chosen {
            Some(name) => (of_family(&source, fitting, name)?, None),
            None => called_for(fitting, &claims, overrides.prediction)?,
        };
        Ok(Self {
            source,
            claims,
            card,
            note,
        })
    }

    /// What the file's own words change of its card.
    pub(super) fn said(&self) -> Said {
        let Claims {
            prediction,
            zero_snr,
            size,
            edm,
            distilled,
            ..
        } = &self.claims;
        let mut said = Said::default();
        if let Some((shapes, text)) = Shapes::read(&self.source).zip(self.config(UNET)) {
            shapes.say(&text, &mut said);
        }
        self.say_of_family(&mut said);
        if !self.is_stable_diffusion() {
            return said;
        }
        if let Some(Claim { value, by }) = distilled {
            let xl = self.card.name.contains("xl");
            said.set(SCHEDULER, "_class_name", value.scheduler(xl), by);
            said.set(SCHEDULER, "timestep_spacing", "trailing", by);
            if let Some(first) = value.first_timestep(xl) {
                said.set(SCHEDULER, "first_timestep", first, by);
            }
        }
        if let Some(Claim { value, by }) = prediction {
            said.set_prediction(*value, by);
        }
        if let Some(Claim { by, .. }) = zero_snr {
            said.set(SCHEDULER, "rescale_betas_zero_snr", true, by);
            said.set(SCHEDULER, "timestep_spacing", "trailing", by);
            if !self.rescales() {
                said.set(SCHEDULER, "_class_name", "DDIMScheduler", by);
            }
        }
        if let Some(edm) = edm {
            edm.say(&mut said);
        }
        if let Some(Claim { value, by }) = size {
            let [width, height] = value.map(|side| side / FACTOR);
            said.set(UNET, "sample_size", vec![height, width], by);
        }
        said
    }

    /// What the file says of films, and of a transformer whose blocks are fewer than its card's.
    fn say_of_family(&self, said: &mut Said) {
        if let (Some(Claim { value, by }), FILMS) = (&self.claims.frames, self.card.name) {
            said.set(UNET, "num_frames", *value, by);
        }
        if !flux::is_original(&self.source) {
            return;
        }
        let Some(own) = self.config(TRANSFORMER) else {
            return;
        };
        let own: Value = serde_json::from_str(&own).unwrap_or_default();
        for (key, kind) in [
            ("num_layers", "double_blocks"),
            ("num_single_layers", "single_blocks"),
        ] {
            let count = flux::blocks(&self.source, kind);
            if let Some(count) = count.filter(|&count| own[key] != count) {
                said.set(TRANSFORMER, key, count, "the file's tensors");
            }
        }
    }

    /// Whether the card's sampler has a word for schedules that end in noise alone.
    fn rescales(&self) -> bool {
        self.config(SCHEDULER)
            .is_some_and(|text| !text.contains("PNDMScheduler"))
    }

    /// The text of one of the card's files.
    fn config(&self, file: &str) -> Option<Cow<'static, str>> {
        let (_, text) = self.card.files.iter().find(|(path, _)| *path == file)?;
        Some(String::from_utf8_lossy(text))
    }

    /// Whether it is a `UNet` of Stable Diffusion (1.x, 2.x, XL), of which a file's words say how it was trained; of other families the card does.
    fn is_stable_diffusion(&self) -> bool {
        self.card.name.starts_with("stable-diffusion") && self.config(UNET).is_some()
    }

    /// Cuts it into the parts of the model that `folder`, opened from the card, describes.
    pub(super) fn cut(self, folder: &ModelFolder) -> Result<Checkpoint, Error> {
        let Parts {
            parts,
            leftovers,
            strangers,
        } = if mmdit::is_original(&self.source) {
            mmdit::split(&self.source)?
        } else if dit::is_original(&self.source) {
            dit::split(&self.source)?
        } else if flux::is_original(&self.source) {
            flux::split(&self.source)?
        } else {
            split(&self.source, &structure(folder)?)?
        };
        let mut notes = Vec::new();
        notes.extend(self.claims.quarrel);
        notes.extend(self.claims.unread);
        match strangers.as_slice() {
            [] => {}
            [only] => notes.push(format!(
                "the tensor `{only}` of the file belongs to no part and is left out"
            )),
            [first, ..] => notes.push(format!(
                "{} tensors of the file belong to no part and are left out: `{first}`, …",
                strangers.len()
            )),
        }
        Ok(Checkpoint {
            parts,
            leftovers: [leftovers, strangers].concat(),
            card: self.card.name,
            note: self.note,
            notes,
            title: self.claims.title,
        })
    }
}

impl Checkpoint {
    pub(super) fn part(&self, part: &str) -> Option<&WeightSource> {
        self.parts.get(part)
    }

    /// What to add for a part that the file was saved without.
    pub(super) fn lacks(&self, part: &str) -> String {
        let card = self.card;
        let beside =
            format!("put the folder `{part}` of a diffusers model of `{card}` beside the file");
        match part {
            "vae" => format!(
                "the file was saved without its autoencoder: give one by `--vae DIR|FILE`, or {beside}"
            ),
            "unet" | "transformer" => {
                "the file was saved without its denoiser: download the whole checkpoint".into()
            }
            "image_encoder" => {
                format!("the file was saved without what reads its picture: {beside}")
            }
            _ => format!("the file was saved without this text encoder: {beside}"),
        }
    }

    pub(super) fn leftovers(&self) -> &[String] {
        &self.leftovers
    }
}

/// The card of films of a picture.
const FILMS: &str = "stable-video-diffusion-img2vid-xt";

/// Pixels a side of a latent, in all families of Stable Diffusion.
const FACTOR: usize = 8;

/// A tensor whose shape tells the width of the text states, where the outermost level attends.
const CROSS_ATTENTION: &str =
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
/// A tensor whose shape tells the width of what is added to the time embedding (SDXL).
const ADDED: &str = "model.diffusion_model.label_emb.0.0.weight";
/// A tensor whose shape tells the number of classes and the width of their tokens (LDM-4-G).
const CLASSES: &str = "cond_stage_model.embedding.weight";
/// A tensor whose shape tells the latents' channels.
const INPUT: &str = "model.diffusion_model.input_blocks.0.0.weight";

/// Said of SD 2.x files: whether they predict noise or velocity is in no tensor.
const PREDICTION_NOTE: &str = "the file does not say what its model predicts: taken as velocity at 768x768; \
     a 512x512 base model predicts noise: `--prediction epsilon`";

/// Cards of the second generation, by what they predict.
const VELOCITY: &str = "stable-diffusion-2-1";
const EPSILON: &str = "stable-diffusion-2-1-base";

/// The card among those that fit, and what is uncertain about it.
fn called_for(
    fitting: &[&'static str],
    claims: &Claims,
    asked: Option<Prediction>,
) -> Result<(&'static cards::Card, Option<String>), Error> {
    let (name, note) = match fitting {
        [_, _, ..] => second_generation(claims, asked),
        [only] => (*only, None),
        [] => return Err(unknown("")),
    };
    let card = cards::find(name).ok_or_else(|| unknown(name))?;
    Ok((card, note))
}

/// The card of an SD 2.x file.
fn second_generation(claims: &Claims, asked: Option<Prediction>) -> (&'static str, Option<String>) {
    let said = claims.prediction.as_ref().map(|claim| claim.value);
    match asked.or(said) {
        Some(Prediction::Velocity) => (VELOCITY, None),
        Some(Prediction::Epsilon | Prediction::Sample | Prediction::Flow) => (EPSILON, None),
        None => match taken_as_noise(claims) {
            Some(reason) => {
                let note = format!(
                    "the file does not say what its model predicts: taken as noise, {reason}; `--prediction v` if it predicts velocity"
                );
                (EPSILON, Some(note))
            }
            None => (VELOCITY, Some(PREDICTION_NOTE.to_owned())),
        },
    }
}

/// Why an SD 2.x file that does not say so is one of those that predict noise.
fn taken_as_noise(claims: &Claims) -> Option<String> {
    let turbo = claims.distilled.as_ref();
    if let Some(Claim { by, .. }) = turbo.filter(|claim| claim.value.kind == Distillation::Turbo) {
        return Some(format!("as SD Turbo's does ({by})"));
    }
    if claims.configured {
        return Some("for the YAML beside it has no `parameterization`".to_owned());
    }
    let Claim { value, by } = claims.size.as_ref()?;
    let [width, height] = value;
    let small = value.iter().all(|side| *side < 768);
    small.then(|| format!("for it is made for {width}x{height} by {by}"))
}

/// The card that a caller names, if the checkpoint is one of its family.
fn of_family(
    source: &WeightSource,
    fitting: &[&'static str],
    name: &str,
) -> Result<&'static cards::Card, Error> {
    let card = cards::find(name).ok_or_else(|| unknown(name))?;
    if fitting.contains(&name) {
        return Ok(card);
    }
    let hint = format!(
        "`{}` holds a model of the card `{}`",
        source.origin(),
        fitting[0]
    );
    Err(ConfigError::unsupported("card", name, hint).into())
}

/// Names of the cards that fit a checkpoint's shapes, the likeliest first.
fn fitting(source: &WeightSource, claims: &Claims) -> Result<&'static [&'static str], ConfigError> {
    let width = |name| source.shape(name).and_then(|shape| shape.get(1).copied());
    if mmdit::is_original(source) {
        return of_mmdit(source);
    }
    if dit::is_original(source) {
        return transformer(source);
    }
    if flux::is_original(source) {
        return of_flux(source);
    }
    let (text, added, channels) = (width(CROSS_ATTENTION), width(ADDED), width(INPUT));
    if let Some(classes) = source.shape(CLASSES) {
        return match (&classes[..], channels) {
            ([1001, 512], Some(3)) => Ok(&["ldm-4-g"]),
            _ => Err(unfamiliar_classes(&classes, channels)),
        };
    }
    match (text, added, channels) {
        (Some(768), None, Some(4)) => Ok(&["stable-diffusion-v1-5"]),
        (Some(768), None, Some(9)) => Ok(&["stable-diffusion-v1-5-inpainting"]),
        (Some(1024), None, Some(4)) => Ok(&["stable-diffusion-2-1", "stable-diffusion-2-1-base"]),
        (Some(1024), None, Some(9)) => Ok(&["stable-diffusion-2-inpainting"]),
        (Some(1024), Some(768), Some(8)) => Ok(&["stable-video-diffusion-img2vid-xt"]),
        (None, Some(2816), Some(4)) => Ok(&["stable-diffusion-xl-base-1.0"]),
        (None, Some(2816), Some(9)) => Ok(&["stable-diffusion-xl-1.0-inpainting-0.1"]),
        (None, Some(2560), Some(4)) => Ok(&["stable-diffusion-xl-refiner-1.0"]),
        _ => Err(unfamiliar(text, added, channels, source, claims)),
    }
}

fn unfamiliar_classes(classes: &[usize], channels: Option<usize>) -> ConfigError {
    let value = match channels {
        Some(channels) => format!("class tokens {classes:?}, {channels} latent channels"),
        None => format!("class tokens {classes:?} without a UNet"),
    };
    let hint = "of class-conditional latent diffusion, `cin256-v2` is read: class tokens [1001, 512], 3 latent channels";
    ConfigError::unsupported("checkpoint", value, hint)
}

/// The card of a `DiT`: what the file does not say is in its number of patches.
fn transformer(source: &WeightSource) -> Result<&'static [&'static str], ConfigError> {
    let positions = source.shape(dit::POSITIONS).unwrap_or_default();
    match positions.as_slice() {
        [_, 256, 1152] => Ok(&["DiT-XL-2-256x256"]),
        [_, 1024, 1152] => Ok(&["DiT-XL-2-512x512"]),
        other => {
            let hint = "single files of DiT-XL/2 at 256x256 and 512x512 are read; put others into a diffusers folder";
            Err(ConfigError::unsupported(
                "checkpoint",
                format!("a DiT with positions {other:?}"),
                hint,
            ))
        }
    }
}

/// The card of a Stable Diffusion 3 or 3.5.
fn of_mmdit(source: &WeightSource) -> Result<&'static [&'static str], ConfigError> {
    let mmdit::Kind {
        width,
        layers,
        normed,
        dual,
    } = mmdit::kind(source);
    match (width, layers, normed, dual) {
        (1536, 24, false, 0) => Ok(&["stable-diffusion-3-medium"]),
        (1536, 24, true, 13) => Ok(&["stable-diffusion-3.5-medium"]),
        (2432, 38, true, 0) => Ok(&["stable-diffusion-3.5-large"]),
        _ => {
            let found = format!("a Stable Diffusion 3 of {layers} blocks of width {width}");
            let hint = "single files of 3 medium (24 blocks of width 1536), 3.5 medium (the same with normed queries and keys, and 13 \
                        blocks with two attentions) and 3.5 large (38 of width 2432) are read; put others into a diffusers folder";
            Err(ConfigError::unsupported("checkpoint", found, hint))
        }
    }
}

/// The card of a FLUX.1: models for fills, depths and outlines take more channels in.
fn of_flux(source: &WeightSource) -> Result<&'static [&'static str], ConfigError> {
    if let Some(family) = other_flux(source) {
        let hint = format!(
            "it is named as FLUX.1 is in part, and is not read\nfile: {}",
            source.origin()
        );
        return Err(ConfigError::unsupported("checkpoint", family, hint));
    }
    match flux::input(source).as_deref() {
        Some([3072, 64]) if flux::is_guided(source) => Ok(&["FLUX.1-dev"]),
        Some([3072, 64]) => Ok(&["FLUX.1-schnell"]),
        other => {
            let found = format!("a FLUX with an input of {:?}", other.unwrap_or_default());
            let hint = "FLUX.1 dev and schnell are read, whose input is [3072, 64]; those that fill masks or follow depths and outlines, which take more in, are not";
            Err(ConfigError::unsupported("checkpoint", found, hint))
        }
    }
}

/// The class of denoisers that look along frames.
const OVER_FRAMES: &str = "UNetSpatioTemporalConditionModel";

/// The numbers of a card's configs that a checkpoint's names depend on.
fn structure(folder: &ModelFolder) -> Result<Structure, Error> {
    #[derive(Deserialize)]
    struct UNet {
        #[serde(rename = "_class_name")]
        class_name: Option<String>,
        layers_per_block: usize,
    }
    #[derive(Deserialize)]
    struct Vae {
        block_out_channels: Vec<usize>,
    }
    #[derive(Deserialize)]
    struct Text {
        num_hidden_layers: usize,
    }
    let unet: UNet = folder.read_config("unet/config.json")?;
    let vae: Vae = folder.read_config("vae/config.json")?;
    let encoders = ["text_encoder_2/config.json", "text_encoder/config.json"];
    let text_layers = match encoders.into_iter().find(|path| folder.has(path)) {
        Some(path) => folder.read_config::<Text>(path)?.num_hidden_layers,
        None => 0,
    };
    Ok(Structure {
        unet_layers: unet.layers_per_block,
        vae_levels: vae.block_out_channels.len(),
        text_layers,
        second_text: folder.has(encoders[0]),
        over_frames: unet.class_name.as_deref() == Some(OVER_FRAMES),
    })
}

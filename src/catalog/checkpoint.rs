//! Single-file checkpoints: which card fits, the parts in it, and what the file's own words change of the card.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use serde::Deserialize;
use serde_json::Value;

use super::{
    ModelFolder, Overrides, cards,
    claims::{Claim, Claims},
    distilled::Distillation,
    fitting::fitting,
    said::{SCHEDULER, Said, TRANSFORMER, UNET},
    shapes::Shapes,
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
            mut parts,
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
        if self.card.name == FILMS && parts.get("vae").is_some_and(knows_no_frames) {
            parts.remove("vae");
            notes.push(NO_FRAMES.to_owned());
        }
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

/// Said of Stable Video Diffusion's files with a decoder of pictures (`svd_image_decoder.safetensors`).
const NO_FRAMES: &str = "the file's autoencoder decodes picture by picture, and films need one that looks along frames: it is left out";

/// Whether an autoencoder is one of single pictures.
fn knows_no_frames(vae: &WeightSource) -> bool {
    !vae.names().any(|name| name.contains("temporal_res_block"))
}

/// Pixels a side of a latent, in all families of Stable Diffusion.
const FACTOR: usize = 8;

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

//! What a single file says of itself beside its tensors' values.
//!
//! **Source.** The keys of the `ModelSpec` standard of Stability AI (`modelspec.*`), of kohya-ss/sd-scripts (`ss_*`), of GGUF (`general.*`); the empty tensors by
//! which `ComfyUI` marks checkpoints (`v_pred`, `ztsnr`, `edm_vpred.sigma_max`); `parameterization` in the YAML of the training program,
//! which the web interfaces keep beside a file under its name.

use std::{fs, path::Path};

use super::{
    distilled::Named,
    edm::{self, Edm},
};
use crate::{
    error::{ConfigError, Error},
    noise::Prediction,
    weights::{WeightSource, dit, flux, mmdit},
};

/// A value, and what said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim<T> {
    pub(super) value: T,
    pub(super) by: String,
}

/// What a file says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    pub(super) prediction: Option<Claim<Prediction>>,
    /// The schedule is rescaled so that its last step holds noise alone.
    pub(super) zero_snr: Option<Claim<bool>>,
    /// Width and height in pixels.
    pub(super) size: Option<Claim<[usize; 2]>>,
    /// What it says of a model trained on the schedule of Karras et al.
    pub(super) edm: Option<Edm>,
    /// The family, in the words of the standard.
    pub(super) architecture: Option<String>,
    /// What it is called.
    pub(super) title: Option<String>,
    /// What its name or its title says of how it was distilled.
    pub(super) distilled: Option<Claim<Named>>,
    /// Frames of its films, where its name says so.
    pub(super) frames: Option<Claim<usize>>,
    /// Whether a YAML of the training program lies beside the file, which says nothing of the prediction: noise then, as there.
    pub(super) configured: bool,
    /// What two words of the file contradict each other in.
    pub(super) quarrel: Option<String>,
    /// What lies beside the file and could not be read.
    pub(super) unread: Option<String>,
}

/// Keys of a header that say what a model predicts.
const PREDICTION: [&str; 3] = [
    "modelspec.prediction_type",
    "modelspec.predict_key",
    "prediction_type",
];
/// Keys of a header that say the size of the pictures.
const SIZE: [&str; 2] = ["modelspec.resolution", "ss_resolution"];
/// Keys of a header that say whether the schedule ends in noise alone.
const ZERO_SNR: [&str; 3] = [
    "ss_zero_terminal_snr",
    "modelspec.zero_terminal_snr",
    "ztsnr",
];
/// Architectures of which the word says more than the shapes: what they predict, and a side in pixels.
const SECOND: [(&str, Prediction, usize); 2] = [
    ("stable-diffusion-v2-768-v", Prediction::Velocity, 768),
    ("stable-diffusion-v2-512", Prediction::Epsilon, 512),
];

impl Claims {
    /// Reads them; tensors stay unread but for two scalars.
    ///
    /// # Errors
    ///
    /// If the file says what it predicts in a word that is not known and no `override` makes up for it, or is of a kind that is not built.
    pub(super) fn read(
        source: &WeightSource,
        path: &Path,
        asked: Option<Prediction>,
    ) -> Result<Self, Error> {
        let mut claims = Self {
            architecture: said(source, ["modelspec.architecture", "general.architecture"]),
            title: said(source, ["modelspec.title", "general.name"]),
            size: size(source),
            zero_snr: zero_snr(source),
            edm: Edm::read(source)?,
            frames: frames(path),
            ..Self::default()
        };
        let mut said = predictions(source, asked)?;
        match beside(path) {
            Beside::Said(value) => said.push(Claim {
                value,
                by: "the YAML beside the file".into(),
            }),
            Beside::Silent => claims.configured = true,
            Beside::Unread(note) => claims.unread = Some(note),
            Beside::Nothing => (),
        }
        claims.distilled = distilled(path, claims.title.as_deref());
        claims.quarrel = quarrel(&said).filter(|_| asked.is_none());
        claims.prediction = said.into_iter().next();
        Ok(claims)
    }
}

/// The first of two words that a file has: of safetensors, of GGUF.
fn said(source: &WeightSource, keys: [&str; 2]) -> Option<String> {
    keys.into_iter()
        .find_map(|key| source.metadata(key))
        .map(plain)
}

/// Frames of the films of Stable Video Diffusion as first published, of which `…-xt` makes more: `svd.safetensors`, `svd_image_decoder.safetensors`.
fn frames(path: &Path) -> Option<Claim<usize>> {
    const FIRST: usize = 14;
    let name = path.file_stem()?.to_str()?.to_lowercase();
    let words = || name.split(|letter: char| !letter.is_ascii_alphanumeric());
    let first = words().next() == Some("svd") && !words().any(|word| word.starts_with("xt"));
    first.then(|| Claim {
        value: FIRST,
        by: "the file's name".to_owned(),
    })
}

/// How a file was distilled that calls itself so.
fn distilled(path: &Path, title: Option<&str>) -> Option<Claim<Named>> {
    let name = path.file_name()?.to_str()?;
    let named = Named::read(name).map(|named| (named, "the file's name"));
    let titled = || Some((Named::read(title?)?, "`modelspec.title` in the file"));
    let (named, by) = named.or_else(titled)?;
    Some(Claim {
        value: named,
        by: format!("{by}, `{}`", named.word),
    })
}

/// Whether a file holds a transformer, whose family says what it predicts: training programs write the word of others into its header, for want
/// of one for a flow.
fn is_transformer(source: &WeightSource) -> bool {
    mmdit::is_original(source) || flux::is_original(source) || dit::is_original(source)
}

/// What the file predicts, by all that say so; the weightiest first. Nothing of transformers.
fn predictions(
    source: &WeightSource,
    asked: Option<Prediction>,
) -> Result<Vec<Claim<Prediction>>, Error> {
    let claim = |value, by: String| Claim { value, by };
    let mut said = Vec::new();
    if is_transformer(source) {
        return Ok(said);
    }
    if source.shape("v_pred").is_some() || source.shape(edm::MOST).is_some() {
        said.push(claim(Prediction::Velocity, "a marker in the file".into()));
    }
    for key in PREDICTION {
        let Some(word) = source.metadata(key).filter(|word| !is_silent(word)) else {
            continue;
        };
        // Straight lines to the noise are what no U-Net that is built was trained on.
        let known = word.parse().ok().filter(|&value| value != Prediction::Flow);
        match known {
            Some(value) => said.push(claim(value, format!("`{key}` in the file"))),
            None if asked.is_some() => {}
            None => {
                let hint =
                    "known: epsilon, v, sample; `--prediction` takes the place of the file's word";
                return Err(ConfigError::unsupported(key, word, hint).into());
            }
        }
    }
    if source
        .metadata("ss_v_parameterization")
        .is_some_and(is_true)
    {
        let by = "`ss_v_parameterization` in the file";
        said.push(claim(Prediction::Velocity, by.into()));
    }
    let second = source.metadata("modelspec.architecture").and_then(second);
    said.extend(
        second.map(|(value, _)| claim(value, "`modelspec.architecture` in the file".into())),
    );
    Ok(said)
}

/// A word of a stranger, as it may be printed.
fn plain(text: &str) -> String {
    const LONGEST: usize = 80;
    let printed = text.chars().filter(|letter| !letter.is_control());
    printed.take(LONGEST).collect()
}

fn quarrel(said: &[Claim<Prediction>]) -> Option<String> {
    let first = said.first()?;
    let other = said.iter().find(|other| other.value != first.value)?;
    Some(format!(
        "the file contradicts itself: {} by {}, {} by {}; the first is taken, `--prediction` decides otherwise",
        first.value, first.by, other.value, other.by
    ))
}

/// What an architecture of the second generation says: prediction and side.
fn second(architecture: &str) -> Option<(Prediction, usize)> {
    let known = SECOND
        .iter()
        .find(|(name, ..)| architecture.starts_with(name));
    known.map(|(_, prediction, side)| (*prediction, *side))
}

fn is_true(word: &str) -> bool {
    matches!(word.trim().to_lowercase().as_str(), "true" | "1" | "yes")
}

/// Whether a word is what programs write that know none.
fn is_silent(word: &str) -> bool {
    ["", "none", "null"].contains(&word.trim().to_lowercase().as_str())
}

fn zero_snr(source: &WeightSource) -> Option<Claim<bool>> {
    let marker = source
        .shape("ztsnr")
        .map(|_| "a marker in the file".to_owned());
    let key = ZERO_SNR
        .into_iter()
        .find(|key| source.metadata(key).is_some_and(is_true));
    let by = marker.or_else(|| key.map(|key| format!("`{key}` in the file")))?;
    Some(Claim { value: true, by })
}

fn size(source: &WeightSource) -> Option<Claim<[usize; 2]>> {
    let said = SIZE.into_iter().find_map(|key| {
        let value = sides(source.metadata(key)?)?;
        let by = format!("`{key}` in the file");
        Some(Claim { value, by })
    });
    said.or_else(|| {
        let (_, side) = second(source.metadata("modelspec.architecture")?)?;
        let by = "`modelspec.architecture` in the file".to_owned();
        Some(Claim {
            value: [side; 2],
            by,
        })
    })
}

/// `768x512`, `(768, 512)` or `768`, if a model could have been trained at it.
fn sides(text: &str) -> Option<[usize; 2]> {
    let numbers = text
        .split(|letter: char| !letter.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .map(|digits| digits.parse().ok());
    let numbers: Vec<usize> = numbers.collect::<Option<_>>()?;
    let sides = match numbers[..] {
        [side] => [side, side],
        [width, height] => [width, height],
        _ => return None,
    };
    let trained = |side: &usize| (256..=4096).contains(side) && side.is_multiple_of(64);
    sides.iter().all(trained).then_some(sides)
}

/// Most bytes of a YAML beside a file that are read; the training program's have two thousand.
const YAML: u64 = 1 << 16;

/// What lies beside a file, under its name, as the configuration that it was trained with.
enum Beside {
    Nothing,
    /// It does not say what the model predicts.
    Silent,
    Said(Prediction),
    Unread(String),
}

/// Reads the YAML of a file's name beside it.
fn beside(path: &Path) -> Beside {
    let named = ["yaml", "yml"].map(|extension| path.with_extension(extension));
    let Some(path) = named.into_iter().find(|path| path.is_file()) else {
        return Beside::Nothing;
    };
    let unread = |reason: &str| Beside::Unread(format!("{} is left out: {reason}", path.display()));
    match path.metadata() {
        Ok(data) if data.len() > YAML => return unread("it is longer than such a YAML is"),
        _ => (),
    }
    match fs::read_to_string(&path) {
        Ok(text) => match parameterization(&text) {
            Some(word) => word.parse().map_or_else(
                |_| unread(&format!("`parameterization` is `{}`", plain(&word))),
                Beside::Said,
            ),
            None if is_training(&text) => Beside::Silent,
            None => Beside::Nothing,
        },
        Err(error) => unread(&error.to_string()),
    }
}

/// The text of a YAML's lines without what is after `#`.
fn uncommented(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(|line| line.split_once('#').map_or(line, |(before, _)| before))
}

/// The value of `parameterization`, in lines or within braces.
fn parameterization(text: &str) -> Option<String> {
    uncommented(text).find_map(|line| {
        let (_, rest) = line.split_once("parameterization")?;
        let rest = rest
            .trim_start_matches(['"', '\'', ' '])
            .strip_prefix(':')?;
        let word = rest.split([',', '}']).next()?;
        Some(word.trim().trim_matches(['"', '\'']).to_owned())
    })
}

/// Whether a YAML is of the training program of the first and second generation: a model and its parameters.
fn is_training(text: &str) -> bool {
    let has = |key: &str| uncommented(text).any(|line| line.trim_start().starts_with(key));
    has("model:") && has("params:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_all_spellings() {
        assert_eq!(sides("768x512"), Some([768, 512]));
        assert_eq!(sides("(768, 512)"), Some([768, 512]));
        assert_eq!(sides("1024"), Some([1024, 1024]));
        for odd in [
            "",
            "None",
            "100x100",
            "512x512x3",
            "99999999999999999999999",
        ] {
            assert_eq!(sides(odd), None, "{odd}");
        }
    }

    #[test]
    fn films_of_the_first_model_are_shorter() {
        let frames = |name: &str| frames(name.as_ref()).map(|claim| claim.value);
        for name in ["svd.safetensors", "a/svd_image_decoder.safetensors"] {
            assert_eq!(frames(name), Some(14), "{name}");
        }
        for name in ["svd_xt.safetensors", "svd_xt_1_1.safetensors", "mine.ckpt"] {
            assert_eq!(frames(name), None, "{name}");
        }
    }

    #[test]
    fn a_parameterization_is_read_in_all_spellings() {
        for (text, word) in [
            ("  parameterization: \"v\"  # not eps", Some("v")),
            ("parameterization : v", Some("v")),
            ("params: {parameterization: 'eps', x: 1}", Some("eps")),
            ("# parameterization: v", None),
            ("parameterization_of: v", None),
        ] {
            assert_eq!(parameterization(text).as_deref(), word, "{text}");
        }
    }
}

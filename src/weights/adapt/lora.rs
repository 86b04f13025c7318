//! `LoRA` files and their kin.

use std::{collections::BTreeMap, path::Path};

use super::kind::LoraKind;
use super::layer::{Layer, Parts};
use super::peft::{self, PeftConfig};
use super::roles::{Grouped, Role, Roles, role};
use super::{flux, kinds, mmdit, told};
use crate::error::{AdapterError, Error, WeightsError};
use crate::weights::WeightSource;

/// What a file without a `LoRA` is told.
const HINT: &str = "its tensors come in pairs: `lora_down` and `lora_up`, `lora_A` and `lora_B`, `hada_w1_a` and `hada_w1_b`";

/// A `LoRA` file, or one of its kin ([`LoraKind`]).
///
/// The weight of a layer becomes `W + scale · alpha / rank · change`; files without `alpha` mean `alpha = rank`. What a file holds beside
/// its layers is no hindrance: embeddings that are bundled with it are [`words`](Self::words), the rest is [`left_out`](Self::left_out).
#[derive(Debug, Clone)]
pub struct Lora {
    origin: String,
    pub(super) layers: Vec<Layer>,
    words: Vec<(String, WeightSource)>,
    left_out: Vec<String>,
    remarks: Vec<String>,
    scale: f64,
}

impl Lora {
    /// Opens a file; the scale is 1.
    ///
    /// # Errors
    ///
    /// As [`WeightSource::open`] and [`from_source`](Self::from_source).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::from_source(&WeightSource::open(path)?)
    }

    /// Reads names, shapes and alphas of a source, and looks at its values; the scale is 1.
    ///
    /// # Errors
    ///
    /// When it holds no layer, a layer that is not complete, a method that is not merged, or values that are no finite numbers.
    pub fn from_source(source: &WeightSource) -> Result<Self, Error> {
        let config = PeftConfig::of(source)?;
        let unscaled = unscaled(source, &config);
        let source = &mmdit::renamed(&flux::renamed(source)?)?;
        let origin = source.origin();
        let Grouped {
            layers: grouped,
            words,
            left_out,
        } = Grouped::new(source)?;
        if grouped.is_empty() || kinds::is_ip_adapter(source) {
            return Err(AdapterError::Kind {
                expected: "LoRA",
                found: source.names().map(str::to_owned).collect(),
                hint: told::hint(source, HINT),
                origin: origin.to_owned(),
            }
            .into());
        }
        let mut layers = Vec::new();
        for (name, roles) in grouped {
            check_types(&roles, origin)?;
            let tensors: Vec<_> = roles.values().map(|tensor| tensor.name.clone()).collect();
            let parts = Parts {
                name,
                roles,
                origin,
            };
            layers.extend(parts.build(&config)?);
            for name in tensors {
                source.read_finite(&name)?;
            }
        }
        let words = words.into_iter().map(|(word, tensors)| {
            let source = WeightSource::from_tensors(origin.to_owned(), tensors)?;
            Ok((word, source))
        });
        Ok(Self {
            origin: origin.to_owned(),
            layers,
            words: words.collect::<Result<_, Error>>()?,
            left_out,
            remarks: unscaled.into_iter().collect(),
            scale: 1.0,
        })
    }

    /// Whether a source looks like one, or like a kin that is not merged, by the names of most of its tensors.
    pub fn is_one(source: &WeightSource) -> bool {
        told::is_lora(source)
    }

    /// The same, merged at `scale`: 1 as trained, 0 not at all, negative the other way.
    #[must_use]
    pub fn with_scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// What its changes are multiplied with.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Path of the file, or what else errors call it.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Words of embeddings that are bundled with it, and their vectors, as a file of the embedding alone would have them.
    pub fn words(&self) -> impl Iterator<Item = (&str, &WeightSource)> {
        let words = self.words.iter();
        words.map(|(word, vectors)| (word.as_str(), vectors))
    }

    /// Names of the tensors that belong to nothing known.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// What the user should know of how it was read.
    pub(super) fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// What it is, for people to read.
    pub fn summary(&self) -> LoraSummary {
        let mut summary = LoraSummary::default();
        for layer in &self.layers {
            *summary.parts.entry(layer.target.part).or_default() += 1;
            *summary.kinds.entry(layer.kind).or_default() += 1;
            if let Some(rank) = layer.rank {
                *summary.ranks.entry(rank).or_default() += 1;
            }
            if layer.target.reads_text() {
                summary.text_width = layer.shape.get(1).copied();
            }
        }
        summary
    }
}

/// What is said of a file without alphas that seems to have been trained with one: it is merged as if alpha were the rank.
fn unscaled(source: &WeightSource, config: &PeftConfig) -> Option<String> {
    const SAID: [&str; 3] = ["lora_alpha", "network_alpha", "ss_network_alpha"];

    let role = |name: &str| role(name).map(|(_, role)| role);
    let alphas = source.names().any(|name| role(name) == Some(Role::Alpha));
    if alphas || !config.is_empty() {
        return None;
    }
    let mut downs = source.packed();
    let down = downs.find(|tensor| role(&tensor.name) == Some(Role::Down))?;
    let rank = *down.shape.to_vec().first()? as f64;
    let said = SAID.iter().find_map(|key| {
        let alpha: f64 = source.metadata(key)?.trim().parse().ok()?;
        let scale = alpha / rank;
        scale.is_finite().then_some((key, alpha, scale))
    });
    let of_peft = || peft::is_named_by_peft(source) && down.name.contains(".lora_A");
    let (why, hint) = match said {
        Some((_, _, scale)) if (scale - 1.0).abs() < 1e-9 => return None,
        Some((key, alpha, scale)) => (
            format!("its header says `{key}` is {alpha}, beside a rank of {rank}"),
            format!("if that was not worked in, give it a scale of {scale}: `--lora FILE={scale}`"),
        ),
        None if of_peft() => (
            "peft keeps it in `adapter_config.json`, which is not beside it".to_owned(),
            "put that file beside it".to_owned(),
        ),
        None => return None,
    };
    let origin = source.origin();
    Some(format!(
        "no tensor of the LoRA says its alpha, and it is taken to be the rank: {why}\nhint: {hint}\nfile: {origin}"
    ))
}

/// Refuses a layer of integers: they are a change in eight bits whose scale is not in the file, or none. An alpha may be one.
fn check_types(roles: &Roles, origin: &str) -> Result<(), WeightsError> {
    let mut factors = roles.iter().filter(|(role, _)| **role != Role::Alpha);
    match factors.find(|(_, tensor)| !tensor.dtype.is_float()) {
        None => Ok(()),
        Some((_, tensor)) => Err(WeightsError::DataType {
            name: tensor.name.clone(),
            dtype: format!("{:?}", tensor.dtype),
            origin: origin.to_owned(),
        }),
    }
}

/// A `LoRA` in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoraSummary {
    /// Layers of each part (`unet`, `text_encoder`, …).
    pub parts: BTreeMap<&'static str, usize>,
    /// Layers of each kind.
    pub kinds: BTreeMap<LoraKind, usize>,
    /// Layers of each rank, where they have one.
    pub ranks: BTreeMap<usize, usize>,
    /// Width of the text states of the model it is for, where a layer tells.
    pub text_width: Option<usize>,
}

//! `LoRA`, `LoCon` and `LoHa` files.

use std::{collections::BTreeMap, fmt, path::Path};

use burn_store::burn_pack::Tensor as Packed;

use super::factors::{Change, Factors, read};
use super::names::Target;
use super::peft::PeftConfig;
use crate::error::{AdapterError, Error, WeightsError};
use crate::weights::WeightSource;

/// What a tensor is to its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Down,
    Up,
    Mid,
    Alpha,
    FirstLeft,
    FirstRight,
    FirstCore,
    SecondLeft,
    SecondRight,
    SecondCore,
}

/// Endings of names and what they say. Of kohya's programs and `LyCORIS`, peft, diffusers in three ages.
const ROLES: [(&str, Role); 20] = [
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_mid.weight", Role::Mid),
    (".alpha", Role::Alpha),
    (".lora_A.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_A.default.weight", Role::Down),
    (".lora_B.default.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    ("_lora.down.weight", Role::Down),
    ("_lora.up.weight", Role::Up),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_linear_layer.up.weight", Role::Up),
    (".hada_w1_a", Role::FirstLeft),
    (".hada_w1_b", Role::FirstRight),
    (".hada_t1", Role::FirstCore),
    (".hada_w2_a", Role::SecondLeft),
    (".hada_w2_b", Role::SecondRight),
    (".hada_t2", Role::SecondCore),
];

/// Parts of names and the methods they belong to, which are not merged.
const OTHERS: [(&str, &str); 7] = [
    (".dora_scale", "DoRA"),
    (".lora_magnitude_vector", "DoRA"),
    (".lokr_", "LoKr"),
    (".oft_", "OFT"),
    (".boft_", "BOFT"),
    (".on_input", "IA3"),
    (".lora_B.bias", "LoRA with biases"),
];

/// Endings of names that belong to whole, unfactored changes.
const DIFFERENCES: [&str; 2] = [".diff", ".diff_b"];

/// What a file without a `LoRA` is told.
const HINT: &str = "its tensors come in pairs: `lora_down` and `lora_up`, `lora_A` and `lora_B`, `hada_w1_a` and `hada_w1_b`";

/// How a layer's change is composed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoraKind {
    /// Two matrices, for a linear layer.
    Lora,
    /// Two matrices, one of them a convolution, with or without a core.
    LoCon,
    /// Two products, multiplied element by element.
    LoHa,
}

impl fmt::Display for LoraKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Lora => "LoRA",
            Self::LoCon => "LoCon",
            Self::LoHa => "LoHa",
        })
    }
}

/// A `LoRA`, `LoCon` or `LoHa` file, its matrices unread.
///
/// The weight of a layer becomes `W + scale · alpha / rank · change`; files without `alpha` mean `alpha = rank`.
#[derive(Debug, Clone)]
pub struct Lora {
    origin: String,
    pub(super) layers: Vec<Layer>,
    scale: f64,
}

/// The change of one layer.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// Its name as the file has it.
    pub(super) name: String,
    pub(super) target: Target,
    pub(super) change: Change,
    /// `[outputs, inputs]` or with height and width of a kernel.
    pub(super) shape: Vec<usize>,
    rank: usize,
    kind: LoraKind,
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

    /// Reads names, shapes and alphas of a source; the scale is 1.
    ///
    /// # Errors
    ///
    /// When it holds something else than complete layers of `LoRA`, `LoCon` and `LoHa`.
    pub fn from_source(source: &WeightSource) -> Result<Self, Error> {
        let config = PeftConfig::of(source)?;
        let layers = grouped(source)?.into_iter();
        let layers = layers.map(|(name, roles)| {
            let layer = Parts {
                name,
                roles,
                origin: source.origin(),
            };
            layer.build(&config)
        });
        Ok(Self {
            origin: source.origin().to_owned(),
            layers: layers.collect::<Result<_, _>>()?,
            scale: 1.0,
        })
    }

    /// Whether a source looks like one, or like a kin that is not merged, by the names of its tensors.
    pub fn is_one(source: &WeightSource) -> bool {
        let of_lora = |name| role(name).is_some_and(|(_, role)| role != Role::Alpha);
        source
            .names()
            .any(|name| of_lora(name) || other_method(name).is_some())
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

    /// What it is, for people to read.
    pub fn summary(&self) -> LoraSummary {
        let mut summary = LoraSummary::default();
        for layer in &self.layers {
            *summary.parts.entry(layer.target.part).or_default() += 1;
            *summary.kinds.entry(layer.kind).or_default() += 1;
            *summary.ranks.entry(layer.rank).or_default() += 1;
            if layer.target.reads_text() {
                summary.text_width = layer.shape.get(1).copied();
            }
        }
        summary
    }
}

/// A `LoRA` in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoraSummary {
    /// Layers of each part (`unet`, `text_encoder`, …).
    pub parts: BTreeMap<&'static str, usize>,
    /// Layers of each kind.
    pub kinds: BTreeMap<LoraKind, usize>,
    /// Layers of each rank.
    pub ranks: BTreeMap<usize, usize>,
    /// Width of the text states of the model it is for, where a layer tells.
    pub text_width: Option<usize>,
}

/// The layer that a tensor belongs to, and what it is to it.
fn role(name: &str) -> Option<(&str, Role)> {
    let stem = |(ending, role): &(&str, Role)| Some((name.strip_suffix(ending)?, *role));
    ROLES.iter().find_map(stem)
}

/// The method that a tensor belongs to, if it is a known one that is not merged.
fn other_method(name: &str) -> Option<&'static str> {
    if DIFFERENCES.iter().any(|ending| name.ends_with(ending)) {
        return Some("full differences");
    }
    let known = OTHERS.iter().find(|(part, _)| name.contains(part));
    known.map(|(_, method)| *method)
}

type Roles = BTreeMap<Role, Packed>;

/// The tensors of each layer.
fn grouped(source: &WeightSource) -> Result<BTreeMap<String, Roles>, AdapterError> {
    let mut layers = BTreeMap::<String, Roles>::new();
    let mut strange = Vec::new();
    let origin = || source.origin().to_owned();
    for tensor in source.packed() {
        let Some((layer, role)) = role(&tensor.name) else {
            if let Some(method) = other_method(&tensor.name) {
                let name = tensor.name.clone();
                return Err(AdapterError::Method {
                    name,
                    method,
                    origin: origin(),
                });
            }
            strange.push(tensor.name.clone());
            continue;
        };
        let roles = layers.entry(layer.to_owned()).or_default();
        if let Some(first) = roles.insert(role, tensor.clone()) {
            return Err(AdapterError::Repeated {
                target: layer.to_owned(),
                first: first.name,
                second: tensor.name.clone(),
                origin: origin(),
            });
        }
    }
    if strange.is_empty() && !layers.is_empty() {
        return Ok(layers);
    }
    Err(AdapterError::Kind {
        expected: "LoRA",
        found: strange,
        hint: HINT,
        origin: origin(),
    })
}

/// The tensors of a layer, by role.
struct Parts<'a> {
    name: String,
    roles: Roles,
    origin: &'a str,
}

impl Parts<'_> {
    fn build(mut self, config: &PeftConfig) -> Result<Layer, Error> {
        let target = Target::new(&self.name);
        let alpha = self.alpha()?;
        let hadamard = [Role::FirstLeft, Role::FirstRight, Role::SecondLeft];
        let hadamard = hadamard.iter().any(|role| self.roles.contains_key(role));
        let (first, second) = if hadamard {
            let first = self.factors(Role::FirstLeft, Role::FirstRight, Role::FirstCore)?;
            let second = self.factors(Role::SecondLeft, Role::SecondRight, Role::SecondCore)?;
            (first, Some(second))
        } else {
            (self.factors(Role::Up, Role::Down, Role::Mid)?, None)
        };
        let (shape, rank) = self.shape(&first)?;
        if let Some(second) = &second {
            let (other, _) = self.shape(second)?;
            if other != shape {
                return Err(self.unfit(&first, second).into());
            }
        }
        let scale = match alpha {
            Some(alpha) => alpha / rank as f64,
            None => config.scale(&target, rank).unwrap_or(1.0),
        };
        let kernel = shape[2..].iter().any(|&side| side > 1) || first.core.is_some();
        let kind = match second {
            Some(_) => LoraKind::LoHa,
            None if kernel => LoraKind::LoCon,
            None => LoraKind::Lora,
        };
        let change = Change {
            first,
            second,
            scale,
        };
        Ok(Layer {
            name: self.name,
            target,
            change,
            shape,
            rank,
            kind,
        })
    }

    fn alpha(&mut self) -> Result<Option<f64>, Error> {
        let Some(tensor) = self.roles.remove(&Role::Alpha) else {
            return Ok(None);
        };
        let (name, origin) = (tensor.name.clone(), self.origin.to_owned());
        let values = read(&tensor).map_err(|error| WeightsError::Tensor {
            name: name.clone(),
            reason: error.to_string(),
            origin: origin.clone(),
        })?;
        let value = f64::from(values.first().copied().unwrap_or(f32::NAN));
        if values.len() != 1 || !value.is_finite() {
            return Err(AdapterError::Alpha {
                name,
                value,
                origin,
            }
            .into());
        }
        Ok(Some(value))
    }

    /// Takes a pair and its core out of the layer.
    fn factors(&mut self, left: Role, right: Role, core: Role) -> Result<Factors, AdapterError> {
        let core = self.roles.remove(&core);
        Ok(Factors {
            // LoHa turns its left matrices around where there is a core.
            turned: core.is_some() && left != Role::Up,
            core,
            left: self.take(left)?,
            right: self.take(right)?,
        })
    }

    fn take(&mut self, role: Role) -> Result<Packed, AdapterError> {
        let present = self.roles.values().next();
        let present = present.map_or_else(|| self.name.clone(), |tensor| tensor.name.clone());
        self.roles.remove(&role).ok_or_else(|| {
            let ending = ROLES.iter().find(|(_, one)| *one == role);
            let ending = ending.map_or("", |(ending, _)| ending);
            AdapterError::Incomplete {
                name: format!("{}{ending}", self.name),
                present,
                origin: self.origin.to_owned(),
            }
        })
    }

    fn shape(&self, factors: &Factors) -> Result<(Vec<usize>, usize), AdapterError> {
        let shape = factors.shape();
        shape.ok_or_else(|| self.unfit_pair(&factors.left, &factors.right))
    }

    fn unfit(&self, first: &Factors, second: &Factors) -> AdapterError {
        self.unfit_pair(&first.left, &second.left)
    }

    fn unfit_pair(&self, left: &Packed, right: &Packed) -> AdapterError {
        AdapterError::Rank {
            left: left.name.clone(),
            left_shape: left.shape.to_vec(),
            right: right.name.clone(),
            right_shape: right.shape.to_vec(),
            origin: self.origin.to_owned(),
        }
    }
}

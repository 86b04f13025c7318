//! What the tensors of an adapter are, by the endings of their names.

use std::collections::BTreeMap;

use super::super::unread::Unread;

use crate::error::AdapterError;
use crate::weights::WeightSource;

/// What a tensor is to its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
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
    KronFirst,
    KronFirstLeft,
    KronFirstRight,
    KronSecond,
    KronSecondLeft,
    KronSecondRight,
    KronSecondCore,
    /// Lengths of the weight's rows or columns (`DoRA`).
    Magnitude,
    /// The whole change.
    Whole,
    WholeBias,
    /// Added to the layer's bias, scaled as the product is.
    UpBias,
    /// The weight and the bias that take the place of the model's.
    Anew,
    AnewBias,
}

/// Endings of names and what they say. Of kohya's programs and `LyCORIS`, peft, diffusers in three ages.
const ROLES: [(&str, Role); 35] = [
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_mid.weight", Role::Mid),
    (".alpha", Role::Alpha),
    (".lora_A.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_B.bias", Role::UpBias),
    (".lora_A", Role::Down),
    (".lora_B", Role::Up),
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
    (".lokr_w1", Role::KronFirst),
    (".lokr_w1_a", Role::KronFirstLeft),
    (".lokr_w1_b", Role::KronFirstRight),
    (".lokr_w2", Role::KronSecond),
    (".lokr_w2_a", Role::KronSecondLeft),
    (".lokr_w2_b", Role::KronSecondRight),
    (".lokr_t2", Role::KronSecondCore),
    (".dora_scale", Role::Magnitude),
    (".lora_magnitude_vector", Role::Magnitude),
    (".lora_magnitude_vector.weight", Role::Magnitude),
    (".diff", Role::Whole),
    (".diff_b", Role::WholeBias),
    (".w_norm", Role::Whole),
    (".b_norm", Role::WholeBias),
];

/// The same where peft writes the adapter's name behind them: `.lora_A.default.weight`.
const NAMED: [(&str, Role); 3] = [
    (".lora_A", Role::Down),
    (".lora_B", Role::Up),
    (".lora_magnitude_vector", Role::Magnitude),
];

/// What peft puts in front of a model's own names.
pub(super) const PEFT: &str = "base_model.model.";

/// What peft puts behind a module whose parameters it trains as a whole (`modules_to_save`, biases, norms).
const SAVED: [&str; 5] = [
    ".base_layer",
    ".modules_to_save.default",
    ".modules_to_save",
    ".ln_tuning_layers.default",
    ".ln_tuning_layers",
];

/// Parts of names and the methods they belong to, which are not merged.
const OTHERS: [(&str, &str); 24] = [
    (".oft_", "OFT"),
    (".boft_", "BOFT"),
    (".ia3_", "IA3"),
    (".on_input", "IA3"),
    (".glora_", "GLoRA"),
    (".a1.weight", "GLoRA"),
    (".a2.weight", "GLoRA"),
    (".b1.weight", "GLoRA"),
    (".b2.weight", "GLoRA"),
    (".vera_", "VeRA"),
    (".vblora_", "VB-LoRA"),
    (".randlora_", "RandLoRA"),
    (".fourierft_", "FourierFT"),
    (".waveft_", "WaveFT"),
    (".hra_", "HRA"),
    (".bone_", "Bone"),
    (".miss_", "MiSS"),
    (".road_", "RoAd"),
    (".shira_", "SHiRA"),
    (".c3a_", "C3A"),
    (".delora_", "DeLoRA"),
    (".gralora_", "GraLoRA"),
    (".q_layer.", "T-LoRA"),
    (".p_layer.", "T-LoRA"),
];

/// What the names of an embedding begin with that lies in a file of another kind: `bundle_emb.WORD.string_to_param.*`.
const BUNDLED: &str = "bundle_emb.";
/// How they go on behind the word.
const VECTORS: [&str; 4] = ["string_to_param.*", "emb_params", "clip_l", "clip_g"];

/// The layer that a tensor belongs to, and what it is to it.
pub(super) fn role(name: &str) -> Option<(&str, Role)> {
    let known = ROLES.iter().find_map(|ending| ends(name, ending));
    known.or_else(|| named(name)).or_else(|| anew(name))
}

/// The same where the adapter's name stands behind.
fn named(name: &str) -> Option<(&str, Role)> {
    let (name, kind) = name.rsplit_once('.')?;
    let (front, _) = name.rsplit_once('.')?;
    match kind {
        "weight" => NAMED.iter().find_map(|ending| ends(front, ending)),
        "bias" => ends(front, &(".lora_B", Role::UpBias)),
        _ => None,
    }
}

/// The layer of a parameter that peft trained as a whole: a file of peft keeps such under the model's own names.
fn anew(name: &str) -> Option<(&str, Role)> {
    let (layer, role) = match name.rsplit_once('.')? {
        (layer, "weight") => (layer, Role::Anew),
        (layer, "bias") => (layer, Role::AnewBias),
        _ => return None,
    };
    let ours = name.starts_with(PEFT) && other_method(name).is_none();
    let bare = SAVED.iter().find_map(|end| layer.strip_suffix(end));
    ours.then_some((bare.unwrap_or(layer), role))
}

fn ends<'a>(name: &'a str, (ending, role): &(&str, Role)) -> Option<(&'a str, Role)> {
    Some((name.strip_suffix(ending)?, *role))
}

/// How the tensor of `role` is called behind its layer.
pub(super) fn ending(role: Role) -> &'static str {
    let known = ROLES.iter().find(|(_, one)| *one == role);
    known.map_or("", |(ending, _)| ending)
}

/// The method that a tensor belongs to, if it is a known one that is not merged.
pub(super) fn other_method(name: &str) -> Option<&'static str> {
    let known = OTHERS.iter().find(|(part, _)| name.contains(part));
    known.map(|(_, method)| *method)
}

/// The tensors of a layer.
pub(super) type Roles = BTreeMap<Role, Unread>;

/// The tensors of a file.
#[derive(Default)]
pub(super) struct Grouped {
    /// Those of each layer.
    pub(super) layers: BTreeMap<String, Roles>,
    /// Those of each embedding, by its word.
    pub(super) words: BTreeMap<String, Vec<Unread>>,
    /// Names of all others.
    pub(super) left_out: Vec<String>,
}

impl Grouped {
    /// Sorts the tensors of `source`.
    pub(super) fn new(source: &WeightSource) -> Result<Self, AdapterError> {
        let mut grouped = Self::default();
        for tensor in source.packed() {
            grouped.add(tensor, source.origin())?;
        }
        // What scales a layer that is not there.
        let (layers, bare): (BTreeMap<_, _>, BTreeMap<_, _>) = grouped
            .layers
            .into_iter()
            .partition(|(_, roles)| roles.keys().any(|role| *role != Role::Alpha));
        let bare = bare.into_values().flat_map(BTreeMap::into_values);
        grouped.left_out.extend(bare.map(|tensor| tensor.name));
        grouped.layers = layers;
        Ok(grouped)
    }

    fn add(&mut self, tensor: &Unread, origin: &str) -> Result<(), AdapterError> {
        let name = &tensor.name;
        if let Some((word, vectors)) = bundled(name) {
            let mut tensor = tensor.clone();
            vectors.clone_into(&mut tensor.name);
            self.words.entry(word.to_owned()).or_default().push(tensor);
            return Ok(());
        }
        let Some((layer, role)) = role(name) else {
            if let Some(method) = other_method(name) {
                return Err(AdapterError::Method {
                    name: name.clone(),
                    method,
                    origin: origin.to_owned(),
                });
            }
            self.left_out.push(name.clone());
            return Ok(());
        };
        let roles = self.layers.entry(layer.to_owned()).or_default();
        match roles.insert(role, tensor.clone()) {
            None => Ok(()),
            Some(first) => Err(AdapterError::Repeated {
                target: layer.to_owned(),
                first: first.name,
                second: name.clone(),
                origin: origin.to_owned(),
            }),
        }
    }
}

/// The word and what follows it in the name of a bundled embedding's tensor.
fn bundled(name: &str) -> Option<(&str, &'static str)> {
    let name = name.strip_prefix(BUNDLED)?;
    let word = |end: &&'static str| Some((name.strip_suffix(*end)?.strip_suffix('.')?, *end));
    VECTORS.iter().find_map(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_tell_roles() {
        let layer = |name: &str| role(name).map(|(layer, role)| (layer.to_owned(), role));
        let is = |role| Some(("unet.a".to_owned(), role));
        assert_eq!(layer("unet.a.lora_A.default.weight"), is(Role::Down));
        assert_eq!(layer("unet.a.lora_B.my_style.weight"), is(Role::Up));
        assert_eq!(
            layer("unet.a.lora_magnitude_vector.default.weight"),
            is(Role::Magnitude)
        );
        assert_eq!(layer("unet.a.lora_magnitude_vector"), is(Role::Magnitude));
        assert_eq!(layer("unet.a.diff_b"), is(Role::WholeBias));
        assert_eq!(layer("unet.a.lokr_w2_a"), is(Role::KronSecondLeft));
        assert_eq!(layer("unet.a.weight"), None);
        assert_eq!(layer("unet.a.lora_B.bias"), is(Role::UpBias));
        assert_eq!(layer("unet.a.lora_B.default.bias"), is(Role::UpBias));
        assert_eq!(layer("unet.a.lora_A.bias"), None);
        let saved = |role| Some(("base_model.model.a".to_owned(), role));
        assert_eq!(layer("base_model.model.a.weight"), saved(Role::Anew));
        for end in ["base_layer", "modules_to_save", "modules_to_save.default"] {
            let name = format!("base_model.model.a.{end}.bias");
            assert_eq!(layer(&name), saved(Role::AnewBias), "{name}");
        }
        assert_eq!(layer("base_model.model.a.oft_R.weight"), None);
        assert_eq!(ending(Role::Up), ".lora_up.weight");
    }

    #[test]
    fn bundled_words_may_have_dots() {
        let name = "bundle_emb.v1.5 style.string_to_param.*";
        assert_eq!(bundled(name), Some(("v1.5 style", "string_to_param.*")));
        assert_eq!(bundled("bundle_emb.w.clip_g"), Some(("w", "clip_g")));
        assert_eq!(bundled("bundle_emb.w.clip_l_out"), None);
        assert_eq!(bundled("w.clip_l"), None);
    }
}

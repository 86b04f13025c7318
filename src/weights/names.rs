//! Names: of our modules, of diffusers folders, of folders from before.
//!
//! Data to data: nothing here reads a tensor.
//!
//! - Our modules carry the diffusers names but for a few fields, since a Rust field is no number and has no capitals ([`checkpoint_name`],
//!   [`module_name`]).
//! - VAE and DDPM folders from before diffusers 0.13 call their attention `query`, `key`, `value`, `proj_attn` ([`canonical_name`]).
//! - CLIP text encoders come with and without the prefix `text_model.` (`canonical`).
//! - What whole models have beside a text encoder is left out (`canonical`).
//! - T5's table of tokens has two names; files have either or both (`canonical`).

use std::collections::HashMap;

use super::unread::Unread;

use super::WeightSource;
use crate::error::{Error, WeightsError};

/// Module path and checkpoint path of the fields that differ.
const FIELDS: [(&str, &str); 17] = [
    (".ff.proj.", ".ff.net.0.proj."),
    (".ff.out.", ".ff.net.2."),
    (".ff_context.proj.", ".ff_context.net.0.proj."),
    (".ff_context.out.", ".ff_context.net.2."),
    (".ff_in.proj.", ".ff_in.net.0.proj."),
    (".ff_in.out.", ".ff_in.net.2."),
    (".to_out.", ".to_out.0."),
    (".conv1.norm.", ".conv1.0."),
    (".conv1.conv.", ".conv1.2."),
    (".conv2.norm.", ".conv2.0."),
    (".conv2.conv.", ".conv2.3."),
    (".conv3.norm.", ".conv3.0."),
    (".conv3.conv.", ".conv3.3."),
    (".conv4.norm.", ".conv4.0."),
    (".conv4.conv.", ".conv4.3."),
    (".self_attention.", ".SelfAttention."),
    (".dense.", ".DenseReluDense."),
];

/// Old and present names of an attention's layers.
const ATTENTION: [(&str, &str); 4] = [
    (".query.", ".to_q."),
    (".key.", ".to_k."),
    (".value.", ".to_v."),
    (".proj_attn.", ".to_out.0."),
];

/// A second name of a tensor that modules hold once, and the name that they have it by.
const TWINS: [(&str, &str); 1] = [("encoder.embed_tokens.weight", "shared.weight")];

/// Prefix of the text encoder, which some files leave out.
const TEXT_PREFIX: &str = "text_model.";

/// The checkpoint's name of a parameter of our modules; `norm` when a norm layer holds it.
pub fn checkpoint_name(path: &str, norm: bool) -> String {
    let name = match path.rsplit_once('.') {
        Some((layer, "gamma")) if norm => format!(".{layer}.weight"),
        Some((layer, "beta")) if norm => format!(".{layer}.bias"),
        None if norm && path == "gamma" => ".weight".to_owned(),
        None if norm && path == "beta" => ".bias".to_owned(),
        _ => format!(".{path}"),
    };
    let numbered = FIELDS.iter().any(|(_, theirs)| name.contains(theirs));
    if numbered {
        return name[1..].to_owned();
    }
    replace(name, FIELDS)
}

/// The path in our modules of a checkpoint's parameter. Norms keep `weight` and `bias`: a name does not say what holds it.
pub fn module_name(name: &str) -> String {
    replace(
        format!(".{name}"),
        FIELDS.map(|(ours, theirs)| (theirs, ours)),
    )
}

/// Today's diffusers name of a tensor of a diffusers folder of any age.
pub fn canonical_name(name: &str) -> String {
    if name.contains("attentions.") || name.contains(".attn") {
        replace(format!(".{name}"), ATTENTION)
    } else {
        name.to_owned()
    }
}

/// Applies replacements to a name that starts with a dot, and takes the dot off.
fn replace<const N: usize>(mut name: String, pairs: [(&str, &str); N]) -> String {
    for (from, to) in pairs {
        name = name.replace(from, to);
    }
    name.split_off(1)
}

/// Whether a tensor is a buffer that is computed, not learned.
fn is_buffer(name: &str) -> bool {
    name.ends_with("position_ids")
}

/// A tensor that tells a text encoder, and how the names begin that whole models have beside it: CLIP's picture half, T5's decoder.
const HALVES: [(&str, &[&str]); 2] = [
    (
        "embeddings.token_embedding.weight",
        &[
            "vision_model.",
            "visual_projection.",
            "text_projection",
            "logit_scale",
        ],
    ),
    (
        "shared.weight",
        // The last two are what node programs save beside it.
        &["decoder.", "lm_head.", "logit_scale", "spiece_model"],
    ),
];

/// Beginnings of names that belong to the other half of a whole model, for a module that is one half; as transformers leaves them out.
fn other_half(asked: &HashMap<&str, &[usize]>) -> &'static [&'static str] {
    let tells = |marker: &str| asked.keys().any(|name| name.ends_with(marker));
    let half = HALVES.iter().find(|(marker, _)| tells(marker));
    half.map_or(&[], |(_, others)| others)
}

/// The tensors of `source` under today's names, for a module that asks for `asked` names and shapes.
///
/// # Errors
///
/// When two tensors come to the same name.
pub(crate) fn canonical(
    source: &WeightSource,
    asked: &HashMap<&str, &[usize]>,
) -> Result<HashMap<String, Unread>, Error> {
    let prefixed = prefixed(asked.keys().copied());
    let others = other_half(asked);
    let is_other = |name: &str| {
        let begins = others.iter().any(|other| name.starts_with(other));
        begins && !asked.contains_key(name)
    };
    let mut tensors = HashMap::new();
    let own = |one: &&Unread| !is_buffer(&one.name) && !is_other(&one.name);
    for tensor in source.packed().filter(own) {
        let name = aligned(canonical_name(&tensor.name), prefixed);
        let tensor = squeezed(tensor.clone(), asked.get(name.as_str()).copied());
        if tensors.insert(name.clone(), tensor).is_some() {
            let origin = source.origin().to_owned();
            return Err(WeightsError::Duplicate { name, origin }.into());
        }
    }
    join_twins(&mut tensors, asked);
    Ok(tensors)
}

/// Has tensors with two names under the one that is asked for, unless they are of another shape.
fn join_twins(tensors: &mut HashMap<String, Unread>, asked: &HashMap<&str, &[usize]>) {
    for (twin, name) in TWINS {
        let shape = tensors.get(twin).map(|tensor| tensor.shape.to_vec());
        let fits = shape.as_deref() == asked.get(name).copied();
        if let Some(tensor) = fits.then(|| tensors.remove(twin)).flatten() {
            tensors.entry(name.to_owned()).or_insert(tensor);
        }
    }
}

/// Whether the module is a text encoder, and if so whether its names have the prefix.
fn prefixed<'a>(mut asked: impl Iterator<Item = &'a str>) -> Option<bool> {
    let marker = "embeddings.token_embedding.weight";
    let name = asked.find(|name| name.ends_with(marker))?;
    Some(name.starts_with(TEXT_PREFIX))
}

/// Puts the text encoder's prefix on or takes it off, as the module has it.
fn aligned(name: String, prefixed: Option<bool>) -> String {
    let inside = ["embeddings.", "encoder.", "final_layer_norm."];
    match (prefixed, name.strip_prefix(TEXT_PREFIX)) {
        (Some(false), Some(bare)) => bare.to_owned(),
        (Some(true), None) if inside.iter().any(|part| name.starts_with(part)) => {
            format!("{TEXT_PREFIX}{name}")
        }
        _ => name,
    }
}

/// Takes the unit sides off a 1x1 convolution `[outputs, inputs, 1, 1]` where the module has the linear layer that it is: the
/// projections of SD 1.x transformers and of early autoencoders' attention.
fn squeezed(tensor: Unread, asked: Option<&[usize]>) -> Unread {
    match (&tensor.shape.to_vec()[..], asked) {
        (&[outputs, inputs, 1, 1], Some([_, _])) => tensor.reshaped([outputs, inputs]),
        _ => tensor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIRS: [(&str, &str); 6] = [
        ("a.ff.proj.weight", "a.ff.net.0.proj.weight"),
        ("a.ff_in.out.bias", "a.ff_in.net.2.bias"),
        ("ff.out.bias", "ff.net.2.bias"),
        ("a.attn1.to_out.weight", "a.attn1.to_out.0.weight"),
        ("to_out.bias", "to_out.0.bias"),
        ("a.conv_out.weight", "a.conv_out.weight"),
    ];

    #[test]
    fn fields_rename_in_both_directions() {
        for (ours, theirs) in PAIRS {
            assert_eq!(checkpoint_name(ours, false), theirs);
            assert_eq!(module_name(theirs), ours);
            assert_eq!(checkpoint_name(theirs, false), theirs, "already renamed");
        }
    }

    #[test]
    fn norms_are_called_as_in_torch() {
        assert_eq!(checkpoint_name("a.norm.gamma", true), "a.norm.weight");
        assert_eq!(checkpoint_name("beta", true), "bias");
        assert_eq!(checkpoint_name("a.gamma", false), "a.gamma");
    }

    #[test]
    fn old_attention_gets_present_names() {
        let old = "encoder.mid_block.attentions.0.proj_attn.weight";
        let new = "encoder.mid_block.attentions.0.to_out.0.weight";
        assert_eq!(canonical_name(old), new);
        assert_eq!(canonical_name(new), new);
        assert_eq!(canonical_name("a.key.weight"), "a.key.weight");
    }

    #[test]
    fn text_prefix_follows_the_module() {
        let name = "text_model.final_layer_norm.bias".to_owned();
        let bare = "final_layer_norm.bias".to_owned();
        assert_eq!(aligned(name.clone(), Some(false)), bare);
        assert_eq!(aligned(bare.clone(), Some(true)), name);
        assert_eq!(aligned(name.clone(), None), name);
        let projection = "text_projection.weight".to_owned();
        assert_eq!(aligned(projection.clone(), Some(true)), projection);
    }
}

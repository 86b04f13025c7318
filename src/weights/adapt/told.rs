//! What a file is, by the names of its tensors, for those to whom it was given as something else.

use super::{
    hypernetwork, kinds,
    roles::{Role, other_method, role},
};
use crate::weights::WeightSource;

/// What the names of Custom Diffusion's tensors have in them.
pub(super) const CUSTOM_DIFFUSION: &str = "_custom_diffusion";

/// What the tensors of an embedding are called, or begin with.
const EMBEDDING: [&str; 4] = ["emb_params", "string_to_param.", "clip_l", "clip_g"];

/// What helps who gave `source` as an adapter that it is not; `otherwise` where nothing is known of it.
pub(crate) fn hint(source: &WeightSource, otherwise: &'static str) -> &'static str {
    if hypernetwork::is_one(source) {
        hypernetwork::HINT
    } else if kinds::is_ip_adapter(source) {
        kinds::other(source).unwrap_or(otherwise)
    } else if is_lora(source) {
        "this is a LoRA: give it by `--lora`"
    } else if source.names().any(|name| name.contains(CUSTOM_DIFFUSION)) {
        "this is Custom Diffusion: give it by `--custom-diffusion`"
    } else if is_embedding(source) {
        "this is an embedding: give it by `--embedding`"
    } else {
        kinds::other(source).unwrap_or(otherwise)
    }
}

/// Whether more tensors of `source` are a `LoRA`'s, or a kin's that is not merged, than not: checkpoints with a stray one are none.
pub(super) fn is_lora(source: &WeightSource) -> bool {
    let (mut layers, mut own) = (0, 0);
    for name in source.names() {
        let role = role(name).map(|(_, role)| role);
        let other = role.is_none() && other_method(name).is_some();
        layers += usize::from(other || role.is_some_and(|role| role != Role::Alpha));
        own += usize::from(other || role.is_some());
    }
    layers > 0 && 2 * own >= source.len()
}

fn is_embedding(source: &WeightSource) -> bool {
    let marked = |name: &str| EMBEDDING.iter().any(|start| name.starts_with(start));
    let mut names = source.names();
    match (names.next(), names.next()) {
        (Some(only), None) => {
            let sides = source.shape(only).map_or(0, |shape| shape.len());
            // A tensor of a layer, and of methods that have no names here.
            let layer = matches!(
                only.rsplit_once('.'),
                Some((_, "weight" | "bias" | "delta"))
            ) || only.contains("lora");
            marked(only) || (1..=2).contains(&sides) && !layer
        }
        _ => source.names().any(marked),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::weights::unread::Unread;

    fn source(names: &[&str]) -> WeightSource {
        let tensor = |name: &&str| Unread::of(TensorData::from([[0.0_f32; 4]; 2]), *name);
        let tensors = names.iter().map(tensor).collect();
        WeightSource::from_tensors("test".into(), tensors).unwrap()
    }

    #[test]
    fn each_kind_is_sent_to_its_own_option() {
        for (names, expected) in [
            (
                &["unet.a.lora_A.weight", "unet.a.lora_B.weight"][..],
                "--lora",
            ),
            (&["lora_unet_a.a1.weight"], "--lora"),
            (
                &["a.attn2.to_k_custom_diffusion.weight"],
                "--custom-diffusion",
            ),
            (&["<cat>"], "--embedding"),
            (&["clip_g", "clip_l"], "--embedding"),
            (&["string_to_param.zzq", "x"], "--embedding"),
            (&["768.0.linear.0.weight"], "hypernetwork"),
            (&["conv_in.weight"], "nothing"),
            (&["a.weight", "b.weight"], "nothing"),
        ] {
            let hint = hint(&source(names), "nothing");
            assert!(hint.contains(expected), "{names:?}: {hint}");
        }
    }

    #[test]
    fn a_model_with_a_stray_pair_is_no_lora() {
        let pair = ["a.lora_A.weight", "a.lora_B.weight"];
        assert!(is_lora(&source(&pair)));
        let model = ["conv_in.weight", "conv_in.bias", "conv_out.weight"];
        assert!(!is_lora(&source(&[&pair[..], &model].concat())));
        assert!(!is_lora(&source(&["a.alpha"])));
    }
}

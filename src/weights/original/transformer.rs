//! A transformer's single file, and what node programs keep in it beside the transformer: text encoders, an autoencoder, what belongs to
//! none.
//!
//! **Source.** Checkpoints of FLUX.1 and Stable Diffusion 3 as `ComfyUI` saves them.

use super::{
    AUTOENCODER, Elements, Parts, Piece, Placement, UNET, VAE, WeightSource, autoencoder,
    is_leftover, split_by, unrecognised,
};
use crate::error::Error;

/// The part of a model folder that the denoiser is.
const PART: &str = "transformer";

/// What stands in front of the denoiser's names; many files leave it out.
const PREFIXES: [&str; 2] = [UNET, "diffusion_model."];

/// Levels of the autoencoder.
const LEVELS: usize = 4;

/// How the names of all text encoders begin.
const ENCODERS: &str = "text_encoders.";

/// What programs leave among the text encoders.
const LEFT: [&str; 4] = ["logit_scale", "position_ids", "spiece_model", "scaled_fp8"];

/// What tells a family's single files.
pub(in crate::weights) struct Layout {
    /// Beginnings of the text encoders' names, and the parts that they are.
    pub(in crate::weights) encoders: &'static [(&'static str, &'static str)],
    /// Beginnings of the transformer's own names.
    pub(in crate::weights) own: &'static [&'static str],
    /// What a file of it is called, with its article.
    pub(in crate::weights) family: &'static str,
}

/// The shape of the transformer's tensor `name`, whatever stands in front of its name.
pub(in crate::weights) fn shape(source: &WeightSource, name: &str) -> Option<Vec<usize>> {
    let behind = |prefix: &&str| source.shape(&format!("{prefix}{name}"));
    source
        .shape(name)
        .or_else(|| PREFIXES.iter().find_map(behind))
}

/// A name behind the prefix that says that it is the transformer's.
fn prefixed(name: &str) -> Option<&str> {
    PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))
}

impl Layout {
    /// Where a tensor of a file belongs; `pieces` says what becomes of the transformer's.
    pub(in crate::weights) fn place(
        &self,
        name: &str,
        pieces: impl Fn(&str) -> Option<Vec<Piece>>,
    ) -> Placement {
        let mut encoders = self.encoders.iter();
        let encoder = encoders.find_map(|&(prefix, part)| Some((part, name.strip_prefix(prefix)?)));
        if let Some((part, tail)) = encoder {
            return text(part, tail);
        }
        let left = name.starts_with(ENCODERS) && LEFT.iter().any(|one| name.contains(one));
        if left || is_leftover(name) {
            return Placement::Leftover;
        }
        let mut prefixes = AUTOENCODER.iter();
        if let Some(tail) = prefixes.find_map(|prefix| name.strip_prefix(prefix)) {
            return if is_leftover(&format!("{VAE}{tail}")) {
                Placement::Leftover
            } else {
                autoencoder(tail, LEVELS, false)
            };
        }
        let pieces = pieces(prefixed(name).unwrap_or(name));
        pieces.map_or(Placement::Unknown, |pieces| Placement::Part(PART, pieces))
    }

    /// Cuts a file into its parts by `place`. What belongs to none is told in [`Parts::strangers`]; nothing is read.
    ///
    /// # Errors
    ///
    /// When a tensor within the transformer is not in the layout, or two come to one name.
    pub(in crate::weights) fn split(
        &self,
        source: &WeightSource,
        place: impl Fn(&str) -> Placement,
    ) -> Result<Parts, Error> {
        let parts = split_by(source, place)?;
        let own = |name: &String| {
            let begins = |one: &&str| name.starts_with(one);
            prefixed(name).is_some() || self.own.iter().any(begins)
        };
        let (inside, strangers): (Vec<_>, Vec<_>) = parts.strangers.into_iter().partition(own);
        if !inside.is_empty() {
            return Err(unrecognised(source, inside, self.family));
        }
        Ok(Parts { strangers, ..parts })
    }

    /// The transformer out of `parts`, which `source` was cut into: the weights of a part, where nothing else should be.
    ///
    /// # Errors
    ///
    /// When there are strangers.
    pub(in crate::weights) fn alone(
        &self,
        source: &WeightSource,
        mut parts: Parts,
    ) -> Result<WeightSource, Error> {
        if !parts.strangers.is_empty() {
            return Err(unrecognised(source, parts.strangers, self.family));
        }
        let none = || WeightSource::from_tensors(source.origin().to_owned(), Vec::new());
        parts.parts.remove(PART).map_or_else(none, Ok)
    }
}

/// A text encoder's tensor, which has diffusers' name already. What CLIP-L makes of a whole text is not projected there.
fn text(part: &'static str, tail: &str) -> Placement {
    let unread = part == "text_encoder" && tail.starts_with("text_projection.");
    if unread || LEFT.iter().any(|one| tail.ends_with(one)) {
        return Placement::Leftover;
    }
    let (name, cut) = (tail.to_owned(), Elements::Whole);
    Placement::Part(part, vec![Piece { name, cut }])
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::weights::{dit, flux, mmdit, unread::Unread};

    fn source(names: &[&str]) -> WeightSource {
        let tensor = |name: &&str| Unread::of(TensorData::from([0.0_f32; 6]), *name);
        let tensors = names.iter().map(tensor).collect();
        WeightSource::from_tensors("test".into(), tensors).unwrap()
    }

    #[test]
    fn what_node_programs_leave_there_is_known() {
        for name in [
            "text_encoders.clip_l.logit_scale",
            "text_encoders.t5xxl.logit_scale",
            "text_encoders.t5xxl.spiece_model",
            "text_encoders.t5xxl.transformer.scaled_fp8",
            "text_encoders.clip_l.transformer.text_model.embeddings.position_ids",
            "text_encoders.clip_l.transformer.text_projection.weight",
            "model.diffusion_model.scaled_fp8",
            "model_sampling.sigmas",
            "model_ema.decay",
            "vae.loss.logvar",
        ] {
            assert_eq!(flux::place(name), Placement::Leftover, "{name}");
            assert_eq!(mmdit::place(name, 24), Placement::Leftover, "{name}");
        }
        assert_eq!(dit::place("model_ema.decay"), Placement::Leftover);
    }

    type Split = fn(&WeightSource) -> Result<Parts, Error>;

    const FAMILIES: [(Split, &str); 3] = [
        (flux::split, "double_blocks.0.img_attn.qkv."),
        (mmdit::split, "joint_blocks.0.x_block.attn.qkv."),
        (dit::split, "blocks.0.attn.qkv."),
    ];

    #[test]
    fn strangers_beside_a_transformer_are_told_and_those_within_it_refused() {
        for (split, layer) in FAMILIES {
            for prefix in ["", "model.diffusion_model.", "diffusion_model."] {
                let (own, odd) = (
                    format!("{prefix}{layer}weight"),
                    format!("{prefix}{}odd.weight", layer.replace("attn.", "")),
                );
                let parts = split(&source(&[&own, "stranger.weight"])).unwrap();
                assert_eq!(parts.parts[PART].len(), 3, "{own}");
                assert_eq!(parts.strangers, ["stranger.weight"]);
                let error = split(&source(&[&own, "stranger.weight", &odd])).unwrap_err();
                let text = error.to_string();
                let listed = text.lines().next().unwrap_or_default();
                assert!(listed.contains(&odd), "{text}");
                assert!(!listed.contains("stranger"), "{text}");
            }
        }
    }

    #[test]
    fn a_transformers_tensors_are_found_behind_every_prefix() {
        for prefix in ["", "model.diffusion_model.", "diffusion_model."] {
            let named = |name: &str| format!("{prefix}{name}");
            let file = source(&[&named("double_blocks.0.img_attn.qkv.weight")]);
            assert!(flux::is_original(&file), "{prefix}");
            let file = source(&[&named("joint_blocks.0.x_block.attn.qkv.weight")]);
            assert!(mmdit::is_original(&file), "{prefix}");
        }
    }
}

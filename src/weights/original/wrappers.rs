//! What compilers, trainers and node programs put around the names of a checkpoint.

use std::borrow::Cow;

use super::{UNET, WeightSource};
use crate::error::Error;

/// Segments of names that stand for a wrapper around a module: `torch.compile`, data parallel, sharded and checkpointed training.
const WRAPPERS: [&str; 5] = [
    "_orig_mod",
    "module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
];

/// Beginnings of a `UNet`'s names, for files that hold it without its own prefix.
const BARE: [&str; 6] = [
    "input_blocks.",
    "middle_block.",
    "output_blocks.",
    "time_embed.",
    "label_emb.",
    "out.",
];

/// The end of a denoiser's prefix, which some files have alone.
const SHORT: &str = "diffusion_model.";

/// A tensor of a `DiT`, whose program puts nothing in front of its names.
const DIT: &str = "blocks.0.attn.qkv.weight";

/// The tensors of a checkpoint under the names of the training program, whatever was put around them: wrappers' names are taken out, a
/// prefix that all names have (`ema.`, `state_dict.`) is taken off, a denoiser's own is made whole, a `UNet` that stands alone gets it, a `DiT`
/// loses it. Nothing is read.
///
/// # Errors
///
/// When two tensors come to one name.
pub fn unwrapped(source: &WeightSource) -> Result<WeightSource, Error> {
    let outer = Outer::of(source);
    if matches!(outer, Outer::None) && !source.names().any(is_wrapped) {
        return Ok(source.clone());
    }
    let renamed = source.packed().map(|tensor| {
        let mut tensor = tensor.clone();
        tensor.name = outer.off(&inner(&tensor.name)).into_owned();
        tensor
    });
    WeightSource::from_tensors(source.origin().to_owned(), renamed.collect())
}

/// Tensors of the parts of a diffusers folder, one a kind, whose names tell what stands in front of all.
const SIGNS: [&str; 6] = [
    "text_model.embeddings.token_embedding.weight",
    "encoder.block.0.layer.0.layer_norm.weight",
    "decoder.conv_in.weight",
    "conv_in.weight",
    "context_embedder.weight",
    "pos_embed.proj.weight",
];

/// A part of a diffusers folder without what stands in front of all of its names: `unet.`, as programs save one part of several, or
/// `text_encoders.t5xxl.transformer.`. Nothing is read.
///
/// # Errors
///
/// When two tensors come to one name.
pub fn bared(source: &WeightSource) -> Result<WeightSource, Error> {
    let front = SIGNS.iter().find_map(|sign| {
        let mut names = source.names();
        names.find_map(|name| name.strip_suffix(sign).map(str::to_owned))
    });
    let Some(front) = front.filter(|front| front.ends_with('.')) else {
        return Ok(source.clone());
    };
    if !source.names().all(|name| name.starts_with(&front)) {
        return Ok(source.clone());
    }
    let renamed = source.packed().map(|tensor| {
        let mut tensor = tensor.clone();
        tensor.name.drain(..front.len());
        tensor
    });
    WeightSource::from_tensors(source.origin().to_owned(), renamed.collect())
}

fn is_wrapped(name: &str) -> bool {
    name.split('.').any(|segment| WRAPPERS.contains(&segment))
}

/// A name without the segments of wrappers.
pub(crate) fn inner(name: &str) -> Cow<'_, str> {
    if !is_wrapped(name) {
        return name.into();
    }
    let segments = name
        .split('.')
        .filter(|segment| !WRAPPERS.contains(segment));
    segments.collect::<Vec<_>>().join(".").into()
}

/// How all names of a file differ from those of the training program.
enum Outer {
    /// Not at all.
    None,
    /// They stand behind this.
    Behind(String),
    /// Those of the denoiser have the end of its prefix alone.
    Short,
    /// Those of a `UNet` lack its prefix.
    Bare,
}

impl Outer {
    fn of(source: &WeightSource) -> Self {
        let names = || source.names().map(inner);
        let of_dit = |prefix: &&str| {
            let sign = format!("{prefix}{DIT}");
            names().any(|name| name == sign.as_str())
        };
        if let Some(prefix) = [UNET, SHORT].iter().find(|prefix| of_dit(prefix)) {
            return Self::Behind((*prefix).to_owned());
        }
        if names().any(|name| name.starts_with(UNET)) {
            return Self::None;
        }
        let behind = names().find_map(|name| {
            let start = name.find(UNET)?;
            name[..start]
                .ends_with('.')
                .then(|| name[..start].to_owned())
        });
        if let Some(prefix) = behind {
            return Self::Behind(prefix);
        }
        let stands = |start: &str| names().any(|name| name.starts_with(start));
        if stands(SHORT) {
            return Self::Short;
        }
        if stands(BARE[0]) {
            return Self::Bare;
        }
        Self::None
    }

    fn off<'a>(&self, name: &'a str) -> Cow<'a, str> {
        match self {
            Self::Behind(prefix) => name.strip_prefix(prefix.as_str()).unwrap_or(name).into(),
            Self::Short => match name.strip_prefix(SHORT) {
                Some(tail) => format!("{UNET}{tail}").into(),
                None => name.into(),
            },
            Self::Bare if BARE.iter().any(|start| name.starts_with(start)) => {
                format!("{UNET}{name}").into()
            }
            Self::None | Self::Bare => name.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(of: &[&str]) -> WeightSource {
        use crate::weights::unread::Unread;
        use burn::tensor::TensorData;
        let tensor = |name: &&str| {
            let data = TensorData::from([0.0_f32]);
            Unread::of(data, *name)
        };
        let tensors = of.iter().map(tensor).collect();
        WeightSource::from_tensors("test".into(), tensors).unwrap()
    }

    fn names(of: &[&str]) -> Vec<String> {
        let unwrapped = unwrapped(&source(of)).unwrap();
        unwrapped.names().map(str::to_owned).collect()
    }

    #[test]
    fn a_part_loses_what_stands_in_front_of_all_its_names() {
        let bare = |of: &[&str]| -> Vec<String> {
            let bared = bared(&source(of)).unwrap();
            bared.names().map(str::to_owned).collect()
        };
        for (front, own) in [
            ("unet.", ["conv_in.weight", "conv_out.bias"]),
            ("vae.", ["decoder.conv_in.weight", "encoder.conv_in.weight"]),
            (
                "text_encoders.t5xxl.transformer.",
                ["encoder.block.0.layer.0.layer_norm.weight", "shared.weight"],
            ),
            (
                "transformer.",
                ["context_embedder.weight", "x_embedder.bias"],
            ),
        ] {
            let fronted = own.map(|name| format!("{front}{name}"));
            assert_eq!(bare(&fronted.each_ref().map(String::as_str)), own);
            assert_eq!(bare(&own), own, "nothing stands in front");
            let other = [&fronted[0], "stranger"];
            assert_eq!(bare(&other).len(), 2);
            assert!(bare(&other).contains(&fronted[0]));
        }
    }

    #[test]
    fn what_stands_around_names_is_taken_off() {
        let plain = [
            "first_stage_model.encoder.conv_in.bias",
            "model.diffusion_model.input_blocks.0.0.weight",
        ];
        for wrapped in [
            [
                "first_stage_model._orig_mod.encoder.conv_in.bias",
                "model.diffusion_model._orig_mod.input_blocks.0.0.weight",
            ],
            [
                "module.first_stage_model.encoder.conv_in.bias",
                "module.model.diffusion_model.input_blocks.0.0.weight",
            ],
            [
                "ema.first_stage_model.encoder.conv_in.bias",
                "ema.model.diffusion_model.input_blocks.0.0.weight",
            ],
            [
                "first_stage_model.encoder.conv_in.bias",
                "diffusion_model.input_blocks.0.0.weight",
            ],
            [
                "first_stage_model.encoder.conv_in.bias",
                "input_blocks.0.0.weight",
            ],
            plain,
        ] {
            assert_eq!(names(&wrapped), plain);
        }
    }

    #[test]
    fn a_transformer_has_the_prefix_of_its_program() {
        let bare = ["blocks.0.attn.qkv.weight", "pos_embed"];
        for prefix in ["model.diffusion_model.", "diffusion_model.", ""] {
            let prefixed = bare.map(|name| format!("{prefix}{name}"));
            assert_eq!(names(&prefixed.each_ref().map(String::as_str)), bare);
        }
        let whole = "model.diffusion_model.double_blocks.0.img_mod.lin.bias";
        assert_eq!(
            names(&["diffusion_model.double_blocks.0.img_mod.lin.bias"]),
            [whole]
        );
    }

    #[test]
    fn an_average_beside_the_model_keeps_its_prefix() {
        let both = [
            "ema.model.diffusion_model.out.0.bias",
            "model.diffusion_model.out.0.bias",
        ];
        assert_eq!(names(&both), both);
    }
}

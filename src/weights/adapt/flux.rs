//! Adapters of FLUX under the names of its program, as those of diffusers.
//!
//! kohya's scripts write them flat (`lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight`), node programs dotted
//! (`diffusion_model.double_blocks.0.…`), `XLabs`' trainer by its processors (`double_blocks.0.processor.qkv_lora1.down.weight`). A layer that one
//! tensor holds there becomes several here: what makes the outputs is cut, what reads the inputs is theirs in common.

use crate::weights::unread::Unread;

use super::roles::{Role, role};
use crate::error::Error;
use crate::weights::WeightSource;
use crate::weights::flux::{layer, pieces};
use crate::weights::original::{Elements, Piece, cut};

/// Beginnings of the names, of two that begin alike the longer one first.
const PREFIXES: [&str; 6] = [
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "lora_unet_",
    "unet.",
];

/// What `XLabs`' processors are called, and the layers that they stand at: of a block with two streams, and of one with one.
const PROCESSORS: [(&str, &str, &str); 6] = [
    ("double_blocks_", "processor_qkv_lora1", "img_attn_qkv"),
    ("double_blocks_", "processor_proj_lora1", "img_attn_proj"),
    ("double_blocks_", "processor_qkv_lora2", "txt_attn_qkv"),
    ("double_blocks_", "processor_proj_lora2", "txt_attn_proj"),
    ("single_blocks_", "processor_qkv_lora", "qkv"),
    ("single_blocks_", "processor_proj_lora", "linear2"),
];

/// Query, key and value of a block with one stream, which `XLabs`' processors have without the feed-forward layer.
const QKV: [&str; 3] = ["to_q", "to_k", "to_v"];

/// Endings of `XLabs`' tensors, and ours.
const ENDINGS: [(&str, &str, Role); 2] = [
    (".down.weight", ".lora_down.weight", Role::Down),
    (".up.weight", ".lora_up.weight", Role::Up),
];

/// The tensors of an adapter, those that have names of FLUX' program under diffusers'. Nothing is read.
///
/// # Errors
///
/// When two tensors come to one name.
pub(super) fn renamed(source: &WeightSource) -> Result<WeightSource, Error> {
    renamed_by(source, &["double_blocks", "single_blocks"], layers)
}

/// The same of a program whose blocks are called so: `layers` gives the layers of ours that one of an adapter means.
///
/// # Errors
///
/// When two tensors come to one name.
pub(super) fn renamed_by(
    source: &WeightSource,
    blocks: &[&str],
    layers: impl Fn(&str) -> Option<Vec<Piece>>,
) -> Result<WeightSource, Error> {
    let of_program = |name: &str| blocks.iter().any(|kind| name.contains(kind));
    if !source.names().any(of_program) {
        return Ok(source.clone());
    }
    let tensors = source
        .packed()
        .flat_map(|tensor| match tensors(tensor, &layers) {
            Some(tensors) => tensors,
            None => vec![tensor.clone()],
        });
    WeightSource::from_tensors(source.origin().to_owned(), tensors.collect())
}

/// What a tensor becomes, if its layer is one of the program's.
fn tensors(tensor: &Unread, layers: impl Fn(&str) -> Option<Vec<Piece>>) -> Option<Vec<Unread>> {
    let name = tensor.name.as_str();
    let of_processor = ENDINGS.iter().find_map(|&(theirs, ours, role)| {
        let stem = name.strip_suffix(theirs)?;
        stem.contains(".processor.").then_some((stem, ours, role))
    });
    let (stem, ending, role) = if let Some(found) = of_processor {
        found
    } else {
        let (stem, role) = role(name)?;
        (stem, &name[stem.len()..], role)
    };
    let pieces = layers(stem)?.into_iter().map(|piece| {
        let target = piece.name.strip_suffix(".weight").unwrap_or(&piece.name);
        let name = format!("transformer.{target}{ending}");
        let elements = if makes_outputs(role) {
            piece.cut
        } else {
            Elements::Whole
        };
        cut(
            tensor,
            Piece {
                name,
                cut: elements,
            },
        )
    });
    Some(pieces.collect())
}

/// Whether the rows of such a tensor are the layer's outputs.
pub(super) fn makes_outputs(role: Role) -> bool {
    matches!(
        role,
        Role::Up
            | Role::FirstLeft
            | Role::SecondLeft
            | Role::Whole
            | Role::WholeBias
            | Role::Anew
            | Role::AnewBias
    )
}

/// A layer's name without what programs put in front of it, its dots as underscores.
pub(super) fn flattened(stem: &str) -> String {
    let bare = PREFIXES.iter().fold(stem, |name, prefix| {
        name.strip_prefix(prefix).unwrap_or(name)
    });
    bare.replace('.', "_")
}

/// The layers of ours that a layer of an adapter means.
fn layers(stem: &str) -> Option<Vec<Piece>> {
    let flat = flattened(stem);
    let processor = PROCESSORS.iter().find_map(|&(kind, theirs, ours)| {
        let block = flat.strip_prefix(kind)?.strip_suffix(theirs)?;
        Some((
            format!("{kind}{block}{ours}"),
            kind,
            block.trim_end_matches('_'),
        ))
    });
    match processor {
        Some((flat, ..)) if !flat.ends_with("_qkv") || flat.contains("attn") => {
            pieces(&format!("{}weight", layer(&flat)?))
        }
        Some((_, _, block)) => Some(alone(block)),
        None => pieces(&format!("{}weight", layer(&flat)?)),
    }
}

/// Query, key and value of the block of this number.
fn alone(block: &str) -> Vec<Piece> {
    let piece = |(first, layer): (usize, &str)| Piece {
        name: format!("single_transformer_blocks.{block}.attn.{layer}.weight"),
        cut: Elements::Third(first),
    };
    QKV.into_iter().enumerate().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    /// Names and shapes that a tensor of this name and shape becomes.
    fn became(name: &str, shape: [usize; 2]) -> Vec<(String, Vec<usize>)> {
        let data = TensorData::zeros::<f32, _>(shape);
        let tensor = Unread::of(data, name);
        let source = WeightSource::from_tensors("test".into(), vec![tensor]).unwrap();
        let renamed = renamed(&source).unwrap();
        let packed = renamed.packed();
        packed
            .map(|tensor| (tensor.name.clone(), tensor.shape.to_vec()))
            .collect()
    }

    /// By name, as a source has them.
    fn sorted<const N: usize>(mut layers: [(String, Vec<usize>); N]) -> [(String, Vec<usize>); N] {
        layers.sort();
        layers
    }

    #[test]
    fn all_spellings_come_to_the_layers() {
        let block = "transformer.transformer_blocks.7.attn";
        for (name, ending) in [
            (
                "lora_unet_double_blocks_7_img_attn_qkv.lora_up.weight",
                "lora_up.weight",
            ),
            (
                "diffusion_model.double_blocks.7.img_attn.qkv.lora_B.weight",
                "lora_B.weight",
            ),
            (
                "transformer.double_blocks.7.img_attn.qkv.lora_B.weight",
                "lora_B.weight",
            ),
            (
                "double_blocks.7.processor.qkv_lora1.up.weight",
                "lora_up.weight",
            ),
        ] {
            let expected = ["to_q", "to_k", "to_v"]
                .map(|layer| (format!("{block}.{layer}.{ending}"), vec![8, 4]));
            assert_eq!(became(name, [24, 4]), sorted(expected), "{name}");
        }
        let down = became(
            "lora_unet_double_blocks_7_img_attn_qkv.lora_down.weight",
            [4, 8],
        );
        assert!(
            down.len() == 3 && down.iter().all(|(_, shape)| *shape == [4, 8]),
            "{down:?}"
        );
    }

    #[test]
    fn layers_of_blocks_with_one_stream_are_cut_by_height() {
        let block = "transformer.single_transformer_blocks.3";
        let named =
            |layer: &str, rows: usize| (format!("{block}.{layer}.lora_up.weight"), vec![rows, 4]);
        assert_eq!(
            became("lora_unet_single_blocks_3_linear1.lora_up.weight", [56, 4]),
            sorted([
                named("attn.to_q", 8),
                named("attn.to_k", 8),
                named("attn.to_v", 8),
                named("proj_mlp", 32)
            ])
        );
        assert_eq!(
            became("single_blocks.3.processor.qkv_lora.up.weight", [24, 4]),
            sorted([
                named("attn.to_q", 8),
                named("attn.to_k", 8),
                named("attn.to_v", 8)
            ])
        );
        assert_eq!(
            became("single_blocks.3.processor.proj_lora.up.weight", [8, 4]),
            [named("proj_out", 8)]
        );
        assert_eq!(
            became(
                "lora_unet_single_blocks_3_modulation_lin.lora_up.weight",
                [24, 4]
            ),
            [named("norm.linear", 24)]
        );
    }

    #[test]
    fn other_adapters_keep_their_names() {
        let name = "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight";
        assert_eq!(became(name, [8, 4]), [(name.to_owned(), vec![8, 4])]);
    }
}

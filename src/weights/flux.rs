//! FLUX.1 in the layout of its program, as diffusers has it.
//!
//! **Source.** The parameters of the published single files (`flux1-dev.safetensors`) against those of diffusers'
//! `FluxTransformer2DModel`. The program keeps query, key and value in one tensor, in the blocks with one stream the first layer of the
//! feed-forward beside them, and in its last norm the shift in front of the scale. Node programs put `model.diffusion_model.` in front of
//! the names and the other parts beside them.

use std::collections::BTreeSet;

use super::WeightSource;
use super::original::{Elements, Layout, Parts, Piece, Placement, number, renamed, shape};
use crate::error::Error;

/// A tensor that every file has.
const SIGN: &str = "double_blocks.0.img_attn.qkv.weight";

/// A tensor that only the model has which was distilled to read a guidance scale.
const GUIDANCE: &str = "guidance_in.in_layer.weight";

/// What its single files are made of.
const LAYOUT: Layout = Layout {
    encoders: &[
        ("text_encoders.clip_l.transformer.", "text_encoder"),
        ("text_encoders.t5xxl.transformer.", "text_encoder_2"),
    ],
    own: &[
        "double_blocks.",
        "single_blocks.",
        "img_in.",
        "txt_in.",
        "time_in.",
        "vector_in.",
        "guidance_in.",
        "final_layer.",
        // Of Chroma, which has it in the place of three of these.
        "distilled_guidance_layer.",
    ],
    family: "a FLUX.1",
};

/// Name and place of what a model has once.
const ONCE: [(&str, &str); 9] = [
    ("img_in.", "x_embedder."),
    ("txt_in.", "context_embedder."),
    (
        "time_in.in_layer.",
        "time_text_embed.timestep_embedder.linear_1.",
    ),
    (
        "time_in.out_layer.",
        "time_text_embed.timestep_embedder.linear_2.",
    ),
    (
        "vector_in.in_layer.",
        "time_text_embed.text_embedder.linear_1.",
    ),
    (
        "vector_in.out_layer.",
        "time_text_embed.text_embedder.linear_2.",
    ),
    (
        "guidance_in.in_layer.",
        "time_text_embed.guidance_embedder.linear_1.",
    ),
    (
        "guidance_in.out_layer.",
        "time_text_embed.guidance_embedder.linear_2.",
    ),
    ("final_layer.linear.", "proj_out."),
];

/// The last norm, whose halves are exchanged.
const LAST_NORM: (&str, &str) = ("final_layer.adaLN_modulation.1.", "norm_out.linear.");

/// Name and layer of a block with two streams where a tensor stays whole.
const DOUBLE: [(&str, &str); 12] = [
    ("img_mod.lin.", "norm1.linear."),
    ("txt_mod.lin.", "norm1_context.linear."),
    ("img_attn.norm.query_norm.scale", "attn.norm_q.weight"),
    ("img_attn.norm.key_norm.scale", "attn.norm_k.weight"),
    ("txt_attn.norm.query_norm.scale", "attn.norm_added_q.weight"),
    ("txt_attn.norm.key_norm.scale", "attn.norm_added_k.weight"),
    ("img_attn.proj.", "attn.to_out.0."),
    ("txt_attn.proj.", "attn.to_add_out."),
    ("img_mlp.0.", "ff.net.0.proj."),
    ("img_mlp.2.", "ff.net.2."),
    ("txt_mlp.0.", "ff_context.net.0.proj."),
    ("txt_mlp.2.", "ff_context.net.2."),
];

/// The same of a block with one stream.
const SINGLE: [(&str, &str); 4] = [
    ("modulation.lin.", "norm.linear."),
    ("norm.query_norm.scale", "attn.norm_q.weight"),
    ("norm.key_norm.scale", "attn.norm_k.weight"),
    ("linear2.", "proj_out."),
];

/// Layers that one tensor holds, one under the other, and how many equal shares of its rows each has.
type Fused = (&'static str, &'static [(&'static str, usize)]);

const DOUBLE_FUSED: [Fused; 2] = [
    (
        "img_attn.qkv.",
        &[("attn.to_q.", 1), ("attn.to_k.", 1), ("attn.to_v.", 1)],
    ),
    (
        "txt_attn.qkv.",
        &[
            ("attn.add_q_proj.", 1),
            ("attn.add_k_proj.", 1),
            ("attn.add_v_proj.", 1),
        ],
    ),
];

const SINGLE_FUSED: [Fused; 1] = [(
    "linear1.",
    &[
        ("attn.to_q.", 1),
        ("attn.to_k.", 1),
        ("attn.to_v.", 1),
        ("proj_mlp.", 4),
    ],
)];

/// Whether a source is a FLUX transformer in the layout of its program, with or without other parts.
pub fn is_original(source: &WeightSource) -> bool {
    shape(source, SIGN).is_some()
}

/// Whether it was distilled to read a guidance scale (dev).
pub fn is_guided(source: &WeightSource) -> bool {
    shape(source, GUIDANCE).is_some()
}

/// Shape of the layer that takes patches in, `[width, channels of a patch]`.
pub fn input(source: &WeightSource) -> Option<Vec<usize>> {
    shape(source, "img_in.weight")
}

/// The most blocks of a kind that are counted.
const MOST_BLOCKS: usize = 256;

/// How many blocks of the kind `double_blocks` or `single_blocks` a source in the program's layout has, as its names tell: models made smaller
/// have fewer than those published first. Nothing where one is missing among others.
pub fn blocks(source: &WeightSource, kind: &str) -> Option<usize> {
    let numbered = |name: &str| Some(number(name.split_once(kind)?.1.strip_prefix('.')?)?.0);
    let numbers: BTreeSet<usize> = source.names().filter_map(numbered).collect();
    let count = numbers.len().min(MOST_BLOCKS);
    (numbers.last()?.checked_add(1)? == count).then_some(count)
}

/// Where a tensor of a file belongs.
pub fn place(name: &str) -> Placement {
    LAYOUT.place(name, pieces)
}

/// What a tensor of the transformer becomes.
pub(super) fn pieces(name: &str) -> Option<Vec<Piece>> {
    let block = |kind: &str| number(name.strip_prefix(kind)?);
    if let Some((block, rest)) = block("double_blocks.") {
        let prefix = format!("transformer_blocks.{block}.");
        return of_block(&prefix, rest, &DOUBLE, &DOUBLE_FUSED);
    }
    if let Some((block, rest)) = block("single_blocks.") {
        let prefix = format!("single_transformer_blocks.{block}.");
        return of_block(&prefix, rest, &SINGLE, &SINGLE_FUSED);
    }
    if let Some(kind) = name.strip_prefix(LAST_NORM.0) {
        return Some(vec![Piece {
            name: format!("{}{kind}", LAST_NORM.1),
            cut: Elements::Exchanged,
        }]);
    }
    Some(vec![whole(renamed(name, &ONCE)?)])
}

/// The program's name of a layer, with its last dot, whose dots a file has as underscores.
pub(super) fn layer(flat: &str) -> Option<String> {
    let spelt = |name: &str| name.trim_end_matches('.').replace('.', "_");
    let of_block = |kind: &str, whole: &[(&'static str, &str)], fused: &[Fused]| {
        let (number, rest) = flat.strip_prefix(&format!("{kind}_"))?.split_once('_')?;
        let names = whole.iter().map(|(name, _)| *name);
        let mut names = names.chain(fused.iter().map(|(name, _)| *name));
        let name = names.find(|name| spelt(name) == rest)?;
        Some(format!("{kind}.{number}.{name}"))
    };
    let once = || {
        let mut names = ONCE.iter().map(|(name, _)| *name).chain([LAST_NORM.0]);
        names.find(|name| spelt(name) == flat).map(str::to_owned)
    };
    of_block("double_blocks", &DOUBLE, &DOUBLE_FUSED)
        .or_else(|| of_block("single_blocks", &SINGLE, &SINGLE_FUSED))
        .or_else(once)
}

fn of_block(
    prefix: &str,
    rest: &str,
    table: &[(&str, &str)],
    fused: &[Fused],
) -> Option<Vec<Piece>> {
    let found = fused
        .iter()
        .find_map(|(name, layers)| Some((layers, rest.strip_prefix(name)?)));
    let Some((layers, kind)) = found else {
        let name = renamed(rest, table)?;
        return Some(vec![whole(format!("{prefix}{name}"))]);
    };
    let of = layers.iter().map(|(_, shares)| shares).sum();
    let mut first = 0;
    let pieces = layers.iter().map(|&(layer, count)| {
        let cut = Elements::Share { first, count, of };
        first += count;
        let name = format!("{prefix}{layer}{kind}");
        Piece { name, cut }
    });
    Some(pieces.collect())
}

fn whole(name: String) -> Piece {
    Piece {
        name,
        cut: Elements::Whole,
    }
}

/// Cuts a file into its parts. Names that belong to none are told in [`Parts::strangers`]; nothing is read.
///
/// # Errors
///
/// When a tensor within the transformer is not in the layout, or two come to one name.
pub fn split(source: &WeightSource) -> Result<Parts, Error> {
    LAYOUT.split(source, place)
}

/// The transformer of a source of either layout under diffusers' names.
///
/// # Errors
///
/// When a tensor of the program's layout cannot be placed.
pub fn named(source: &WeightSource) -> Result<WeightSource, Error> {
    if !is_original(source) {
        return Ok(source.clone());
    }
    LAYOUT.alone(source, split(source)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &str) -> Vec<String> {
        match place(name) {
            Placement::Part(part, pieces) => pieces
                .into_iter()
                .map(|piece| format!("{part}: {}", piece.name))
                .collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn fused_layers_are_cut_with_and_without_the_prefix() {
        let expected = ["q", "k", "v"]
            .map(|letter| format!("transformer: transformer_blocks.7.attn.add_{letter}_proj.bias"));
        assert_eq!(names("double_blocks.7.txt_attn.qkv.bias"), expected);
        assert_eq!(
            names("model.diffusion_model.double_blocks.7.txt_attn.qkv.bias"),
            expected
        );
        let Placement::Part(_, pieces) = place("single_blocks.3.linear1.weight") else {
            panic!("it has a place");
        };
        let shapes: Vec<_> = pieces
            .iter()
            .map(|piece| piece.cut.shape(&[21504, 3072]))
            .collect();
        assert_eq!(
            shapes,
            [[3072, 3072], [3072, 3072], [3072, 3072], [12288, 3072]]
        );
        assert_eq!(
            pieces[3].name,
            "single_transformer_blocks.3.proj_mlp.weight"
        );
    }

    #[test]
    fn other_parts_stand_beside_it() {
        assert_eq!(
            names("text_encoders.t5xxl.transformer.shared.weight"),
            ["text_encoder_2: shared.weight"]
        );
        assert_eq!(
            names("vae.decoder.conv_in.bias"),
            ["vae: decoder.conv_in.bias"]
        );
        assert_eq!(place("double_blocks.0.img_attn.qkv"), Placement::Unknown);
    }
}

//! Stable Diffusion 3 and 3.5 in the layout of their program, as diffusers has them.
//!
//! **Source.** The parameters of the published single files (`sd3_medium.safetensors`, `sd3.5_medium.safetensors`,
//! `sd3.5_large.safetensors`) against those of diffusers' `SD3Transformer2DModel`. The program keeps query, key and value in one tensor, and
//! in its last norms, that of the text in the last block among them, the shift in front of the scale. Text encoders stand beside it as node
//! programs name them, or are left out; what CLIP-L makes of a whole text is not projected there.

use super::WeightSource;
use super::original::{Elements, Layout, Parts, Piece, Placement, number, renamed, shape};
use crate::error::Error;

/// A tensor that every file has.
const SIGN: &str = "joint_blocks.0.x_block.attn.qkv.weight";

/// The most blocks that are counted.
const MOST_LAYERS: usize = 256;

/// What its single files are made of.
const LAYOUT: Layout = Layout {
    encoders: &[
        ("text_encoders.clip_l.transformer.", "text_encoder"),
        ("text_encoders.clip_g.transformer.", "text_encoder_2"),
        ("text_encoders.t5xxl.transformer.", "text_encoder_3"),
    ],
    own: &[
        "joint_blocks.",
        "pos_embed",
        "x_embedder.",
        "t_embedder.",
        "y_embedder.",
        "context_embedder.",
        "final_layer.",
    ],
    family: "a Stable Diffusion 3",
};

/// Name and place of what a model has once.
const ONCE: [(&str, &str); 7] = [
    ("x_embedder.", "pos_embed."),
    (
        "t_embedder.mlp.0.",
        "time_text_embed.timestep_embedder.linear_1.",
    ),
    (
        "t_embedder.mlp.2.",
        "time_text_embed.timestep_embedder.linear_2.",
    ),
    (
        "y_embedder.mlp.0.",
        "time_text_embed.text_embedder.linear_1.",
    ),
    (
        "y_embedder.mlp.2.",
        "time_text_embed.text_embedder.linear_2.",
    ),
    ("context_embedder.", "context_embedder."),
    ("final_layer.linear.", "proj_out."),
];

/// The table of positions.
const POSITIONS: &str = "pos_embed";

/// The last norm, whose halves are exchanged.
const LAST_NORM: (&str, &str) = ("final_layer.adaLN_modulation.1.", "norm_out.linear.");

/// What makes shifts, scales and gates of the text in a block.
const TEXT_NORM: (&str, &str) = ("context_block.adaLN_modulation.1.", "norm1_context.linear.");

/// Name and layer of a block where a tensor stays whole.
const BLOCK: [(&str, &str); 14] = [
    ("x_block.adaLN_modulation.1.", "norm1.linear."),
    ("x_block.attn.ln_q.", "attn.norm_q."),
    ("x_block.attn.ln_k.", "attn.norm_k."),
    ("x_block.attn.proj.", "attn.to_out.0."),
    ("x_block.attn2.ln_q.", "attn2.norm_q."),
    ("x_block.attn2.ln_k.", "attn2.norm_k."),
    ("x_block.attn2.proj.", "attn2.to_out.0."),
    ("x_block.mlp.fc1.", "ff.net.0.proj."),
    ("x_block.mlp.fc2.", "ff.net.2."),
    ("context_block.attn.ln_q.", "attn.norm_added_q."),
    ("context_block.attn.ln_k.", "attn.norm_added_k."),
    ("context_block.attn.proj.", "attn.to_add_out."),
    ("context_block.mlp.fc1.", "ff_context.net.0.proj."),
    ("context_block.mlp.fc2.", "ff_context.net.2."),
];

/// Query, key and value, which one tensor holds.
const FUSED: [(&str, [&str; 3]); 3] = [
    (
        "x_block.attn.qkv.",
        ["attn.to_q.", "attn.to_k.", "attn.to_v."],
    ),
    (
        "x_block.attn2.qkv.",
        ["attn2.to_q.", "attn2.to_k.", "attn2.to_v."],
    ),
    (
        "context_block.attn.qkv.",
        ["attn.add_q_proj.", "attn.add_k_proj.", "attn.add_v_proj."],
    ),
];

/// Whether a source is a transformer in the layout of the program, with or without other parts.
pub fn is_original(source: &WeightSource) -> bool {
    shape(source, SIGN).is_some()
}

/// What tells the models apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// Width of the tokens.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Whether queries and keys are normed (3.5).
    pub normed: bool,
    /// Blocks with a second attention of the picture.
    pub dual: usize,
}

/// What a source in the program's layout is.
pub fn kind(source: &WeightSource) -> Kind {
    let block = |layer: usize, rest: &str| {
        let name = format!("joint_blocks.{layer}.x_block.{rest}");
        shape(source, &name)
    };
    let width = block(0, "attn.proj.weight").and_then(|shape| shape.first().copied());
    let count = |rest: &str| {
        let layers = (0..MOST_LAYERS).take_while(|&layer| block(layer, rest).is_some());
        layers.count()
    };
    Kind {
        width: width.unwrap_or(0),
        layers: count("attn.qkv.weight"),
        normed: block(0, "attn.ln_q.weight").is_some(),
        dual: count("attn2.qkv.weight"),
    }
}

/// Where a tensor of a file belongs whose model has so many `layers`.
pub fn place(name: &str, layers: usize) -> Placement {
    LAYOUT.place(name, |name| pieces(name, layers))
}

/// The program's name of a layer, with its last dot, whose dots a file has as underscores.
pub(super) fn layer(flat: &str) -> Option<String> {
    let spelt = |name: &str| name.trim_end_matches('.').replace('.', "_");
    let of_block = || {
        let (number, rest) = flat.strip_prefix("joint_blocks_")?.split_once('_')?;
        let names = BLOCK.iter().map(|(name, _)| *name);
        let fused = FUSED.iter().map(|(name, _)| *name);
        let mut names = names.chain(fused).chain([TEXT_NORM.0]);
        let name = names.find(|name| spelt(name) == rest)?;
        Some(format!("joint_blocks.{number}.{name}"))
    };
    let once = || {
        let mut names = ONCE.iter().map(|(name, _)| *name).chain([LAST_NORM.0]);
        names.find(|name| spelt(name) == flat).map(str::to_owned)
    };
    of_block().or_else(once)
}

/// What a tensor of the transformer becomes.
pub(super) fn pieces(name: &str, layers: usize) -> Option<Vec<Piece>> {
    if let Some((block, rest)) = name.strip_prefix("joint_blocks.").and_then(number) {
        return of_block(block, rest, block + 1 == layers);
    }
    if name == POSITIONS {
        return Some(vec![piece("pos_embed.pos_embed".into(), Elements::Whole)]);
    }
    if let Some(kind) = name.strip_prefix(LAST_NORM.0) {
        let name = format!("{}{kind}", LAST_NORM.1);
        return Some(vec![piece(name, Elements::Exchanged)]);
    }
    Some(vec![piece(renamed(name, &ONCE)?, Elements::Whole)])
}

fn of_block(block: usize, rest: &str, last: bool) -> Option<Vec<Piece>> {
    let prefix = format!("transformer_blocks.{block}.");
    let fused = FUSED
        .iter()
        .find_map(|(name, layers)| Some((layers, rest.strip_prefix(name)?)));
    if let Some((layers, kind)) = fused {
        let third = |(third, layer): (usize, &&str)| {
            piece(format!("{prefix}{layer}{kind}"), Elements::Third(third))
        };
        return Some(layers.iter().enumerate().map(third).collect());
    }
    if let Some(kind) = rest.strip_prefix(TEXT_NORM.0) {
        let cut = if last {
            Elements::Exchanged
        } else {
            Elements::Whole
        };
        return Some(vec![piece(format!("{prefix}{}{kind}", TEXT_NORM.1), cut)]);
    }
    let name = renamed(rest, &BLOCK)?;
    Some(vec![piece(format!("{prefix}{name}"), Elements::Whole)])
}

fn piece(name: String, cut: Elements) -> Piece {
    Piece { name, cut }
}

/// Cuts a file into its parts. Names that belong to none are told in [`Parts::strangers`]; nothing is read.
///
/// # Errors
///
/// When a tensor within the transformer is not in the layout, or two come to one name.
pub fn split(source: &WeightSource) -> Result<Parts, Error> {
    let layers = kind(source).layers;
    LAYOUT.split(source, |name| place(name, layers))
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

    fn names(name: &str) -> Vec<(String, Elements)> {
        match place(name, 24) {
            Placement::Part(part, pieces) => pieces
                .into_iter()
                .map(|piece| (format!("{part}: {}", piece.name), piece.cut))
                .collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn the_texts_last_norm_alone_is_turned() {
        let norm = |block: usize| {
            names(&format!(
                "model.diffusion_model.joint_blocks.{block}.context_block.adaLN_modulation.1.weight"
            ))
        };
        let named = |block: usize| {
            format!("transformer: transformer_blocks.{block}.norm1_context.linear.weight")
        };
        assert_eq!(norm(7), [(named(7), Elements::Whole)]);
        assert_eq!(norm(23), [(named(23), Elements::Exchanged)]);
    }

    #[test]
    fn parts_stand_beside_it() {
        for (theirs, ours) in [
            (
                "text_encoders.clip_g.transformer.text_projection.weight",
                "text_encoder_2: text_projection.weight",
            ),
            (
                "text_encoders.t5xxl.transformer.shared.weight",
                "text_encoder_3: shared.weight",
            ),
            (
                "first_stage_model.decoder.conv_in.bias",
                "vae: decoder.conv_in.bias",
            ),
            ("x_embedder.proj.bias", "transformer: pos_embed.proj.bias"),
            ("pos_embed", "transformer: pos_embed.pos_embed"),
        ] {
            assert_eq!(names(theirs), [(ours.to_owned(), Elements::Whole)]);
        }
        let fused = names("joint_blocks.3.x_block.attn2.qkv.bias");
        assert_eq!(
            fused[2],
            (
                "transformer: transformer_blocks.3.attn2.to_v.bias".into(),
                Elements::Third(2)
            )
        );
        let projection = "text_encoders.clip_l.transformer.text_projection.weight";
        assert_eq!(place(projection, 24), Placement::Leftover);
        assert_eq!(place("joint_blocks.3.x_block.attn", 24), Placement::Unknown);
    }
}

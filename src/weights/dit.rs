//! `DiT` checkpoints in either layout, as one.
//!
//! **Source.** The parameters of facebookresearch/DiT checkpoints (`DiT-XL-2-256x256.pt`) against those of diffusers'
//! `DiTTransformer2DModel`. The original file keeps query, key and value in one tensor and stores the position table, which is
//! computed here; the diffusers folder repeats the embedders of timestep and class in every block, as equal copies.

use super::unread::Unread;

use super::WeightSource;
use super::original::{Elements, Layout, Parts, Piece, Placement, number, renamed};
use crate::error::{Error, WeightsError};

/// What its single files are made of.
const LAYOUT: Layout = Layout {
    encoders: &[],
    own: &[
        "blocks.",
        "x_embedder.",
        "t_embedder.",
        "y_embedder.",
        "final_layer.",
    ],
    family: "a DiT",
};

/// A tensor that only the original layout has; its shape tells the number of patches.
pub const POSITIONS: &str = "pos_embed";

/// Prefix, within a block, of the embedders that diffusers repeats.
const EMBEDDERS: &str = "norm1.emb.";

/// Name and place of what a checkpoint has once.
const ONCE: [(&str, &str); 6] = [
    ("x_embedder.", "pos_embed."),
    (
        "t_embedder.mlp.0.",
        "transformer_blocks.0.norm1.emb.timestep_embedder.linear_1.",
    ),
    (
        "t_embedder.mlp.2.",
        "transformer_blocks.0.norm1.emb.timestep_embedder.linear_2.",
    ),
    (
        "y_embedder.",
        "transformer_blocks.0.norm1.emb.class_embedder.",
    ),
    ("final_layer.adaLN_modulation.1.", "proj_out_1."),
    ("final_layer.linear.", "proj_out_2."),
];

/// Name and layer of a block where a tensor stays whole.
const BLOCK: [(&str, &str); 4] = [
    ("adaLN_modulation.1.", "norm1.linear."),
    ("attn.proj.", "attn1.to_out.0."),
    ("mlp.fc1.", "ff.net.0.proj."),
    ("mlp.fc2.", "ff.net.2."),
];

/// What stands for no text in models that read one and else have the names of a `DiT` (`PixArt`).
const NO_TEXT: &str = "y_embedder.y_embedding";

/// Whether a source is a `DiT` in the original layout.
pub fn is_original(source: &WeightSource) -> bool {
    let has = |name| source.shape(name).is_some();
    has(POSITIONS) && has("x_embedder.proj.weight") && !has(NO_TEXT)
}

/// Where a tensor of the original layout belongs.
pub fn place(name: &str) -> Placement {
    if name == POSITIONS {
        return Placement::Leftover;
    }
    LAYOUT.place(name, pieces)
}

/// What a tensor of the transformer becomes.
fn pieces(name: &str) -> Option<Vec<Piece>> {
    match name.strip_prefix("blocks.").and_then(number) {
        Some((block, rest)) => block_pieces(block, rest),
        None => renamed(name, &ONCE).map(|name| vec![whole(name)]),
    }
}

fn block_pieces(block: usize, rest: &str) -> Option<Vec<Piece>> {
    let prefix = format!("transformer_blocks.{block}.");
    let Some(kind) = rest.strip_prefix("attn.qkv.") else {
        let name = renamed(rest, &BLOCK)?;
        return Some(vec![whole(format!("{prefix}{name}"))]);
    };
    let third = |(third, letter)| Piece {
        name: format!("{prefix}attn1.to_{letter}.{kind}"),
        cut: Elements::Third(third),
    };
    Some(["q", "k", "v"].into_iter().enumerate().map(third).collect())
}

fn whole(name: String) -> Piece {
    Piece {
        name,
        cut: Elements::Whole,
    }
}

/// Cuts an original checkpoint into its parts. Names that belong to none are told in [`Parts::strangers`]; nothing is read.
///
/// # Errors
///
/// When a tensor within the transformer is not in the layout, or two come to one name.
pub fn split(source: &WeightSource) -> Result<Parts, Error> {
    LAYOUT.split(source, place)
}

/// The tensors of a `DiT` of either layout under diffusers' names, the embedders once.
///
/// # Errors
///
/// When a tensor of the original layout cannot be placed; when the embedders of two blocks differ.
pub fn canonical(source: &WeightSource) -> Result<WeightSource, Error> {
    if !is_original(source) {
        let repeated = source
            .packed()
            .filter_map(|tensor| Some((first_of(&tensor.name)?, tensor)));
        for (first, tensor) in repeated {
            check_equal(source, &first, tensor)?;
        }
    }
    named(source)
}

/// As [`canonical`], but nothing is read: whether repeated embedders are equal is not looked at.
///
/// # Errors
///
/// When a tensor of the original layout cannot be placed.
pub fn named(source: &WeightSource) -> Result<WeightSource, Error> {
    if is_original(source) {
        return LAYOUT.alone(source, split(source)?);
    }
    let kept = source.packed();
    let kept = kept.filter(|tensor| first_of(&tensor.name).is_none());
    WeightSource::from_tensors(source.origin().to_owned(), kept.cloned().collect())
}

/// For an embedder's tensor in a block behind the first: its name in the first block.
pub fn first_of(name: &str) -> Option<String> {
    let (block, rest) = name.strip_prefix("transformer_blocks.").and_then(number)?;
    let repeated = block > 0 && rest.starts_with(EMBEDDERS);
    repeated.then(|| format!("transformer_blocks.0.{rest}"))
}

fn check_equal(source: &WeightSource, first: &str, repeated: &Unread) -> Result<(), Error> {
    if source.read(first)? == source.read(&repeated.name)? {
        return Ok(());
    }
    Err(WeightsError::Unequal {
        first: first.to_owned(),
        second: repeated.name.clone(),
        origin: source.origin().to_owned(),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &str) -> Vec<String> {
        match place(name) {
            Placement::Part(_, pieces) => pieces.into_iter().map(|piece| piece.name).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn blocks_are_renamed_and_their_projections_cut() {
        let expected =
            ["q", "k", "v"].map(|letter| format!("transformer_blocks.7.attn1.to_{letter}.bias"));
        assert_eq!(names("blocks.7.attn.qkv.bias"), expected);
        assert_eq!(
            names("blocks.0.mlp.fc2.weight"),
            ["transformer_blocks.0.ff.net.2.weight"]
        );
        assert_eq!(place(POSITIONS), Placement::Leftover);
        assert_eq!(place("blocks.0.mlp.fc3.weight"), Placement::Unknown);
    }

    #[test]
    fn embedders_behind_the_first_block_are_repetitions() {
        let name = |block| format!("transformer_blocks.{block}.norm1.emb.x.weight");
        assert_eq!(first_of(&name(12)), Some(name(0)));
        assert_eq!(first_of(&name(0)), None);
        assert_eq!(first_of("transformer_blocks.3.norm1.linear.bias"), None);
    }
}

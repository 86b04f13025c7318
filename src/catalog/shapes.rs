//! What the tensors of a single file tell of its `UNet` where it is another than its card's: how deep its attentions are, how many
//! residual blocks a level has, what is left of the middle.
//!
//! **Source.** SDXL made smaller: SSD-1B and Vega (Gupta et al., arXiv 2401.02677), KOALA (Lee et al., arXiv 2312.04005), whose files have
//! the names of the training program.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::said::{Said, UNET};
use crate::weights::WeightSource;

/// In front of the names of the `UNet`.
const PREFIX: &str = "model.diffusion_model.";

/// The `UNet` of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shapes {
    /// Blocks of the attention behind each residual block, 0 for none, level by level as the encoder runs.
    down: Vec<Vec<usize>>,
    /// The same as the decoder runs.
    up: Vec<Vec<usize>>,
    middle: Middle,
}

/// What is left of the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Middle {
    Gone,
    OneBlock,
    /// Two residual blocks around an attention of so many blocks.
    Whole(usize),
}

/// One of the numbered blocks.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    shrinks: bool,
    depth: usize,
}

/// Numbered blocks, if none is missing.
type Blocks = BTreeMap<usize, Block>;

impl Shapes {
    /// Of the names of `source`; none where they are not those of a whole `UNet`, or levels differ in how many blocks they have, or
    /// attend behind some blocks only.
    pub(super) fn read(source: &WeightSource) -> Option<Self> {
        let mut kinds: BTreeMap<&str, Blocks> = BTreeMap::new();
        for name in source.names() {
            let Some((kind, index, rest)) = numbered(name) else {
                continue;
            };
            let block = kinds.entry(kind).or_default().entry(index).or_default();
            block.shrinks |= rest.starts_with("0.op.");
            block.depth = block.depth.max(depth(rest));
        }
        let empty = Blocks::new();
        let of = |kind| kinds.get(kind).unwrap_or(&empty);
        let down = levels(of("input_blocks"))?;
        let layers = down.first()?.len();
        let outputs = of("output_blocks");
        let whole = outputs.len() == down.len() * (layers + 1) && consecutive(outputs, 0);
        let uniform = down.iter().all(|level| level.len() == layers);
        let outputs: Vec<usize> = outputs.values().map(|block| block.depth).collect();
        let up: Vec<_> = outputs.chunks(layers + 1).map(<[usize]>::to_vec).collect();
        let attends = |level: &Vec<usize>| level.contains(&0) && level.iter().any(|&one| one > 0);
        let mixed = down.iter().chain(&up).any(attends);
        (whole && uniform && !mixed).then(|| Self {
            down,
            up,
            middle: middle(of("middle_block")),
        })
    }

    /// Sets the keys in which this `UNet` differs from that of `card`, the text of its `unet/config.json`.
    pub(super) fn say(&self, card: &str, said: &mut Said) {
        let Some(own) = Self::of_config(card) else {
            return;
        };
        if *self == own || self.down.len() != own.down.len() || !self.is_sayable() {
            return;
        }
        let middle = self.middle.depth().unwrap_or(1);
        let mut set = |key, value: Value| said.set(UNET, key, value, "the file's tensors");
        set("layers_per_block", self.down[0].len().into());
        set("transformer_layers_per_block", depths(&self.down, middle));
        set("reverse_transformer_layers_per_block", depths(&self.up, 1));
        set("down_block_types", types(&self.down, "Down"));
        set("up_block_types", types(&self.up, "Up"));
        set("mid_block_type", self.middle.block_type());
    }

    /// Whether the keys can say it: the middle is as deep as the first attention of the innermost level.
    fn is_sayable(&self) -> bool {
        let innermost = self.down.last().and_then(|level| level.first().copied());
        match (self.middle.depth(), innermost) {
            (Some(depth), Some(first)) => first == 0 || first == depth,
            _ => true,
        }
    }

    /// Of a card's configuration, if it says all by one number a level.
    fn of_config(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct UNet {
            #[serde(rename = "_class_name")]
            class_name: String,
            layers_per_block: usize,
            #[serde(default)]
            transformer_layers_per_block: Value,
            down_block_types: Vec<String>,
            up_block_types: Vec<String>,
        }
        let unet: UNet = serde_json::from_str(text).ok()?;
        if unet.class_name != "UNet2DConditionModel" {
            return None;
        }
        let depth = |level: usize| match &unet.transformer_layers_per_block {
            Value::Array(each) => each.get(level)?.as_u64(),
            Value::Null => Some(1),
            all => all.as_u64(),
        };
        let levels = unet.down_block_types.len();
        let half = |types: &[String], layers: usize, place: &dyn Fn(usize) -> usize| {
            let level = |(index, name): (usize, &String)| {
                let depth = usize::try_from(depth(place(index))?).ok()?;
                let attends = name.starts_with("CrossAttn");
                Some(vec![if attends { depth } else { 0 }; layers])
            };
            types
                .iter()
                .enumerate()
                .map(level)
                .collect::<Option<Vec<_>>>()
        };
        let innermost = usize::try_from(depth(levels.checked_sub(1)?)?).ok()?;
        Some(Self {
            down: half(&unet.down_block_types, unet.layers_per_block, &|index| {
                index
            })?,
            up: half(&unet.up_block_types, unet.layers_per_block + 1, &|index| {
                levels.saturating_sub(index + 1)
            })?,
            middle: Middle::Whole(innermost),
        })
    }
}

impl Middle {
    /// Of its attention, if there is one.
    fn depth(self) -> Option<usize> {
        match self {
            Self::Gone | Self::OneBlock => None,
            Self::Whole(depth) => Some(depth),
        }
    }

    fn block_type(self) -> Value {
        match self {
            Self::Gone => Value::Null,
            Self::OneBlock => "UNetMidBlock2D".into(),
            Self::Whole(_) => "UNetMidBlock2DCrossAttn".into(),
        }
    }
}

/// Kind and number of the block that a tensor belongs to, and what follows them.
fn numbered(name: &str) -> Option<(&str, usize, &str)> {
    let (kind, rest) = name.strip_prefix(PREFIX)?.split_once('.')?;
    let (index, rest) = rest.split_once('.')?;
    Some((kind, index.parse().ok()?, rest))
}

/// Blocks of the attention that a tensor is of, as far as its name tells: `1.transformer_blocks.3.norm1.weight`, or the same of the middle.
fn depth(rest: &str) -> usize {
    let rest = rest.strip_prefix("1.").unwrap_or(rest);
    let index = rest.strip_prefix("transformer_blocks.");
    let index = index.and_then(|rest| rest.split_once('.')?.0.parse::<usize>().ok());
    index.map_or(0, |index| index.saturating_add(1))
}

fn consecutive(blocks: &Blocks, first: usize) -> bool {
    let expected = first..first.saturating_add(blocks.len());
    blocks.keys().copied().eq(expected)
}

/// Depths of the encoder's blocks behind the first, level by level.
fn levels(blocks: &Blocks) -> Option<Vec<Vec<usize>>> {
    if !consecutive(blocks, 0) || blocks.len() < 2 {
        return None;
    }
    let mut levels = vec![Vec::new()];
    for block in blocks.values().skip(1) {
        if block.shrinks {
            levels.push(Vec::new());
        } else {
            levels.last_mut()?.push(block.depth);
        }
    }
    levels
        .iter()
        .all(|level| !level.is_empty())
        .then_some(levels)
}

fn middle(blocks: &Blocks) -> Middle {
    let depth = blocks.values().map(|block| block.depth).max();
    match depth {
        None => Middle::Gone,
        Some(0) => Middle::OneBlock,
        Some(depth) => Middle::Whole(depth),
    }
}

/// As the key of a configuration has them; `silent` for levels that do not attend.
fn depths(levels: &[Vec<usize>], silent: usize) -> Value {
    let level = |each: &Vec<usize>| {
        if each.contains(&0) {
            json!(silent)
        } else {
            json!(each)
        }
    };
    levels.iter().map(level).collect()
}

fn types(levels: &[Vec<usize>], half: &str) -> Value {
    let name = |each: &Vec<usize>| {
        let attends = if each.contains(&0) { "" } else { "CrossAttn" };
        Value::from(format!("{attends}{half}Block2D"))
    };
    levels.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const XL: &str =
        include_str!("../../models/cards/stable-diffusion-xl-base-1.0/unet/config.json");

    #[test]
    fn a_card_says_itself() {
        let base = Shapes::of_config(XL).unwrap();
        assert_eq!(base.down, [vec![0, 0], vec![2, 2], vec![10, 10]]);
        assert_eq!(base.up, [vec![10; 3], vec![2; 3], vec![0; 3]]);
        assert_eq!(base.middle, Middle::Whole(10));
        let mut said = Said::default();
        base.say(XL, &mut said);
        assert_eq!(said.applied(UNET, "{}".into()), "{}");
    }

    #[test]
    fn what_differs_is_said() {
        let small = Shapes {
            down: vec![vec![0, 0], vec![2, 2], vec![4, 4]],
            up: vec![vec![4, 4, 10], vec![2, 1, 1], vec![0; 3]],
            middle: Middle::OneBlock,
        };
        let mut said = Said::default();
        small.say(XL, &mut said);
        let text = said.applied(UNET, XL.into());
        let config: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            config["transformer_layers_per_block"],
            json!([1, [2, 2], [4, 4]])
        );
        assert_eq!(
            config["reverse_transformer_layers_per_block"],
            json!([[4, 4, 10], [2, 1, 1], 1])
        );
        assert_eq!(config["layers_per_block"], 2);
        assert_eq!(config["mid_block_type"], "UNetMidBlock2D");
        assert_eq!(said.by(UNET, "mid_block_type"), Some("the file's tensors"));
    }
}

//! Which parameter a layer of an adapter means.
//!
//! Writers spell a layer in three ways: flat, with underscores for dots (`lora_unet_down_blocks_0_…`, kohya); dotted (`unet.down_blocks.0.…`,
//! peft and diffusers, old files with `.processor.` inside); and either of them with the block numbers of original checkpoints
//! (`lora_unet_input_blocks_4_1_…`). All are flattened (`spelling`), and parameters are found by their flattened names.

use std::collections::HashMap;

use super::spelling;
use crate::weights::original;

/// Endings of text encoder layers in early diffusers files, and in the model.
const TEXT_ATTENTION: [(&str, &str); 4] = [
    ("self_attn_to_q", "self_attn_q_proj"),
    ("self_attn_to_k", "self_attn_k_proj"),
    ("self_attn_to_v", "self_attn_v_proj"),
    ("self_attn_to_out", "self_attn_out_proj"),
];

/// The layer that an adapter means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) part: &'static str,
    /// Name within the part, dots as underscores.
    flat: String,
    /// Whether the layer's bias is meant, not its weight.
    bias: bool,
}

impl Target {
    /// Reads the name of a layer as a file has it, without the ending that tells its role.
    pub(super) fn new(name: &str) -> Self {
        let (part, flat) = spelling::read(name);
        let bias = false;
        Self { part, flat, bias }
    }

    /// The bias of the same layer.
    pub(super) fn bias(self) -> Self {
        Self { bias: true, ..self }
    }

    /// Whether the layer reads the states of the text.
    pub(super) fn reads_text(&self) -> bool {
        let ends = ["attn2_to_k", "attn2_to_v"];
        !self.bias && self.part == "unet" && ends.iter().any(|end| self.flat.ends_with(end))
    }

    /// Whether the name ends as a pattern of peft says, as far as expressions go as these have them: `^` is the name's beginning, `.*`
    /// is anything. Dots and underscores are one, as the name's dots are lost.
    pub(super) fn ends_with(&self, pattern: &str) -> bool {
        let (whole, pattern) = match pattern.strip_prefix('^') {
            Some(pattern) => (true, pattern),
            None => (false, pattern),
        };
        let pattern = pattern.strip_suffix('$').unwrap_or(pattern);
        let mut pieces = pattern.rsplit(".*").map(flattened);
        let last = pieces.next().unwrap_or_default();
        let Some(mut front) = self.flat.strip_suffix(last.as_str()) else {
            return false;
        };
        for piece in pieces {
            match front.rfind(piece.as_str()) {
                Some(at) => front = &front[..at],
                None => return false,
            }
        }
        let begun = !whole && front.ends_with('_');
        front.is_empty() || begun || pattern.starts_with(".*")
    }
}

/// A piece of a pattern as flat names have it.
fn flattened(piece: &str) -> String {
    piece.replace("\\.", "_").replace('.', "_")
}

/// Names and shapes by the flattened name of the layer.
type ByFlatName = HashMap<String, (String, Vec<usize>)>;

/// Names and shapes of a part's parameters, as its checkpoint has them.
#[derive(Debug, Clone)]
pub struct Parameters {
    pub(super) part: &'static str,
    weights: ByFlatName,
    biases: ByFlatName,
    /// Residual blocks in a level of a `UNet`'s encoder, which original block numbers count.
    layers: usize,
}

impl Parameters {
    /// Those of `part` (`unet`, `text_encoder`, …), from [`shapes`](crate::weights::shapes).
    pub fn new(part: &'static str, shapes: Vec<(String, Vec<usize>)>) -> Self {
        let first_level = |(name, _): &(String, Vec<usize>)| {
            let rest = name.strip_prefix("down_blocks.0.resnets.")?;
            original::number(rest).map(|(index, _)| index + 1)
        };
        let layers = shapes.iter().filter_map(first_level).max().unwrap_or(0);
        let flat = |ending: &str| {
            let parameters = shapes.iter().filter_map(|(name, shape)| {
                let stem = name.strip_suffix(ending)?.replace('.', "_");
                Some((stem, (name.clone(), shape.clone())))
            });
            parameters.collect()
        };
        Self {
            part,
            weights: flat(".weight"),
            biases: flat(".bias"),
            layers,
        }
    }

    /// Name and shape of the parameter that `target` means.
    pub(super) fn find(&self, target: &Target) -> Option<(&str, &[usize])> {
        let flat = &target.flat;
        let spellings = [
            Some(flat.clone()),
            Some(format!("{flat}_0")),
            Some(format!("text_model_{flat}")),
            flat.strip_prefix("text_model_").map(str::to_owned),
            early_text(flat),
            self.numbered_through(flat),
        ];
        let known = if target.bias {
            &self.biases
        } else {
            &self.weights
        };
        let mut spellings = spellings.into_iter().flatten();
        let (name, shape) = spellings.find_map(|flat| known.get(&flat))?;
        Some((name, shape))
    }

    /// Width of the text states that a `UNet` reads.
    pub(super) fn text_width(&self) -> Option<usize> {
        let mut weights = self.weights.iter();
        weights.find_map(|(flat, (_, shape))| {
            flat.ends_with("attn2_to_k")
                .then(|| shape.get(1).copied())?
        })
    }

    /// The flattened name of a layer whose blocks are numbered as in original checkpoints.
    fn numbered_through(&self, flat: &str) -> Option<String> {
        let name = original::unet(&format!("{}.weight", dotted(flat)), self.layers)?;
        Some(name.strip_suffix(".weight")?.replace('.', "_"))
    }
}

/// A text encoder's attention as early diffusers files spell it.
fn early_text(flat: &str) -> Option<String> {
    let renamed =
        |(theirs, ours): &(&str, &str)| Some(flat.strip_suffix(theirs)?.to_owned() + ours);
    TEXT_ATTENTION.iter().find_map(renamed)
}

/// Puts dots around the numbers of a flattened name: `input_blocks_4_1_proj_in` is `input_blocks.4.1.proj_in`.
fn dotted(flat: &str) -> String {
    let mut text = String::new();
    let mut before = false;
    for word in flat.split('_') {
        let number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        if !text.is_empty() {
            text.push(if number || before { '.' } else { '_' });
        }
        text.push_str(word);
        before = number;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unet() -> Parameters {
        let names = [
            "down_blocks.0.resnets.0.conv1.weight",
            "down_blocks.0.resnets.1.time_emb_proj.weight",
            "down_blocks.0.downsamplers.0.conv.weight",
            "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k.weight",
            "down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_out.0.weight",
            "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj.weight",
            "down_blocks.1.attentions.0.proj_in.weight",
            "mid_block.resnets.1.conv2.weight",
            "up_blocks.0.upsamplers.0.conv.weight",
            "up_blocks.0.resnets.2.conv_shortcut.weight",
            "time_embedding.linear_1.weight",
            "add_embedding.linear_2.weight",
            "conv_in.weight",
        ];
        Parameters::new("unet", names.map(|name| (name.into(), vec![8, 4])).into())
    }

    fn found(name: &str) -> Option<String> {
        let target = Target::new(name);
        unet()
            .find(&target)
            .map(|(name, _)| name.strip_suffix(".weight").unwrap().to_owned())
    }

    #[test]
    fn all_spellings_find_the_layer() {
        let cases = [
            (
                "lora_unet_down_blocks_0_resnets_0_conv1",
                "down_blocks.0.resnets.0.conv1",
            ),
            ("lora_unet_conv_in", "conv_in"),
            ("lora_unet_input_blocks_0_0", "conv_in"),
            (
                "lora_unet_input_blocks_1_0_in_layers_2",
                "down_blocks.0.resnets.0.conv1",
            ),
            (
                "lora_unet_input_blocks_2_0_emb_layers_1",
                "down_blocks.0.resnets.1.time_emb_proj",
            ),
            (
                "lora_unet_input_blocks_3_0_op",
                "down_blocks.0.downsamplers.0.conv",
            ),
            (
                "lora_unet_input_blocks_4_1_proj_in",
                "down_blocks.1.attentions.0.proj_in",
            ),
            (
                "lora_unet_middle_block_2_out_layers_3",
                "mid_block.resnets.1.conv2",
            ),
            (
                "lora_unet_output_blocks_2_2_conv",
                "up_blocks.0.upsamplers.0.conv",
            ),
            (
                "lora_unet_output_blocks_2_0_skip_connection",
                "up_blocks.0.resnets.2.conv_shortcut",
            ),
            ("lora_unet_time_embed_0", "time_embedding.linear_1"),
            ("lora_unet_label_emb_0_2", "add_embedding.linear_2"),
            ("unet.conv_in", "conv_in"),
            ("base_model.model.conv_in", "conv_in"),
            ("unet.base_model.model.conv_in", "conv_in"),
            ("base_model.model.unet.conv_in", "conv_in"),
            ("diffusion_model.input_blocks.0.0", "conv_in"),
        ];
        for (name, layer) in cases {
            assert_eq!(found(name).as_deref(), Some(layer), "{name}");
        }
    }

    #[test]
    fn layers_of_attention_are_found_in_all_spellings() {
        let block = "down_blocks.1.attentions.0.transformer_blocks";
        let inner = [
            (
                "lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn2_to_k",
                "1.attn2.to_k",
            ),
            (
                "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k",
                "1.attn2.to_k",
            ),
            (
                "lora_unet_input_blocks_4_1_transformer_blocks_0_ff_net_0_proj",
                "0.ff.net.0.proj",
            ),
            (
                "lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_out_0",
                "1.attn1.to_out.0",
            ),
            (
                "down_blocks.1.attentions.0.transformer_blocks.1.attn1.processor.to_out",
                "1.attn1.to_out.0",
            ),
            (
                "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn2.processor.to_k",
                "1.attn2.to_k",
            ),
        ];
        for (name, layer) in inner {
            assert_eq!(found(name), Some(format!("{block}.{layer}")), "{name}");
        }
        assert_eq!(found("lora_unet_down_blocks_9_attentions_0_proj_in"), None);
        assert!(Target::new(inner[1].0).reads_text() && !Target::new(inner[2].0).reads_text());
    }

    /// What stands in front of a denoiser's names stands before those of transformers too.
    #[test]
    fn transformers_are_known_by_their_names() {
        let layer = "transformer_blocks.0.attn.to_q";
        let shapes = vec![(format!("{layer}.weight"), vec![2, 2])];
        let parameters = Parameters::new("transformer", shapes);
        let flat = layer.replace('.', "_");
        for name in [
            layer.to_owned(),
            format!("transformer.{layer}"),
            format!("diffusion_model.{layer}"),
            format!("lycoris_{flat}"),
            format!("lora_unet_{flat}"),
        ] {
            let target = Target::new(&name);
            let found = parameters.find(&target).is_some();
            assert!(found && target.part == "transformer", "{name}");
        }
    }

    #[test]
    fn text_encoders_are_found_with_and_without_their_prefix() {
        let layer = "encoder.layers.0.self_attn.q_proj";
        let names = [
            (
                "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
                "text_encoder",
            ),
            (
                "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
                "text_encoder",
            ),
            (
                "lora_te2_text_model_encoder_layers_0_self_attn_q_proj",
                "text_encoder_2",
            ),
            (
                "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
                "text_encoder",
            ),
            (
                "text_encoder_2.encoder.layers.0.self_attn.q_proj",
                "text_encoder_2",
            ),
            (
                "text_encoder.text_model.encoder.layers.0.self_attn.to_q",
                "text_encoder",
            ),
            (
                "base_model.model.text_model.encoder.layers.0.self_attn.q_proj",
                "text_encoder",
            ),
        ];
        for prefix in ["", "text_model."] {
            let name = format!("{prefix}{layer}.weight");
            let parameters = Parameters::new("text_encoder", vec![(name, vec![2, 2])]);
            for (name, part) in names {
                let target = Target::new(name);
                assert_eq!(target.part, part);
                let early = prefix.is_empty() && name.ends_with("to_q");
                assert_eq!(parameters.find(&target).is_some(), !early, "{name}");
            }
        }
    }
}

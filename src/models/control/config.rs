//! A `ControlNet`'s `config.json`: that of the `UNet` it was copied from, without the decoder, and the hint's own keys.

use serde::Deserialize;

use crate::error::ConfigError;
use crate::models::json;
use crate::models::unet::{CellModule, Level, UNetConfig};
use crate::nn::activation::Activation;

/// What messages call it.
const PART: &str = "controlnet";

/// Pixels a latent, along each side: the hint's blocks halve its sides three times.
pub(super) const HALVINGS: usize = 3;

/// Channels of the pictures that are hints.
const COLOURS: usize = 3;

/// A `ControlNet`'s shape: every default filled in, every value checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlNetConfig {
    /// The encoder half and the middle; the decoder half is not there.
    pub unet: UNetConfig,
    /// Channels of the hint.
    pub hint_channels: usize,
    /// Channels of the hint's convolutions, at full size first.
    pub hint_widths: Vec<usize>,
    /// The hint's colours come blue first.
    pub blue_first: bool,
    /// Only the mean of each residual over the picture is added (nets that were trained on shuffled pictures).
    pub global_pool: bool,
}

/// The hint's keys as they stand in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HintJson {
    #[serde(rename = "_class_name")]
    class_name: Option<String>,
    conditioning_channels: Option<usize>,
    conditioning_embedding_out_channels: Option<Vec<usize>>,
    controlnet_conditioning_channel_order: Option<String>,
    global_pool_conditions: Option<bool>,
    down_block_types: Option<Vec<String>>,
}

impl ControlNetConfig {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    ///
    /// If it is not JSON, is not that of a `ControlNet`, or asks for something that is not built; the message names the key.
    pub fn from_json(text: &str) -> Result<Self, crate::Error> {
        let malformed =
            |source| ConfigError::json::<HintJson>(source, text, PART, "controlnet/config.json");
        let mut value = json::bounded::<HintJson>(text, "config.json")?.map_err(malformed)?;
        let hint: HintJson = serde_json::from_value(value.clone()).map_err(malformed)?;
        hint.check()?;
        if hint.down_block_types.is_some() {
            value["up_block_types"] = hint.mirrored_blocks().into();
        }
        // Nobody builds the decoder, and a file with a depth for each attention has no word on it.
        if value["transformer_layers_per_block"].is_array() {
            value["reverse_transformer_layers_per_block"] = 1.into();
        }
        Self::joined(UNetConfig::of_part(PART, &value.to_string())?, &hint)
    }

    /// Of a net that has no configuration.
    pub(super) fn of_shapes(
        unet: UNetConfig,
        hint_channels: usize,
        hint_widths: Vec<usize>,
        global_pool: bool,
    ) -> Result<Self, crate::Error> {
        let hint = HintJson {
            conditioning_channels: Some(hint_channels),
            conditioning_embedding_out_channels: Some(hint_widths),
            global_pool_conditions: Some(global_pool),
            ..HintJson::default()
        };
        Self::joined(unet, &hint)
    }

    fn joined(unet: UNetConfig, hint: &HintJson) -> Result<Self, crate::Error> {
        unet.check_reads_text_alone("built are ControlNets of Stable Diffusion 1.x, 2.x and XL")?;
        check_curves(&unet)?;
        Ok(Self {
            blue_first: hint.blue_first()?,
            hint_channels: hint.channels()?,
            hint_widths: hint.widths()?,
            global_pool: hint.global_pool_conditions.unwrap_or(false),
            unet,
        })
    }

    /// Whether the residuals fit the skips of `trunk`, and both read the same text states.
    ///
    /// # Errors
    ///
    /// A config error that names what differs.
    pub fn check_fits(&self, trunk: &UNetConfig) -> Result<(), crate::Error> {
        type OfLevel = (&'static str, &'static str, fn(&Level) -> usize);
        let each = |config: &UNetConfig, of: fn(&Level) -> usize| -> Vec<usize> {
            config.levels.iter().map(of).collect()
        };
        let of_levels: [OfLevel; 2] = [
            ("block_out_channels", "channels", |level| level.channels),
            ("layers_per_block", "residual blocks", |level| level.layers),
        ];
        for (key, what, of) in of_levels {
            let (ours, theirs) = (each(&self.unet, of), each(trunk, of));
            if ours != theirs {
                let hint = format!(
                    "this ControlNet is for another model family: the model has levels of {theirs:?} {what}"
                );
                let found = format!("{ours:?}");
                return Err(ConfigError::unsupported(key, found, hint).into());
            }
        }
        if self.unet.context_width != trunk.context_width {
            let hint = format!(
                "this ControlNet is for another model family: the model's text states have width {}",
                trunk.context_width
            );
            let found = self.unet.context_width;
            return Err(ConfigError::unsupported("cross_attention_dim", found, hint).into());
        }
        if self.unet.added.is_some() != trunk.added.is_some() {
            let hint =
                "this ControlNet is for another model family: one of it and the model is for SDXL";
            let found = if self.unet.added.is_some() {
                "text_time"
            } else {
                "null"
            };
            return Err(ConfigError::unsupported("addition_embed_type", found, hint).into());
        }
        Ok(self.check_added(trunk)?)
    }

    /// Both are told the same numbers beside the pooled text.
    fn check_added(&self, trunk: &UNetConfig) -> Result<(), ConfigError> {
        let (Some(ours), Some(theirs)) = (self.unet.added, trunk.added) else {
            return Ok(());
        };
        for (key, ours, theirs) in [
            (
                "addition_time_embed_dim",
                ours.sinusoid.width,
                theirs.sinusoid.width,
            ),
            (
                "projection_class_embeddings_input_dim",
                ours.width,
                theirs.width,
            ),
        ] {
            if ours != theirs {
                let hint = format!("this ControlNet is for another model: the model has {theirs}");
                return Err(ConfigError::unsupported(key, ours, hint));
            }
        }
        Ok(())
    }

    /// Whether it reads latents of so many `channels`, each of `factor` pixels a side: those that the model denoises.
    ///
    /// # Errors
    ///
    /// A config error that names what differs.
    pub(crate) fn check_reads(&self, channels: usize, factor: usize) -> Result<(), ConfigError> {
        if self.unet.in_channels != channels {
            let hint = format!(
                "this ControlNet is for another model family: the model's latents have {channels} channels"
            );
            let found = self.unet.in_channels;
            return Err(ConfigError::unsupported("in_channels", found, hint));
        }
        let halved = 1 << HALVINGS;
        if factor != halved {
            let hint = format!(
                "its hints are made {halved} times smaller along each side, and the model's autoencoder makes pictures {factor} times smaller"
            );
            let found = format!("{:?}", self.hint_widths);
            let key = "conditioning_embedding_out_channels";
            return Err(ConfigError::unsupported(key, found, hint));
        }
        Ok(())
    }
}

impl UNetConfig {
    /// Channels of the hidden tensor behind a cell.
    pub(super) fn channels(&self, site: CellModule) -> usize {
        let level = match site {
            CellModule::ConvIn => 0,
            CellModule::Down { level, .. }
            | CellModule::Downsample { level }
            | CellModule::Up { level, .. } => level,
            CellModule::Mid => self.levels.len() - 1,
        };
        self.levels[level].channels
    }
}

impl HintJson {
    fn check(&self) -> Result<(), ConfigError> {
        match self.class_name.as_deref() {
            None | Some("ControlNetModel") => Ok(()),
            Some(other) => {
                let kind = match other {
                    "T2IAdapter" | "MultiAdapter" => "this is a T2I-Adapter; ",
                    "ControlNetUnionModel" => "this is a ControlNet of many kinds (union); ",
                    "ControlNetXSAdapter" => "this is a ControlNet-XS; ",
                    "FluxControlNetModel"
                    | "SD3ControlNetModel"
                    | "HunyuanDiT2DControlNetModel" => "this is a ControlNet of a transformer; ",
                    "UNet2DConditionModel" => "this is a model's denoiser; ",
                    _ => "",
                };
                let hint =
                    format!("{kind}read is `ControlNetModel`, of Stable Diffusion 1.x, 2.x and XL");
                Err(ConfigError::unsupported("_class_name", other, hint))
            }
        }
    }

    /// The decoder's block types, which the file leaves out and nobody builds.
    fn mirrored_blocks(&self) -> Vec<String> {
        let down = self.down_block_types.as_deref().unwrap_or_default();
        let up = |name: &String| name.replace("Down", "Up");
        down.iter().rev().map(up).collect()
    }

    fn blue_first(&self) -> Result<bool, ConfigError> {
        let key = "controlnet_conditioning_channel_order";
        match self.controlnet_conditioning_channel_order.as_deref() {
            None | Some("rgb") => Ok(false),
            Some("bgr") => Ok(true),
            Some(other) => Err(ConfigError::unsupported(key, other, "known: `rgb`, `bgr`")),
        }
    }

    fn widths(&self) -> Result<Vec<usize>, ConfigError> {
        let widths = self.conditioning_embedding_out_channels.clone();
        let widths = widths.unwrap_or_else(|| vec![16, 32, 96, 256]);
        let key = "conditioning_embedding_out_channels";
        json::each_positive(key, &widths)?;
        if widths.len() == HALVINGS + 1 {
            return Ok(widths);
        }
        let hint = "built are four widths, as latents are an eighth of the picture";
        Err(ConfigError::unsupported(key, format!("{widths:?}"), hint))
    }

    fn channels(&self) -> Result<usize, ConfigError> {
        match self.conditioning_channels {
            Some(other) if other != COLOURS => {
                let hint = format!("hints are pictures of {COLOURS} channels: red, green and blue");
                Err(ConfigError::unsupported(
                    "conditioning_channels",
                    other,
                    hint,
                ))
            }
            _ => Ok(COLOURS),
        }
    }
}

/// Refuses other curves than `SiLU` between the layers, the only ones that nets are built with.
fn check_curves(unet: &UNetConfig) -> Result<(), ConfigError> {
    let hint = "ControlNets are built with `silu` everywhere";
    if unet.resnets.activation != Activation::Silu {
        let found = format!("{:?}", unet.resnets.activation).to_lowercase();
        return Err(ConfigError::unsupported("act_fn", found, hint));
    }
    match unet.time_activations[..] {
        [Activation::Silu] => Ok(()),
        [] => Err(ConfigError::unsupported("resnet_skip_time_act", true, hint)),
        [whole, ..] => {
            let found = format!("{whole:?}").to_lowercase();
            Err(ConfigError::unsupported(
                "time_embedding_act_fn",
                found,
                hint,
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANNY: &str = include_str!("../../../models/cards/control_v11p_sd15_canny/config.json");
    const SD15: &str = include_str!("../../../models/cards/stable-diffusion-v1-5/unet/config.json");
    const SD21: &str = include_str!("../../../models/cards/stable-diffusion-2-1/unet/config.json");

    #[test]
    fn a_net_for_another_family_is_refused() {
        let net = ControlNetConfig::from_json(CANNY).unwrap();
        net.check_fits(&UNetConfig::from_json(SD15).unwrap())
            .unwrap();
        let error = net
            .check_fits(&UNetConfig::from_json(SD21).unwrap())
            .unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("`cross_attention_dim` is `768`"),
            "{message}"
        );
        assert!(message.contains("another model family"), "{message}");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let net = ControlNetConfig::from_json(CANNY).unwrap();
        net.check_reads(4, 8).unwrap();
        for (channels, factor, said) in [
            (16, 8, "`in_channels` is `4`"),
            (4, 4, "`conditioning_embedding_out_channels` is `[16, "),
        ] {
            let error = net.check_reads(channels, factor).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
        let mut deeper = UNetConfig::from_json(SD15).unwrap();
        deeper.levels[1].layers = 3;
        let error = net.check_fits(&deeper).unwrap_err().to_string();
        assert!(
            error.starts_with("`layers_per_block` is `[2, 2, 2, 2]`"),
            "{error}"
        );
        assert!(error.contains("[2, 3, 2, 2] residual blocks"), "{error}");
    }

    #[test]
    fn hints_and_curves_that_are_not_built_are_named() {
        for (key, value, said) in [
            (
                "conditioning_channels",
                4.into(),
                "`conditioning_channels` is `4`",
            ),
            (
                "conditioning_embedding_out_channels",
                serde_json::json!([0, 0, 0, 0]),
                "`conditioning_embedding_out_channels` is `[0, 0, 0, 0]`",
            ),
            ("act_fn", "gelu".into(), "`act_fn` is `gelu`"),
            (
                "time_embedding_act_fn",
                "gelu".into(),
                "`time_embedding_act_fn` is `gelu`",
            ),
            (
                "resnet_skip_time_act",
                true.into(),
                "`resnet_skip_time_act` is `true`",
            ),
        ] {
            let mut config: serde_json::Value = serde_json::from_str(CANNY).unwrap();
            config[key] = value;
            let net = ControlNetConfig::from_json(&config.to_string());
            let error = net.unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }

    #[test]
    fn what_is_no_control_net_is_refused() {
        let error = ControlNetConfig::from_json(SD15).unwrap_err().to_string();
        assert!(
            error.contains("`_class_name` is `UNet2DConditionModel`"),
            "{error}"
        );
        let other = CANNY.replace("\"rgb\"", "\"grb\"");
        let error = ControlNetConfig::from_json(&other).unwrap_err().to_string();
        assert!(error.contains("known: `rgb`, `bgr`"), "{error}");
    }

    /// A net that was copied from SSD-1B: depths of each attention, and none of the decoder.
    #[test]
    fn a_net_may_have_a_depth_for_each_attention() {
        let mut config: serde_json::Value = serde_json::from_str(CANNY).unwrap();
        config["transformer_layers_per_block"] = serde_json::json!([1, [1, 2], [2, 2], 1]);
        config["mid_block_type"] = "UNetMidBlock2D".into();
        let net = ControlNetConfig::from_json(&config.to_string()).unwrap();
        assert_eq!(net.unet.levels[1].encoder_depths, [1, 2]);
        assert_eq!((net.unet.mid_depth, net.unet.mid_resnets), (0, 1));
    }
}

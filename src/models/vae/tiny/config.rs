//! What a tiny autoencoder is built from.

use serde::Deserialize;

use super::POOL;
use crate::error::ConfigError;
use crate::models::json::only;

/// Maps alive at the peak of a block: what went in, beside a convolution's input and output.
const MAPS: u64 = 3;

/// The shape of a tiny autoencoder beyond that of every autoencoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TinyConfig {
    /// Pixels to latents.
    pub encoder: TinyHalf,
    /// Latents to pixels.
    pub decoder: TinyHalf,
    /// The blocks of the smallest map normalise it (TAEF2).
    pub pooled: bool,
}

/// One half of a tiny autoencoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TinyHalf {
    /// Channels of every level.
    pub channels: usize,
    /// Blocks of each level, in the order they run.
    pub blocks: Vec<usize>,
}

/// The keys of `vae/config.json` that only a tiny autoencoder has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::models::vae) struct TinyJson {
    encoder_block_out_channels: Option<Vec<usize>>,
    decoder_block_out_channels: Option<Vec<usize>>,
    num_encoder_blocks: Option<Vec<usize>>,
    num_decoder_blocks: Option<Vec<usize>>,
    upsample_fn: Option<String>,
    upsampling_scaling_factor: Option<usize>,
    use_midblock_gn: Option<bool>,
}

impl TinyJson {
    /// What is said, and diffusers' defaults.
    pub(in crate::models::vae) fn resolve(self) -> Result<TinyConfig, ConfigError> {
        only("upsample_fn", self.upsample_fn, &["nearest"])?;
        if let Some(factor) = self.upsampling_scaling_factor.filter(|&factor| factor != 2) {
            let hint = "built is 2, as encoders halve";
            return Err(ConfigError::unsupported(
                "upsampling_scaling_factor",
                factor,
                hint,
            ));
        }
        let encoder = TinyHalf::new(
            (
                "encoder_block_out_channels",
                self.encoder_block_out_channels,
            ),
            ("num_encoder_blocks", self.num_encoder_blocks),
            [1, 3, 3, 3],
        )?;
        let decoder = TinyHalf::new(
            (
                "decoder_block_out_channels",
                self.decoder_block_out_channels,
            ),
            ("num_decoder_blocks", self.num_decoder_blocks),
            [3, 3, 3, 1],
        )?;
        let (found, levels) = (decoder.blocks.len(), encoder.blocks.len());
        if found != levels {
            let hint = format!("`num_encoder_blocks` has {levels} levels");
            return Err(ConfigError::unsupported("num_decoder_blocks", found, hint));
        }
        Ok(TinyConfig {
            encoder,
            decoder,
            pooled: self.use_midblock_gn.unwrap_or(false),
        })
    }
}

impl TinyHalf {
    fn new(
        (key, channels): (&str, Option<Vec<usize>>),
        (counts, blocks): (&str, Option<Vec<usize>>),
        silent: [usize; 4],
    ) -> Result<Self, ConfigError> {
        let blocks = blocks.unwrap_or_else(|| silent.to_vec());
        let channels = channels.unwrap_or_else(|| vec![64; blocks.len()]);
        let Some(&first) = channels.first() else {
            return Err(ConfigError::unsupported(
                key,
                "[]",
                "name the channels of each level",
            ));
        };
        if channels.iter().any(|&width| width != first || width == 0) {
            let hint = "all levels have the same channels";
            return Err(ConfigError::unsupported(key, format!("{channels:?}"), hint));
        }
        if blocks.len() != channels.len() {
            let hint = format!("`{key}` names {} levels", channels.len());
            return Err(ConfigError::unsupported(counts, blocks.len(), hint));
        }
        Ok(Self {
            channels: first,
            blocks,
        })
    }
}

impl TinyConfig {
    /// Multiply-accumulates of decoding `positions` latents of `latents` channels to pixels of `pixels` channels.
    pub(in crate::models::vae) fn decode_macs(
        &self,
        positions: u64,
        latents: u64,
        pixels: u64,
    ) -> u64 {
        let TinyHalf { channels, blocks } = &self.decoder;
        let channels = *channels as u64;
        let conv = 9 * channels * channels;
        let levels = blocks.iter().enumerate().map(|(level, &count)| {
            let pool = if self.pooled && level == 0 {
                2 * POOL as u64 * channels * channels
            } else {
                0
            };
            let enlarging = if level == 0 { 0 } else { conv };
            let blocks = count as u64 * (3 * conv + pool);
            (positions << (2 * level)) * (enlarging + blocks)
        });
        let inward = positions * 9 * latents * channels;
        let outward = self.finest(positions) * 9 * channels * pixels;
        inward + levels.sum::<u64>() + outward
    }

    /// Bytes of the most that is alive while `positions` latents are decoded, in f32.
    pub(in crate::models::vae) fn decode_bytes(&self, positions: u64) -> u64 {
        MAPS * self.largest_map(positions)
    }

    /// Bytes of the largest map between latents and pixels, in f32.
    pub(in crate::models::vae) fn largest_map(&self, positions: u64) -> u64 {
        let channels = self.decoder.channels as u64;
        self.finest(positions) * channels * size_of::<f32>() as u64
    }

    /// Pixels of so many latents.
    fn finest(&self, positions: u64) -> u64 {
        positions << (2 * (self.decoder.blocks.len() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<TinyConfig, ConfigError> {
        serde_json::from_str::<TinyJson>(text).unwrap().resolve()
    }

    #[test]
    fn what_is_not_said_is_as_in_taesd() {
        let config = config("{}").unwrap();
        assert_eq!(config.encoder.blocks, [1, 3, 3, 3]);
        assert_eq!(config.decoder.blocks, [3, 3, 3, 1]);
        assert_eq!((config.encoder.channels, config.pooled), (64, false));
    }

    #[test]
    fn decoding_is_counted_by_hand() {
        let shape = r#""decoder_block_out_channels": [2, 2], "encoder_block_out_channels": [2, 2],
            "num_decoder_blocks": [1, 2], "num_encoder_blocks": [1, 1]"#;
        // A position: in 18, a block 3·36; four pixels of it: the enlarging convolution 36, two blocks, out 54.
        let plain = config(&format!("{{{shape}}}")).unwrap();
        let macs = plain.decode_macs(3, 1, 3);
        assert_eq!(macs, 3 * (18 + 108 + 4 * (36 + 216 + 54)));
        let pooled = config(&format!(r#"{{{shape}, "use_midblock_gn": true}}"#)).unwrap();
        assert_eq!(pooled.decode_macs(3, 1, 3), macs + 3 * 2 * 16);
        assert_eq!(plain.decode_bytes(3), 3 * plain.largest_map(3));
    }

    #[test]
    fn what_is_not_built_is_named() {
        let message = |text| config(text).unwrap_err().to_string();
        assert!(message(r#"{"upsample_fn": "bilinear"}"#).contains("`nearest`"));
        assert!(message(r#"{"upsampling_scaling_factor": 4}"#).contains("is `4`"));
        let uneven = message(r#"{"encoder_block_out_channels": [8, 16, 16, 16]}"#);
        assert!(uneven.contains("same channels"), "{uneven}");
        assert!(message(r#"{"encoder_block_out_channels": []}"#).contains("`[]`"));
        let levels = message(r#"{"num_decoder_blocks": [3, 1]}"#);
        assert!(
            levels.contains("`num_encoder_blocks` has 4 levels"),
            "{levels}"
        );
        let counts = r#"{"num_encoder_blocks": [1, 3], "encoder_block_out_channels": [64]}"#;
        assert!(message(counts).contains("`encoder_block_out_channels` names 1 levels"));
    }
}

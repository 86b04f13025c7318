//! What decoding costs, from the configuration alone.

use burn::tensor::DType;

use super::Tiling;
use super::config::{Level, VaeConfig};

/// A forecast above this many bytes has [`Tiling::Automatic`] use tiles.
const UNTILED_BYTES: u64 = 2 << 30;

/// The largest side of a tile, in pixels; checkpoints made for larger pictures would have larger tiles.
const MAX_TILE: usize = 512;

/// Maps alive at the peak of a residual block along frames.
const FRAME_MAPS: u64 = 4;

impl VaeConfig {
    /// Multiply-accumulates of decoding one row of `height` x `width` latents, untiled. Norms and activations are not counted.
    pub fn decode_macs(&self, height: usize, width: usize) -> u64 {
        let positions = (height * width) as u64;
        if let Some(tiny) = &self.tiny {
            return tiny.decode_macs(
                positions,
                self.latent_channels as u64,
                self.out_channels as u64,
            );
        }
        let (latents, mid) = (self.latent_channels as u64, self.mid_channels() as u64);
        let quant = u64::from(self.post_quant_conv) * latents * latents;
        let inward = positions * (quant + conv3x3(latents, mid));
        let middle = positions * 2 * resnet(mid, mid);
        let attention = u64::from(self.mid_attention) * attention(mid, positions);
        let levels = self.at_levels(positions).map(level_macs).sum::<u64>();
        let pixels = positions * (self.factor() * self.factor()) as u64;
        let outward = pixels * conv3x3(self.channels[0] as u64, self.out_channels as u64);
        let search = positions * self.codes.unwrap_or(0) as u64 * latents;
        search + inward + middle + attention + levels + outward
    }

    /// Forecast of the most memory in bytes that decoding one row of `height` x `width` latents takes beside the weights and the
    /// kernels' own, untiled, in f32.
    pub fn decode_bytes(&self, height: usize, width: usize) -> u64 {
        if let Some(tiny) = &self.tiny {
            return tiny.decode_bytes((height * width) as u64);
        }
        let levels = self.at_levels((height * width) as u64);
        levels.map(level_bytes).max().unwrap_or(0)
    }

    /// [`decode_bytes`](Self::decode_bytes) of `frames` decoded together.
    pub fn decode_frames_bytes(&self, frames: usize, height: usize, width: usize) -> u64 {
        if self.tiny.is_some() {
            return frames as u64 * self.decode_bytes(height, width);
        }
        let levels = self.at_levels((height * width) as u64);
        let along = |(level, positions): (Level, u64)| {
            // A residual block along frames has the map, its frames side by side, that after the norm, and that convolved.
            let clips = FRAME_MAPS * positions * level.output as u64 * size_of::<f32>() as u64;
            level_bytes((level, positions)).max(if self.over_frames { clips } else { 0 })
        };
        frames as u64 * levels.map(along).max().unwrap_or(0)
    }

    /// [`decode_frames_bytes`](Self::decode_frames_bytes) of what `tiling` works on at once, the whole or a tile, of `latents`, `[frames
    /// decoded together, channels, height, width]`, in `dtype`.
    pub fn working_bytes(&self, latents: [usize; 4], tiling: Tiling, dtype: DType) -> u64 {
        let [frames, _, height, width] = self.worked_on(latents, tiling);
        brought_to(dtype, self.decode_frames_bytes(frames, height, width))
    }

    /// Bytes of the largest tensor that decoding `latents`, `[frames decoded together, channels, height, width]`, in this `tiling`
    /// makes, in `dtype`.
    pub fn largest_map(&self, latents: [usize; 4], tiling: Tiling, dtype: DType) -> u64 {
        let [frames, _, height, width] = self.worked_on(latents, tiling);
        if let Some(tiny) = &self.tiny {
            let largest = tiny.largest_map((height * width) as u64);
            return brought_to(dtype, frames as u64 * largest);
        }
        let largest = |(level, positions): (Level, u64)| {
            let grown = positions * if level.resample { 4 } else { 1 };
            let map = (positions * level.input as u64).max(grown * level.output as u64);
            map * size_of::<f32>() as u64
        };
        let levels = self.at_levels((height * width) as u64);
        let largest = levels.map(largest).max().unwrap_or(0);
        brought_to(dtype, frames as u64 * largest)
    }

    /// Whether latents of `[frames decoded together, channels, height, width]` are split under `tiling`: by what f32 takes, whatever it computes
    /// in, so that a picture in half precision is made as one in f32 is.
    pub fn tiled(&self, [frames, _, height, width]: [usize; 4], tiling: Tiling) -> bool {
        let wanted = match tiling {
            Tiling::Automatic => self.decode_frames_bytes(frames, height, width) > UNTILED_BYTES,
            Tiling::Always => true,
            Tiling::Never => false,
        };
        wanted && height.max(width) > self.tile()
    }

    /// Side of a tile, in latents.
    pub(super) fn tile(&self) -> usize {
        (self.sample_size.min(MAX_TILE) / self.factor()).max(1)
    }

    fn worked_on(&self, latents: [usize; 4], tiling: Tiling) -> [usize; 4] {
        if !self.tiled(latents, tiling) {
            return latents;
        }
        let [frames, channels, height, width] = latents;
        let [height, width] = [height, width].map(|side| side.min(self.tile()));
        [frames, channels, height, width]
    }

    /// The decoder's levels with the positions their residual blocks run at.
    fn at_levels(&self, latents: u64) -> impl Iterator<Item = (Level, u64)> {
        let levels = self.decoder_levels().into_iter().enumerate();
        levels.map(move |(index, level)| (level, latents << (2 * index)))
    }
}

/// Bytes in `dtype` of what takes as many in f32.
fn brought_to(dtype: DType, bytes: u64) -> u64 {
    bytes / size_of::<f32>() as u64 * dtype.size() as u64
}

/// What is alive at a level's peak: a residual block's input beside its norm and its first convolution, or its output twice and its
/// input; after the blocks, the map, what is enlarged of it, and that convolved.
fn level_bytes((level, positions): (Level, u64)) -> u64 {
    let (input, output) = (
        positions * level.input as u64,
        positions * level.output as u64,
    );
    let block = (2 * input + output).max(input + 2 * output);
    let enlarged = if level.resample {
        9 * output
    } else {
        3 * output
    };
    block.max(enlarged) * size_of::<f32>() as u64
}

fn level_macs((level, positions): (Level, u64)) -> u64 {
    let (input, output) = (level.input as u64, level.output as u64);
    let first = resnet(input, output);
    let others = (level.resnets as u64 - 1) * resnet(output, output);
    let upsampler = u64::from(level.resample) * 4 * conv3x3(output, output);
    positions * (first + others + upsampler)
}

/// A position.
fn conv3x3(input: u64, output: u64) -> u64 {
    9 * input * output
}

/// A position.
fn resnet(input: u64, output: u64) -> u64 {
    let shortcut = if input == output { 0 } else { input * output };
    conv3x3(input, output) + conv3x3(output, output) + shortcut
}

/// A whole map: four projections, scores, and their mix.
fn attention(channels: u64, positions: u64) -> u64 {
    4 * channels * channels * positions + 2 * channels * positions * positions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sd15() -> VaeConfig {
        let json = serde_json::json!({
            "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "sample_size": 512,
            "down_block_types": vec!["DownEncoderBlock2D"; 4], "up_block_types": vec!["UpDecoderBlock2D"; 4],
        });
        VaeConfig::new(serde_json::from_value(json).unwrap()).unwrap()
    }

    #[test]
    fn one_level_is_counted_by_hand() {
        let json = serde_json::json!({
            "block_out_channels": [2], "norm_num_groups": 1, "latent_channels": 1, "use_post_quant_conv": false,
        });
        let config = VaeConfig::new(serde_json::from_value(json).unwrap()).unwrap();
        // conv_in 18, two middle blocks and two of the level at 72, attention 4·4 a position and 2·2·36, conv_out 54.
        assert_eq!(config.decode_macs(2, 3), 6 * (18 + 4 * 72 + 16 + 24 + 54));
    }

    #[test]
    fn the_decoder_of_sd15_has_its_known_cost() {
        assert_eq!(sd15().decode_macs(64, 64) / 1_000_000_000, 1257);
    }

    #[test]
    fn only_what_is_larger_than_a_tile_is_split() {
        let config = sd15();
        assert!(
            config.tiled([1, 4, 65, 8], Tiling::Always)
                && !config.tiled([1, 4, 64, 64], Tiling::Always)
        );
        assert!(config.tiled([1, 4, 128, 128], Tiling::Automatic));
        assert!(!config.tiled([1, 4, 96, 96], Tiling::Automatic));
        let tile = config.decode_bytes(64, 64);
        assert_eq!(
            config.working_bytes([1, 4, 128, 128], Tiling::Automatic, DType::F32),
            tile
        );
        let largest = |tiling, dtype| config.largest_map([1, 4, 128, 128], tiling, dtype);
        let whole = largest(Tiling::Never, DType::F32);
        assert_eq!(whole, 4 * largest(Tiling::Always, DType::F32));
        assert_eq!(whole, 2 * largest(Tiling::Never, DType::BF16));
    }

    #[test]
    fn memory_grows_with_the_picture() {
        let config = sd15();
        assert_eq!(
            config.decode_bytes(128, 128),
            4 * config.decode_bytes(64, 64)
        );
    }
}

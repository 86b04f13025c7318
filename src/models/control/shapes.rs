//! A `ControlNet` without a configuration: what the shapes of its weights tell, and for the rest the model it steers, whose encoder it is a copy
//! of.

use super::config::ControlNetConfig;
use crate::models::unet::{AddedConfig, Level, TextReading, UNetConfig};
use crate::weights::WeightSource;

/// Tensors by their diffusers names.
struct Shapes<'a>(&'a WeightSource);

impl Shapes<'_> {
    /// The size of a tensor along one of its sides, 0 where it is not there.
    fn side(&self, name: &str, side: usize) -> usize {
        let shape = self.0.shape(name).unwrap_or_default();
        shape.get(side).copied().unwrap_or(0)
    }

    /// How many of numbered blocks there are, each of which has the tensor that `name` says.
    fn count(&self, name: impl Fn(usize) -> String) -> usize {
        let there = |index: &usize| self.0.shape(&name(*index)).is_some();
        (0..self.0.len()).take_while(there).count()
    }

    /// Blocks of a transformer, 0 where there is none.
    fn depth(&self, place: &str) -> usize {
        self.count(|index| format!("{place}.transformer_blocks.{index}.norm1.weight"))
    }

    /// Encoder level `index`, with as many heads as that of the model.
    fn level(&self, index: usize, heads: usize) -> Level {
        let block = |kind: &str, block: usize| format!("down_blocks.{index}.{kind}.{block}");
        let layers = self.count(|layer| block("resnets", layer) + ".conv1.weight");
        let depths = (0..layers).map(|layer| self.depth(&block("attentions", layer)));
        let depths: Vec<usize> = depths.collect();
        let attends = depths.iter().any(|depth| *depth > 0);
        Level {
            channels: self.side(&(block("resnets", 0) + ".conv1.weight"), 0),
            layers,
            heads,
            // Of attentions that are missing beside others, loading tells.
            encoder_depths: if attends {
                depths.into_iter().map(|depth| depth.max(1)).collect()
            } else {
                Vec::new()
            },
            decoder_depths: Vec::new(),
            only_text: false,
        }
    }

    /// Width of the text states that attentions read.
    fn context_width(&self) -> Option<usize> {
        let mut names = self.0.names();
        let reads = names.find(|name| name.ends_with(".attn2.to_k.weight"))?;
        Some(self.side(reads, 1))
    }
}

impl ControlNetConfig {
    /// Of the weights of a net under diffusers names, beside the model `trunk`. Whether only means are added (`global_pool`) is in no shape.
    ///
    /// # Errors
    ///
    /// If its hints are no pictures of red, green and blue, or the model is of another kind than those that nets are built for.
    pub fn of_weights(
        weights: &WeightSource,
        trunk: &UNetConfig,
        global_pool: bool,
    ) -> Result<Self, crate::Error> {
        let shapes = Shapes(weights);
        let levels = shapes.count(|level| format!("down_blocks.{level}.resnets.0.conv1.weight"));
        let heads = |level: usize| trunk.levels.get(level).map_or(1, |level| level.heads);
        let added = shapes.side("add_embedding.linear_1.weight", 1);
        let unet = UNetConfig {
            in_channels: shapes.side("conv_in.weight", 1),
            levels: (0..levels)
                .map(|level| shapes.level(level, heads(level)))
                .collect(),
            mid_depth: shapes.depth("mid_block.attentions.0"),
            mid_resnets: shapes.count(|block| format!("mid_block.resnets.{block}.conv1.weight")),
            context_width: shapes.context_width().unwrap_or(trunk.context_width),
            text: TextReading::default(),
            guidance_width: None,
            added: (added > 0).then(|| AddedConfig {
                sinusoid: trunk.added.map_or(trunk.sinusoid, |added| added.sinusoid),
                width: added,
            }),
            labels: None,
            ..trunk.clone()
        };
        let hint = |layer: &str, side| {
            shapes.side(&format!("controlnet_cond_embedding.{layer}.weight"), side)
        };
        let pairs = shapes.count(|pair| {
            let second = 2 * pair + 1;
            format!("controlnet_cond_embedding.blocks.{second}.weight")
        });
        let widths = (0..pairs).map(|pair| hint(&format!("blocks.{}", 2 * pair + 1), 0));
        let widths = std::iter::once(hint("conv_in", 0)).chain(widths).collect();
        Self::of_shapes(unet, hint("conv_in", 1), widths, global_pool)
    }
}

//! What the entries of `down_block_types` and `up_block_types` of a `UNet` with conditions say.

use crate::error::ConfigError;
use crate::models::json::current_block;

/// A half's key, its types, and what the key is taken as where it is silent.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct BlockTypes {
    key: &'static str,
    attending: &'static str,
    plain: &'static str,
    silent: [bool; 4],
}

/// The encoder half.
pub(super) const DOWN: BlockTypes = BlockTypes {
    key: "down_block_types",
    attending: "CrossAttnDownBlock2D",
    plain: "DownBlock2D",
    silent: [true, true, true, false],
};

/// The decoder half, innermost level first.
pub(super) const UP: BlockTypes = BlockTypes {
    key: "up_block_types",
    attending: "CrossAttnUpBlock2D",
    plain: "UpBlock2D",
    silent: [false, true, true, true],
};

/// [`DOWN`] whose blocks attend to text and map at once.
pub(super) const DOWN_OF_TEXTS: BlockTypes = BlockTypes {
    attending: "SimpleCrossAttnDownBlock2D",
    plain: "ResnetDownsampleBlock2D",
    ..DOWN
};

/// [`UP`] whose blocks attend to text and map at once.
pub(super) const UP_OF_TEXTS: BlockTypes = BlockTypes {
    attending: "SimpleCrossAttnUpBlock2D",
    plain: "ResnetUpsampleBlock2D",
    ..UP
};

/// [`DOWN`] over frames.
pub(in crate::models) const DOWN_OVER_FRAMES: BlockTypes = BlockTypes {
    attending: "CrossAttnDownBlockSpatioTemporal",
    plain: "DownBlockSpatioTemporal",
    ..DOWN
};

/// [`UP`] over frames.
pub(in crate::models) const UP_OVER_FRAMES: BlockTypes = BlockTypes {
    attending: "CrossAttnUpBlockSpatioTemporal",
    plain: "UpBlockSpatioTemporal",
    ..UP
};

/// [`DOWN`] of films.
pub(in crate::models) const DOWN_OF_FILMS: BlockTypes = BlockTypes {
    attending: "CrossAttnDownBlock3D",
    plain: "DownBlock3D",
    ..DOWN
};

/// [`UP`] of films.
pub(in crate::models) const UP_OF_FILMS: BlockTypes = BlockTypes {
    attending: "CrossAttnUpBlock3D",
    plain: "UpBlock3D",
    ..UP
};

impl BlockTypes {
    /// For each level as listed, whether its blocks attend.
    pub(in crate::models) fn attends(
        self,
        types: Option<&[String]>,
        levels: usize,
    ) -> Result<Vec<bool>, ConfigError> {
        let Some(types) = types else {
            return self.silent(levels);
        };
        if types.len() != levels {
            let hint = format!("the UNet has {levels} levels; name one block type a level");
            return Err(ConfigError::unsupported(
                self.key,
                format!("{types:?}"),
                hint,
            ));
        }
        let types = types.iter().enumerate();
        types.map(|(index, name)| self.read(index, name)).collect()
    }

    /// diffusers' defaults.
    fn silent(self, levels: usize) -> Result<Vec<bool>, ConfigError> {
        if levels == self.silent.len() {
            return Ok(self.silent.to_vec());
        }
        let hint = format!("name one block type a level, there are {levels}");
        Err(ConfigError::unsupported(self.key, "null", hint))
    }

    fn read(self, index: usize, name: &str) -> Result<bool, ConfigError> {
        match current_block(name) {
            name if name == self.attending => Ok(true),
            name if name == self.plain => Ok(false),
            _ => Err(ConfigError::unsupported(
                format!("{}[{index}]", self.key),
                name,
                format!("built are `{}` and `{}`", self.attending, self.plain),
            )),
        }
    }
}

//! How a model that makes pictures larger takes the small one in.

use crate::catalog::ModelFolder;
use crate::error::{Error, RequestError};
use crate::noise::NoiseLevel;
use crate::samplers::SamplerConfig;

/// How a model that makes pictures larger takes the small one in: under noise, whose level it is told.
#[derive(Debug, Clone)]
pub struct UpscaleConfig {
    /// The noise on the small picture.
    pub noising: SamplerConfig,
    /// The level where the request is silent, in training timesteps.
    pub level: usize,
    /// The highest level.
    pub most: usize,
    /// Whether the small picture is stretched to the size of the large one; else it has that of the latents.
    pub stretched: bool,
}

impl UpscaleConfig {
    /// With the noise of the scheduler `part`; `most` levels where the schedule has not fewer.
    pub(super) fn read(
        folder: &ModelFolder,
        part: &str,
        level: usize,
        most: Option<usize>,
    ) -> Result<Self, Error> {
        let path = format!("{part}/scheduler_config.json");
        let noising = SamplerConfig::of_class(
            folder.index().class(part),
            &folder.read_json(&path)?,
            path.as_ref(),
        )?;
        // Read at the first step of a run else, when all weights are.
        let last = noising.schedule()?.train_timesteps() - 1;
        let most = most.unwrap_or(last).min(last);
        Ok(Self {
            noising,
            level: level.min(most),
            most,
            stretched: false,
        })
    }

    /// The level that `asked` means.
    pub(in crate::pipeline) fn level(&self, asked: Option<usize>) -> Result<usize, RequestError> {
        let (level, most) = (asked.unwrap_or(self.level), self.most);
        if level > most {
            return Err(RequestError::NoiseLevel { level, most });
        }
        Ok(level)
    }

    /// How much of the small picture and of the noise there is at `level`.
    pub(in crate::pipeline) fn noise(&self, level: usize) -> Result<NoiseLevel, Error> {
        let schedule = self.noising.schedule()?;
        Ok(NoiseLevel::from_alpha_bar(schedule.alpha_bars()[level]))
    }
}

//! Prior-noise injection: a little of the initial noise is added back during the low-noise part of a run.
//!
//! **Source**: Faster Diffusion (arXiv 2312.09608), section 3.4: `x ← x + α·x_T` for `t < τ`. Its released programs disagree on when,
//! and most of them do not do it at all; hence an explicit option, off by default. The constant belongs to variance-preserving
//! latents: for samplers that work in sigma space the same `alpha` is a much larger perturbation.

use crate::denoiser::Evaluation;

/// Training timesteps of the models the method was published for.
const TRAINING_TIMESTEPS: f64 = 1000.0;

/// Where in an evaluation the noise is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the denoiser sees the latents.
    BeforeCall,
    /// After the denoiser's call, before the sampler moves the latents.
    BeforeStep,
    /// After the sampler has moved the latents, the last step included.
    AfterStep,
}

/// What is added, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PriorNoise {
    /// Share of the initial latents (after the sampler scaled them) that is added.
    pub alpha: f64,
    /// Fraction of training time below which it applies.
    pub from: f64,
    /// Where in the evaluation.
    pub at: Moment,
}

impl PriorNoise {
    /// Stable Diffusion with batched decoding, and `ControlNet`.
    pub fn faster_diffusion() -> Self {
        Self {
            alpha: 0.003,
            from: 0.5,
            at: Moment::BeforeStep,
        }
    }

    /// LDM-4-G.
    pub fn faster_diffusion_ldm() -> Self {
        Self {
            from: 0.15,
            at: Moment::AfterStep,
            ..Self::faster_diffusion()
        }
    }

    /// Whether an evaluation at this training timestep gets noise.
    pub fn applies(self, timestep: f64) -> bool {
        timestep / TRAINING_TIMESTEPS < self.from
    }

    /// When this evaluation gets noise, if at all.
    ///
    /// The denoiser is called once a span, before the span's first evaluation; for the others *before the call* has passed, and
    /// before their step is the nearest thing. As they do not read the latents, it is also the same thing.
    pub fn moment(self, evaluation: Evaluation, first_in_span: bool) -> Option<Moment> {
        let moment = match self.at {
            Moment::BeforeCall if !first_in_span => Moment::BeforeStep,
            at => at,
        };
        self.applies(evaluation.timestep).then_some(moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injected(timesteps: impl Iterator<Item = f64>, noise: PriorNoise) -> Vec<usize> {
        timesteps
            .enumerate()
            .filter(|&(_, timestep)| noise.applies(timestep))
            .map(|(index, _)| index)
            .collect()
    }

    /// The steps that get noise in the published runs.
    #[test]
    fn injections_are_counted_by_timestep() {
        let ddim = (0..50).map(|index| f64::from(981 - 20 * index));
        let found = injected(ddim, PriorNoise::faster_diffusion());
        assert_eq!(found, (25..50).collect::<Vec<_>>());

        let ldm = (0..250).map(|index| f64::from(997 - 4 * index));
        let found = injected(ldm, PriorNoise::faster_diffusion_ldm());
        assert_eq!(found, (212..250).collect::<Vec<_>>());

        let dit = (0..250).map(|index| (f64::from(249 - index) * 999.0 / 249.0).round());
        let noise = PriorNoise {
            from: 0.3,
            ..PriorNoise::faster_diffusion()
        };
        assert_eq!(injected(dit, noise).len(), 75);
    }

    #[test]
    fn before_the_call_is_before_the_step_inside_a_span() {
        let noise = PriorNoise {
            at: Moment::BeforeCall,
            ..PriorNoise::faster_diffusion()
        };
        let late = Evaluation {
            index: 30,
            timestep: 381.0,
        };
        let early = Evaluation {
            index: 3,
            timestep: 921.0,
        };
        assert_eq!(noise.moment(late, true), Some(Moment::BeforeCall));
        assert_eq!(noise.moment(late, false), Some(Moment::BeforeStep));
        assert_eq!(noise.moment(early, true), None);
    }
}

//! `LoRA`s that make a model one of few steps: they ask for a sampler, and a run without it makes noise of its prompt.

use super::Adapters;
use crate::catalog::{Distillation, Named};
use crate::denoise::Observer;
use crate::pipeline::request::Resolved;

/// Steps above which nothing is gained by a model of few.
const MOST_STEPS: usize = 16;
/// Guidance above which a model burns that was distilled with its guidance in it.
const MOST_GUIDANCE: f64 = 2.0;

/// A `LoRA` that its name says is for few steps.
#[derive(Debug, Clone)]
pub(in crate::pipeline) struct FewSteps {
    origin: String,
    named: Named,
}

impl FewSteps {
    pub(in crate::pipeline) fn among(adapters: &Adapters) -> Vec<Self> {
        let loras = adapters.loras.iter();
        let named = loras.filter_map(|lora| {
            let origin = lora.origin().to_owned();
            let named = Named::read(&origin)?;
            Some(Self { origin, named })
        });
        named.collect()
    }

    /// Tells of `loras` that a run of `sampler` is not made for.
    pub(in crate::pipeline) fn tell(
        loras: &[Self],
        sampler: &str,
        run: &Resolved,
        observer: &mut dyn Observer,
    ) {
        let notes = loras.iter().filter_map(|lora| lora.note(sampler, run));
        notes.for_each(|note| observer.warn(&note));
    }

    fn note(&self, sampler: &str, run: &Resolved) -> Option<String> {
        let Named { kind, steps, .. } = self.named;
        let own = kind.sampler();
        let other = kind == Distillation::Hyper && sampler == "ddim";
        let scale = run.guidance.asked();
        let fits = (sampler.starts_with(own) || other)
            && run.steps <= MOST_STEPS
            && scale <= MOST_GUIDANCE;
        (!fits).then(|| {
            let Self { origin, .. } = self;
            let run = format!("{} steps of {sampler}, guidance {scale}", run.steps);
            format!(
                "a LoRA for few steps in a run of {run}: it is made for `--sampler {own} --steps {steps} --guidance-scale 1`\nfile: {origin}"
            )
        })
    }
}

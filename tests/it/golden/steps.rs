//! A case step by step, from the reference's own text states, masked pictures and latents.

use afterimage::conditioning::{Conditioning, Hint};
use afterimage::denoise::{Denoise, Noise as _};
use afterimage::denoiser::StagedDenoiser;
use afterimage::models::control::ControlledUNet;
use afterimage::pipeline::{Pipeline, Request, Resolved, SeededNoise, Stage};
use burn::tensor::Tensor;
use serde_json::Value;

use crate::fixture::Fixture;
use crate::parity::{Comparison, Followed, Steps, Way};
use crate::tested;

/// Compares the steps that the reference has; gives the largest share of a tolerance.
pub(super) fn check(
    fixture: &Fixture,
    case: &Value,
    pipeline: &Pipeline,
    request: &Request,
) -> Result<f64, String> {
    let Some(steps) = fixture.steps(case) else {
        return Ok(0.0);
    };
    let resolved = request.resolve(pipeline.config()).unwrap();
    let run = Stepwise {
        fixture,
        case,
        request,
        resolved: &resolved,
        steps: &steps,
    };
    let Some(condition) = run.condition() else {
        // Steps that were recorded for this are never without text states; a whole run may have kept none.
        assert!(steps.of_the_case, "{}: no text states", case["id"]);
        return Ok(0.0);
    };
    if request.controls.is_empty() {
        return run.follow(pipeline.trunk(), &condition);
    }
    let nets = request.controls.iter();
    let nets = nets.map(|control| &pipeline.control_nets()[control.net]);
    let trunk = ControlledUNet::new(crate::golden::unet(pipeline), nets.collect());
    run.follow(&trunk, &run.steered(condition))
}

struct Stepwise<'a> {
    fixture: &'a Fixture,
    case: &'a Value,
    request: &'a Request,
    resolved: &'a Resolved,
    steps: &'a Steps,
}

impl Stepwise<'_> {
    fn condition(&self) -> Option<Conditioning> {
        let device = tested::device();
        // A run in other batches has its conditions with its base, which a selection need not hold.
        let base = self.case["base"].as_str();
        let base = base.and_then(|id| self.fixture.cases().find(|case| case["id"] == id));
        let golden = |key: &str| {
            let own = self.fixture.of(self.case, key);
            own.or_else(|| self.fixture.of(base?, key))
        };
        let numbers = golden("added_time_ids").map(|numbers| numbers.rows());
        let inputs = &self.steps.inputs;
        let guidance = self.resolved.guidance;
        let context: Tensor<3> = match inputs.get("prompt_embeds") {
            Some(here) => here.on(&device),
            None => golden("prompt_embeds")?.on(&device),
        };
        // Where each half is a call, the reference has the states of one.
        if context.dims()[0] < self.resolved.rows.total() {
            return None;
        }
        Some(Conditioning {
            rows: self.resolved.rows,
            lengths: golden("encoder_attention_mask").map_or_else(Vec::new, |mask| mask.lengths()),
            pooled: golden("added_text_embeds")
                .or_else(|| golden("pooled_projections"))
                .map(|pooled| pooled.on(&device)),
            numbers: numbers.unwrap_or_default(),
            guidance_scale: guidance.embedded,
            channels: inputs.get("channels").map(|here| here.on(&device)),
            ..Conditioning::of_context(context)
        })
    }

    fn steered(&self, conditioning: Conditioning) -> Conditioning {
        let controls = self.request.controls.iter().zip(&self.resolved.windows);
        let hints = controls.map(|(control, window)| Hint {
            picture: control.pictures[0].to_tensor(&tested::device()),
            scale: control.scale,
            evaluations: window.clone(),
            guess: control.guess,
        });
        Conditioning {
            hints: hints.collect(),
            ..conditioning
        }
    }

    fn follow<D: StagedDenoiser + ?Sized>(
        &self,
        denoiser: &D,
        condition: &Conditioning,
    ) -> Result<f64, String> {
        let mut noise = SeededNoise::new(&self.request.seeds, &tested::device());
        if !matches!(self.request.stage, Stage::Finish { .. }) {
            noise.draw(self.resolved.latent_shape); // what the run starts from
        }
        let followed = Followed {
            denoise: Denoise {
                sampler: self.resolved.sampler.as_ref(),
                plan: &self.resolved.plan,
                guidance: self.resolved.guidance,
                prior_noise: self.request.cache.noise,
                known: None,
            },
            rows: self.resolved.rows,
            noise: &mut noise,
            steps: self.steps,
        };
        let mut comparison = Comparison::new(self.fixture, self.case, Way::Stepwise);
        let (fixture, case) = (self.fixture, self.case);
        followed.check(denoiser, condition, fixture, case, &mut comparison)?;
        Ok(comparison.share())
    }
}

//! A case step by step, from the reference's own text states, masked pictures and latents.

use afterimage::denoise::{Denoise, Noise as _};
use afterimage::denoiser::StagedDenoiser;
use afterimage::models::control::{ControlCondition, ControlledCondition, ControlledUNet};
use afterimage::models::unet::{AddedCondition, UNetCondition};
use afterimage::pipeline::{Request, Resolved, SeededNoise, Stage, TextToImage};
use burn::tensor::Tensor;
use serde_json::Value;

use crate::fixture::Fixture;
use crate::parity::{Comparison, Followed, Steps, Way};
use crate::tested;

/// Compares the steps that the reference has; gives the largest share of a tolerance.
pub(super) fn check(
    fixture: &Fixture,
    case: &Value,
    pipeline: &TextToImage,
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
        return run.follow(pipeline.unet(), &condition);
    }
    let nets = request.controls.iter();
    let nets = nets.map(|control| &pipeline.control_nets()[control.net]);
    let trunk = ControlledUNet::new(pipeline.unet(), nets.collect());
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
    fn condition(&self) -> Option<UNetCondition> {
        let device = tested::device();
        // A run in other batches has its conditions with its base, which a selection need not hold.
        let base = self.case["base"].as_str();
        let base = base.and_then(|id| self.fixture.cases().find(|case| case["id"] == id));
        let golden = |key: &str| {
            let own = self.fixture.of(self.case, key);
            own.or_else(|| self.fixture.of(base?, key))
        };
        let added = golden("added_text_embeds").map(|pooled| AddedCondition {
            pooled: pooled.on(&device),
            time_ids: golden("added_time_ids").unwrap().rows(),
        });
        let inputs = &self.steps.inputs;
        let context = match inputs.get("prompt_embeds") {
            Some(here) => here.on(&device),
            None => golden("prompt_embeds")?.on(&device),
        };
        Some(UNetCondition {
            context,
            added,
            channels: inputs.get("channels").map(|here| here.on(&device)),
        })
    }

    fn steered(&self, unet: UNetCondition) -> ControlledCondition {
        let controls = self.request.controls.iter().zip(&self.resolved.windows);
        let controls = controls.map(|(control, window)| ControlCondition {
            hint: control.picture.to_tensor(&tested::device()),
            scale: control.scale,
            evaluations: window.clone(),
            guess: control.guess,
        });
        ControlledCondition {
            unet,
            rows: self.resolved.rows,
            controls: controls.collect(),
        }
    }

    fn follow<D: StagedDenoiser>(
        &self,
        denoiser: &D,
        condition: &D::Condition,
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

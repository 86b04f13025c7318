//! Whole runs of the small model and their steps.

use afterimage::cache::{CachePlan, CacheRule, Course, Session};
use afterimage::conditioning::Conditioning;
use afterimage::denoise::{Denoise, Noise as _};
use afterimage::denoiser::{Blueprint, Rows, StagedDenoiser as _};
use afterimage::guidance::Guidance;
use afterimage::models::unet::Extent;
use afterimage::models::vae::Tiling;
use afterimage::pipeline::{SeededNoise, Seeds, Trace};
use afterimage::sampler::Sampler;
use afterimage::samplers::SamplerConfig;
use burn::tensor::Tensor;
use serde_json::Value;

use super::{Model, golden, labels, load};
use crate::fixture::Fixture;
use crate::parity::{Comparison, Followed, Part, Tally, Way};
use crate::tested;

/// A case as it is run.
struct Setting<'a> {
    call: &'a Value,
    sampler: String,
    rule: CacheRule,
}

impl<'a> Setting<'a> {
    fn new(fixture: &Fixture, case: &'a Value) -> Self {
        let rule = case["cache"]["rule"].as_str().unwrap_or("none");
        Self {
            call: &case["call"],
            sampler: fixture.scheduler(case["scheduler"].as_str().unwrap()),
            rule: rule.parse().unwrap(),
        }
    }

    fn number(&self, key: &str) -> usize {
        self.call[key].as_u64().unwrap() as usize
    }

    fn noise(&self) -> SeededNoise {
        SeededNoise::new(&Seeds::One(self.number("seed") as u64), &tested::device())
    }

    /// Draws the start of `noise`.
    fn made(&self, model: &Model, noise: &mut SeededNoise) -> Made {
        let config = SamplerConfig::from_json(&self.sampler, "case".as_ref()).unwrap();
        let steps = self.number("num_inference_steps");
        let [height, width] = ["height", "width"].map(|side| self.number(side) / 4);
        let blueprint = model.unet.config().blueprint(Extent {
            height,
            width,
            tokens: 1,
        });
        let plan = self.rule.plan(&Course::steps(steps), &blueprint).unwrap();
        let labels = labels(&self.call["class_labels"]);
        let guidance = Guidance {
            scale: self.call["guidance_scale"].as_f64().unwrap(),
            ..Guidance::default()
        };
        let rows = guidance.rows(labels.len());
        let shape = [labels.len(), 3, height, width];
        let start = noise.draw(shape);
        let null = vec![model.classes.null_label(); labels.len()];
        let context = model.embedder.forward(&guidance.pair(labels, null));
        Made {
            sampler: config.build(steps, 0.0).unwrap(),
            blueprint,
            plan,
            guidance,
            rows,
            start,
            condition: Conditioning::of_context(context),
        }
    }

    fn denoise<'m>(&self, made: &'m Made) -> Denoise<'m> {
        Denoise {
            sampler: made.sampler.as_ref(),
            plan: &made.plan,
            guidance: made.guidance,
            prior_noise: self.rule.noise,
            known: None,
        }
    }

    fn run(&self, model: &Model, trace: &mut Trace<'_>) -> (CachePlan, Tensor<4>) {
        let mut noise = self.noise();
        let made = self.made(model, &mut noise);
        let run = model
            .unet
            .start(&made.condition, made.sampler.evaluations());
        let mut session = Session::new(&model.unet, &run, &made.plan, made.rows);
        let start = made.start.clone();
        let denoise = self.denoise(&made);
        let latents = denoise.run(&mut session, start, &mut noise, trace).unwrap();
        let forecast = made
            .plan
            .forecast(&made.blueprint, made.rows, size_of::<f32>());
        assert_eq!(session.account().cells, forecast.cells);
        assert_eq!(session.account().fallbacks, 0);
        drop(session);
        (made.plan, latents)
    }
}

/// What a setting is run with.
struct Made {
    sampler: Box<dyn Sampler>,
    blueprint: Blueprint,
    plan: CachePlan,
    guidance: Guidance,
    rows: Rows,
    start: Tensor<4>,
    condition: Conditioning,
}

#[test]
fn runs_agree_with_the_reference() {
    let (fixture, model) = (golden(), load());
    let mut tally = Tally::default();
    for case in fixture.of_kinds(&["class2img"]) {
        tally.add(&fixture, case, check_run(&fixture, case, &model));
    }
    tally.finish(26);
}

fn check_run(fixture: &Fixture, case: &Value, model: &Model) -> Result<f64, String> {
    let setting = Setting::new(fixture, case);
    let free = check_free(fixture, case, model, &setting)?;
    Ok(free.max(check_steps(fixture, case, model, &setting)?))
}

fn check_free(
    fixture: &Fixture,
    case: &Value,
    model: &Model,
    setting: &Setting<'_>,
) -> Result<f64, String> {
    let mut ignored = ();
    let mut trace = Trace::new(&mut ignored);
    let (plan, latents) = setting.run(model, &mut trace);
    check_plan(case, &plan);
    if let Some(times) = case["timesteps"].as_array() {
        let times: Vec<f64> = times.iter().map(|time| time.as_f64().unwrap()).collect();
        assert_eq!(trace.timesteps, times);
    }
    let mut comparison = Comparison::new(fixture, case, Way::Free);
    for (row, step) in labels(&case["kept_steps"]).into_iter().enumerate() {
        for (part, key, found) in [
            (Part::Predictions, "noise_pred", &trace.predictions),
            (Part::Latents, "latents", &trace.latents),
        ] {
            if let Some(golden) = fixture.of(case, key) {
                let name = format!("{key}.{step}");
                comparison.check(part, name, &golden.row(row), found[step].clone())?;
            }
        }
    }
    let golden = fixture.of(case, "final_latents").unwrap();
    comparison.check(Part::Latents, "final", &golden, latents.clone())?;
    if let Some(image) = fixture.of(case, "image") {
        let latents = model.vae.from_denoiser(latents);
        let pixels = model.vae.decode(latents, Tiling::Never);
        let found = (pixels / 2.0 + 0.5).clamp(0.0, 1.0);
        comparison.check(Part::Picture, "image", &image, found)?;
    }
    Ok(comparison.share())
}

fn check_steps(
    fixture: &Fixture,
    case: &Value,
    model: &Model,
    setting: &Setting<'_>,
) -> Result<f64, String> {
    let Some(steps) = fixture.steps(case) else {
        return Ok(0.0);
    };
    let mut noise = setting.noise();
    let made = setting.made(model, &mut noise);
    let followed = Followed {
        denoise: setting.denoise(&made),
        rows: made.rows,
        noise: &mut noise,
        steps: &steps,
    };
    let mut comparison = Comparison::new(fixture, case, Way::Stepwise);
    followed.check(&model.unet, &made.condition, fixture, case, &mut comparison)?;
    Ok(comparison.share())
}

/// The rule, as text, refreshes where the reference did, and decodes in its batches.
fn check_plan(case: &Value, plan: &CachePlan) {
    let cache = &case["cache"];
    for key in ["full_steps", "key_steps"] {
        if cache[key].is_array() {
            let found = plan.refreshes().collect::<Vec<_>>();
            assert_eq!(found, labels(&cache[key]), "{}", case["id"]);
        }
    }
    if cache["decoder_batches"].is_array() {
        let found = plan.spans.iter().map(|span| span.len).collect::<Vec<_>>();
        assert_eq!(found, labels(&cache["decoder_batches"]), "{}", case["id"]);
    }
}

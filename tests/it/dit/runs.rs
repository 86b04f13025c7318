//! Whole runs of a `DiT` and their steps.

use std::collections::VecDeque;

use afterimage::cache::{
    Account, CachePlan, CacheRule, Course, Refresh, Router, Series, Session, Sites,
};
use afterimage::conditioning::Conditioning;
use afterimage::denoise::{Denoise, Noise};
use afterimage::denoiser::{Blueprint, Rows, StagedDenoiser as _};
use afterimage::guidance::{Conditioned, Guidance};
use afterimage::models::dit::DiT;
use afterimage::pipeline::{SeededNoise, Seeds, Trace};
use afterimage::sampler::Sampler;
use afterimage::samplers::SamplerConfig;
use burn::tensor::Tensor;
use serde_json::Value;

use super::load;
use crate::fixture::{Fixture, Reference};
use crate::parity::{Comparison, Followed, Part, Tally, Way};
use crate::tested;

/// Draws that the reference recorded.
struct Recorded(VecDeque<Tensor<4>>);

impl Noise for Recorded {
    fn draw(&mut self, shape: [usize; 4]) -> Tensor<4> {
        let drawn = self.0.pop_front().unwrap();
        drawn.narrow(0, 0, shape[0])
    }
}

/// How one case is run.
pub(super) struct Setting {
    pub(super) sampler: String,
    pub(super) steps: usize,
    pub(super) guidance: Guidance,
    pub(super) labels: Vec<usize>,
    pub(super) rule: CacheRule,
}

fn setting(fixture: &Fixture, case: &Value) -> Setting {
    let call = &case["call"];
    let ancestral = case["kind"] == "dit_ancestral";
    let guided = call["guided_channels"].as_u64().unwrap_or(4) as usize;
    let labels = call["class_labels"].as_array().unwrap().iter();
    Setting {
        sampler: if ancestral {
            PUBLISHED_SAMPLER.to_owned()
        } else {
            fixture.scheduler(case["scheduler"].as_str().unwrap())
        },
        steps: case["timesteps"].as_array().unwrap().len(),
        guidance: Guidance {
            scale: call["guidance_scale"].as_f64().unwrap(),
            conditioned: Conditioned::First,
            channels: Some(guided),
            ..Guidance::default()
        },
        labels: labels
            .map(|label| label.as_u64().unwrap() as usize)
            .collect(),
        rule: rule(&case["cache"], case["timesteps"].as_array().unwrap().len()),
    }
}

/// Respaced ancestral sampling with the learned variance (Nichol and Dhariwal, 2102.09672).
pub(super) const PUBLISHED_SAMPLER: &str = r#"{"_class_name": "DDPMScheduler", "beta_schedule": "linear", "beta_start": 0.0001,
    "beta_end": 0.02, "variance_type": "learned_range", "clip_sample": false, "timestep_spacing": "linspace"}"#;

pub(crate) fn rule(cache: &Value, steps: usize) -> CacheRule {
    let keys = || {
        let steps = cache["key_steps"].as_array().unwrap().iter();
        Refresh::At(steps.map(|step| step.as_u64().unwrap() as usize).collect())
    };
    match cache["method"].as_str() {
        None => CacheRule::none(),
        Some("block_propagation") => {
            CacheRule::dit_propagation(cache["cut"].as_u64().unwrap() as usize, keys())
        }
        Some("learning_to_cache") => CacheRule::learning_to_cache(Router::new(
            "case",
            scores(&cache["router"], steps),
            cache["threshold"].as_f64().unwrap(),
        )),
        Some("first_block_cache") => CacheRule::first_block(cache["threshold"].as_f64().unwrap()),
        Some("taylorseer") => {
            let count = |key: &str| cache[key].as_u64().map(|count| count as usize);
            CacheRule::taylorseer(Series {
                interval: count("cache_interval").unwrap(),
                warmup: count("disable_cache_before_step").unwrap(),
                until: count("disable_cache_after_step"),
                order: count("max_order").unwrap(),
                sites: match (&cache["use_lite_mode"], &cache["cache_identifiers"]) {
                    (Value::Bool(true), _) => Sites::Output,
                    (_, Value::Array(_)) => Sites::AttentionAndFeedForward,
                    _ => Sites::Attention,
                },
            })
        }
        Some(other) => panic!("unknown method `{other}`"),
    }
}

/// A router's scores of the two branches of six blocks, by step counted from the last.
fn scores(router: &Value, steps: usize) -> Vec<Vec<f32>> {
    match router.as_str() {
        Some("all_computed") => vec![vec![9.0; 12]; steps],
        Some("all_reused") => vec![vec![-9.0; 12]; steps],
        Some(other) => panic!("unknown router `{other}`"),
        None => (0..steps)
            .map(|row| serde_json::from_value(router[row.to_string()].clone()).unwrap())
            .collect(),
    }
}

/// What a setting is run with.
struct Made {
    sampler: Box<dyn Sampler>,
    blueprint: Blueprint,
    plan: CachePlan,
    condition: Conditioning,
    rows: Rows,
}

impl Setting {
    fn made(&self, dit: &DiT) -> Made {
        let config = SamplerConfig::from_json(&self.sampler, "case".as_ref()).unwrap();
        let side = dit.config().sample_size;
        let blueprint = dit.config().blueprint(side, side);
        let plan = self.rule.plan(&Course::steps(self.steps), &blueprint);
        let null = vec![dit.config().null_label(); self.labels.len()];
        Made {
            sampler: config.build(self.steps, 0.0).unwrap(),
            plan: plan.unwrap(),
            blueprint,
            condition: Conditioning::of_labels(self.guidance.pair(self.labels.clone(), null)),
            rows: self.guidance.rows(self.labels.len()),
        }
    }

    fn denoise<'a>(&self, made: &'a Made) -> Denoise<'a> {
        Denoise {
            sampler: made.sampler.as_ref(),
            plan: &made.plan,
            guidance: self.guidance,
            prior_noise: None,
            known: None,
        }
    }

    fn shape(&self, dit: &DiT) -> [usize; 4] {
        let side = dit.config().sample_size;
        [self.labels.len(), dit.config().in_channels, side, side]
    }
}

pub(super) fn run(
    dit: &DiT,
    setting: &Setting,
    noise: &mut dyn Noise,
    trace: &mut Trace<'_>,
) -> (Tensor<4>, Account) {
    let made = setting.made(dit);
    let run = dit.start(&made.condition, made.sampler.evaluations());
    let mut session = Session::new(dit, &run, &made.plan, made.rows);
    let latents = noise.draw(setting.shape(dit));
    let denoise = setting.denoise(&made);
    let latents = denoise.run(&mut session, latents, noise, trace).unwrap();
    assert_eq!(session.account().fallbacks, 0);
    let forecast = made.plan.forecast(&made.blueprint, made.rows, 4);
    let account = session.account();
    let (ran, foreseen) = (account.cells.iter(), forecast.cells.iter());
    if forecast.decided {
        assert!(ran.zip(foreseen).all(|(ran, least)| ran >= least));
    } else {
        assert!(ran.eq(foreseen));
    }
    let spared = (0..setting.steps).map(|step| made.plan.branches.reused(step).count());
    assert_eq!(account.branches_reused, spared.sum::<usize>());
    (latents, account)
}

#[test]
fn runs_agree_with_the_references() {
    let mut tally = Tally::default();
    for fixture in Fixture::both("dit") {
        let dit = load(&fixture);
        for case in fixture.of_kinds(&["class2img", "dit_ancestral"]) {
            tally.add(&fixture, case, check_run(&fixture, case, &dit));
        }
    }
    tally.finish(8);
}

/// First-block cache and `TaylorSeer` as diffusers has them.
#[test]
fn forecasts_agree_with_diffusers() {
    let mut tally = Tally::default();
    for fixture in Fixture::both("dit-forecast") {
        let dit = load(&fixture);
        for case in fixture.of_kinds(&["class2img"]) {
            tally.add(&fixture, case, check_run(&fixture, case, &dit));
        }
    }
    tally.finish(10);
}

fn check_run(fixture: &Fixture, case: &Value, dit: &DiT) -> Result<f64, String> {
    let setting = setting(fixture, case);
    let free = check_free(fixture, case, dit, &setting)?;
    Ok(free.max(check_steps(fixture, case, dit, &setting)?))
}

fn check_free(
    fixture: &Fixture,
    case: &Value,
    dit: &DiT,
    setting: &Setting,
) -> Result<f64, String> {
    let mut ignored = ();
    let mut trace = Trace::new(&mut ignored);
    let (latents, account) = run(dit, setting, noise(fixture, case).as_mut(), &mut trace);
    if let Some(computed) = case["cache"]["computed"].as_array() {
        let computed = computed.iter().enumerate();
        let computed = computed.filter(|(_, computed)| **computed == Value::Bool(true));
        let computed: Vec<usize> = computed.map(|(call, _)| call).collect();
        assert_eq!(account.refreshed, computed, "{}", case["id"]);
    }
    let times: Vec<f64> = serde_json::from_value(case["timesteps"].clone()).unwrap();
    assert_eq!(trace.timesteps, times);
    let mut comparison = Comparison::new(fixture, case, Way::Free);
    let mut check = |part: Part, name: String, golden: &Reference, found: Tensor<4>| {
        let channels = golden.shape[1].min(found.dims()[1]);
        // The reference keeps both halves.
        let golden = golden.first(setting.labels.len());
        comparison.check(part, name, &golden, found.narrow(1, 0, channels))
    };
    for (row, step) in case["kept_steps"].as_array().unwrap().iter().enumerate() {
        let step = step.as_u64().unwrap() as usize;
        for (part, key, found) in [
            (Part::Predictions, "noise_pred", &trace.predictions),
            (Part::Predictions, "model_output", &trace.predictions),
            (Part::Latents, "latents", &trace.latents),
        ] {
            if let Some(golden) = fixture.of(case, key) {
                let name = format!("{key}.{step}");
                check(part, name, &golden.row(row), found[step].clone())?;
            }
        }
    }
    let golden = fixture.of(case, "final_latents").unwrap();
    check(Part::Latents, "final".into(), &golden, latents)?;
    Ok(comparison.share())
}

fn check_steps(
    fixture: &Fixture,
    case: &Value,
    dit: &DiT,
    setting: &Setting,
) -> Result<f64, String> {
    let Some(steps) = fixture.steps(case) else {
        return Ok(0.0);
    };
    let made = setting.made(dit);
    let mut noise = noise(fixture, case);
    noise.draw(setting.shape(dit));
    let followed = Followed {
        denoise: setting.denoise(&made),
        rows: made.rows,
        noise: noise.as_mut(),
        steps: &steps,
    };
    let mut comparison = Comparison::new(fixture, case, Way::Stepwise);
    followed.check(dit, &made.condition, fixture, case, &mut comparison)?;
    Ok(comparison.share())
}

/// The recorded draws where there are any, else those of the seed.
fn noise(fixture: &Fixture, case: &Value) -> Box<dyn Noise> {
    let device = tested::device();
    if let Some(names) = case["tensors"]["draws"].as_array() {
        let draws = names.iter().map(|name| name.as_str().unwrap());
        let draws = draws.map(|name| fixture.tensor(name).on(&device));
        return Box::new(Recorded(draws.collect()));
    }
    let seed = case["call"]["seed"].as_u64().unwrap();
    Box::new(SeededNoise::new(&Seeds::One(seed), &device))
}

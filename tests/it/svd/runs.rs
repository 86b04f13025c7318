//! Steps of films of a picture, each from the reference's own latents; whole films are in `films`.

use std::collections::BTreeMap;

use afterimage::cache::{CachePlan, CacheRule, Course, Refresh, Session};
use afterimage::conditioning::Conditioning;
use afterimage::denoise::Denoise;
use afterimage::denoiser::{Rows, StagedDenoiser as _};
use afterimage::guidance::{FrameScales, Guidance};
use afterimage::models::spatio_temporal::{FilmExtent, SpatioTemporalUNet};
use afterimage::pipeline::{SeededNoise, Seeds};
use afterimage::sampler::Sampler;
use afterimage::samplers::SamplerConfig;
use burn::tensor::Tensor;
use serde_json::Value;

use crate::fixture::{Fixture, Reference};
use crate::golden::rule;
use crate::parity::{Comparison, Followed, Steps, Tally, Way};
use crate::tested;

/// What a case is run with.
struct Setting {
    guidance: Guidance,
    rows: Rows,
    sampler: Box<dyn Sampler>,
    plan: CachePlan,
    condition: Conditioning,
    /// At the sampler's scale, `[frames, channels, height, width]`.
    start: Reference,
}

impl Setting {
    fn new(fixture: &Fixture, case: &Value, unet: &SpatioTemporalUNet, rule: &CacheRule) -> Self {
        let call = &case["call"];
        let golden = |key: &str| fixture.of(case, key).unwrap();
        let whole = |key: &str| call[key].as_u64().unwrap() as usize;
        let (frames, steps) = (whole("num_frames"), whole("num_inference_steps"));
        let guidance = Guidance {
            scale: call["max_guidance_scale"].as_f64().unwrap(),
            over_frames: Some(FrameScales {
                first: call["min_guidance_scale"].as_f64().unwrap(),
                frames,
            }),
            ..Guidance::default()
        };
        let sampler = fixture.scheduler(case["scheduler"].as_str().unwrap());
        let sampler = SamplerConfig::from_json(&sampler, "case".as_ref()).unwrap();
        let sampler = sampler.build(steps, 0.0).unwrap();
        let mut start = fixture.by_row(case, "initial_noise");
        for value in &mut start.values {
            *value *= sampler.initial_noise_scale() as f32;
        }
        let blueprint = unet.config().blueprint(FilmExtent {
            frames,
            height: start.shape[2],
            width: start.shape[3],
            tokens: 1,
        });
        let rows = guidance.rows(1).with_frames(frames);
        let device = tested::device();
        // The model's input has the picture's latents beside the noise, the same for every frame.
        let input: Tensor<5> = golden("model_input_0").on(&device);
        let channels = input.dims()[2] / 2;
        let latents = input.narrow(1, 0, 1).narrow(2, channels, channels);
        Self {
            guidance,
            rows,
            sampler,
            plan: rule.plan(&Course::steps(steps), &blueprint).unwrap(),
            condition: Conditioning {
                context: Some(golden("prompt_embeds").on(&device)),
                numbers: golden("added_time_ids").rows(),
                channels: Some(latents.squeeze_dim(1)),
                ..Conditioning::none(rows)
            },
            start,
        }
    }

    fn denoise(&self) -> Denoise<'_> {
        Denoise {
            sampler: self.sampler.as_ref(),
            plan: &self.plan,
            guidance: self.guidance,
            prior_noise: None,
            known: None,
        }
    }
}

fn noise() -> SeededNoise {
    SeededNoise::new(&Seeds::One(0), &tested::device())
}

#[test]
fn steps_agree_with_diffusers() {
    let mut tally = Tally::default();
    let fixture = super::fixture();
    let unet = super::unet(&fixture);
    for case in fixture.of_kinds(&["img2video"]) {
        let kept = case["kept_steps"].as_array().unwrap();
        let first = (0..kept.len()).take_while(|&row| kept[row] == row).count();
        if first > 0 {
            tally.add(&fixture, case, check(&fixture, case, &unet, first));
        }
    }
    tally.finish(1);
}

/// The first predictions, each from the reference's own latents and conditions.
fn check(
    fixture: &Fixture,
    case: &Value,
    unet: &SpatioTemporalUNet,
    first: usize,
) -> Result<f64, String> {
    let setting = Setting::new(fixture, case, unet, &rule(&case["cache"]));
    let predictions = fixture.of(case, "noise_pred").unwrap().first(first);
    let parts: Vec<_> = predictions.parts().map(|part| part.by_row()).collect();
    let shape = [&[parts.len()], &parts[0].shape[..]].concat();
    let values = parts.into_iter().flat_map(|part| part.values).collect();
    let start = &setting.start;
    let steps = Steps {
        predictions: Reference { shape, values },
        samples: Some(Reference {
            shape: [&[1], &start.shape[..]].concat(),
            values: start.values.clone(),
        }),
        inputs: BTreeMap::new(),
        of_the_case: false,
    };
    let followed = Followed {
        denoise: setting.denoise(),
        rows: setting.rows,
        noise: &mut noise(),
        steps: &steps,
    };
    let mut comparison = Comparison::new(fixture, case, Way::Stepwise);
    followed.check(unet, &setting.condition, fixture, case, &mut comparison)?;
    Ok(comparison.share())
}

/// Steps that share a batch have films of their own: what looks along frames does not look past them.
#[test]
fn batched_propagation_is_the_sequential_one() {
    let fixture = super::fixture();
    let (unet, case) = (super::unet(&fixture), fixture.case("not_square"));
    let run = |parallel: usize| {
        let rule = CacheRule::encoder_propagation(Refresh::At(vec![0, 1]));
        let setting = Setting::new(&fixture, case, &unet, &rule.with_parallel(parallel));
        let run = unet.start(&setting.condition, setting.sampler.evaluations());
        let mut session = Session::new(&unet, &run, &setting.plan, setting.rows);
        let start = setting.start.on(&tested::device());
        let denoise = setting.denoise();
        denoise
            .run(&mut session, start, &mut noise(), &mut ())
            .unwrap()
    };
    let sequential = Reference::from(run(1));
    for parallel in [2, 3] {
        let outcome = sequential.compare(run(parallel), crate::tolerance::F32_CPU);
        outcome.unwrap_or_else(|error| panic!("parallel {parallel}: {error}"));
    }
}

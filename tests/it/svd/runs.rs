//! Whole films of a picture, plain and cached, freely and from the reference's own latents.

use std::collections::BTreeMap;

use afterimage::cache::{CachePlan, CacheRule, Course, Refresh, Session};
use afterimage::conditioning::Conditioning;
use afterimage::denoise::{Denoise, Noise as _, Observer};
use afterimage::denoiser::{Blueprint, Rows, StagedDenoiser as _};
use afterimage::guidance::{FrameScales, Guidance};
use afterimage::image_io::Picture;
use afterimage::models::clip_vision::{ClipVisionModel, normalised};
use afterimage::models::spatio_temporal::{FilmExtent, SpatioTemporalUNet};
use afterimage::models::vae::{Autoencoder, Tiling};
use afterimage::pipeline::{SeededNoise, Seeds, Trace};
use afterimage::sampler::Sampler;
use afterimage::samplers::SamplerConfig;
use burn::tensor::{Tensor, TensorData};
use serde_json::Value;

use crate::fixture::{Fixture, Reference};
use crate::parity::{Comparison, Followed, Part, Steps, Tally, Way};
use crate::tested;

/// The networks of a model.
struct Model {
    unet: SpatioTemporalUNet,
    vae: Autoencoder,
    encoder: ClipVisionModel,
}

impl Model {
    fn load(fixture: &Fixture) -> Self {
        Self {
            unet: super::unet(fixture),
            vae: super::vae(fixture),
            encoder: super::encoder(fixture),
        }
    }
}

/// What a case is run with.
struct Setting<'a> {
    call: &'a Value,
    frames: usize,
    guidance: Guidance,
    rows: Rows,
    sampler: Box<dyn Sampler>,
    blueprint: Blueprint,
    plan: CachePlan,
}

impl<'a> Setting<'a> {
    fn new(fixture: &Fixture, case: &'a Value, model: &Model, rule: &CacheRule) -> Self {
        let call = &case["call"];
        let whole = |key: &str| call[key].as_u64().unwrap() as usize;
        let real = |key: &str| call[key].as_f64().unwrap();
        let (frames, steps) = (whole("num_frames"), whole("num_inference_steps"));
        let guidance = Guidance {
            scale: real("max_guidance_scale"),
            over_frames: Some(FrameScales {
                first: real("min_guidance_scale"),
                frames,
            }),
            ..Guidance::default()
        };
        let factor = model.vae.config().factor();
        let blueprint = model.unet.config().blueprint(FilmExtent {
            frames,
            height: whole("height") / factor,
            width: whole("width") / factor,
            tokens: 1,
        });
        let sampler = fixture.scheduler(case["scheduler"].as_str().unwrap());
        let sampler = SamplerConfig::from_json(&sampler, "case".as_ref()).unwrap();
        Self {
            call,
            frames,
            guidance,
            rows: guidance.rows(1).with_frames(frames),
            sampler: sampler.build(steps, 0.0).unwrap(),
            plan: rule.plan(&Course::steps(steps), &blueprint).unwrap(),
            blueprint,
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

    /// `[1, channels, height, width]` with `factor` pixels a value.
    fn shape(&self, channels: usize, factor: usize) -> [usize; 4] {
        let side = |key: &str| self.call[key].as_u64().unwrap() as usize / factor;
        [1, channels, side("height"), side("width")]
    }

    /// What the film is conditioned on; the noise on the picture is the first that is drawn.
    fn condition(&self, model: &Model, picture: &Picture, noise: &mut SeededNoise) -> Conditioning {
        let device = tested::device();
        let small = TensorData::new(picture.antialiased(224), [1, 3, 224, 224]);
        let small = Tensor::<4>::from_data(small, &device);
        let embedding = model.encoder.encode(normalised((small + 1.0) / 2.0)); // [1, width]
        let strength = self.call["noise_aug_strength"].as_f64().unwrap();
        let [_, _, height, width] = self.shape(3, 1);
        let pixels = picture.resized(width, height).to_tensor(&device) * 2.0 - 1.0;
        let pixels = pixels + noise.draw(self.shape(3, 1)) * strength;
        let latents = model.vae.encode(pixels, Tiling::Never).mean; // unscaled
        let number = |key: &str| self.call[key].as_f64().unwrap();
        let numbers = vec![number("fps") - 1.0, number("motion_bucket_id"), strength];
        Conditioning {
            context: Some(self.beside_zeros(embedding.unsqueeze_dim(1))),
            numbers: self.guidance.pair(vec![numbers.clone()], vec![numbers]),
            channels: Some(self.beside_zeros(latents)),
            ..Conditioning::none(self.rows)
        }
    }

    fn beside_zeros<const D: usize>(&self, conditioned: Tensor<D>) -> Tensor<D> {
        let zeros = conditioned.zeros_like();
        Tensor::cat(self.guidance.pair(vec![conditioned], vec![zeros]), 0)
    }

    /// The latents that the seed's noise becomes, `[frames, channels, height, width]`.
    fn run(
        &self,
        model: &Model,
        condition: &Conditioning,
        noise: &mut SeededNoise,
        observer: &mut dyn Observer,
    ) -> Tensor<4> {
        let run = model.unet.start(condition, self.sampler.evaluations());
        let mut session = Session::new(&model.unet, &run, &self.plan, self.rows);
        let factor = model.vae.config().factor();
        let mut shape = self.shape(4, factor);
        shape[0] = self.frames;
        let start = noise.draw(shape) * self.sampler.initial_noise_scale();
        let denoised = self.denoise().run(&mut session, start, noise, observer);
        let account = session.account();
        let forecast = self.plan.forecast(&self.blueprint, self.rows, 4);
        assert_eq!((account.fallbacks, account.cells), (0, forecast.cells));
        denoised.unwrap()
    }
}

fn picture(fixture: &Fixture, case: &Value) -> Picture {
    let file = case["image_file"].as_str().unwrap_or("image.png");
    Picture::read(&fixture.file(file)).unwrap()
}

fn noise(case: &Value) -> SeededNoise {
    let seed = case["call"]["seed"].as_u64().unwrap();
    SeededNoise::new(&Seeds::One(seed), &tested::device())
}

fn rule(cache: &Value) -> CacheRule {
    let number = |key: &str| cache[key].as_u64().unwrap() as usize;
    match cache["method"].as_str() {
        None => CacheRule::none(),
        Some("deepcache") => CacheRule::deepcache(number("cache_interval"), number("skip_index")),
        Some("encoder_propagation") => {
            let keys = cache["key_steps"].as_array().unwrap().iter();
            let keys = keys.map(|key| key.as_u64().unwrap() as usize).collect();
            CacheRule::encoder_propagation(Refresh::At(keys))
        }
        Some(other) => panic!("unknown method `{other}`"),
    }
}

#[test]
fn films_agree_with_diffusers() {
    let mut tally = Tally::default();
    let Some(fixture) = super::fixture() else {
        return;
    };
    let model = Model::load(&fixture);
    for case in fixture.of_kinds(&["img2video"]) {
        let setting = Setting::new(&fixture, case, &model, &rule(&case["cache"]));
        let free = check_free(&fixture, case, &model, &setting);
        let stepwise = |free: f64| Ok(free.max(check_steps(&fixture, case, &model, &setting)?));
        tally.add(&fixture, case, free.and_then(stepwise));
    }
    tally.finish(4);
}

fn check_free(
    fixture: &Fixture,
    case: &Value,
    model: &Model,
    setting: &Setting<'_>,
) -> Result<f64, String> {
    let golden = |key: &str| fixture.of(case, key);
    let mut comparison = Comparison::new(fixture, case, Way::Free);
    let (mut ignored, mut noise) = ((), noise(case));
    let mut trace = Trace::new(&mut ignored);
    let condition = setting.condition(model, &picture(fixture, case), &mut noise);
    let embeds = golden("prompt_embeds").unwrap();
    let context = condition.states().clone();
    comparison.check(Part::Layers, "prompt_embeds", &embeds, context)?;
    let ids = golden("added_time_ids").unwrap().rows();
    for (found, expected) in condition.numbers.iter().flatten().zip(ids.iter().flatten()) {
        assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
    }
    let latents = setting.run(model, &condition, &mut noise, &mut trace);
    let times = golden("timesteps").unwrap().values;
    assert_eq!(trace.timesteps.len(), times.len());
    for (found, expected) in trace.timesteps.iter().zip(times) {
        assert!((found - f64::from(expected)).abs() < 1e-6, "{found}");
    }
    for (row, step) in case["kept_steps"].as_array().unwrap().iter().enumerate() {
        let step = step.as_u64().unwrap() as usize;
        for (part, key, found) in [
            (Part::Predictions, "noise_pred", &trace.predictions),
            (Part::Latents, "latents", &trace.latents),
        ] {
            let golden = golden(key).unwrap().row(row).by_row();
            comparison.check(part, format!("{key}.{step}"), &golden, found[step].clone())?;
        }
    }
    let golden_latents = golden("final_latents").unwrap().by_row();
    comparison.check(Part::Latents, "final", &golden_latents, latents.clone())?;
    if let Some(frames) = golden("frames") {
        let chunk = setting.call["decode_chunk_size"].as_u64().unwrap() as usize;
        let latents = model.vae.from_denoiser(latents);
        let pixels = model.vae.decode_frames(latents, chunk, Tiling::Never);
        let found = (pixels / 2.0 + 0.5).clamp(0.0, 1.0);
        comparison.check(Part::Picture, "frames", &frames.by_row(), found)?;
    }
    Ok(comparison.share())
}

/// The first predictions, each from the reference's own latents and conditions.
fn check_steps(
    fixture: &Fixture,
    case: &Value,
    model: &Model,
    setting: &Setting<'_>,
) -> Result<f64, String> {
    let kept = case["kept_steps"].as_array().unwrap();
    let first = (0..kept.len()).take_while(|&row| kept[row] == row).count();
    if first == 0 {
        return Ok(0.0);
    }
    let by_row = |reference: Reference| {
        let parts: Vec<_> = reference.parts().map(|part| part.by_row()).collect();
        let shape = [&[parts.len()], &parts[0].shape[..]].concat();
        let values = parts.into_iter().flat_map(|part| part.values).collect();
        Reference { shape, values }
    };
    let golden = |key: &str| fixture.of(case, key).unwrap();
    let mut start = golden("initial_noise");
    let scale = setting.sampler.initial_noise_scale() as f32;
    for value in &mut start.values {
        *value *= scale;
    }
    let steps = Steps {
        predictions: by_row(golden("noise_pred").first(first)),
        samples: Some(by_row(start)),
        inputs: BTreeMap::new(),
        of_the_case: false,
    };
    let device = tested::device();
    // The model's input has the picture's latents beside the noise, the same for every frame.
    let input: Tensor<5> = golden("model_input_0").on(&device);
    let channels = input.dims()[2] / 2;
    let latents = input.narrow(1, 0, 1).narrow(2, channels, channels);
    let condition = Conditioning {
        context: Some(golden("prompt_embeds").on(&device)),
        numbers: golden("added_time_ids").rows(),
        channels: Some(latents.squeeze_dim(1)),
        ..Conditioning::none(setting.rows)
    };
    let followed = Followed {
        denoise: setting.denoise(),
        rows: setting.rows,
        noise: &mut noise(case),
        steps: &steps,
    };
    let mut comparison = Comparison::new(fixture, case, Way::Stepwise);
    followed.check(&model.unet, &condition, fixture, case, &mut comparison)?;
    Ok(comparison.share())
}

/// Steps that share a batch have films of their own: what looks along frames does not look past them.
#[test]
fn batched_propagation_is_the_sequential_one() {
    let Some(fixture) = super::fixture() else {
        return;
    };
    let (model, case) = (Model::load(&fixture), fixture.case("not_square"));
    let run = |parallel: usize| {
        let rule = CacheRule::encoder_propagation(Refresh::At(vec![0, 1]));
        let setting = Setting::new(&fixture, case, &model, &rule.with_parallel(parallel));
        let mut noise = noise(case);
        let condition = setting.condition(&model, &picture(&fixture, case), &mut noise);
        setting.run(&model, &condition, &mut noise, &mut ())
    };
    let sequential = Reference::from(run(1));
    for parallel in [2, 3] {
        let outcome = sequential.compare(run(parallel), crate::tolerance::F32_CPU);
        outcome.unwrap_or_else(|error| panic!("parallel {parallel}: {error}"));
    }
}

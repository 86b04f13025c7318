//! Whole runs, plain and cached, freely and from the reference's own samples.

use std::collections::BTreeMap;

use afterimage::blend::noised;
use afterimage::cache::{CachePlan, CacheRule, Course, Refresh, Session};
use afterimage::conditioning::Conditioning;
use afterimage::denoise::{Denoise, Noise as _, Observer};
use afterimage::denoiser::{Blueprint, Rows, StagedDenoiser as _};
use afterimage::guidance::Guidance;
use afterimage::image_io::Picture;
use afterimage::models::t5::{T5Config, T5EncoderModel};
use afterimage::models::unet::{Extent, Labels, UNet};
use afterimage::models::vae::Tiling;
use afterimage::nn::stretch::stretched;
use afterimage::noise::NoiseLevel;
use afterimage::pipeline::{SeededNoise, Seeds, Trace};
use afterimage::sampler::Sampler;
use afterimage::samplers::SamplerConfig;
use afterimage::text::{SentenceEncoder as _, T5Tokenizer};
use afterimage::weights::{WeightSource, load_strict};
use burn::tensor::Tensor;
use serde_json::Value;

use crate::fixture::{Fixture, Reference, text};
use crate::golden::rule;
use crate::parity::{Comparison, Followed, Part, Steps, Tally, Way};
use crate::tested;
use crate::tolerance::F32_CPU;

/// Tokens that all three models read.
const TOKENS: usize = 77;

/// What a case is run with.
struct Setting<'a> {
    fixture: &'a Fixture,
    case: &'a Value,
    guidance: Guidance,
    sampler: Box<dyn Sampler>,
    blueprint: Blueprint,
    plan: CachePlan,
    /// `[items, channels, height, width]`
    shape: [usize; 4],
}

impl<'a> Setting<'a> {
    fn new(fixture: &'a Fixture, case: &'a Value, unet: &UNet, rule: &CacheRule) -> Self {
        let golden = fixture.of(case, "initial_noise").unwrap();
        let shape: [usize; 4] = golden.shape.try_into().unwrap();
        let [_, channels, height, width] = shape;
        let learned = unet.config().out_channels > channels;
        let guidance = Guidance {
            scale: case["call"]["guidance_scale"].as_f64().unwrap(),
            channels: learned.then_some(channels),
            ..Guidance::default()
        };
        let blueprint = unet.config().blueprint(Extent {
            height,
            width,
            tokens: TOKENS,
        });
        let sampler = fixture.scheduler(case["scheduler"].as_str().unwrap());
        let sampler = SamplerConfig::from_json(&sampler, "case".as_ref()).unwrap();
        let steps = case["call"]["num_inference_steps"].as_u64().unwrap();
        let sampler = sampler.build(steps as usize, 0.0).unwrap();
        let course = Course::steps(sampler.evaluations().len());
        Self {
            fixture,
            case,
            guidance,
            plan: rule.plan(&course, &blueprint).unwrap(),
            sampler,
            blueprint,
            shape,
        }
    }

    fn rows(&self) -> Rows {
        self.guidance.rows(self.shape[0])
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

    fn golden(&self, key: &str) -> Option<Reference> {
        self.fixture.of(self.case, key)
    }

    /// The level of the noise on the small picture, where there is one.
    fn level(&self) -> Option<usize> {
        let level = self.case["call"]["noise_level"].as_u64();
        level.map(|level| level as usize)
    }

    /// What is run under, the small picture aside.
    fn condition(&self, states: Tensor<3>, low: Option<Tensor<4>>) -> Conditioning {
        let halves = self.rows().halves;
        Conditioning {
            context: Some(states),
            labels: match self.level() {
                Some(level) => vec![level; self.rows().total()],
                None => Vec::new(),
            },
            channels: low.map(|low| low.repeat_dim(0, halves)),
            ..Conditioning::none(self.rows())
        }
    }

    /// The noise that the run starts from, and the small picture under its own: the upscaler draws that first, IF the other.
    fn start(&self, noise: &mut SeededNoise) -> (Tensor<4>, Option<Tensor<4>>) {
        let Some(level) = self.level() else {
            return (noise.draw(self.shape), None);
        };
        let low = low(self.fixture, self.case);
        let (part, on_pixels) = match self.fixture.name() {
            "sd-x4-upscaler" => ("low_res_scheduler", false),
            _ => ("image_noising_scheduler", true),
        };
        let path = self
            .fixture
            .model()
            .join(part)
            .join("scheduler_config.json");
        let schedule = SamplerConfig::read(&path).unwrap().schedule().unwrap();
        let level = NoiseLevel::from_alpha_bar(schedule.alpha_bars()[level]);
        if on_pixels {
            let start = noise.draw(self.shape);
            let low = stretched(low, [self.shape[2], self.shape[3]]);
            return (start, Some(noised(low, noise.draw(self.shape), level)));
        }
        let of_low = noise.draw(low.dims());
        let low = noised(low, of_low, level);
        (noise.draw(self.shape), Some(low))
    }

    fn run(
        &self,
        unet: &UNet,
        condition: &Conditioning,
        start: Tensor<4>,
        noise: &mut SeededNoise,
        observer: &mut dyn Observer,
    ) -> Tensor<4> {
        let run = unet.start(condition, self.sampler.evaluations());
        let mut session = Session::new(unet, &run, &self.plan, self.rows());
        let start = start * self.sampler.initial_noise_scale();
        let denoised = self.denoise().run(&mut session, start, noise, observer);
        let account = session.account();
        let forecast = self.plan.forecast(&self.blueprint, self.rows(), 4);
        assert_eq!((account.fallbacks, account.cells), (0, forecast.cells));
        denoised.unwrap()
    }
}

/// The given picture, -1 to 1.
fn low(fixture: &Fixture, case: &Value) -> Tensor<4> {
    let file = case["image_file"].as_str().unwrap_or("image.png");
    let picture = Picture::read(&fixture.file(file)).unwrap();
    picture.to_tensor(&tested::device()) * 2.0 - 1.0
}

fn noise(case: &Value) -> SeededNoise {
    let seed = case["call"]["seed"].as_u64().unwrap();
    SeededNoise::new(&Seeds::One(seed), &tested::device())
}

/// The prompts of both halves, one after the other.
fn prompts(case: &Value, guided: bool) -> Vec<String> {
    let list = |key: &str| match &case["call"][key] {
        Value::Array(all) => all.iter().map(|one| one.as_str().unwrap().into()).collect(),
        one => vec![one.as_str().unwrap_or_default().to_owned()],
    };
    let negative = if guided {
        list("negative_prompt")
    } else {
        Vec::new()
    };
    negative.into_iter().chain(list("prompt")).collect()
}

/// States of prompts as IF encodes them.
fn states(fixture: &Fixture, prompts: &[String]) -> Tensor<3> {
    let part = fixture.model().join("text_encoder");
    let config = T5Config::from_json(&text(part.join("config.json")), "text_encoder").unwrap();
    let source = WeightSource::open(part.join("model.safetensors")).unwrap();
    let model = T5EncoderModel::new(&config, &tested::device());
    let model = load_strict(model, &source, "text_encoder", tested::dtype()).unwrap();
    let file = fixture.model().join("tokenizer/tokenizer.json");
    let tokenizer = T5Tokenizer::from_json(&text(file), TOKENS).unwrap();
    let tokens = prompts
        .iter()
        .map(|prompt| tokenizer.encode(prompt).unwrap());
    let (ids, ends): (Vec<_>, Vec<_>) = tokens.map(|tokens| (tokens.ids, tokens.end)).unzip();
    model.states(&ids, &ends)
}

#[test]
fn runs_agree_with_diffusers() {
    let mut tally = Tally::default();
    for fixture in super::fixtures() {
        let unet = super::unet(&fixture);
        for case in fixture.of_kinds(&["if_stage1", "if_stage2", "upscale"]) {
            let setting = Setting::new(&fixture, case, &unet, &rule(&case["cache"]));
            let free = check_free(&unet, &setting);
            let stepwise = |free: f64| Ok(free.max(check_steps(&unet, &setting)?));
            tally.add(&fixture, case, free.and_then(stepwise));
        }
    }
    tally.finish(12);
}

fn check_free(unet: &UNet, setting: &Setting<'_>) -> Result<f64, String> {
    let Setting { fixture, case, .. } = setting;
    let mut comparison = Comparison::new(fixture, case, Way::Free);
    let embeds = setting.golden("prompt_embeds").unwrap();
    let context = if fixture.name() == "sd-x4-upscaler" {
        embeds.on(&tested::device())
    } else {
        let states = states(fixture, &prompts(case, setting.guidance.is_on()));
        comparison.check(Part::Layers, "prompt_embeds", &embeds, states.clone())?;
        states
    };
    let mut noise = noise(case);
    let (start, low) = setting.start(&mut noise);
    if let Some(upscaled) = setting.golden("upscaled") {
        let [_, _, height, width] = setting.shape;
        let found = stretched(self::low(fixture, case), [height, width]);
        comparison.check(Part::Layers, "upscaled", &upscaled, found)?;
    }
    let condition = setting.condition(context, low);
    if matches!(
        unet.config().labels,
        Some(Labels::Timesteps | Labels::Table(_))
    ) {
        assert_eq!(condition.labels, super::labels(fixture, case));
    }
    let mut ignored = ();
    let mut trace = Trace::new(&mut ignored);
    let latents = setting.run(unet, &condition, start, &mut noise, &mut trace);
    let times = setting.golden("timesteps").unwrap().values;
    let found: Vec<_> = trace.timesteps.iter().map(|&time| time as f32).collect();
    assert_eq!(found, times);
    for (row, step) in case["kept_steps"].as_array().unwrap().iter().enumerate() {
        let step = step.as_u64().unwrap() as usize;
        for (part, key, found) in [
            (Part::Predictions, "noise_pred", &trace.predictions),
            (Part::Latents, "latents", &trace.latents),
        ] {
            let golden = fixture.exact(case, key).unwrap().row(row);
            // What is not used of a learned variance is not in the reference.
            let found = found[step].clone().narrow(1, 0, golden.shape[1]);
            comparison.check(part, format!("{key}.{step}"), &golden, found)?;
        }
    }
    let golden = fixture.exact(case, "final_latents").unwrap();
    comparison.check(Part::Latents, "final", &golden, latents.clone())?;
    if let Some(image) = setting
        .golden("image")
        .filter(|_| fixture.name() == "sd-x4-upscaler")
    {
        let vae = super::vae(fixture);
        let pixels = vae.decode(vae.from_denoiser(latents), Tiling::Never);
        let found = (pixels / 2.0 + 0.5).clamp(0.0, 1.0);
        comparison.check(Part::Picture, "image", &image, found)?;
    }
    Ok(comparison.share())
}

/// The first predictions, each from the reference's own samples and conditions.
fn check_steps(unet: &UNet, setting: &Setting<'_>) -> Result<f64, String> {
    let Setting { fixture, case, .. } = setting;
    let kept = case["kept_steps"].as_array().unwrap();
    let first = (0..kept.len()).take_while(|&row| kept[row] == row).count();
    let Some(predictions) = setting.golden("noise_pred").filter(|_| first > 0) else {
        return Ok(0.0);
    };
    let scaled = |noise: Reference| {
        let scale = setting.sampler.initial_noise_scale() as f32;
        let values = noise.values.into_iter().map(|value| value * scale);
        Reference {
            values: values.collect(),
            shape: [&[1], &noise.shape[..]].concat(),
        }
    };
    let steps = Steps {
        predictions: predictions.first(first),
        samples: setting.golden("initial_noise").map(scaled),
        inputs: BTreeMap::new(),
        of_the_case: true,
    };
    let device = tested::device();
    let input: Tensor<4> = setting.golden("model_input_0").unwrap().on(&device);
    let [_, channels, ..] = setting.shape;
    let beside = input.dims()[1] - channels;
    let condition = Conditioning {
        channels: (beside > 0).then(|| input.narrow(1, channels, beside)),
        ..setting.condition(setting.golden("prompt_embeds").unwrap().on(&device), None)
    };
    let mut noise = noise(case);
    setting.start(&mut noise);
    let followed = Followed {
        denoise: setting.denoise(),
        rows: setting.rows(),
        noise: &mut noise,
        steps: &steps,
    };
    let mut comparison = Comparison::new(fixture, case, Way::Stepwise);
    followed.check(unet, &condition, fixture, case, &mut comparison)?;
    Ok(comparison.share())
}

/// Steps that share a batch are each told their own time beside the level of noise and the text (the published program leaves both out).
#[test]
fn batched_propagation_is_the_sequential_one() {
    for fixture in super::fixtures() {
        let unet = super::unet(&fixture);
        let case = fixture.case(if fixture.name() == "sd-x4-upscaler" {
            "ddim"
        } else {
            "ddpm"
        });
        let run = |parallel: usize| {
            let rule = CacheRule::encoder_propagation(Refresh::At(vec![0, 1, 4]));
            let setting = Setting::new(&fixture, case, &unet, &rule.with_parallel(parallel));
            let mut noise = noise(case);
            let (start, low) = setting.start(&mut noise);
            let embeds = setting.golden("prompt_embeds").unwrap();
            let condition = setting.condition(embeds.on(&tested::device()), low);
            setting.run(&unet, &condition, start, &mut noise, &mut ())
        };
        let sequential = Reference::from(run(1));
        for parallel in [2, 8] {
            let outcome = sequential.compare(run(parallel), F32_CPU);
            outcome.unwrap_or_else(|error| panic!("{}, {parallel}: {error}", fixture.name()));
        }
    }
}

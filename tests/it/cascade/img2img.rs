//! Image to image of `DeepFloyd` IF's stages against diffusers, from the request to the picture.

use afterimage::catalog::ModelFolder;
use afterimage::image_io::{Mask, Picture};
use afterimage::pipeline::{Edit, LowPicture, ModelConfig, Pipeline, Request, Seeds, Trace};
use afterimage::samplers::SamplerConfig;
use serde_json::Value;

use crate::fixture::Fixture;
use crate::golden::rule;
use crate::parity::{Comparison, Part, Tally, Way};
use crate::tested;

fn fixtures() -> [Fixture; 2] {
    ["if-img2img", "if-img2img-superres"].map(Fixture::committed)
}

fn folder(fixture: &Fixture) -> ModelFolder {
    ModelFolder::open(fixture.model().to_str().unwrap()).unwrap()
}

fn picture(fixture: &Fixture, case: &Value, key: &str, silent: &str) -> Picture {
    let name = case[key].as_str().unwrap_or(silent);
    Picture::read(&fixture.file(name)).unwrap()
}

fn request(fixture: &Fixture, case: &Value) -> Request {
    let call = &case["call"];
    let text = |key: &str| call[key].as_str().map(str::to_owned);
    let count = |key: &str| call[key].as_u64().map(|count| count as usize);
    let edit = Edit::new(picture(fixture, case, "image_file", "image.png"));
    let low = case["low_file"].is_string();
    Request {
        negative_prompts: text("negative_prompt").into_iter().collect(),
        steps: count("num_inference_steps"),
        guidance_scale: call["guidance_scale"].as_f64(),
        seeds: Seeds::One(call["seed"].as_u64().unwrap()),
        edit: Some(edit.with_strength(call["strength"].as_f64().unwrap())),
        low: low.then(|| LowPicture::of(&picture(fixture, case, "low_file", ""))),
        noise_level: count("noise_level"),
        cache: rule(&case["cache"]),
        ..Request::new(text("prompt").unwrap())
    }
}

#[test]
fn runs_from_a_picture_agree_with_diffusers() {
    let mut tally = Tally::default();
    for fixture in fixtures() {
        let model = folder(&fixture);
        let mut pipeline = Pipeline::load(&model, &tested::device(), tested::dtype()).unwrap();
        for case in fixture.of_kinds(&["if_img2img", "if_img2img_superres"]) {
            let scheduler = fixture.scheduler(case["scheduler"].as_str().unwrap());
            let scheduler = SamplerConfig::from_json(&scheduler, "case".as_ref()).unwrap();
            pipeline.set_sampler(scheduler);
            tally.add(&fixture, case, check(&pipeline, &fixture, case));
        }
    }
    tally.finish(11);
}

fn check(pipeline: &Pipeline, fixture: &Fixture, case: &Value) -> Result<f64, String> {
    let mut ignored = ();
    let mut trace = Trace::new(&mut ignored);
    let generated = pipeline.generate(&request(fixture, case), &mut trace);
    let generated = generated.map_err(|error| error.to_string())?;
    let golden = |key: &str| fixture.of(case, key).unwrap();
    let times: Vec<_> = trace.timesteps.iter().map(|&time| time as f32).collect();
    assert_eq!(times, golden("timesteps").values);
    let mut comparison = Comparison::new(fixture, case, Way::Free);
    let input = golden("model_input_0");
    let start = trace.initial_latents.clone().unwrap();
    let [_, channels, ..] = start.dims();
    let input = input.on::<4>(&tested::device());
    let input = input.narrow(0, 0, 1).narrow(1, 0, channels);
    comparison.check(Part::Layers, "start", &input.into(), start)?;
    for (row, step) in case["kept_steps"].as_array().unwrap().iter().enumerate() {
        let step = step.as_u64().unwrap() as usize;
        for (part, key, found) in [
            (Part::Predictions, "noise_pred", &trace.predictions),
            (Part::Latents, "latents", &trace.latents),
        ] {
            let golden = golden(key).row(row);
            let found = found[step].clone().narrow(1, 0, golden.shape[1]);
            comparison.check(part, format!("{key}.{step}"), &golden, found)?;
        }
    }
    let latents = generated.latents;
    comparison.check(Part::Latents, "final", &golden("final_latents"), latents)?;
    Ok(comparison.share())
}

/// The lesser side is the model's own, the other keeps the proportions.
#[test]
fn pictures_are_brought_to_the_models_size() {
    let [fixture, _] = fixtures();
    let config = ModelConfig::read(&folder(&fixture)).unwrap();
    let shape = |width: usize, height: usize| {
        let picture = Picture::filled(width, height, [9, 9, 9]);
        let request = Request {
            edit: Some(Edit::new(picture)),
            ..Request::new("")
        };
        let [_, _, height, width] = request.resolve(&config).unwrap().latent_shape;
        [width, height]
    };
    assert_eq!(shape(40, 26), [24, 16]);
    assert_eq!(shape(7, 15), [16, 32]);
    assert_eq!(shape(300, 300), [16, 16]);
}

/// Pixels are not painted by parts.
#[test]
fn a_mask_is_refused() {
    let [fixture, _] = fixtures();
    let config = ModelConfig::read(&folder(&fixture)).unwrap();
    let light = Picture::filled(16, 16, [255; 3]);
    let edit = Edit::new(light.clone()).with_mask(Mask::new(light).unwrap());
    let request = Request {
        edit: Some(edit),
        ..Request::new("")
    };
    let error = request.resolve(&config).unwrap_err();
    assert!(error.is_request());
    assert!(error.to_string().contains("`mask` is given"), "{error}");
}

/// A picture to start from goes to every stage of IF, which then makes pictures of its proportions.
#[test]
fn a_picture_goes_on_to_the_next_stage() {
    let [first, second] = fixtures().map(|fixture| ModelConfig::read(&folder(&fixture)).unwrap());
    let request = Request {
        edit: Some(Edit::new(Picture::filled(48, 24, [80, 120, 9])).with_strength(0.5)),
        ..Request::new("a lighthouse")
    };
    let [_, _, height, width] = request.resolve(&first).unwrap().latent_shape;
    let larger = request.enlarged(&second, (width, height), None).unwrap();
    let resolved = larger.resolve(&second).unwrap();
    assert_eq!((width, height), (32, 16));
    assert_eq!(resolved.latent_shape, [1, 3, 32, 64]);
    assert_eq!(resolved.sampler.evaluations().len(), 25, "half of 50");
}

//! Whole films, plain and cached, freely and from the reference's own latents.

use afterimage::cache::{CacheRule, Refresh};
use afterimage::catalog::ModelFolder;
use afterimage::denoise::{Denoise, Observer};
use afterimage::image_io::Picture;
use afterimage::models::spatio_temporal::FilmCondition;
use afterimage::pipeline::{FilmRequest, ImageToVideo, SeededNoise, Seeds, Trace};
use burn::tensor::Tensor;
use serde_json::Value;

use crate::fixture::{Fixture, Reference};
use crate::parity::{Comparison, Followed, Part, Steps, Tally, Way};
use crate::tested;

fn load(fixture: &Fixture) -> ImageToVideo {
    let folder = ModelFolder::open(fixture.model().to_str().unwrap()).unwrap();
    ImageToVideo::load(&folder, &tested::device(), tested::dtype()).unwrap()
}

fn request(fixture: &Fixture, case: &Value) -> FilmRequest {
    let call = &case["call"];
    let whole = |key: &str| call[key].as_u64().unwrap() as usize;
    let real = |key: &str| call[key].as_f64().unwrap();
    let file = case["image_file"].as_str().unwrap_or("image.png");
    FilmRequest {
        size: Some((whole("width"), whole("height"))),
        frames: Some(whole("num_frames")),
        fps: whole("fps"),
        motion_bucket: whole("motion_bucket_id"),
        noise_aug: real("noise_aug_strength"),
        guidance_first_frame: real("min_guidance_scale"),
        guidance_scale: real("max_guidance_scale"),
        decode_chunk: Some(whole("decode_chunk_size")),
        steps: Some(whole("num_inference_steps")),
        seed: call["seed"].as_u64().unwrap(),
        cache: rule(&case["cache"]),
        ..FilmRequest::new(Picture::read(&fixture.file(file)).unwrap())
    }
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
    let model = load(&fixture);
    for case in fixture.of_kinds(&["img2video"]) {
        let free = check_free(&fixture, case, &model);
        let outcome = free.and_then(|free| Ok(free.max(check_steps(&fixture, case, &model)?)));
        tally.add(&fixture, case, outcome);
    }
    tally.finish(4);
}

fn check_free(fixture: &Fixture, case: &Value, model: &ImageToVideo) -> Result<f64, String> {
    let mut ignored = ();
    let mut trace = Trace::new(&mut ignored);
    let request = request(fixture, case);
    let film = model
        .generate(&request, &mut trace)
        .map_err(|error| error.to_string())?;
    assert_eq!(film.report.account.cells, film.report.forecast.cells);
    let mut comparison = Comparison::new(fixture, case, Way::Free);
    let golden = |key: &str| fixture.of(case, key);
    let times = golden("timesteps").unwrap().values;
    for (found, expected) in trace.timesteps.iter().zip(times) {
        assert!((found - f64::from(expected)).abs() < 1e-6, "{found}");
    }
    let embeds = golden("prompt_embeds").unwrap();
    comparison.check(Part::Layers, "prompt_embeds", &embeds, film.image_embeds)?;
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
    let latents = golden("final_latents").unwrap().by_row();
    comparison.check(Part::Latents, "final", &latents, film.latents)?;
    if let Some(frames) = golden("frames") {
        comparison.check(Part::Picture, "frames", &frames.by_row(), film.frames)?;
    }
    Ok(comparison.share())
}

/// The first predictions, each from the reference's own latents.
fn check_steps(fixture: &Fixture, case: &Value, model: &ImageToVideo) -> Result<f64, String> {
    let kept = case["kept_steps"].as_array().unwrap();
    let first = (0..kept.len()).take_while(|&row| kept[row] == row).count();
    if first == 0 {
        return Ok(0.0);
    }
    let frames = |reference: Reference| {
        let parts: Vec<_> = reference.parts().map(|part| part.by_row()).collect();
        let shape = [&[parts.len()], &parts[0].shape[..]].concat();
        let values = parts.into_iter().flat_map(|part| part.values).collect();
        Reference { shape, values }
    };
    let resolved = request(fixture, case).resolve(model.config()).unwrap();
    let golden = |key: &str| fixture.of(case, key).unwrap();
    let scale = resolved.sampler.initial_noise_scale() as f32;
    let mut start = golden("initial_noise");
    start.values.iter_mut().for_each(|value| *value *= scale);
    let steps = Steps {
        predictions: frames(golden("noise_pred").first(first)),
        samples: Some(frames(start)),
        of_the_case: false,
    };
    let device = tested::device();
    // The model's own input has the picture's latents beside the noise, the same for every frame.
    let input = golden("model_input_0");
    let [halves, count, channels, height, width] = input.shape[..] else {
        panic!("{:?} are no films", input.shape);
    };
    let picture: Tensor<5> = input.on(&device);
    let picture = picture.slice([0..halves, 0..1, channels / 2..channels, 0..height, 0..width]);
    let condition = FilmCondition {
        context: golden("prompt_embeds").on(&device),
        time_ids: golden("added_time_ids").rows(),
        channels: Some(picture.squeeze_dim(1)),
        frames: count,
    };
    let followed = Followed {
        denoise: Denoise {
            sampler: resolved.sampler.as_ref(),
            plan: &resolved.plan,
            guidance: resolved.guidance,
            prior_noise: None,
            known: None,
        },
        rows: resolved.rows,
        noise: &mut SeededNoise::new(&Seeds::One(0), &device),
        steps: &steps,
    };
    let mut comparison = Comparison::new(fixture, case, Way::Stepwise);
    followed.check(model.unet(), &condition, fixture, case, &mut comparison)?;
    Ok(comparison.share())
}

#[test]
fn batched_propagation_is_the_sequential_one() {
    let Some(fixture) = super::fixture() else {
        return;
    };
    let model = load(&fixture);
    let run = |parallel: usize| {
        let rule = CacheRule::encoder_propagation(Refresh::At(vec![0, 1]));
        let request = FilmRequest {
            cache: rule.with_parallel(parallel),
            ..request(&fixture, fixture.case("not_square"))
        };
        model.generate(&request, &mut ()).unwrap().latents
    };
    let sequential = Reference::from(run(1));
    for parallel in [2, 3] {
        let outcome = sequential.compare(run(parallel), crate::tolerance::F32_CPU);
        outcome.unwrap_or_else(|error| panic!("parallel {parallel}: {error}"));
    }
}

/// Keeps what it is told.
#[derive(Default)]
struct Told(Vec<String>);

impl Observer for Told {
    fn warn(&mut self, message: &str) {
        self.0.push(message.to_owned());
    }
}

#[test]
fn what_does_not_fit_is_refused_or_told() {
    let Some(fixture) = super::fixture() else {
        return;
    };
    let model = load(&fixture);
    let plain = || FilmRequest {
        steps: Some(1),
        size: Some((32, 32)),
        frames: Some(2),
        ..FilmRequest::new(Picture::read(&fixture.file("image.png")).unwrap())
    };
    let refused = |request: FilmRequest, part: &str| {
        let error = request.resolve(model.config()).unwrap_err();
        assert!(
            error.is_request() && error.to_string().contains(part),
            "{error}"
        );
    };
    let frames = |frames| FilmRequest {
        frames: Some(frames),
        ..plain()
    };
    refused(frames(0), "`frames` is 0");
    refused(frames(1), "`frames` is 1");
    refused(frames(5000), "`frames` is 5000");
    let size = Some((30, 32));
    refused(
        FilmRequest { size, ..plain() },
        "30x32 is not a multiple of 4",
    );
    let steps = Some(0);
    refused(FilmRequest { steps, ..plain() }, "steps");
    let noise_aug = -0.1;
    refused(
        FilmRequest {
            noise_aug,
            ..plain()
        },
        "`noise_aug` is -0.1",
    );
    let decode_chunk = Some(0);
    refused(
        FilmRequest {
            decode_chunk,
            ..plain()
        },
        "`decode_chunk` is 0",
    );
    let guidance_scale = f64::NAN;
    refused(
        FilmRequest {
            guidance_scale,
            ..plain()
        },
        "`guidance_scale` is NaN",
    );

    let mut told = Told::default();
    let wide = FilmRequest {
        frames: Some(6),
        ..FilmRequest::new(Picture::read(&fixture.file("image_wide.png")).unwrap())
    };
    let wide = FilmRequest {
        steps: Some(1),
        size: Some((32, 32)),
        ..wide
    };
    let film = model.generate(&wide, &mut told).unwrap();
    assert_eq!(film.frames.dims(), [6, 3, 32, 32]);
    let said = told.0.join("\n");
    assert!(
        said.contains("48x32") && said.contains("stretched to 32x32"),
        "{said}"
    );
    assert!(said.contains("trained with 4 frames; 6"), "{said}");
}

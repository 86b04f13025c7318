//! Films through the pipeline, whatever makes them: from the request to the frames, against diffusers; batches; what is refused.

use afterimage::Error;
use afterimage::cache::{CacheRule, Refresh};
use afterimage::image_io::{Mask, Picture};
use afterimage::pipeline::{
    Control, Edit, FilmRequest, Generated, Output, Pipeline, Request, Seeds, Subject, Trace,
};
use afterimage::samplers::SamplerConfig;
use serde_json::Value;

use crate::fixture::{Fixture, Reference};
use crate::golden::{self, load};
use crate::parity::{Comparison, Part, Tally, Way};
use crate::tested;
use crate::tolerance::F32_CPU;

/// Every family of films, the kind of its cases, and how many the committed selection has.
const FAMILIES: [(&str, &str, usize); 3] = [
    ("svd", "img2video", 7),
    ("t2v-ms", "txt2video", 11),
    ("t2v-zero", "txt2video_zero", 5),
];

/// What a case asks for. Rules of Text2Video-Zero start anew in every loop.
fn request(fixture: &Fixture, case: &Value) -> Request {
    let request = golden::request(fixture, case);
    let cache = &case["cache"];
    if case["kind"] != "txt2video_zero" || cache.is_null() {
        return request;
    }
    let number = |key: &str| cache[key].as_u64().map(|value| value as usize);
    let cache = match (number("skip_index"), number("interval")) {
        (Some(skip), Some(interval)) => CacheRule::deepcache_skip(skip, Refresh::every(interval)),
        _ => "encoder-propagation:keys=50ls".parse().unwrap(),
    };
    Request { cache, ..request }
}

/// The film model that ships, whose weights are trained, and whose sampler begins with pure noise.
const SHIPPED: (&str, &str, usize) = ("scenes-film", "txt2video", 3);

#[test]
fn films_agree_with_diffusers() {
    for (name, kind, cases) in FAMILIES.into_iter().chain([SHIPPED]) {
        let fixture = Fixture::best(name);
        let mut pipeline = load(&fixture, &tested::device());
        let mut tally = Tally::default();
        for case in fixture.of_kinds(&[kind]) {
            let scheduler = fixture.scheduler(case["scheduler"].as_str().unwrap());
            let sampler = SamplerConfig::from_json(&scheduler, "case".as_ref()).unwrap();
            pipeline.set_sampler(sampler);
            tally.add(&fixture, case, check(&fixture, case, &pipeline));
        }
        tally.finish(cases);
    }
}

fn check(fixture: &Fixture, case: &Value, pipeline: &Pipeline) -> Result<f64, String> {
    let golden = |key: &str| fixture.of(case, key);
    let mut comparison = Comparison::new(fixture, case, Way::Free);
    let mut ignored = ();
    let mut trace = Trace::new(&mut ignored);
    let made = pipeline
        .generate(&request(fixture, case), &mut trace)
        .map_err(|error| error.to_string())?;
    assert_eq!(made.report.account.cells, made.report.forecast.cells);
    let times = golden("timesteps").unwrap().values;
    let alike = |(&found, &time): (&f64, &f32)| (found - f64::from(time)).abs() < 1e-5;
    assert_eq!(trace.timesteps.len(), times.len(), "{}", case["id"]);
    assert!(trace.timesteps.iter().zip(&times).all(alike), "{times:?}");
    for (row, step) in case["kept_steps"].as_array().unwrap().iter().enumerate() {
        let step = step.as_u64().unwrap() as usize;
        let Some(all) = golden("noise_pred") else {
            continue;
        };
        let (name, expected) = (format!("noise_pred.{step}"), rows(all.row(row)));
        let found = trace.predictions[step].clone();
        comparison.check(Part::Predictions, name, &expected, found)?;
    }
    let steps = case["tensors"]["latents_by_step"].as_array();
    for (step, name) in steps.into_iter().flatten().enumerate() {
        let expected = fixture.tensor(name.as_str().unwrap());
        let found = trace.latents[step].clone();
        comparison.check(Part::Latents, format!("latents.{step}"), &expected, found)?;
    }
    let latents = rows(fixture.exact(case, "final_latents").unwrap());
    comparison.check(Part::Latents, "final", &latents, made.latents.clone())?;
    if let Some(frames) = fixture.exact(case, "frames") {
        comparison.check(Part::Picture, "frames", &rows(frames), made.images.clone())?;
    }
    Ok(comparison.share())
}

/// A film in a batch of one as its frames.
fn rows(reference: Reference) -> Reference {
    match reference.shape.len() {
        5 => reference.by_row(),
        _ => reference,
    }
}

/// A short film of each family, and a pipeline that makes it.
fn short_films() -> Vec<(Pipeline, Request)> {
    let film = |(name, kind, _): (&str, &str, usize)| {
        let fixture = Fixture::best(name);
        let case = fixture.cases().find(|case| case["kind"] == kind).unwrap();
        let mut request = request(&fixture, case);
        request.steps = Some(3);
        request.film.frames = Some(3);
        (request.film.motion_t0, request.film.motion_t1) = (None, None);
        let mut pipeline = load(&fixture, &tested::device());
        let scheduler = fixture.scheduler(case["scheduler"].as_str().unwrap());
        pipeline.set_sampler(SamplerConfig::from_json(&scheduler, "case".as_ref()).unwrap());
        (pipeline, request)
    };
    FAMILIES.into_iter().map(film).collect()
}

fn made(pipeline: &Pipeline, request: &Request) -> Generated {
    pipeline.generate(request, &mut ()).unwrap()
}

/// What looks along frames does not look from film to film.
#[test]
fn films_of_a_batch_are_those_made_alone() {
    for (pipeline, request) in short_films() {
        let alone = |seed| {
            let request = Request {
                seeds: Seeds::One(seed),
                ..request.clone()
            };
            Reference::from(made(&pipeline, &request).images)
        };
        let both = Request {
            batch: 2,
            seeds: Seeds::Each(vec![5, 6]),
            ..request.clone()
        };
        let both = made(&pipeline, &both);
        let Output::Frames(films) = both.output().unwrap() else {
            panic!("two films are expected");
        };
        assert_eq!(films.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
        for (film, seed) in [5, 6].into_iter().enumerate() {
            let found = both.images.clone().narrow(0, 3 * film, 3);
            let outcome = alone(seed).compare(found, 10.0 * F32_CPU);
            outcome.unwrap_or_else(|error| panic!("film {film}: {error}"));
        }
    }
}

/// The first frame looks at itself alone: it is the picture that the same noise becomes.
#[test]
fn frames_follow_pictures_of_their_own() {
    let pipeline = load(&Fixture::committed("sd15-controlnet"), &tested::device());
    let lines = |at: usize| Picture::from_fn(64, 64, move |x, _| [255 * u8::from(x == at); 3]);
    let request = |control: Control| Request {
        steps: Some(3),
        size: Some((64, 64)),
        controls: vec![control],
        ..Request::new("a red circle")
    };
    let picture = made(&pipeline, &request(Control::new(0, lines(20))));
    let film = request(Control::of_frames(0, vec![lines(20), lines(40), lines(20)]));
    let film = made(&pipeline, &film);
    assert_eq!(film.frames, 3);
    let outcome = Reference::from(picture.latents).compare(film.latents.narrow(0, 0, 1), F32_CPU);
    outcome.unwrap();
    let frame = |index| film.images.clone().narrow(0, index, 1);
    let far = |one, other| Reference::from(frame(one)).compare(frame(other), F32_CPU);
    assert!(far(0, 1).is_err(), "another picture is followed");
    far(0, 2).expect("the same picture from the same noise");
}

/// `message` is in the error of a request that `ask` has changed.
fn refused(pipeline: &Pipeline, request: &Request, ask: fn(&mut Request), message: &str) {
    let mut request = request.clone();
    ask(&mut request);
    let outcome: Result<_, Error> = request.resolve(pipeline.config());
    let error = outcome.map(|_| ()).expect_err(message).to_string();
    assert!(error.contains(message), "{error}");
    assert!(error.contains("hint: "), "{error}");
}

fn grey() -> Picture {
    Picture::filled(64, 64, [128; 3])
}

type Refusal = (fn(&mut Request), &'static str);

const OF_PICTURES: &[Refusal] = &[
    (|one| one.film.frames = Some(1), "`frames` is 1"),
    (|one| one.film.frames = Some(5000), "`frames` is 5000"),
    (|one| one.film.decode_chunk = Some(0), "`decode_chunk` is 0"),
    (|one| one.film.fps = Some(0), "`fps` is 0"),
    (|one| one.film.noise_aug = Some(-1.0), "`noise_aug` is -1"),
    (
        |one| one.film.noise_aug = Some(f64::NAN),
        "`noise_aug` is NaN",
    ),
    (|one| one.film.motion_x = Some(3.0), "takes no shift"),
    (
        |one| one.subject = Subject::Nothing,
        "makes a film of a picture",
    ),
    (
        |one| one.subject = Subject::Prompts(vec!["a fox".into()]),
        "reads no text",
    ),
    (
        |one| one.negative_prompts = vec!["blue".into()],
        "`negative_prompt` is given",
    ),
    (
        |one| one.subject = Subject::Classes(vec![1]),
        "knows no classes",
    ),
    (
        |one| one.edit = Some(Edit::new(grey())),
        "`init_image` has no place",
    ),
    (
        |one| one.size = Some((33, 32)),
        "size 33x32 is not a multiple",
    ),
    (
        |one| one.controls = vec![Control::new(0, grey())],
        "control 0 names net 0",
    ),
];

const OF_TEXTS: &[Refusal] = &[
    (|one| one.film.frames = Some(0), "`frames` is 0"),
    (
        |one| one.film.motion_bucket = Some(3),
        "takes no amount of motion",
    ),
    (
        |one| one.film.guidance_first_frame = Some(1.0),
        "takes no scale a frame",
    ),
    (
        |one| one.subject = Subject::picture(grey()),
        "told what to show by a prompt",
    ),
    (
        |one| one.edit = Some(Edit::new(grey())),
        "`init_image` has no place",
    ),
];

const OF_SHIFTS: &[Refusal] = &[
    (|one| one.film.frames = Some(1), "`frames` is 1"),
    (
        |one| one.film.motion_t0 = Some(40),
        "the motion's places are 40",
    ),
    (
        |one| one.film.noise_aug = Some(0.1),
        "takes no noise on its picture",
    ),
    (
        |one| one.guidance_until = Some(0.5),
        "`guidance_until` has no place",
    ),
    (
        |one| one.sampler = Some("euler".parse().unwrap()),
        "the sampler `euler` scales",
    ),
    (
        |one| one.cache = "faster-diffusion".parse().unwrap(),
        "`cache` has prior noise",
    ),
    (
        |one| one.edit = Some(Edit::new(grey()).with_mask(Mask::new(grey()).unwrap())),
        "`init_image` has no place",
    ),
];

#[test]
fn what_a_film_has_no_use_for_is_refused() {
    let films = short_films();
    for ((pipeline, request), refusals) in films.iter().zip([OF_PICTURES, OF_TEXTS, OF_SHIFTS]) {
        for (ask, message) in refusals {
            refused(pipeline, request, *ask, message);
        }
    }
}

#[test]
fn what_only_films_are_told_is_refused_of_pictures() {
    let pipeline = load(&Fixture::committed("sd15"), &tested::device());
    let request = Request::new("a red circle");
    let rate = Request {
        film: FilmRequest {
            fps: Some(24),
            ..FilmRequest::default()
        },
        ..request.clone()
    };
    let told = rate.resolve(pipeline.config()).unwrap().notes;
    assert!(told.concat().contains("`fps` does nothing"), "{told:?}");
    let refusals: [Refusal; 3] = [
        (
            |one| one.film.decode_chunk = Some(2),
            "takes no number of frames",
        ),
        (|one| one.film.motion_y = Some(2.0), "takes no shift"),
        (
            |one| one.film.motion_bucket = Some(2),
            "takes no amount of motion",
        ),
    ];
    for (ask, message) in refusals {
        refused(&pipeline, &request, ask, message);
    }
    let mut usual = request.clone();
    usual.film.fps = Some(7);
    assert!(usual.resolve(pipeline.config()).is_ok(), "a default");
    let pipeline = load(&Fixture::committed("sdxl"), &tested::device());
    let frames: fn(&mut Request) = |one| one.film.frames = Some(4);
    refused(&pipeline, &request, frames, "makes no films");
    let control: fn(&mut Request) = |one| {
        one.film.frames = Some(4);
        one.controls = vec![Control::of_frames(0, vec![grey(), grey()])];
    };
    let pipeline = load(&Fixture::committed("sd15-controlnet"), &tested::device());
    refused(
        &pipeline,
        &request,
        control,
        "2 pictures for a film of 4 frames",
    );
}

/// A picture of other proportions is said to be stretched, and more frames than a model has seen are said to be.
#[test]
fn what_may_surprise_is_told() {
    let (pipeline, request) = short_films().remove(0);
    let wide = Request {
        subject: Subject::picture(Picture::filled(64, 32, [128; 3])),
        film: FilmRequest {
            frames: Some(30),
            ..FilmRequest::default()
        },
        ..request
    };
    let notes = wide.resolve(pipeline.config()).unwrap().notes.join("\n");
    assert!(
        notes.contains("64x32 pixels and is stretched to"),
        "{notes}"
    );
    assert!(notes.contains("30 may be more than it has seen"), "{notes}");
}

//! Runs that start from a picture: the steps really made, fresh plans, and what is refused.

use afterimage::cache::{CacheRule, Refresh};
use afterimage::catalog::ModelFolder;
use afterimage::denoise::{Observer, Progress};
use afterimage::image_io::{Mask, Picture};
use afterimage::pipeline::{Edit, ModelConfig, Pipeline, Request, Seeds, Subject};
use burn::tensor::{Device, Tensor};

use crate::fixture::{Fixture, Reference, values};
use crate::golden::load;
use crate::tolerance::F32_CPU;

fn picture(width: usize, height: usize) -> Picture {
    Picture::from_fn(width, height, |x, y| [(3 * x) as u8, (5 * y) as u8, 120])
}

/// The right half is painted.
fn half(width: usize, height: usize) -> Mask {
    Mask::new(Picture::from_fn(width, height, |x, _| {
        [255 * u8::from(x >= width / 2); 3]
    }))
    .unwrap()
}

fn request(edit: Edit, steps: usize, rule: CacheRule) -> Request {
    Request {
        steps: Some(steps),
        sampler: Some("ddim".parse().unwrap()),
        size: Some((72, 40)),
        cache: rule,
        edit: Some(edit),
        ..Request::new("a red fox")
    }
}

fn pipeline() -> Pipeline {
    load(&Fixture::committed("sd15"), &Device::flex())
}

fn config(card: &str) -> ModelConfig {
    ModelConfig::read(&ModelFolder::open_configs(card).unwrap()).unwrap()
}

/// A plan covers the evaluations of its own run, and no store outlives a run.
#[test]
fn runs_of_different_strength_in_a_row_never_reuse_across() {
    let pipeline = pipeline();
    let run = |strength: f64| {
        let edit = Edit::new(picture(72, 40)).with_strength(strength);
        let request = request(edit, 10, CacheRule::deepcache(3, 1));
        let generated = pipeline.generate(&request, &mut ()).unwrap();
        let account = generated.report.account;
        assert_eq!(account.fallbacks, 0, "strength {strength}");
        (values(generated.latents), account.refreshes, account.reuses)
    };
    let (weak, strong) = (run(0.3), run(0.8));
    assert_eq!((weak.1, weak.2), (1, 2));
    assert_eq!((strong.1, strong.2), (3, 5));
    assert_eq!(run(0.3), weak, "the run before left something behind");
    assert_eq!(run(0.8), strong, "the run before left something behind");
}

/// Evaluations by sampler, steps and strength; the first always refreshes.
#[test]
fn plans_cover_the_steps_really_made() {
    let config = config("stable-diffusion-v1-5");
    for (sampler, steps, strength, evaluations) in [
        ("pndm", 50, None, 51),
        ("heun", 20, None, 39),
        ("ddim", 50, Some(0.3), 15),
        ("ddim", 50, Some(0.8), 40),
        ("ddim", 50, Some(1.0), 50),
        ("pndm", 50, Some(0.3), 16),
        ("heun", 20, Some(0.3), 11),
        ("unipc", 10, Some(0.1), 1),
    ] {
        let edit = strength.map(|strength| Edit::new(picture(64, 64)).with_strength(strength));
        for rule in [
            CacheRule::deepcache(3, 0),
            CacheRule::encoder_propagation(Refresh::every(4)),
        ] {
            let request = Request {
                steps: Some(steps),
                sampler: Some(sampler.parse().unwrap()),
                cache: rule,
                edit: edit.clone(),
                ..Request::new("")
            };
            let plan = request.resolve(&config).unwrap().plan;
            assert_eq!(plan.evaluations(), evaluations, "{sampler} {strength:?}");
            assert!(plan.spans[0].refresh, "{sampler} {strength:?}");
        }
    }
}

/// Keeps the latents behind every evaluation.
#[derive(Default)]
struct Latents(Vec<Tensor<4>>);

impl Observer for Latents {
    fn progress(&mut self, progress: &Progress<'_>) -> std::ops::ControlFlow<()> {
        self.0.push(progress.latents.clone());
        std::ops::ControlFlow::Continue(())
    }
}

#[test]
fn the_kept_part_is_the_picture_and_the_painted_part_is_not() {
    let pipeline = pipeline();
    let edit = Edit::new(picture(72, 40)).with_mask(half(90, 50));
    let mut latents = Latents::default();
    let request = request(edit.clone(), 3, CacheRule::none());
    let generated = pipeline.generate(&request, &mut latents).unwrap();
    let unmasked = Request {
        edit: Some(Edit {
            masks: Vec::new(),
            strength: Some(0.4),
            ..edit
        }),
        ..request
    };
    let other = pipeline.generate(&unmasked, &mut ()).unwrap();
    let columns = |tensor: &Tensor<4>, first: usize| values(tensor.clone().narrow(3, first, 4));
    let kept = columns(&generated.latents, 0);
    // Both draw the picture's latents from the start of the same stream, so what stays is nearly where a weak run ends.
    assert_eq!(latents.0.len(), 3);
    assert_ne!(
        columns(&latents.0[0], 0),
        kept,
        "noise is put back before the last step"
    );
    assert_ne!(columns(&generated.latents, 5), columns(&other.latents, 5));
    let deviation = kept.iter().map(|value| value * value).sum::<f32>() / kept.len() as f32;
    assert!(deviation.sqrt() < 3.0, "{deviation}");
}

/// One picture for all prompts is encoded once and stands for each; every item has its own stream of noise where seeds are listed.
#[test]
fn a_picture_stands_for_every_prompt() {
    let pipeline = pipeline();
    let run = |pictures: Vec<Picture>, prompts: usize, batch: usize, seeds: Seeds| {
        let request = Request {
            subject: Subject::Prompts(vec!["a red fox".into(); prompts]),
            batch,
            seeds,
            edit: Some(Edit {
                pictures,
                masks: vec![half(72, 40)],
                strength: Some(0.7),
                name: "a test's picture".into(),
            }),
            ..request(Edit::new(picture(72, 40)), 3, CacheRule::none())
        };
        pipeline.generate(&request, &mut ()).unwrap().latents
    };
    let one = picture(72, 40);
    let each = Seeds::Each(vec![4, 9]);
    let pair = run(vec![one.clone()], 2, 1, each.clone());
    let twice = run(vec![one.clone(), one.clone()], 2, 1, each.clone());
    let batch = run(vec![one.clone()], 1, 2, each);
    let reference = Reference::from(pair);
    reference.compare(twice, F32_CPU).unwrap();
    reference.compare(batch, F32_CPU).unwrap();
    let alone = run(vec![one], 1, 1, Seeds::One(9));
    reference
        .parts()
        .nth(1)
        .unwrap()
        .compare::<3>(alone.squeeze_dim(0), F32_CPU)
        .unwrap();
}

#[test]
fn the_size_follows_the_picture() {
    let config = config("stable-diffusion-v1-5");
    let request = Request {
        edit: Some(Edit::new(picture(131, 70))),
        ..Request::new("")
    };
    assert_eq!(
        request.resolve(&config).unwrap().latent_shape,
        [1, 4, 8, 16]
    );
    let sized = Request {
        size: Some((64, 64)),
        ..request
    };
    assert_eq!(sized.resolve(&config).unwrap().latent_shape, [1, 4, 8, 8]);
}

#[track_caller]
fn refused(edit: Option<Edit>, card: &str, words: &str) {
    let request = Request {
        steps: Some(10),
        size: Some((64, 64)),
        edit,
        ..Request::new("")
    };
    let error = request.resolve(&config(card)).unwrap_err();
    assert!(error.is_request(), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn what_cannot_be_run_is_refused_before_any_weight_is_read() {
    let (plain, filling) = ("stable-diffusion-v1-5", "stable-diffusion-v1-5-inpainting");
    let start = Edit::new(picture(64, 64));
    for strength in [0.0, -0.5, 1.01, f64::NAN, f64::INFINITY] {
        let edit = start.clone().with_strength(strength);
        refused(Some(edit), plain, "`strength` is");
    }
    let edit = start.clone().with_strength(0.05);
    refused(Some(edit), plain, "leaves none of the 10 steps to run");
    let none = Edit {
        pictures: Vec::new(),
        ..start.clone()
    };
    refused(Some(none), plain, "0 pictures to start from for 1 prompts");
    let three = Edit {
        masks: vec![half(64, 64); 3],
        ..start.clone()
    };
    refused(Some(three), plain, "3 masks for 1 prompts");
    let line = Picture::from_fn(64, 64, |x, _| [255 * u8::from(x == 13); 3]);
    let thin = start.clone().with_mask(Mask::new(line).unwrap());
    refused(
        Some(thin),
        plain,
        "no light part of the mask is large enough",
    );
    refused(None, filling, "the request has no picture");
    refused(Some(start.clone()), filling, "the request has no mask");
    let filled = Request {
        steps: Some(10),
        edit: Some(start.with_mask(half(64, 64))),
        ..Request::new("")
    };
    assert_eq!(
        filled.resolve(&config(filling)).unwrap().plan.evaluations(),
        10
    );
}

/// A picture or a mask of other proportions is said to be stretched; what is rounded to multiples is not.
#[test]
fn lost_proportions_are_told() {
    let config = config("stable-diffusion-v1-5");
    let notes = |edit: Edit, size: Option<(usize, usize)>| {
        let request = Request {
            size,
            ..request(edit, 2, CacheRule::none())
        };
        request.resolve(&config).unwrap().notes.join("\n")
    };
    let start = |width, height| Edit::new(Picture::filled(width, height, [9; 3]));
    let square = Some((128, 128));
    assert_eq!(
        notes(start(8, 2000), square),
        "the picture `a picture in memory` has 8x2000 pixels and is stretched to 128x128: its proportions are others"
    );
    let masked = start(256, 256).with_mask(half(256, 100));
    assert_eq!(
        notes(masked, square),
        "the mask has 256x100 pixels and is stretched to 128x128: its proportions are others"
    );
    let kept = start(256, 256).with_mask(half(64, 64));
    assert_eq!(notes(kept, square), "");
    for (width, height) in [(513, 300), (300, 513), (519, 263)] {
        assert_eq!(notes(start(width, height), None), "", "{width}x{height}");
    }
}

/// What a camera has taken is made in its own size where none is given, and that is said before hours are spent on it.
#[test]
fn pictures_far_beyond_the_models_size_are_told() {
    let config = config("stable-diffusion-v1-5");
    let notes = |width: usize, height: usize, size: Option<(usize, usize)>| {
        let edit = Edit::new(Picture::filled(width, height, [9; 3]));
        let request = Request {
            size,
            ..request(edit, 2, CacheRule::none())
        };
        request.resolve(&config).unwrap().notes
    };
    let told = notes(2003, 1504, None).join("\n");
    assert!(
        told.contains("makes 2000x1504") && told.contains("own is 512x512"),
        "{told}"
    );
    for notes in [notes(1024, 1024, None), notes(2003, 1504, Some((512, 384)))] {
        assert!(notes.is_empty(), "{notes:?}");
    }
}

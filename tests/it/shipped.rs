//! The trained models beside the bundled one draw what they were trained on, and caching does not change that.
//!
//! The shares guard against a broken model or engine on a few pictures; the models' cards report what many give.

use afterimage::catalog::{ModelFolder, ModelPart};
use afterimage::image_io::{CannyThresholds, Picture};
use afterimage::metrics::shapes::{Found, find_shapes};
use afterimage::metrics::{Asked, Classifier, Judge, Judgement, ShapeJudge};
use afterimage::pipeline::{Control, Pipeline, Request, Seeds, Subject};
use burn::tensor::{DType, Device};

use crate::fixture::{shipped, text};

/// Counts what the judge finds right in the pictures of a request, and what was asked for.
fn judged(
    pipeline: &Pipeline,
    request: &Request,
    judge: &dyn Judge,
    asked: &[Asked<'_>],
) -> Judgement {
    let generated = pipeline.generate(request, &mut ()).unwrap();
    let verdicts = judge.judge(&generated.pictures().unwrap(), asked).unwrap();
    let sum = |part: fn(&Judgement) -> usize| verdicts.iter().map(part).sum();
    Judgement {
        right: sum(|verdict| verdict.right),
        asked: sum(|verdict| verdict.asked),
    }
}

fn open(name: &str) -> (ModelFolder, Pipeline) {
    let folder = ModelFolder::open(shipped(name).to_str().unwrap()).unwrap();
    let pipeline = Pipeline::load(&folder, &Device::flex(), DType::F32).unwrap();
    (folder, pipeline)
}

#[track_caller]
fn assert_share(rule: &str, found: Judgement, least: f64) {
    let Judgement { right, asked } = found;
    eprintln!("{rule}: {right} of {asked}");
    assert!(
        right as f64 >= least * asked as f64,
        "{rule}: {right} of {asked}"
    );
}

#[test]
fn classes_are_drawn_with_and_without_caching() {
    let (folder, pipeline) = open("scenes-dit");
    let labels: Vec<usize> = (0..48).step_by(5).collect();
    let names = labels
        .iter()
        .map(|&label| folder.index().label(label).unwrap());
    let asked: Vec<_> = labels
        .iter()
        .copied()
        .zip(names)
        .map(|(label, name)| Asked::Class(label, name))
        .collect();
    for rule in ["none", "dit-propagation:every=2"] {
        let request = Request {
            subject: Subject::Classes(labels.clone()),
            seeds: Seeds::Each((0..labels.len() as u64).collect()),
            steps: Some(20),
            cache: rule.parse().unwrap(),
            ..Request::new("")
        };
        assert_share(rule, judged(&pipeline, &request, &ShapeJudge, &asked), 0.7);
    }
}

/// Four steps without guidance, as its folder says; prompts that neither it nor its teacher has seen.
#[test]
fn four_steps_draw_what_prompts_ask_for() {
    let (_, pipeline) = open("scenes-distilled");
    let prompts = shipped("scenes/train/prompts.txt");
    let prompts = text(prompts.to_str().unwrap());
    let prompts: Vec<String> = prompts.lines().take(24).map(String::from).collect();
    let asked: Vec<_> = prompts.iter().map(|prompt| Asked::Text(prompt)).collect();
    let request = Request {
        subject: Subject::Prompts(prompts.clone()),
        seeds: Seeds::Each((0..prompts.len() as u64).collect()),
        ..Request::new("")
    };
    let resolved = request.resolve(pipeline.config()).unwrap();
    assert_eq!((resolved.steps, resolved.guidance.asked()), (4, 1.0));
    let told = "distilled for few steps (its `afterimage.json`): 4 steps and guidance 1";
    assert!(resolved.notes[0].contains(told), "{:?}", resolved.notes);
    assert_share(
        "four steps",
        judged(&pipeline, &request, &ShapeJudge, &asked),
        0.85,
    );
}

#[test]
fn clothes_are_recognised_with_and_without_caching() {
    let (_, pipeline) = open("fashion-ddpm");
    let classifier =
        Classifier::load(&shipped("fashion-ddpm/classifier"), &Device::flex()).unwrap();
    for rule in ["none", "deepcache:interval=3,branch=0"] {
        let request = Request {
            subject: Subject::Prompts(vec![String::new(); PICTURES]),
            seeds: Seeds::Each((0..PICTURES as u64).collect()),
            sampler: Some("ddim".parse().unwrap()),
            steps: Some(25),
            cache: rule.parse().unwrap(),
            ..Request::new("")
        };
        let asked = [Asked::Nothing; PICTURES];
        assert_share(rule, judged(&pipeline, &request, &classifier, &asked), 0.4);
    }
}

const PICTURES: usize = 24;

/// A disc, wherever its outline is.
#[test]
fn shapes_are_drawn_along_outlines_with_and_without_caching() {
    let (_, mut pipeline) = open("scenes");
    let part = ModelPart::open(shipped("scenes-control").to_str().unwrap()).unwrap();
    let net = pipeline.add_control(&part).unwrap();
    for (x, y) in CENTRES {
        let disc = Picture::from_fn(128, 128, |u, v| {
            [255 * u8::from((u as f64 - x).hypot(v as f64 - y) > 22.0); 3]
        });
        for rule in [
            "none",
            "deepcache:interval=3,branch=0",
            "encoder-propagation:every=3",
        ] {
            let request = Request {
                controls: vec![Control::new(net, disc.canny(CannyThresholds::default()))],
                cache: rule.parse().unwrap(),
                seeds: Seeds::One(3),
                ..Request::new("a red circle on a white background")
            };
            let generated = pipeline.generate(&request, &mut ()).unwrap();
            let found = find_shapes(&generated.pictures().unwrap()[0]);
            let near = |shape: &&Found| (shape.x - x).hypot(shape.y - y) < 8.0;
            let drawn = found.iter().filter(near);
            let drawn = drawn.filter(|shape| (shape.shape, shape.colour) == ("circle", "red"));
            assert_eq!(drawn.count(), 1, "{rule} at {x}, {y}: {found:?}");
        }
    }
}

/// Single shapes of the training lie within 9 pixels of the middle, 64.
const CENTRES: [(f64, f64); 2] = [(56.0, 58.0), (72.0, 70.0)];

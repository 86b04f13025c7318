//! The trained models beside the bundled one draw what they were trained on, and caching does not change that.
//!
//! The shares guard against a broken model or engine on a few pictures; the models' cards report what many give.

use afterimage::catalog::ModelFolder;
use afterimage::metrics::{Asked, Classifier, Judge, ShapeJudge, Verdict};
use afterimage::pipeline::{Pipeline, Request, Seeds};
use burn::tensor::{DType, Device};

use crate::fixture::shipped;

/// Counts what the judge finds right in the pictures of a request, and what was asked for.
fn judged(
    pipeline: &Pipeline,
    request: &Request,
    judge: &dyn Judge,
    asked: &[Asked<'_>],
) -> Verdict {
    let generated = pipeline.generate(request, &mut ()).unwrap();
    let verdicts = judge.judge(&generated.pictures().unwrap(), asked).unwrap();
    let sum = |part: fn(&Verdict) -> usize| verdicts.iter().map(part).sum();
    Verdict {
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
fn assert_share(rule: &str, found: Verdict, least: f64) {
    let Verdict { right, asked } = found;
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
            class_labels: labels.clone(),
            seeds: Seeds::Each((0..labels.len() as u64).collect()),
            steps: Some(20),
            cache: rule.parse().unwrap(),
            ..Request::new("")
        };
        assert_share(rule, judged(&pipeline, &request, &ShapeJudge, &asked), 0.7);
    }
}

#[test]
fn clothes_are_recognised_with_and_without_caching() {
    let (_, pipeline) = open("fashion-ddpm");
    let classifier =
        Classifier::load(&shipped("fashion-ddpm/classifier"), &Device::flex()).unwrap();
    for rule in ["none", "deepcache:interval=3,branch=0"] {
        let request = Request {
            prompts: vec![String::new(); PICTURES],
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

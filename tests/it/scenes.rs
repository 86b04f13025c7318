//! The bundled model draws what prompts ask for, and caching does not change that.

use afterimage::catalog::ModelFolder;
use afterimage::metrics::{Asked, Judge as _, Judgement, ShapeJudge};
use afterimage::pipeline::{Pipeline, Request, Seeds, Subject};
use burn::tensor::{DType, Device};

use crate::fixture::text;

/// Prompts of the 200 that the model has not seen in training; the full count is in the model's `results.json`.
const PROMPTS: usize = 16;

/// Share of the named objects that must be found with their colour and shape, uncached and cached. The card reports what 200
/// prompts give; this guards against a broken model or engine on the first of them.
const FOUND: f64 = 0.85;

fn prompts() -> Vec<String> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/models/scenes/train/prompts.txt"
    );
    text(path).lines().take(PROMPTS).map(String::from).collect()
}

#[test]
fn prompts_are_drawn_with_and_without_caching() {
    let device = Device::flex();
    let model = Pipeline::load(&ModelFolder::bundled().unwrap(), &device, DType::F32).unwrap();
    let prompts = prompts();
    let asked: Vec<_> = prompts.iter().map(|prompt| Asked::Text(prompt)).collect();
    for rule in ["none", "deepcache:interval=3,branch=0"] {
        let request = Request {
            subject: Subject::Prompts(prompts.clone()),
            seeds: Seeds::Each((0..PROMPTS as u64).collect()),
            cache: rule.parse().unwrap(),
            ..Request::new("")
        };
        let generated = model.generate(&request, &mut ()).unwrap();
        let verdicts = ShapeJudge
            .judge(&generated.pictures().unwrap(), &asked)
            .unwrap();
        let sum = |part: fn(&Judgement) -> usize| verdicts.iter().map(part).sum::<usize>();
        let (shown, named) = (sum(|verdict| verdict.right), sum(|verdict| verdict.asked));
        let share = shown as f64 / named as f64;
        eprintln!("{rule}: {shown} of {named} objects found");
        assert!(share >= FOUND, "{rule}: {shown} of {named} objects found");
    }
}

//! The bundled model draws what prompts ask for, and caching does not change that.

use afterimage::catalog::ModelFolder;
use afterimage::image_io::Picture;
use afterimage::pipeline::{Request, Seeds, TextToImage};
use burn::tensor::{DType, Device};
use serde::Deserialize;

use crate::checker;
use crate::fixture::text;

/// Prompts of the 200 that the model has not seen in training; the full count is in the model's `results.json`.
const PROMPTS: usize = 16;

/// Share of the named objects that must be found with their colour and shape, uncached and cached. The card reports what 200
/// prompts give; this guards against a broken model or engine on the first of them.
const FOUND: f64 = 0.65;

#[derive(Deserialize)]
struct Scene {
    prompt: String,
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    shape: String,
    colour: String,
}

fn scenes() -> Vec<Scene> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/models/scenes/train/prompts.jsonl"
    );
    text(path)
        .lines()
        .take(PROMPTS)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// How many of the named objects a picture shows.
fn found(picture: &Picture, objects: &[Object]) -> usize {
    let mut shapes = checker::find_shapes(picture.pixels(), picture.width(), picture.height());
    shapes.retain(|shape| shape.iou >= checker::MIN_IOU);
    let mut take = |object: &Object| {
        let same =
            |shape: &checker::Found| shape.shape == object.shape && shape.colour == object.colour;
        shapes
            .iter()
            .position(same)
            .map(|index| shapes.remove(index))
    };
    objects.iter().filter_map(&mut take).count()
}

#[test]
fn prompts_are_drawn_with_and_without_caching() {
    let device = Device::flex();
    let model = TextToImage::load(&ModelFolder::bundled().unwrap(), &device, DType::F32).unwrap();
    let scenes = scenes();
    let named: usize = scenes.iter().map(|scene| scene.objects.len()).sum();
    for rule in ["none", "deepcache:interval=3,branch=0"] {
        let request = Request {
            prompts: scenes.iter().map(|scene| scene.prompt.clone()).collect(),
            seeds: Seeds::Each((0..scenes.len() as u64).collect()),
            cache: rule.parse().unwrap(),
            ..Request::new("")
        };
        let generated = model.generate(&request, &mut ()).unwrap();
        let pictures = generated.pictures().unwrap();
        let shown: usize = pictures
            .iter()
            .zip(&scenes)
            .map(|(picture, scene)| found(picture, &scene.objects))
            .sum();
        let share = shown as f64 / named as f64;
        eprintln!("{rule}: {shown} of {named} objects found");
        assert!(share >= FOUND, "{rule}: {shown} of {named} objects found");
    }
}

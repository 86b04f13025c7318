//! Quality metrics against scikit-image, torch and scipy (`tests/fixtures/metrics/generate.py`).

use std::path::Path;

use afterimage::image_io::Picture;
use afterimage::metrics::{
    Asked, Classifier, ClipScore, FeatureSpace, FeatureStatistics, Judge, Lpips, frechet_distance,
    mean_squared_error, psnr, ssim,
};
use afterimage::models::clip_vision::{ClipVisionConfig, ClipVisionJson, ClipVisionModel};
use afterimage::weights::{WeightSource, load_strict};
use burn::tensor::{DType, Device};
use serde_json::Value;

use crate::fixture::{Golden, fixture, json, shared, shipped};
use crate::tolerance::F32_CPU;

/// Numbers of f64 on both sides.
const EXACT: f64 = 1e-9;
/// LPIPS in f32 against f64, relative.
const F32: f64 = 1e-4;
/// LPIPS with the weights that ship, in f16, relative; measured: 6e-5 for distances, 3.2e-4 for features.
const F16_WEIGHTS: f64 = 1e-3;

fn cases() -> Value {
    json(fixture("metrics/cases.json"))
}

fn example(name: &str) -> Picture {
    let path = fixture(&format!("metrics/ex_{name}.png"));
    Picture::read(&path).unwrap()
}

/// The two pictures of a case: the reference and the one it is compared with.
fn pair(cases: &Value, case: &Value) -> [Picture; 2] {
    let name = case["name"].as_str().unwrap();
    let (picture, is_cropped) = match name.strip_suffix(" cropped") {
        Some(picture) => (picture, true),
        None => (name, false),
    };
    ["ref", picture].map(|name| {
        let whole = example(name);
        if is_cropped {
            crop(&whole, cases)
        } else {
            whole
        }
    })
}

fn crop(picture: &Picture, cases: &Value) -> Picture {
    let [top, bottom, left, right] =
        [0, 1, 2, 3].map(|side| cases["crop"][side].as_u64().unwrap() as usize);
    Picture::from_fn(right - left, bottom - top, |x, y| {
        picture.pixel(left + x, top + y).unwrap()
    })
}

#[track_caller]
fn assert_near(found: f64, case: &Value, key: &str, tolerance: f64) {
    let expected = case[key].as_f64().unwrap();
    let off = (found - expected).abs() / expected.abs();
    assert!(
        off <= tolerance,
        "`{key}` of {}: {found} for {expected}, off by {off:e}",
        case["name"]
    );
}

#[test]
fn pixels_agree_with_scikit_image() {
    let cases = cases();
    for case in cases["pairs"].as_array().unwrap() {
        let [a, b] = pair(&cases, case);
        assert_near(
            psnr(mean_squared_error(&a, &b)).unwrap(),
            case,
            "psnr",
            EXACT,
        );
        assert_near(ssim(&a, &b).unwrap(), case, "ssim", EXACT);
    }
}

fn check_lpips(weights: &Path, tolerance: f64) {
    let cases = cases();
    let lpips = Lpips::load(weights, &Device::flex()).unwrap();
    for case in cases["pairs"].as_array().unwrap() {
        let [a, b] = pair(&cases, case);
        let distances = lpips.distances(&[a.clone(), b.clone()], &[b, a]).unwrap();
        assert_near(distances[0], case, "lpips", tolerance);
        assert!((distances[0] - distances[1]).abs() < 1e-5, "{distances:?}");
    }
    let features = &lpips.features(&[example("ref")]).unwrap()[0];
    let expected: Vec<f64> = serde_json::from_value(cases["features"].clone()).unwrap();
    let scale = expected.iter().copied().fold(0.0, f64::max);
    assert_eq!(features.len(), expected.len());
    for (found, expected) in features.iter().zip(&expected) {
        assert!(
            (found - expected).abs() <= tolerance * scale,
            "{found} for {expected}"
        );
    }
}

#[test]
fn lpips_agrees_with_torch() {
    check_lpips(
        &shipped("lpips-alexnet/lpips-alexnet.safetensors"),
        F16_WEIGHTS,
    );
    if let Some(weights) = shared("data/metrics/lpips-alexnet.safetensors") {
        check_lpips(&weights, F32);
    }
}

#[test]
fn equal_pictures_have_no_distance_and_other_weights_are_refused() {
    let weights = shipped("lpips-alexnet/lpips-alexnet.safetensors");
    let lpips = Lpips::load(&weights, &Device::flex()).unwrap();
    assert_eq!(
        lpips.distances(&[example("p0")], &[example("p0")]).unwrap(),
        [0.0]
    );
    let other = shipped("scenes/vae/diffusion_pytorch_model.safetensors");
    let error = Lpips::load(&other, &Device::flex()).unwrap_err();
    assert!(
        error.is_weights() && error.to_string().contains("AlexNet_0.Conv_0.weight"),
        "{error}"
    );
}

/// Pixels are resampled by another library than the reference's (64 to 32 pixels, bicubic), hence a looser tolerance for scores.
const RESAMPLED: f64 = 5e-3;

#[test]
fn clip_scores_agree_with_transformers() {
    let folder = fixture("clip_score");
    let clip = ClipScore::load(&folder.join("model"), &Device::flex()).unwrap();
    let cases: Value = json(folder.join("cases.json"));
    let prompts: Vec<String> = serde_json::from_value(cases["prompts"].clone()).unwrap();
    let texts: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let scores = clip
        .scores(&[example("ref"), example("p0")], &texts)
        .unwrap();
    for (found, expected) in scores.iter().zip(cases["scores"].as_array().unwrap()) {
        let expected = expected.as_f64().unwrap();
        assert!(
            (found - expected).abs() < RESAMPLED * 100.0,
            "{found} for {expected}"
        );
    }
}

#[test]
fn the_picture_half_of_clip_agrees_with_transformers() {
    let folder = fixture("clip_score");
    let json: Value = json(folder.join("model/config.json"));
    let vision: ClipVisionJson = serde_json::from_value(json["vision_config"].clone()).unwrap();
    let config = ClipVisionConfig::new(&vision, 12).unwrap();
    let source = WeightSource::open(folder.join("model/model.safetensors")).unwrap();
    let model = load_strict(
        ClipVisionModel::new(&config, &Device::flex()),
        &source.starting_with(&["vision_model.", "visual_projection."]),
        "vision_model",
        DType::F32,
    )
    .unwrap();
    let golden = Golden::open(folder.join("cases.safetensors"));
    let pictures = model.encode(golden.tensor("pixels", &Device::flex()));
    let length = pictures.clone().powi_scalar(2).sum_dim(1).sqrt();
    golden.assert_close("pictures", pictures / length, F32_CPU);
}

/// A copy of the model with one number of its configuration changed.
fn changed(half: &str, key: &str, value: u64) -> tempfile::TempDir {
    let model = fixture("clip_score").join("model");
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&model).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let mut config: Value = json(model.join("config.json"));
    config[half][key] = value.into();
    std::fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
    copy
}

#[test]
fn numbers_that_no_clip_model_has_are_refused() {
    for (half, key, value, said) in [
        (
            "text_config",
            "num_hidden_layers",
            200_000_000,
            "it is at most 256",
        ),
        (
            "vision_config",
            "num_hidden_layers",
            200_000_000,
            "it is at most 256",
        ),
        ("text_config", "num_hidden_layers", 0, "at least 1"),
        ("vision_config", "num_hidden_layers", 0, "at least 1"),
        ("text_config", "vocab_size", 10, "has vectors for 10 tokens"),
        (
            "text_config",
            "max_position_embeddings",
            1,
            "positions for 1 tokens",
        ),
    ] {
        let folder = changed(half, key, value);
        let error = ClipScore::load(folder.path(), &Device::flex()).unwrap_err();
        assert!(
            error.is_config() && error.to_string().contains(said),
            "{key}: {error}"
        );
    }
}

#[test]
fn a_folder_that_is_no_clip_model_is_named() {
    let error = ClipScore::load(&fixture("clip"), &Device::flex()).unwrap_err();
    assert!(
        error.is_file() && error.to_string().contains("`config.json` is missing"),
        "{error}"
    );
}

/// The root of a singular product is where scipy's own result is least exact, so the second set has a wider tolerance.
#[test]
fn frechet_distances_agree_with_scipy() {
    let cases = cases();
    for (case, tolerance) in cases["sets"].as_array().unwrap().iter().zip([EXACT, 1e-5]) {
        let set = |key: &str| -> FeatureStatistics {
            let rows: Vec<Vec<f64>> = serde_json::from_value(case[key].clone()).unwrap();
            let mut statistics = FeatureStatistics::new(rows[0].len());
            for row in &rows {
                statistics.add(row);
            }
            statistics
        };
        assert_near(
            frechet_distance(&set("a"), &set("b")).unwrap(),
            case,
            "distance",
            tolerance,
        );
    }
}

fn classifier() -> Classifier {
    Classifier::load(&shipped("fashion-ddpm/classifier"), &Device::flex()).unwrap()
}

#[test]
fn the_classifier_agrees_with_torch() {
    let cases: Value = json(fixture("metrics/classifier.json"));
    let corners: Vec<[usize; 2]> = serde_json::from_value(cases["corners"].clone()).unwrap();
    let whole = example("ref");
    let cut = |[left, top]: [usize; 2]| {
        Picture::from_fn(32, 32, |x, y| whole.pixel(left + x, top + y).unwrap())
    };
    let pictures: Vec<_> = corners.into_iter().map(cut).collect();
    let classifier = classifier();
    for (name, found) in [
        ("features", classifier.features(&pictures).unwrap()),
        (
            "probabilities",
            classifier.probabilities(&pictures).unwrap(),
        ),
    ] {
        let expected: Vec<Vec<f64>> = serde_json::from_value(cases[name].clone()).unwrap();
        let pairs = found.iter().flatten().zip(expected.iter().flatten());
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < F32, "`{name}` is off by {worst:e}");
        assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn the_classifier_judges_pictures_of_its_size_alone() {
    let black = Picture::filled(32, 32, [0; 3]);
    let classifier = classifier();
    let verdicts = classifier.judge(&[black], &[Asked::Nothing]).unwrap();
    assert_eq!(verdicts[0].asked, 1);
    let error = classifier.features(&[example("ref")]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("`fashion-cnn` cannot judge pictures of 64x64"),
        "{text}"
    );
}

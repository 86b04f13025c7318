//! Weights in 8 and 4 bits: how far they move predictions, and what adapters and the command line make of them.

use afterimage::catalog::ModelFolder;
use afterimage::pipeline::{Adapters, Pipeline, Request, Trace};
use afterimage::weights::adapt::Lora;
use afterimage::weights::{ActivationFormat, Format, WeightFormat};
use burn::tensor::{DType, Device};

use crate::adapter_files::{file, pair};
use crate::fixture::{shipped, values};
use crate::tolerance::{Q4, Q8, W8A8};

fn folder(model: &str) -> ModelFolder {
    ModelFolder::open(shipped(model).to_str().unwrap()).unwrap()
}

fn load(folder: &ModelFolder, weights: WeightFormat, adapters: &Adapters) -> Pipeline {
    load_as(folder, Format::new(DType::F32, weights), adapters)
}

/// With products in 8 bits.
fn products() -> Format {
    Format {
        activations: ActivationFormat::Q8,
        ..Format::new(DType::F32, WeightFormat::Q8)
    }
}

fn load_as(folder: &ModelFolder, format: Format, adapters: &Adapters) -> Pipeline {
    Pipeline::load_with(folder, &Device::flex(), format, adapters).unwrap()
}

/// The first prediction of a run from the same noise, without guidance.
fn prediction(pipeline: &Pipeline, mut request: Request) -> Vec<f32> {
    request.steps = Some(2);
    request.guidance_scale = Some(1.0);
    let mut ignored = ();
    let mut trace = Trace::new(&mut ignored);
    pipeline.generate(&request, &mut trace).unwrap();
    values(trace.predictions[0].clone())
}

fn prompted() -> Request {
    Request::new("a red circle above a blue square")
}

/// Root of the mean square of the difference, in standard deviations of `expected`.
pub(crate) fn apart(found: &[f32], expected: &[f32]) -> f64 {
    let count = expected.len() as f64;
    let wide = || expected.iter().copied().map(f64::from);
    let mean = wide().sum::<f64>() / count;
    let spread = wide().map(|value| (value - mean).powi(2)).sum::<f64>();
    let pairs = found.iter().copied().map(f64::from).zip(wide());
    let differences = pairs.map(|(found, expected)| (found - expected).powi(2));
    (differences.sum::<f64>() / spread).sqrt()
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f32], most: f64, case: &str) {
    let apart = apart(found, expected);
    eprintln!("{case}: {apart:.2e}");
    assert!(found != expected, "{case}: nothing was rounded");
    assert!(apart < most, "{case}: {apart}");
}

#[test]
fn predictions_move_a_little() {
    let requests = [
        ("scenes", prompted()),
        ("scenes-dit", Request::of_classes([3])),
        ("fashion-ddpm", Request::new("")),
    ];
    for (model, request) in requests {
        let folder = folder(model);
        let formats = [WeightFormat::File, WeightFormat::Q8, WeightFormat::Q4];
        let [exact, eight, four] = formats.map(|weights| {
            let pipeline = load(&folder, weights, &Adapters::default());
            prediction(&pipeline, request.clone())
        });
        assert_near(&eight, &exact, Q8, &format!("{model} in 8 bits"));
        assert_near(&four, &exact, Q4, &format!("{model} in 4 bits"));
        let pipeline = load_as(&folder, products(), &Adapters::default());
        let both = prediction(&pipeline, request);
        assert_near(&both, &exact, W8A8, &format!("{model}, products in 8 bits"));
        assert!(both != eight, "{model}: activations were not rounded");
    }
}

/// Of a layer that is kept in 8 bits.
fn lora(scale: f64) -> Adapters {
    let layer = "lora_te_text_model_encoder_layers_0_mlp_fc2";
    let (_folder, path) = file("made.safetensors", &pair(layer, &[4, 512], &[128, 4]));
    Adapters {
        loras: vec![Lora::open(path).unwrap().with_scale(scale)],
        ..Adapters::default()
    }
}

#[test]
fn adapters_are_merged_before_weights_are_rounded() {
    let folder = folder("scenes");
    let (plain, adapters) = (Adapters::default(), lora(100.0));
    let exact = prediction(&load(&folder, WeightFormat::File, &adapters), prompted());
    let rounded = prediction(&load(&folder, WeightFormat::Q8, &adapters), prompted());
    assert_near(&rounded, &exact, Q8, "merged");

    let mut pipeline = load(&folder, WeightFormat::Q8, &plain);
    let before = prediction(&pipeline, prompted());
    assert!(
        apart(&before, &exact) > 2.0 * Q8,
        "the adapter does nothing"
    );
    pipeline.set_adapters(&folder, &adapters).unwrap();
    assert_eq!(prediction(&pipeline, prompted()), rounded);
    pipeline.set_adapters(&folder, &plain).unwrap();
    assert_eq!(prediction(&pipeline, prompted()), before);
}

/// What a picture gives does not depend on the one beside it, as it does where whole features are kept apart.
#[test]
fn a_batch_in_8_bits_is_its_pictures() {
    let pipeline = load_as(&folder("scenes"), products(), &Adapters::default());
    let alone = prediction(&pipeline, prompted());
    let batch = Request {
        batch: 2,
        ..prompted()
    };
    let both = prediction(&pipeline, batch);
    assert_eq!(both.len(), 2 * alone.len());
    assert_eq!(both[..alone.len()], alone);
}

#[cfg(feature = "cli")]
#[test]
fn the_account_of_a_picture_says_how_weights_were_kept() {
    use crate::cli::{afterimage_in, texts};

    let model = shipped("scenes-dit").display().to_string();
    let run = |further: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let common = [
            "generate",
            "--model",
            &model,
            "--class-label",
            "3",
            "--steps",
            "1",
            "--seed",
            "1",
            "--device",
            "cpu",
            "--json",
        ];
        let ending = afterimage_in(folder.path(), common.iter().chain(further));
        assert_eq!(ending.code, Some(0), "{}", ending.shown());
        let told: serde_json::Value = serde_json::from_str(&ending.stdout).unwrap();
        (told, texts(&folder.path().join("afterimage-1.png")))
    };
    let (told, kept) = run(&["--weights", "q8"]);
    assert_eq!(told["weight_format"], "q8");
    assert_eq!(told["dtype"], "f32");
    assert_eq!(kept["weight format"], "q8");
    let (told, kept) = run(&["--weights", "q8", "--activations", "q8"]);
    assert_eq!(told["activation_format"], "q8");
    assert_eq!(kept["activation format"], "q8");
    let (told, kept) = run(&["--weights", "file"]);
    assert!(told["activation_format"].is_null() && !kept.contains_key("activation format"));
    assert!(told["weight_format"].is_null() && !kept.contains_key("weight format"));
}

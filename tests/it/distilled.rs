//! Models that are distilled for few steps.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{fs, path::Path};

use afterimage::{
    cache::CacheRule,
    catalog::{ModelFolder, Overrides},
    conditioning::Conditioning,
    denoiser::{Evaluation, StagedDenoiser},
    models::unet::UNet,
    pipeline::{Adapters, ModelConfig, Request},
    recall::Recall,
    weights::adapt::Lora,
};
use burn::tensor::Device;
use serde_json::{Value, json};

use crate::adapter_extras::Heard;
use crate::adapters::load as with_adapters;
use crate::checkpoint_words::{family, opened};
use crate::checkpoints::{ADDED, STATES, first_checkpoint, sparse_file};

use crate::fixture::Fixture;
use crate::folders::{copied, edited};
use crate::golden::{check_run, load, unet};
use crate::parity::Tally;
use crate::tested;
use crate::tolerance::F32_CPU;

/// A `UNet` that reads the guidance scale: cells, and runs with `DeepCache` and encoder propagation.
#[test]
fn embedded_guidance_agrees_with_diffusers() {
    let device = tested::device();
    for fixture in Fixture::both("few-step-lcm") {
        let mut pipeline = load(&fixture, &device);
        for case in fixture.of_kinds(&["unet_trace"]) {
            check_rows(&fixture, case, unet(&pipeline), &device);
        }
        let mut tally = Tally::default();
        for case in fixture.of_kinds(&["txt2img"]) {
            tally.add(&fixture, case, check_run(&fixture, case, &mut pipeline));
        }
        tally.finish(5);
    }
}

/// Each row of the trace is told another scale: 8.5 and 1.5.
fn check_rows(fixture: &Fixture, case: &Value, unet: &UNet, device: &Device) {
    let golden = |key: &str, row: usize| {
        let mut reference = fixture.of(case, key).unwrap().row(row);
        reference.shape.insert(0, 1);
        reference
    };
    let timestep = f64::from(fixture.of(case, "timestep").unwrap().values[0]);
    let evaluations = [Evaluation { index: 0, timestep }];
    for (row, scale) in [8.5, 1.5].into_iter().enumerate() {
        let conditioning = Conditioning {
            guidance_scale: Some(scale),
            ..Conditioning::of_context(golden("encoder_hidden_states", row).on(device))
        };
        let prepared = unet.prepare(&unet.start(&conditioning, &evaluations), &evaluations);
        let carry = unet.enter(golden("sample", row).on(device), &prepared);
        let carry = unet.advance(carry, 0..unet.cells(), &prepared, &mut Recall::none());
        golden("output", row)
            .compare(unet.leave(carry, &prepared), tested::tolerance(F32_CPU))
            .unwrap_or_else(|error| panic!("{} row {row}: {error}", case["id"]));
    }
}

/// Steps and guidance where a request is silent, and what is said of them.
fn silent_run(model: &ModelFolder) -> (usize, f64, Vec<String>) {
    let config = ModelConfig::read(model).unwrap();
    let request = Request {
        size: Some((64, 64)),
        ..Request::new("a fox")
    };
    let run = request.resolve(&config).unwrap();
    (run.steps, run.guidance.asked(), run.notes)
}

#[test]
fn folders_run_with_what_their_model_is_distilled_for() {
    let lcm = Fixture::committed("few-step-lcm").model();
    let (steps, scale, notes) = silent_run(&ModelFolder::open(lcm.to_str().unwrap()).unwrap());
    assert_eq!((steps, scale), (4, 8.5));
    assert!(
        notes[0].contains("(its `time_cond_proj_dim`): 4 steps and guidance 8.5"),
        "{notes:?}"
    );
    let euler = |spacing: &str| json!({"_class_name": "EulerDiscreteScheduler", "timestep_spacing": spacing});
    let zero = json!({"rescale_betas_zero_snr": true});
    for (change, steps, scale) in [
        (json!({"_class_name": "LCMScheduler"}), 4, 1.0),
        (json!({"_class_name": "TCDScheduler"}), 4, 1.0),
        (euler("trailing"), 1, 1.0),
        (euler("leading"), 50, 7.5),
        (zero, 50, 7.5),
    ] {
        let folder = copied("sd15");
        edited(
            folder.path(),
            "scheduler/scheduler_config.json",
            change.clone(),
        );
        let model = ModelFolder::open(folder.path().to_str().unwrap()).unwrap();
        let (found, guidance, notes) = silent_run(&model);
        assert_eq!((found, guidance), (steps, scale), "{change}");
        let told = notes
            .iter()
            .any(|note| note.contains("distilled for few steps"));
        assert_eq!(told, steps < 50, "{change}: {notes:?}");
    }
}

/// Turbo models make pictures of 512 pixels a side; a model of larger ones may take the same spacing of steps.
#[test]
fn large_models_are_no_turbo_models_by_their_spacing() {
    let folder = copied("sd15");
    let trailing = json!({"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"});
    edited(folder.path(), "scheduler/scheduler_config.json", trailing);
    for (side, steps) in [(64, 1), (128, 50)] {
        edited(
            folder.path(),
            "unet/config.json",
            json!({"sample_size": side}),
        );
        let model = ModelFolder::open(folder.path().to_str().unwrap()).unwrap();
        assert_eq!(silent_run(&model).0, steps, "{side}");
    }
}

#[test]
fn what_is_asked_for_is_not_remarked_on_but_caching_is() {
    let lcm = Fixture::committed("few-step-lcm").model();
    let config = ModelConfig::read(&ModelFolder::open(lcm.to_str().unwrap()).unwrap()).unwrap();
    let asked = Request {
        steps: Some(8),
        guidance_scale: Some(4.0),
        ..Request::new("a fox")
    };
    assert!(asked.resolve(&config).unwrap().notes.is_empty());
    let cached = Request {
        cache: "deepcache:interval=2,branch=0"
            .parse::<CacheRule>()
            .unwrap(),
        ..asked
    };
    let notes = cached.resolve(&config).unwrap().notes;
    assert!(notes[0].contains("little to reuse"), "{notes:?}");
}

/// A single file has no scheduler: its name says how it is sampled.
#[test]
fn a_single_file_is_what_it_is_called() {
    let place = tempfile::tempdir().unwrap();
    for (name, sampler, steps) in [
        ("sd_turbo.safetensors", "euler", 1),
        ("model-lightning-2step.safetensors", "euler", 2),
        ("mine_lcm.safetensors", "lcm", 4),
        ("plain.safetensors", "pndm", 50),
    ] {
        let file = sparse_file(&place.path().join(name), &first_checkpoint(), &[]);
        let model = opened(&file, &Overrides::default()).unwrap();
        let config = ModelConfig::read(&model).unwrap();
        assert_eq!(config.sampler.name(), sampler, "{name}");
        assert_eq!(silent_run(&model).0, steps, "{name}");
    }
}

/// SD Turbo is of the second generation's base model, which predicts noise at 512x512.
#[test]
fn a_turbo_of_the_second_generation_predicts_noise() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("sd_turbo.safetensors");
    let file = sparse_file(&path, &family(STATES, 1024), &[]);
    let model = opened(&file, &Overrides::default()).unwrap();
    assert_eq!(model.card(), Some("stable-diffusion-2-1-base"));
    let note = model.card_note().unwrap();
    assert!(
        note.contains("taken as noise, as SD Turbo's does"),
        "{note}"
    );
    assert_eq!(silent_run(&model).0, 1);
}

/// Hyper-SD's U-Net of one step for SDXL: LCM, from timestep 800.
#[test]
fn hyper_of_one_step_begins_at_its_own_timestep() {
    let place = tempfile::tempdir().unwrap();
    for (name, class, first) in [
        ("Hyper-SDXL-1step-Unet.safetensors", "lcm", 800.0),
        ("Hyper-SDXL-4step-Unet.safetensors", "tcd", 999.0),
    ] {
        let file = sparse_file(&place.path().join(name), &family(ADDED, 2816), &[]);
        let model = opened(&file, &Overrides::default()).unwrap();
        let config = ModelConfig::read(&model).unwrap();
        assert_eq!(config.sampler.name(), class, "{name}");
        let sampler = config.sampler.build(silent_run(&model).0, 0.0).unwrap();
        assert_eq!(sampler.evaluations()[0].timestep, first, "{name}");
    }
}

#[test]
fn a_lora_for_few_steps_asks_for_its_sampler() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("lcm-lora.safetensors");
    let from = Fixture::committed("sd15-lora").file("lora_diffusers.safetensors");
    fs::copy(from, &file).unwrap();
    let model = ModelFolder::open(Fixture::committed("sd15").model().to_str().unwrap()).unwrap();
    let adapters = Adapters {
        loras: vec![Lora::open(Path::new(&file)).unwrap()],
        ..Adapters::default()
    };
    let pipeline = with_adapters(&model, &adapters);
    let warned = |sampler: &str, steps, scale| {
        let request = Request {
            steps: Some(steps),
            guidance_scale: Some(scale),
            sampler: Some(sampler.parse().unwrap()),
            size: Some((64, 64)),
            ..Request::new("a fox")
        };
        let mut warned = Heard::default();
        pipeline.generate(&request, &mut warned).unwrap();
        let said = "made for `--sampler lcm --steps 4 --guidance-scale 1`";
        warned.0.iter().any(|note| note.contains(said))
    };
    assert!(!warned("lcm", 2, 1.0));
    assert!(warned("ddim", 2, 1.0) && warned("lcm", 2, 7.5));
}

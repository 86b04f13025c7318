//! Whole runs through the library and the program, plain and cached.

use std::fs;
use std::path::Path;

use afterimage::catalog::ModelFolder;
use afterimage::pipeline::{Pipeline, Request, SkipLayers};
use serde_json::{Value, json};

#[cfg(feature = "cli")]
use crate::cli::afterimage_in;
use crate::fixture::{Fixture, Golden};
use crate::folders::{copied, edited};
use crate::golden::{check_run, load};
use crate::parity::Tally;
use crate::tested;
use crate::tolerance::F32_CPU;
use crate::transformers::{block_propagation_holds, small};

/// A case of a folder without the encoder of T5.
fn is_without(case: &Value) -> bool {
    case["without"].is_array()
}

/// The folder as that of a model whose publisher left T5 out.
fn without_t5(fixture: &Fixture) -> tempfile::TempDir {
    let folder = copied(fixture.name());
    for part in ["text_encoder_3", "tokenizer_3"] {
        fs::remove_dir_all(folder.path().join(part)).unwrap();
    }
    let nothing = json!({"text_encoder_3": [null, null], "tokenizer_3": [null, null]});
    edited(folder.path(), "model_index.json", nothing);
    folder
}

fn pipeline(folder: &Path) -> Pipeline {
    let folder = ModelFolder::open(folder.to_str().unwrap()).unwrap();
    Pipeline::load(&folder, &tested::device(), tested::dtype()).unwrap()
}

#[test]
fn runs_agree_with_diffusers() {
    let mut tally = Tally::default();
    for fixture in super::FIXTURES.into_iter().flat_map(Fixture::both) {
        let mut whole = load(&fixture, &tested::device());
        for case in fixture.of_kinds(&["txt2img"]) {
            let outcome = if is_without(case) {
                let folder = without_t5(&fixture);
                check_run(&fixture, case, &mut pipeline(folder.path()))
            } else {
                check_run(&fixture, case, &mut whole)
            };
            tally.add(&fixture, case, outcome);
        }
    }
    tally.finish(8);
}

#[test]
fn all_keys_are_the_plain_run_bit_for_bit_and_batches_are_the_sequence() {
    let pipeline = load(&Fixture::best("sd35"), &tested::device());
    block_propagation_holds(&pipeline, &small());
}

#[test]
fn what_the_model_does_not_take_is_refused() {
    let fixture = Fixture::best("sd35");
    let pipeline = load(&fixture, &tested::device());
    let refused = |change: &dyn Fn(&mut Request)| {
        let mut request = small();
        change(&mut request);
        request.resolve(pipeline.config()).unwrap_err().to_string()
    };
    let layers = |layers: &[usize]| SkipLayers {
        layers: Some(layers.to_vec()),
        ..SkipLayers::default()
    };
    for (said, expected) in [
        (
            refused(&|request| request.text_length = Some(513)),
            "reads 1 to 512 tokens",
        ),
        (
            refused(&|request| request.size = Some((64, 400))),
            "are larger than the model has positions for\nhint: 384 pixels a side",
        ),
        (
            refused(&|request| request.size = Some((72, 64))),
            "not a multiple of 16",
        ),
        (
            refused(&|request| request.skip_layers = layers(&[1, 5])),
            "no layer 5\nhint: it has 5, counted from 0",
        ),
        (
            refused(&|request| request.skip_layers.from = Some(0.3)),
            "`skip_layer_from` says how layers guide",
        ),
        (
            refused(&|request| {
                request.skip_layers = layers(&[1]);
                request.skip_layers.from = Some(0.5);
            }),
            "`skip_layer_from` is 0.5 and `skip_layer_until` is 0.2\nhint: ",
        ),
        (
            refused(&|request| request.sampler = Some("ddim".parse().unwrap())),
            "models that predict a flow are sampled by",
        ),
    ] {
        assert!(said.contains(expected), "{said}");
    }
    let other = load(&Fixture::best("sd15"), &tested::device());
    let mut request = Request::new("a fox");
    request.skip_layers = layers(&[1]);
    let said = request.resolve(other.config()).unwrap_err().to_string();
    assert!(said.contains("takes no layers to leave out"), "{said}");
    request.skip_layers = SkipLayers::default();
    request.added.third_prompts = vec!["a dog".into()];
    let said = request.resolve(other.config()).unwrap_err().to_string();
    assert!(said.contains("reads no third prompt"), "{said}");
}

/// The call without some layers is counted: of the conditioned rows, where it guides, of the layers that are left.
#[test]
fn guidance_by_absent_layers_is_forecast() {
    let fixture = Fixture::best("sd35");
    let pipeline = load(&fixture, &tested::device());
    let mut request = Request {
        steps: Some(10),
        size: Some((64, 64)),
        ..Request::new("a fox")
    };
    let forecast = |request: &Request| {
        let resolved = request.resolve(pipeline.config()).unwrap();
        (resolved.forecast(4), resolved)
    };
    let (plain, resolved) = forecast(&request);
    request.skip_layers = SkipLayers {
        layers: Some(vec![1, 2]),
        from: Some(0.1),
        until: Some(0.5),
        ..SkipLayers::default()
    };
    let (guided, _) = forecast(&request);
    let trunk = &resolved.blueprint;
    let left = trunk.full_macs() - trunk.cells[1].macs - trunk.cells[2].macs;
    for (at, (with, without)) in guided
        .evaluation_macs
        .iter()
        .zip(&plain.evaluation_macs)
        .enumerate()
    {
        let expected = if (2..5).contains(&at) { left } else { 0 };
        assert_eq!(with - without, expected, "evaluation {at}");
    }
    assert_eq!(guided.plain_macs - plain.plain_macs, 3 * left);
    assert_eq!(guided.cell_macs[1], plain.cell_macs[1]);
}

/// The words of the program for a case's call but its steps.
#[cfg(feature = "cli")]
fn said(fixture: &Fixture, case: &Value) -> Vec<String> {
    let model = fixture.model();
    let call = &case["call"];
    let mut given: Vec<String> = vec!["generate".into()];
    given.push(call["prompt"].as_str().unwrap().into());
    for (key, option) in [
        ("negative_prompt", "--negative-prompt"),
        ("prompt_2", "--prompt-2"),
        ("prompt_3", "--prompt-3"),
        ("negative_prompt_2", "--negative-prompt-2"),
        ("negative_prompt_3", "--negative-prompt-3"),
    ] {
        if let Some(text) = call[key].as_str() {
            given.extend([option.into(), text.into()]);
        }
    }
    if let Some(layers) = call["skip_guidance_layers"].as_array() {
        let layers: Vec<String> = layers.iter().map(Value::to_string).collect();
        given.extend(["--skip-layers".into(), layers.join(",")]);
    }
    let size = format!("{}x{}", call["width"], call["height"]);
    let (seed, scale) = (call["seed"].to_string(), call["guidance_scale"].to_string());
    let length = call["max_sequence_length"].to_string();
    for (option, value) in [
        ("--model", model.to_str().unwrap()),
        ("--device", "cpu"),
        ("--guidance-scale", &scale),
        ("--seed", &seed),
        ("--size", &size),
        ("--text-length", &length),
        ("--output", "fox.png"),
    ] {
        given.extend([option.into(), value.into()]);
    }
    given
}

/// Everything that only these models are told, through the program and in a recipe.
#[cfg(feature = "cli")]
#[test]
fn the_program_makes_the_same() {
    let fixture = Fixture::best("sd35");
    let folder = tempfile::tempdir().unwrap();
    for (id, options) in [
        ("three_prompts", vec!["--steps", "3", "--trace", "t.safetensors"]),
        (
            "skip_layer_guidance",
            "--steps 8 --skip-layer-scale 2.8 --skip-layer-from 0.01 --skip-layer-until 0.5 --trace t.safetensors"
                .split(' ')
                .collect(),
        ),
    ] {
        let case = fixture.case(id);
        let mut given = said(&fixture, case);
        given.extend(options.into_iter().map(String::from));
        let ending = afterimage_in(folder.path(), given.iter());
        assert_eq!(ending.code, Some(0), "{}", ending.shown());
        let trace = Golden::open(folder.path().join("t.safetensors"));
        let golden = fixture.of(case, "final_latents").unwrap();
        let steps = case["call"]["num_inference_steps"].as_u64().unwrap();
        let last = format!("latents.{}", steps - 1);
        let found = trace.tensor::<4>(&last, &tested::device());
        let outcome = golden.compare(found, F32_CPU * 10.0);
        outcome.unwrap_or_else(|error| panic!("{id}: {error}"));
        let first = fs::read(folder.path().join("fox.png")).unwrap();
        let again = ["generate", "--replay", "fox.png", "--device", "cpu", "--output", "again.png"];
        let ending = afterimage_in(folder.path(), again.iter());
        assert_eq!(ending.code, Some(0), "{}", ending.shown());
        assert_eq!(fs::read(folder.path().join("again.png")).unwrap(), first, "{id}");
    }
}

/// What CLIP does not read of a long prompt T5 does: the prompt is not cut off.
#[cfg(feature = "cli")]
#[test]
fn what_clip_leaves_t5_reads() {
    let fixture = Fixture::best("sd35");
    let model = fixture.model();
    let folder = tempfile::tempdir().unwrap();
    let long = "a red fox ".repeat(50);
    let given = ["generate", &long, "--steps", "1", "--guidance-scale", "1"];
    let model = ["--model", model.to_str().unwrap(), "--device", "cpu"];
    let ending = afterimage_in(folder.path(), given.iter().chain(&model));
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let told =
        "CLIP reads 77 tokens of a prompt, which T5 reads as well; cut off for CLIP alone was `";
    assert!(ending.stderr.contains(told), "{}", ending.shown());
}

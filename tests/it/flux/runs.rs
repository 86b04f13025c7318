//! Whole runs through the library and the program, plain and cached.

use std::fs;

use afterimage::catalog::ModelFolder;
use afterimage::pipeline::{Pipeline, Request, check_weights};
use serde_json::Value;

#[cfg(feature = "cli")]
use crate::cli::afterimage_in;
use crate::fixture::{Fixture, Golden, values};
use crate::folders::copied;
use crate::golden::{check_run, load};
use crate::parity::Tally;
use crate::tested;
use crate::tolerance::F32_CPU;
use crate::transformers::{block_propagation_holds, latents, small};

#[test]
fn runs_agree_with_diffusers() {
    let mut tally = Tally::default();
    for fixture in super::FIXTURES.into_iter().flat_map(Fixture::both) {
        let mut pipeline = load(&fixture, &tested::device());
        for case in fixture.of_kinds(&["txt2img"]) {
            // Which of its two calls decided what is in the latents alone.
            let mut case = case.clone();
            if case["call"]["true_cfg_scale"].is_number() {
                case["cache"]["computed"] = Value::Null;
            }
            let outcome = check_run(&fixture, &case, &mut pipeline);
            tally.add(&fixture, &case, outcome);
        }
    }
    tally.finish(4);
}

/// Any FLUX that is there: dev where there is the complete reference.
fn pipeline() -> (Fixture, Pipeline) {
    let fixture = Fixture::any("flux-dev").unwrap_or_else(|| Fixture::best("flux-schnell"));
    let pipeline = load(&fixture, &tested::device());
    (fixture, pipeline)
}

#[test]
fn all_keys_are_the_plain_run_bit_for_bit_and_batches_are_the_sequence() {
    let (_, pipeline) = pipeline();
    block_propagation_holds(&pipeline, &small());
}

/// Each half by itself gives what both together give, and both are told apart by a decider.
#[test]
fn true_guidance_is_two_calls() {
    let (_, pipeline) = pipeline();
    let away = |scale: f64, negative: &str| Request {
        true_guidance_scale: Some(scale),
        negative_prompts: vec![negative.into()],
        ..small()
    };
    let plain = latents(&pipeline, &small());
    assert_eq!(latents(&pipeline, &away(1.0, "rain")).values, plain.values);
    let led = latents(&pipeline, &away(2.5, "rain"));
    assert_ne!(led.values, plain.values);
    // Led away from the same text is led nowhere.
    let nowhere = latents(&pipeline, &away(2.5, "a red fox"));
    let outcome = plain.compare(nowhere.on::<4>(&tested::device()), 1e-4);
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let until = Request {
        guidance_until: Some(0.5),
        ..away(2.5, "rain")
    };
    let half = pipeline.generate(&until, &mut ()).unwrap();
    assert_eq!(half.report.account.cells, half.report.forecast.cells);
    assert_ne!(values(half.latents), led.values);
}

#[test]
fn what_the_model_does_not_take_is_refused() {
    let fixture = Fixture::best("flux-schnell");
    let pipeline = load(&fixture, &tested::device());
    let refused = |change: &dyn Fn(&mut Request)| {
        let mut request = small();
        change(&mut request);
        request.resolve(pipeline.config()).unwrap_err().to_string()
    };
    let said = refused(&|request| request.guidance_scale = Some(3.5));
    assert!(
        said.contains("takes no guidance scale") && said.contains("`true_guidance_scale`"),
        "{said}"
    );
    let said = refused(&|request| request.size = Some((72, 64)));
    assert!(said.contains("not a multiple of 16"), "{said}");
    let said = refused(&|request| request.text_length = Some(513));
    assert!(said.contains("reads 1 to 512 tokens"), "{said}");
    let mut skipping = small();
    skipping.clip_skip = 1;
    let told = skipping.resolve(pipeline.config()).unwrap().notes;
    assert!(
        told.concat().contains("`clip_skip` does nothing"),
        "{told:?}"
    );
    let other = load(&Fixture::best("pixart-sigma"), &tested::device());
    let mut request = Request::new("a red fox");
    request.true_guidance_scale = Some(2.0);
    let said = request.resolve(other.config()).unwrap_err().to_string();
    assert!(said.contains("true guidance scale"), "{said}");
}

/// The configuration of dev over the weights of schnell, in one message.
#[test]
fn weights_of_the_other_model_are_told() {
    let folder = copied("flux-schnell");
    let path = folder.path().join("transformer/config.json");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replace("\"guidance_embeds\": false", "\"guidance_embeds\": true");
    fs::write(&path, text).unwrap();
    let opened = ModelFolder::open(folder.path().to_str().unwrap()).unwrap();
    let config = afterimage::pipeline::ModelConfig::read(&opened).unwrap();
    let error = check_weights(&opened, &config, &tested::device()).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("`guidance_embeds`") && said.contains("FLUX.1 schnell"),
        "{said}"
    );
}

/// FLUX.1 dev at 1024x1024, 28 steps, from its card alone: 37.2 T multiply-accumulates a step.
#[cfg(feature = "cli")]
#[test]
fn plans_of_full_size_need_no_weights() {
    let folder = tempfile::tempdir().unwrap();
    let plan = |more: &[&str]| -> Value {
        let fixed = ["plan", "--model", "FLUX.1-dev", "--json"];
        let ending = afterimage_in(folder.path(), fixed.iter().chain(more));
        assert_eq!(ending.code, Some(0), "{}", ending.shown());
        serde_json::from_str(&ending.stdout).unwrap()
    };
    let plain = plan(&[]);
    let macs = |plan: &Value, key: &str| plan["work"][key].as_f64().unwrap() / 28.0 / 1e3;
    let whole = macs(&plain, "gmacs");
    assert!((37.1..37.3).contains(&whole), "{whole}");
    assert_eq!(
        (plain["width"].as_u64(), plain["steps"].as_u64()),
        (Some(1024), Some(28))
    );
    let cached = plan(&["--cache", "dit-propagation:cut=19,every=2"]);
    let half = macs(&cached, "gmacs") / whole;
    // Every other step runs the 38 single blocks of 57.
    assert!((0.82..0.85).contains(&half), "{half}");
}

#[cfg(feature = "cli")]
#[test]
fn the_program_makes_the_same() {
    let fixture = Fixture::best("flux-schnell");
    let case = fixture.case("fd.flow_euler.first.cut1");
    let model = fixture.model();
    let folder = tempfile::tempdir().unwrap();
    let prompt = case["call"]["prompt"].as_str().unwrap();
    let options = [
        "generate",
        prompt,
        "--model",
        model.to_str().unwrap(),
        "--device",
        "cpu",
        "--steps",
        "4",
        "--seed",
        "44",
        "--size",
        "128x128",
        "--text-length",
        "24",
        "--cache",
        "dit-propagation:cut=1,keys=0",
        "--output",
        "cats.png",
        "--trace",
        "trace.safetensors",
    ];
    let ending = afterimage_in(folder.path(), options.iter());
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let trace = Golden::open(folder.path().join("trace.safetensors"));
    let golden = fixture.latents(case, "final_latents").unwrap();
    let last = trace.tensor::<4>("latents.3", &tested::device());
    let outcome = golden.compare(last, F32_CPU * 10.0);
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

//! Whole runs through the library and the program, plain and cached.

use std::collections::BTreeSet;

use afterimage::pipeline::Request;
use burn::tensor::Tensor;

#[cfg(feature = "cli")]
use crate::cli::afterimage_in;
use crate::fixture::{Fixture, Golden};
use crate::golden::{check_run, load, request};
use crate::parity::Tally;
use crate::tested;
use crate::tolerance::F32_CPU;
use crate::transformers::block_propagation_holds;

#[test]
fn runs_agree_with_diffusers() {
    let mut tally = Tally::default();
    for fixture in Fixture::both("pixart-sigma") {
        let mut pipeline = load(&fixture, &tested::device());
        for case in fixture.of_kinds(&["txt2img"]) {
            let outcome = check_run(&fixture, case, &mut pipeline);
            tally.add(&fixture, case, outcome);
        }
    }
    tally.finish(5);
}

/// 200 x 320 is made at 192 x 320, brought to 200 x 333 and cut.
#[test]
fn pictures_of_other_proportions_are_brought_to_their_size() {
    for fixture in Fixture::both("pixart-sigma") {
        let pipeline = load(&fixture, &tested::device());
        let case = fixture
            .cases()
            .find(|case| case["id"] == "resolution_binning");
        let request = case.map_or_else(
            || Request {
                size: Some((320, 200)),
                steps: Some(1),
                text_length: Some(8),
                ..Request::new("a red fox")
            },
            |case| request(&fixture, case),
        );
        let resolved = request.resolve(pipeline.config()).unwrap();
        let made = (resolved.size, resolved.latent_shape);
        assert_eq!(made, ([200, 320], [1, 4, 24, 40]));
        let generated = pipeline.generate(&request, &mut ()).unwrap();
        assert_eq!(generated.images.dims(), [1, 3, 200, 320]);
        let Some(golden) = case.and_then(|case| fixture.of(case, "image_u8")) else {
            continue;
        };
        let golden: Tensor<4> = golden.on(&tested::device());
        // Rounded in the reference alone.
        let apart = (generated.images * 255.0 - golden).abs().max();
        let apart: f32 = apart.into_scalar();
        assert!(apart < 0.51, "{apart}");
    }
}

#[test]
fn all_keys_are_the_plain_run_bit_for_bit_and_batches_are_the_sequence() {
    let fixture = Fixture::best("pixart-sigma");
    let pipeline = load(&fixture, &tested::device());
    let mut plain = request(&fixture, fixture.case("no_cfg"));
    plain.guidance_scale = Some(3.0);
    block_propagation_holds(&pipeline, &plain);
}

#[test]
fn what_the_model_does_not_take_is_refused() {
    let fixture = Fixture::best("pixart-sigma");
    let pipeline = load(&fixture, &tested::device());
    let refused = |change: &dyn Fn(&mut Request)| {
        let mut request = Request::new("a red fox");
        change(&mut request);
        request.resolve(pipeline.config()).unwrap_err().to_string()
    };
    let said: BTreeSet<_> = [
        refused(&|request| request.text_length = Some(0)),
        refused(&|request| request.text_length = Some(513)),
    ]
    .into();
    assert!(
        said.iter()
            .all(|said| said.contains("reads 1 to 512 tokens")),
        "{said:?}"
    );
    let said = refused(&|request| request.clip_skip = 1);
    assert!(
        said.contains("`clip_skip`") || said.contains("layers to leave out"),
        "{said}"
    );
    let said = refused(&|request| {
        request.size = Some((100, 128));
        request.resolution_binning = false;
    });
    assert!(said.contains("not a multiple of 16"), "{said}");
}

#[cfg(feature = "cli")]
#[test]
fn the_program_makes_the_same() {
    let fixture = Fixture::best("pixart-sigma");
    let case = fixture.case("fd.dpmpp2m.mod3.cut1");
    let model = fixture.model();
    let folder = tempfile::tempdir().unwrap();
    let (call, cache) = (&case["call"], &case["cache"]);
    let text = |key: &str| call[key].as_str().unwrap().to_owned();
    let number = |key: &str| call[key].to_string();
    let keys = cache["key_steps"].as_array().unwrap().iter();
    let keys: Vec<String> = keys.map(ToString::to_string).collect();
    let options = [
        "generate".to_owned(),
        text("prompt"),
        "--negative-prompt".into(),
        text("negative_prompt"),
        "--model".into(),
        model.to_str().unwrap().into(),
        "--device".into(),
        "cpu".into(),
        "--steps".into(),
        number("num_inference_steps"),
        "--guidance-scale".into(),
        number("guidance_scale"),
        "--seed".into(),
        number("seed"),
        "--size".into(),
        format!("{}x{}", call["width"], call["height"]),
        "--no-resolution-binning".into(),
        "--text-length".into(),
        number("max_sequence_length"),
        "--cache".into(),
        format!(
            "dit-propagation:cut={},keys={}",
            cache["cut"],
            keys.join("+")
        ),
        "--output".into(),
        "fox.png".into(),
        "--trace".into(),
        "trace.safetensors".into(),
    ];
    let ending = afterimage_in(folder.path(), options.iter());
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let trace = Golden::open(folder.path().join("trace.safetensors"));
    let golden = fixture.of(case, "final_latents").unwrap();
    let last = call["num_inference_steps"].as_u64().unwrap() - 1;
    let last: Tensor<4> = trace.tensor(&format!("latents.{last}"), &tested::device());
    let outcome = golden.compare(last, F32_CPU * 10.0);
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

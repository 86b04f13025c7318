//! Stable Diffusion 1.x, 2.x and XL against diffusers and the `DeepCache` package: cells, steps and pictures.

use std::ops::Range;

use afterimage::cache::{CacheRule, Refresh};
use afterimage::catalog::{ModelFolder, ModelPart};
use afterimage::denoiser::{Evaluation, StagedDenoiser};
use afterimage::image_io::{Mask, Picture};
use afterimage::inject::{Moment, PriorNoise};
use afterimage::models::unet::{AddedCondition, UNetCarry, UNetCondition};
use afterimage::pipeline::{
    Added, Control, Edit, Framing, Request, Seeds, Stage, TextToImage, Trace,
};
use afterimage::recall::Recall;
use afterimage::samplers::SamplerConfig;
use burn::tensor::{Bool, Device, Tensor, TensorData};
use serde_json::Value;

use crate::fixture::{Fixture, Reference};
use crate::tested;
use crate::tolerance::{F32_CPU, FILLED, FILLED_XL};

const FIXTURES: [&str; 4] = ["sd15", "sd21", "sd15-fp16", "sdxl"];

/// Computed by torch in f16, on the CPU; ours compute in f32.
const OTHER_PRECISION: [&str; 1] = ["ddim.float16_compute"];

/// The model of a fixture, with its `ControlNet` where it has one.
pub(crate) fn load(fixture: &Fixture, device: &Device) -> TextToImage {
    let folder = ModelFolder::open(fixture.model().to_str().unwrap()).unwrap();
    let mut pipeline = TextToImage::load(&folder, device, tested::dtype()).unwrap();
    let places = [
        fixture.model().join("controlnet"),
        fixture.file("controlnet"),
    ];
    if let Some(control) = places.iter().find(|place| place.is_dir()) {
        let part = ModelPart::open(control.to_str().unwrap()).unwrap();
        assert_eq!(pipeline.add_control(&part).unwrap(), 0);
    }
    pipeline
}

#[test]
fn cells_agree_with_diffusers() {
    let device = tested::device();
    for fixture in ["sd15", "sd21", "sdxl", "sdxl-refiner", "sd15-inpaint9"].map(Fixture::best) {
        let pipeline = load(&fixture, &device);
        for case in fixture.cases().filter(|case| case["kind"] == "unet_trace") {
            let condition = condition(&fixture, case, &device);
            check_cells(&fixture, case, pipeline.unet(), &condition, &device)
                .unwrap_or_else(|error| panic!("{}: {error}", case["id"]));
        }
    }
}

fn condition(fixture: &Fixture, case: &Value, device: &Device) -> UNetCondition {
    let golden = |key: &str| fixture.of(case, key).unwrap();
    let added = fixture
        .of(case, "added_cond_kwargs.text_embeds")
        .map(|pooled| AddedCondition {
            pooled: pooled.on(device),
            time_ids: golden("added_cond_kwargs.time_ids").rows(),
        });
    UNetCondition {
        context: golden("encoder_hidden_states").on(device),
        added,
        channels: None,
    }
}

/// Runs cell by cell; reports the first that diverges.
pub(crate) fn check_cells<D: StagedDenoiser<Carry = UNetCarry>>(
    fixture: &Fixture,
    case: &Value,
    unet: &D,
    condition: &D::Condition,
    device: &Device,
) -> Result<(), String> {
    let golden = |key: &str| fixture.of(case, key).unwrap();
    let listed =
        |key: &str, index: usize| fixture.tensor(case["tensors"][key][index].as_str().unwrap());
    let timestep = f64::from(golden("timestep").values[0]);
    let evaluations = [Evaluation { index: 0, timestep }];
    let prepared = unet.prepare(&unet.start(condition, &evaluations), &evaluations);
    let skips = unet.cells() / 2;
    let mut carry = unet.enter(golden("sample").on(device), &prepared);
    let check = |cells: Range<usize>, carry: UNetCarry, expected: &Reference, name: String| {
        let carry = unet.advance(carry, cells, &prepared, &mut Recall::none());
        expected
            .compare(carry.hidden().clone(), tested::tolerance(F32_CPU))
            .map_err(|error| format!("{name}: {error}"))?;
        Ok::<_, String>(carry)
    };
    for skip in 0..skips {
        carry = check(
            skip..skip + 1,
            carry,
            &listed("skips", skip),
            format!("e{skip}"),
        )?;
    }
    carry = check(skips..skips + 1, carry, &golden("mid"), "mid".into())?;
    for skip in (1..skips).rev() {
        let cell = 2 * skips - skip;
        let expected = listed("decoder_input_by_skip", skip - 1);
        carry = check(cell..cell + 1, carry, &expected, format!("d{skip}"))?;
    }
    let carry = unet.advance(
        carry,
        2 * skips..2 * skips + 1,
        &prepared,
        &mut Recall::none(),
    );
    golden("output")
        .compare(unet.leave(carry, &prepared), tested::tolerance(F32_CPU))
        .map_err(|error| format!("output: {error}"))?;
    Ok(())
}

#[test]
fn runs_agree_with_diffusers() {
    check_runs(&FIXTURES);
}

#[test]
fn runs_that_start_from_a_picture_agree_with_diffusers() {
    check_runs(&[
        "sd15-img2img",
        "sd15-inpaint4",
        "sd15-inpaint9",
        "sdxl-inpaint",
    ]);
}

#[test]
fn runs_that_follow_a_picture_agree_with_diffusers() {
    check_runs(&["sd15-controlnet", "sdxl-controlnet"]);
}

/// What the cases of whole runs are called.
const RUNS: [&str; 5] = ["txt2img", "img2img", "inpaint4", "inpaint9", "controlnet"];

fn check_runs(fixtures: &[&str]) {
    let device = tested::device();
    let mut failures = Vec::new();
    let mut count = 0;
    for name in fixtures {
        let Some(fixture) = Fixture::any(name) else {
            continue;
        };
        let mut worst = 0.0_f64;
        let mut pipeline = load(&fixture, &device);
        let is_run = |case: &&Value| RUNS.contains(&case["kind"].as_str().unwrap());
        for case in fixture.cases().filter(is_run) {
            let id = case["id"].as_str().unwrap();
            if OTHER_PRECISION.contains(&id) {
                continue;
            }
            let tolerance = match (*name, &case["kind"]) {
                ("sdxl-inpaint", _) => tested::tolerance(FILLED_XL),
                (_, kind) if kind == "inpaint9" => tested::tolerance(FILLED),
                _ => tested::tolerance(F32_CPU),
            };
            match check_run(&fixture, case, &mut pipeline, tolerance) {
                Ok(difference) => worst = worst.max(difference),
                Err(error) => failures.push(format!("{id}: {error}")),
            }
            count += 1;
        }
        eprintln!("{name}: the worst is off by {worst:.1e} standard deviations");
    }
    eprintln!("{count} runs");
    assert!(
        failures.is_empty(),
        "{} of {count} runs\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Runs a case and compares everything it holds; gives the largest difference in standard deviations.
pub(crate) fn check_run(
    fixture: &Fixture,
    case: &Value,
    pipeline: &mut TextToImage,
    tolerance: f64,
) -> Result<f64, String> {
    let scheduler = fixture.scheduler(case["scheduler"].as_str().unwrap());
    pipeline.set_sampler(SamplerConfig::from_json(&scheduler, "case".as_ref()).unwrap());
    let mut ignored = ();
    let mut trace = Trace::new(&mut ignored);
    let mut request = request(fixture, case);
    if let Some(first) = case["image_in_from"].as_str() {
        request.initial_latents = Some(fixture.final_latents(first));
    }
    let generated = pipeline
        .generate(&request, &mut trace)
        .map_err(|error| error.to_string())?;
    let mut worst = 0.0_f64;
    let kept = kept(fixture, case);
    let mut check = |name: String, golden: &Reference, found: Tensor<4>| {
        let found = match &kept {
            Some(kept) if name.contains("latents") => golden
                .on(&found.device())
                .mask_where(kept.clone().bool_not(), found),
            _ => found,
        };
        let difference = golden
            .compare(found, tolerance)
            .map_err(|error| format!("{name}: {error}"))?;
        worst = worst.max(difference);
        Ok::<_, String>(())
    };
    if let Some(golden) = fixture.of(case, "prompt_embeds") {
        golden
            .compare(generated.prompt_embeds.clone().unwrap(), tolerance)
            .map_err(|error| format!("prompt_embeds: {error}"))?;
    }
    if let Some(golden) = fixture.of(case, "added_text_embeds") {
        golden
            .compare(generated.pooled_prompt_embeds.clone().unwrap(), tolerance)
            .map_err(|error| format!("added_text_embeds: {error}"))?;
    }
    for (kept, step) in case["kept_steps"].as_array().unwrap().iter().enumerate() {
        let step = step.as_u64().unwrap() as usize;
        if let Some(golden) = fixture.of(case, "noise_pred") {
            check(
                format!("prediction.{step}"),
                &golden.row(kept),
                trace.predictions[step].clone(),
            )?;
        }
        if let Some(golden) = fixture.of(case, "latents") {
            check(
                format!("latents.{step}"),
                &golden.row(kept),
                trace.latents[step].clone(),
            )?;
        }
    }
    check(
        "final latents".into(),
        &fixture.of(case, "final_latents").unwrap(),
        generated.latents,
    )?;
    if let Some(golden) = fixture.of(case, "image") {
        check("image".into(), &golden, generated.images)?;
    }
    Ok(worst)
}

/// Where the latents of a case are put back behind every step, `[1, channels, height, width]`. The reference has them in front of that:
/// there, only the predictions and the pictures show what was put back.
fn kept(fixture: &Fixture, case: &Value) -> Option<Tensor<4, Bool>> {
    let mask = (case["kind"] == "inpaint4").then(|| fixture.of(case, "mask_in"))??;
    let latents = fixture.of(case, "final_latents")?;
    let device = tested::device();
    let factor = mask.shape[3] / latents.shape[3];
    let [_, _, height, width] = mask.shape[..] else {
        panic!("{:?} is no batch of masks", mask.shape);
    };
    let corners = (0..height).step_by(factor).flat_map(|y| {
        let row = (0..width).step_by(factor);
        row.map(move |x| y * width + x)
    });
    let dark = corners
        .map(|place| mask.values[place] < 128.0)
        .collect::<Vec<_>>();
    let [_, channels, height, width] = latents.shape[..] else {
        panic!("{:?} are no latents", latents.shape);
    };
    let dark = Tensor::<4, Bool>::from_data(TensorData::new(dark, [1, 1, height, width]), &device);
    Some(dark.repeat_dim(1, channels))
}

fn request(fixture: &Fixture, case: &Value) -> Request {
    let call = &case["call"];
    let number = |key: &str| call[key].as_u64().map(|value| value as usize);
    let real = |key: &str| call[key].as_f64();
    Request {
        prompts: strings(&call["prompt"]),
        negative_prompts: strings(&call["negative_prompt"]),
        added: added(call),
        seeds: seeds(&call["seed"]),
        batch: number("num_images_per_prompt").unwrap_or(1),
        steps: number("num_inference_steps"),
        guidance_scale: real("guidance_scale"),
        guidance_rescale: real("guidance_rescale").unwrap_or(0.0),
        clip_skip: number("clip_skip").unwrap_or(0),
        size: number("width").zip(number("height")),
        eta: real("eta").unwrap_or(0.0),
        stage: stage(call),
        cache: rule(&case["cache"]),
        edit: edit(fixture, case),
        controls: controls(fixture, case),
        ..Request::new("")
    }
}

fn stage(call: &Value) -> Stage {
    let share = |key: &str| call[key].as_f64();
    match (share("denoising_end"), share("denoising_start")) {
        (Some(until), _) => Stage::Begin { until },
        (_, Some(from)) => Stage::Finish { from },
        _ => Stage::Whole,
    }
}

fn edit(fixture: &Fixture, case: &Value) -> Option<Edit> {
    let masks = fixture.of(case, "mask_in");
    let masks = masks.iter().flat_map(pictures).map(Mask::new);
    Some(Edit {
        pictures: pictures(&fixture.of(case, "image_in")?),
        masks: masks.collect::<Result<_, _>>().unwrap(),
        strength: case["call"]["strength"].as_f64(),
        name: "the fixture's picture".into(),
    })
}

fn controls(fixture: &Fixture, case: &Value) -> Vec<Control> {
    let call = &case["call"];
    let scale = |index: usize| {
        let scale = &call["controlnet_conditioning_scale"];
        scale.as_f64().or_else(|| scale[index].as_f64())
    };
    let end = |key: &str| call[key].as_f64();
    let start = end("control_guidance_start").unwrap_or(0.0);
    let images = ["control_in", "control_in_2"].iter();
    let images = images.filter_map(|key| fixture.of(case, key)).enumerate();
    let control = |(index, image): (usize, Reference)| Control {
        scale: scale(index).unwrap_or(1.0),
        window: start..end("control_guidance_end").unwrap_or(1.0),
        guess: call["guess_mode"] == true,
        ..Control::new(0, pictures(&image).remove(0))
    };
    images.map(control).collect()
}

/// Pictures of `[rows, 1 or 3, height, width]` in bytes.
pub(crate) fn pictures(bytes: &Reference) -> Vec<Picture> {
    let [channels, height, width] = bytes.shape[1..] else {
        panic!("{:?} is no batch of pictures", bytes.shape);
    };
    let picture = |row: Reference| {
        let value = |channel: usize, place: usize| {
            let plane = channel.min(channels - 1);
            row.values[plane * height * width + place] as u8
        };
        Picture::from_fn(width, height, |x, y| {
            [0, 1, 2].map(|channel| value(channel, y * width + x))
        })
    };
    bytes.parts().map(picture).collect()
}

fn added(call: &Value) -> Added {
    let silent = Added::default();
    let score = |key: &str, silent: f64| call[key].as_f64().unwrap_or(silent);
    Added {
        second_prompts: strings(&call["prompt_2"]),
        second_negative_prompts: strings(&call["negative_prompt_2"]),
        framing: framing(call, ""),
        negative_framing: pair(&call["negative_original_size"]).map(|_| framing(call, "negative_")),
        aesthetic_score: score("aesthetic_score", silent.aesthetic_score),
        negative_aesthetic_score: score(
            "negative_aesthetic_score",
            silent.negative_aesthetic_score,
        ),
    }
}

fn framing(call: &Value, half: &str) -> Framing {
    let sides = |key: &str| pair(&call[format!("{half}{key}")]);
    Framing {
        original: sides("original_size"),
        crop: sides("crops_coords_top_left").unwrap_or_default(),
        target: sides("target_size"),
    }
}

fn pair(value: &Value) -> Option<[usize; 2]> {
    serde_json::from_value(value.clone()).ok()
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(texts) => texts
            .iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect(),
        _ => Vec::new(),
    }
}

fn seeds(value: &Value) -> Seeds {
    match value.as_array() {
        Some(seeds) => Seeds::Each(seeds.iter().map(|seed| seed.as_u64().unwrap()).collect()),
        None => Seeds::One(value.as_u64().unwrap()),
    }
}

/// The rule a case was made with. What ran in full is listed, as the package's own look-up is irregular for some samplers.
pub(crate) fn rule(cache: &Value) -> CacheRule {
    let list = |key: &str| {
        let steps = cache[key].as_array().unwrap().iter();
        Refresh::At(steps.map(|step| step.as_u64().unwrap() as usize).collect())
    };
    match cache["method"].as_str() {
        None => CacheRule::none(),
        Some("deepcache") => CacheRule::deepcache_skip(
            cache["skip_index"].as_u64().unwrap() as usize,
            list("full_steps"),
        ),
        Some("encoder_propagation") => {
            let rule =
                CacheRule::encoder_propagation(list("key_steps")).with_parallel(parallel(cache));
            match prior_noise(&cache["prior_noise"]) {
                Some(noise) => rule.with_noise(noise),
                None => rule,
            }
        }
        Some(other) => panic!("unknown method `{other}`"),
    }
}

fn parallel(cache: &Value) -> usize {
    let largest = |batches: &Vec<Value>| batches.iter().filter_map(Value::as_u64).max();
    cache["decoder_batches"]
        .as_array()
        .and_then(largest)
        .unwrap_or(1) as usize
}

fn prior_noise(value: &Value) -> Option<PriorNoise> {
    let at = match value["position"].as_str()? {
        "before model call" => Moment::BeforeCall,
        "before scheduler step" | "before scheduler.step" => Moment::BeforeStep,
        other => panic!("unknown position `{other}`"),
    };
    Some(PriorNoise {
        alpha: value["alpha"].as_f64()?,
        from: value["when_timestep_below"].as_f64()? / 1000.0,
        at,
    })
}

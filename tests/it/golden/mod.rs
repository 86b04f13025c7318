//! Stable Diffusion 1.x, 2.x and XL against diffusers and the `DeepCache` package: cells, steps and pictures.

mod case;
mod steps;

use std::ops::Range;

use afterimage::catalog::{ModelFolder, ModelPart, Overrides};
use afterimage::conditioning::Conditioning;
use afterimage::denoiser::{Evaluation, StagedDenoiser};
use afterimage::models::unet::{UNet, UNetCarry};
use afterimage::pipeline::{Pipeline, Request, Trace};
use afterimage::recall::Recall;
use afterimage::samplers::SamplerConfig;
use burn::tensor::{Bool, Device, Tensor, TensorData};
use serde_json::Value;

pub(crate) use case::{request, rule};

use crate::fixture::{Fixture, Reference};
use crate::parity::{Comparison, Part, Tally, Way};
use crate::tested;
use crate::tolerance::F32_CPU;

/// Computed by torch in f16, on the CPU; ours compute in f32.
const OTHER_PRECISION: &str = "ddim.float16_compute";

/// The denoiser of a text-to-image model.
pub(crate) fn unet(pipeline: &Pipeline) -> &UNet {
    pipeline.trunk_as().unwrap()
}

/// The model of a fixture, with its `ControlNet` where it has one.
pub(crate) fn load(fixture: &Fixture, device: &Device) -> Pipeline {
    load_with(fixture, &Overrides::default(), device)
}

/// The same with what a caller says of it.
pub(crate) fn load_with(fixture: &Fixture, said: &Overrides, device: &Device) -> Pipeline {
    let name = fixture.model();
    let folder = ModelFolder::open_with(name.to_str().unwrap(), said, &mut ()).unwrap();
    let mut pipeline = Pipeline::load(&folder, device, tested::dtype()).unwrap();
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
    for fixture in [
        "sd15",
        "sd21",
        "sdxl",
        "sdxl-refiner",
        "sd15-inpaint9",
        "ssd-1b",
    ]
    .map(Fixture::best)
    {
        let pipeline = load(&fixture, &device);
        for case in fixture.cases().filter(|case| case["kind"] == "unet_trace") {
            let condition = condition(&fixture, case, &device);
            check_cells(&fixture, case, unet(&pipeline), &condition, &device)
                .unwrap_or_else(|error| panic!("{}: {error}", case["id"]));
        }
    }
}

fn condition(fixture: &Fixture, case: &Value, device: &Device) -> Conditioning {
    let golden = |key: &str| fixture.of(case, key).unwrap();
    let pooled = fixture.of(case, "added_cond_kwargs.text_embeds");
    let numbers = pooled
        .as_ref()
        .map(|_| golden("added_cond_kwargs.time_ids").rows());
    Conditioning {
        pooled: pooled.map(|pooled| pooled.on(device)),
        numbers: numbers.unwrap_or_default(),
        ..Conditioning::of_context(golden("encoder_hidden_states").on(device))
    }
}

/// Runs cell by cell; reports the first that diverges.
pub(crate) fn check_cells<D: StagedDenoiser<Carry = UNetCarry>>(
    fixture: &Fixture,
    case: &Value,
    unet: &D,
    condition: &Conditioning,
    device: &Device,
) -> Result<(), String> {
    check_cells_within(F32_CPU, fixture, case, unet, condition, device)
}

/// [`check_cells`], for a network that amplifies what the reference itself rounds.
pub(crate) fn check_cells_within<D: StagedDenoiser<Carry = UNetCarry>>(
    tolerance: f64,
    fixture: &Fixture,
    case: &Value,
    unet: &D,
    condition: &Conditioning,
    device: &Device,
) -> Result<(), String> {
    let tolerance = tested::tolerance(tolerance);
    let golden = |key: &str| fixture.of(case, key).unwrap();
    let listed =
        |key: &str, index: usize| fixture.tensor(case["tensors"][key][index].as_str().unwrap());
    let timestep = f64::from(golden("timestep").values[0]);
    let evaluations = [Evaluation { index: 0, timestep }];
    let prepared = unet.prepare(&unet.start(condition, &evaluations), &evaluations);
    let skips = unet.cells() / 2;
    let mut carry = unet.enter(fixture.by_row(case, "sample").on(device), &prepared);
    let check = |cells: Range<usize>, carry: UNetCarry, expected: &Reference, name: String| {
        let carry = unet.advance(carry, cells, &prepared, &mut Recall::none());
        expected
            .compare(carry.hidden().clone(), tolerance)
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
    fixture
        .by_row(case, "output")
        .compare(unet.leave(carry, &prepared), tolerance)
        .map_err(|error| format!("output: {error}"))?;
    Ok(())
}

#[test]
fn runs_agree_with_diffusers() {
    check_runs(&["sd15", "sd21", "sd15-fp16", "sdxl", "ssd-1b", "playground"]);
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
    let mut tally = Tally::default();
    for fixture in fixtures.iter().copied().flat_map(Fixture::both) {
        let mut cases = fixture.of_kinds(&RUNS).peekable();
        if cases.peek().is_none() {
            continue;
        }
        let mut pipeline = load(&fixture, &tested::device());
        for case in cases.filter(|case| case["id"] != OTHER_PRECISION) {
            let outcome = check_run(&fixture, case, &mut pipeline);
            tally.add(&fixture, case, outcome);
        }
    }
    tally.finish(15);
}

/// Runs a case, freely and from the reference's own latents, and compares everything it holds; gives the largest share of a tolerance.
pub(crate) fn check_run(
    fixture: &Fixture,
    case: &Value,
    pipeline: &mut Pipeline,
) -> Result<f64, String> {
    let scheduler = fixture.scheduler(case["scheduler"].as_str().unwrap());
    let mut sampler = SamplerConfig::from_json(&scheduler, "case".as_ref()).unwrap();
    // FLUX' pipeline lays its sigmas out itself.
    if let Some(pipeline @ "FluxPipeline") = fixture.said("pipeline").as_str() {
        sampler = sampler.repaired_for(pipeline);
    }
    check_run_by(sampler, fixture, case, pipeline)
}

/// [`check_run`] by another configuration than the case names, which comes to the same.
pub(crate) fn check_run_by(
    sampler: SamplerConfig,
    fixture: &Fixture,
    case: &Value,
    pipeline: &mut Pipeline,
) -> Result<f64, String> {
    pipeline.set_sampler(sampler);
    let mut request = request(fixture, case);
    if let Some(first) = case["image_in_from"].as_str() {
        request.initial_latents = Some(fixture.final_latents(first));
    }
    let free = check_free(fixture, case, pipeline, &request)?;
    let stepwise = steps::check(fixture, case, pipeline, &request)?;
    Ok(free.max(stepwise))
}

fn check_free(
    fixture: &Fixture,
    case: &Value,
    pipeline: &Pipeline,
    request: &Request,
) -> Result<f64, String> {
    let mut ignored = ();
    let mut trace = Trace::new(&mut ignored);
    let generated = pipeline
        .generate(request, &mut trace)
        .map_err(|error| error.to_string())?;
    check_computed(case, &generated.report.account.refreshed)?;
    let mut comparison = Comparison::new(fixture, case, Way::Free);
    let kept = kept(fixture, case);
    let mut check = |part: Part, name: String, golden: &Reference, found: Tensor<4>| {
        let found = match &kept {
            Some(kept) if part == Part::Latents => golden
                .on(&found.device())
                .mask_where(kept.clone().bool_not(), found),
            _ => found,
        };
        comparison.check(part, name, golden, found)
    };
    for (row, step) in case["kept_steps"].as_array().unwrap().iter().enumerate() {
        let step = step.as_u64().unwrap() as usize;
        for (part, key, found) in [
            (Part::Predictions, "noise_pred", &trace.predictions),
            (Part::Latents, "latents", &trace.latents),
        ] {
            if let Some(golden) = fixture.latents(case, key) {
                let name = format!("{key}.{step}");
                check(part, name, &golden.row(row), found[step].clone())?;
            }
        }
    }
    let golden = fixture.latents(case, "final_latents").unwrap();
    check(Part::Latents, "final".into(), &golden, generated.latents)?;
    if let Some(golden) = fixture.of(case, "image") {
        check(Part::Picture, "image".into(), &golden, generated.images)?;
    }
    if let Some(golden) = fixture.of(case, "prompt_embeds") {
        let found = conditioned(generated.prompt_embeds.unwrap(), &golden);
        comparison.check(Part::Layers, "prompt_embeds", &golden, found)?;
    }
    let pooled = ["added_text_embeds", "pooled_projections"];
    let pooled = pooled.into_iter().find_map(|key| fixture.of(case, key));
    if let Some(golden) = pooled {
        let found = conditioned(generated.pooled_prompt_embeds.unwrap(), &golden);
        comparison.check(Part::Layers, "added_text_embeds", &golden, found)?;
    }
    Ok(comparison.share())
}

/// Whether what decided in the run did so at the reference's evaluations, where they are listed.
fn check_computed(case: &Value, refreshed: &[usize]) -> Result<(), String> {
    let Some(computed) = case["cache"]["computed"].as_array() else {
        return Ok(());
    };
    let computed = computed.iter().enumerate();
    let computed = computed.filter(|(_, computed)| **computed == Value::Bool(true));
    let computed: Vec<usize> = computed.map(|(call, _)| call).collect();
    if refreshed == computed {
        return Ok(());
    }
    Err(format!("computed {refreshed:?}, reference {computed:?}"))
}

/// Of rows of both halves, those of the conditioned one where the reference has no more: it may call the model once for each.
fn conditioned<const D: usize>(rows: Tensor<D>, golden: &Reference) -> Tensor<D> {
    let (all, kept) = (rows.dims()[0], golden.shape[0].min(rows.dims()[0]));
    rows.narrow(0, all - kept, kept)
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

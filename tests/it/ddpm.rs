//! Models without text against diffusers: cells, runs, pictures, costs.

use afterimage::cache::{CacheRule, Course, Forecast, Refresh, Router};
use afterimage::catalog::ModelFolder;
use afterimage::conditioning::Conditioning;
use afterimage::denoise::{Denoise, Noise as _};
use afterimage::denoiser::Rows;
use afterimage::models::unet::{Extent, UNet2DConditionModel, UNet2d, UNetConfig};
use afterimage::pipeline::{ModelConfig, Pipeline, Request, SeededNoise, Seeds, Trace};
use afterimage::samplers::SamplerConfig;
use afterimage::weights::shapes;

use serde_json::Value;

use crate::fixture::{Fixture, shared};
use crate::golden::{check_cells, rule};
use crate::laws::Subject;
use crate::param_lists::assert_same_parameters;
use crate::parity::{Comparison, Followed, Part, Tally, Way};
use crate::tested;

fn load(fixture: &Fixture) -> Pipeline {
    let folder = ModelFolder::open(fixture.model().to_str().unwrap()).unwrap();
    Pipeline::load(&folder, &tested::device(), tested::dtype()).unwrap()
}

fn unet(model: &Pipeline) -> &UNet2d {
    model.trunk_as().unwrap()
}

#[test]
fn cells_agree_with_diffusers() {
    let fixture = Fixture::best("ddpm");
    let model = load(&fixture);
    for case in fixture.cases().filter(|case| case["kind"] == "unet_trace") {
        let condition = Conditioning::none(Rows::single(2));
        check_cells(&fixture, case, unet(&model), &condition, &tested::device())
            .unwrap_or_else(|error| panic!("{}: {error}", case["id"]));
    }
}

/// The six levels of the LSUN models are in the complete reference alone.
#[test]
fn runs_agree_with_diffusers() {
    let mut tally = Tally::default();
    for fixture in ["ddpm", "ddpm-lsun"].into_iter().flat_map(Fixture::both) {
        let mut model = load(&fixture);
        for case in fixture.of_kinds(&["unconditional", "unconditional_explicit"]) {
            let outcome = check_run(&fixture, case, &mut model);
            tally.add(&fixture, case, outcome);
        }
    }
    tally.finish(15);
}

fn check_run(fixture: &Fixture, case: &Value, model: &mut Pipeline) -> Result<f64, String> {
    let scheduler = match case["scheduler"].as_str() {
        Some(name) => fixture.scheduler(name),
        None => quadratic(case),
    };
    model.set_sampler(SamplerConfig::from_json(&scheduler, "case".as_ref()).unwrap());
    let request = request(case);
    let free = check_free(fixture, case, model, &request)?;
    Ok(free.max(check_steps(fixture, case, model, &request)?))
}

fn check_free(
    fixture: &Fixture,
    case: &Value,
    model: &Pipeline,
    request: &Request,
) -> Result<f64, String> {
    let mut ignored = ();
    let mut trace = Trace::new(&mut ignored);
    let generated = model
        .generate(request, &mut trace)
        .map_err(|error| error.to_string())?;
    let timesteps: Vec<f64> = serde_json::from_value(case["timesteps"].clone()).unwrap();
    assert_eq!(trace.timesteps, timesteps, "{}", case["id"]);
    let mut comparison = Comparison::new(fixture, case, Way::Free);
    let kept = case["kept_steps"].as_array().cloned().unwrap_or_default();
    for (row, step) in kept.iter().enumerate() {
        let step = step.as_u64().unwrap() as usize;
        for (part, key, found) in [
            (Part::Predictions, "noise_pred", &trace.predictions),
            (Part::Latents, "latents", &trace.latents),
        ] {
            if let Some(golden) = fixture.of(case, key) {
                let name = format!("{key}.{step}");
                comparison.check(part, name, &golden.row(row), found[step].clone())?;
            }
        }
    }
    let golden = fixture.of(case, "final_latents").unwrap();
    comparison.check(Part::Latents, "final", &golden, generated.latents)?;
    if let Some(golden) = fixture.of(case, "image") {
        // diffusers gives pictures as [items, height, width, channels].
        let images = generated.images.permute([0, 2, 3, 1]);
        comparison.check(Part::Picture, "image", &golden, images)?;
    }
    Ok(comparison.share())
}

fn check_steps(
    fixture: &Fixture,
    case: &Value,
    model: &Pipeline,
    request: &Request,
) -> Result<f64, String> {
    let Some(steps) = fixture.steps(case) else {
        return Ok(0.0);
    };
    let resolved = request.resolve(model.config()).unwrap();
    let mut noise = SeededNoise::new(&request.seeds, &tested::device());
    noise.draw(resolved.latent_shape);
    let followed = Followed {
        denoise: Denoise {
            sampler: resolved.sampler.as_ref(),
            plan: &resolved.plan,
            guidance: resolved.guidance,
            prior_noise: request.cache.noise,
            known: None,
        },
        rows: resolved.rows,
        noise: &mut noise,
        steps: &steps,
    };
    let condition = Conditioning::none(resolved.rows);
    let mut comparison = Comparison::new(fixture, case, Way::Stepwise);
    followed.check(unet(model), &condition, fixture, case, &mut comparison)?;
    Ok(comparison.share())
}

/// The DDIM authors' spacing, which no scheduler of diffusers has.
fn quadratic(case: &Value) -> String {
    let clip = &case["call"]["clip"];
    format!(r#"{{"_class_name":"DDIMScheduler","timestep_spacing":"quad","clip_sample":{clip}}}"#)
}

fn request(case: &Value) -> Request {
    let call = &case["call"];
    let number = |key: &str| call[key].as_u64().map(|value| value as usize);
    Request {
        batch: number("batch_size").unwrap(),
        seeds: Seeds::One(call["seed"].as_u64().unwrap()),
        steps: number("num_inference_steps").or(number("steps")),
        eta: call["eta"].as_f64().unwrap_or(0.0),
        cache: rule(&case["cache"]),
        ..Request::new("")
    }
}

/// Odd sizes on both sides, which are rounded down on the way: 21x17, 10x8, 5x4, 2x2.
#[test]
fn laws_hold_at_odd_sizes() {
    let model = load(&Fixture::committed("ddpm"));
    let extent = Extent {
        height: 21,
        width: 17,
        tokens: 0,
    };
    let blueprint = unet(&model).unet().config().blueprint(extent);
    let subject = Subject {
        trunk: unet(&model),
        condition: &Conditioning::none(Rows::single(2)),
        rows: Rows::new(1, 2),
        sample: &|seed| SeededNoise::new(&Seeds::One(seed), &tested::device()).draw([2, 3, 21, 17]),
        blueprint: &blueprint,
    };
    subject.a_pass_can_pause_at_every_cut();
    subject.reuse_at_the_same_sample_and_time_changes_nothing();
    subject.batched_propagation_is_the_sequential_one(1e-5);
    assert_eq!(subject.branches_recalled_change_nothing(), 6);
}

#[test]
fn an_interval_of_one_is_the_plain_run_bit_for_bit() {
    let model = load(&Fixture::committed("ddpm"));
    let run = |cache: CacheRule| {
        let request = Request {
            steps: Some(3),
            cache,
            ..Request::new("")
        };
        crate::fixture::values(model.generate(&request, &mut ()).unwrap().latents)
    };
    let plain = run(CacheRule::none());
    for branch in 0..12 {
        assert_eq!(
            run(CacheRule::deepcache(1, branch)),
            plain,
            "branch {branch}"
        );
    }
    assert_eq!(
        run(CacheRule::encoder_propagation(Refresh::EveryStep)),
        plain
    );
    assert_ne!(run(CacheRule::deepcache(2, 0)), plain);
}

/// A router that computes everything is the plain run, one that computes nothing spares every other step.
#[test]
fn routers_keep_their_two_limits() {
    const STEPS: usize = 4;
    const BRANCHES: usize = 6;
    let model = load(&Fixture::committed("ddpm"));
    let run = |cache: CacheRule| {
        let request = Request {
            steps: Some(STEPS),
            cache,
            ..Request::new("")
        };
        model.generate(&request, &mut ()).unwrap()
    };
    let routed = |score: f32| {
        let router = Router::new("test", vec![vec![score; BRANCHES]; STEPS], 0.5);
        run(CacheRule::learning_to_cache(router))
    };
    let plain = run(CacheRule::none()).latents;
    let (everything, nothing) = (routed(9.0), routed(-9.0));
    let values = crate::fixture::values;
    assert_eq!(values(everything.latents), values(plain.clone()));
    assert_ne!(values(nothing.latents), values(plain));
    assert_eq!(everything.report.account.branches_reused, 0);
    let reused = nothing.report.account.branches_reused;
    assert_eq!(reused, STEPS / 2 * BRANCHES);
}

/// google/ddpm-cifar10-32 and its like have one folder for everything.
#[test]
fn folders_without_folders_load() {
    let nested = Fixture::committed("ddpm").model();
    let flat = tempfile::tempdir().unwrap();
    for file in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ] {
        let name = std::path::Path::new(file).file_name().unwrap();
        std::fs::copy(nested.join(file), flat.path().join(name)).unwrap();
    }
    let folder = ModelFolder::open(flat.path().to_str().unwrap()).unwrap();
    assert!(folder.has("unet/config.json") && folder.has_weights("unet"));
    assert!(!folder.has_weights("vae"));
    let model = Pipeline::load(&folder, &tested::device(), tested::dtype()).unwrap();
    assert!(!model.config().reads_text());
}

fn card(name: &str) -> UNetConfig {
    let folder = ModelFolder::open(name).unwrap();
    UNetConfig::from_json_2d(&folder.read_json("unet/config.json").unwrap()).unwrap()
}

#[test]
fn parameters_are_those_of_the_full_size_models() {
    for name in ["ddpm-cifar10-32", "ddpm-church-256"] {
        let model = UNet2DConditionModel::new(&card(name), &tested::device());
        if shared("data/param-lists").is_some() {
            assert_same_parameters(name, shapes(&model));
        }
    }
}

fn side(config: &UNetConfig) -> Extent {
    Extent {
        height: config.sample_size[0],
        width: config.sample_size[1],
        tokens: 0,
    }
}

fn close(found: f64, published: f64, tolerance: f64, what: &str) {
    assert!(
        (found / published - 1.0).abs() < tolerance,
        "{what}: {found} G, published {published} G"
    );
}

/// Whole passes, and retrieve steps by skip, attention's products counted.
#[test]
fn passes_cost_what_is_published() {
    let cifar: (f64, &[f64]) = (6.2, &[0.49, 1.28, 2.24, 3.38, 4.31, 5.30]);
    let lsun: (f64, &[f64]) = (248.5, &[31.6, 82.1, 132.5, 152.4]);
    for (name, (full, retrieve)) in [("ddpm-cifar10-32", cifar), ("ddpm-church-256", lsun)] {
        let config = card(name);
        let blueprint = config.blueprint(side(&config));
        close(blueprint.full_macs() as f64 / 1e9, full, 0.01, name);
        for (skip, published) in retrieve.iter().enumerate() {
            let rule = CacheRule::deepcache_skip(skip, Refresh::At(vec![0]));
            let plan = rule.plan(&Course::steps(2), &blueprint).unwrap();
            let forecast = plan.forecast(&blueprint, ROW, 4);
            let found = forecast.evaluation_macs[1] as f64 / 1e9;
            close(found, *published, 0.011, &format!("{name}, skip {skip}"));
        }
    }
}

const ROW: Rows = Rows::new(1, 1);

/// arXiv 2312.00858, the MACs column of DDPM: 100 DDIM steps, skip 2, attention's products left out.
#[test]
fn tables_of_deepcache_are_reproduced() {
    let cifar = [(1, 6.1), (2, 4.15), (3, 3.54), (5, 3.01), (10, 2.63)];
    let lsun = [(1, 248.7), (2, 190.8), (3, 172.3), (5, 156.0)];
    for (name, rows) in [
        ("ddpm-cifar10-32", &cifar[..]),
        ("ddpm-church-256", &lsun[..]),
    ] {
        let config = card(name);
        let blueprint = config.blueprint_without_products(side(&config));
        for (interval, published) in rows {
            let rule = CacheRule::deepcache(*interval, 2);
            let plan = rule.plan(&Course::steps(100), &blueprint).unwrap();
            let found = average(&plan.forecast(&blueprint, ROW, 4));
            close(
                found,
                *published,
                0.01,
                &format!("{name}, interval {interval}"),
            );
        }
    }
    // Rows 6 and 7 of the paper leave out the convolution that leads from level 2 to level 1, which runs at every step.
    let upsampler = 0.8 * 9.0 * 256.0 * 256.0 * 256.0 / 1e9;
    let sweep = [
        1.60, 2.24, 3.01, 3.89, 4.58, 5.31, 5.45, 5.60, 5.88, 5.95, 5.99, 6.03,
    ];
    let config = card("ddpm-cifar10-32");
    let blueprint = config.blueprint_without_products(side(&config));
    for (skip, mut published) in sweep.into_iter().enumerate() {
        if [6, 7].contains(&skip) {
            published += upsampler;
        }
        let plan = CacheRule::deepcache(5, skip)
            .plan(&Course::steps(100), &blueprint)
            .unwrap();
        let found = average(&plan.forecast(&blueprint, ROW, 4));
        close(found, published, 0.01, &format!("interval 5, skip {skip}"));
    }
}

/// Giga-MACs of an evaluation.
fn average(forecast: &Forecast) -> f64 {
    forecast.total_macs() as f64 / forecast.evaluation_macs.len() as f64 / 1e9
}

#[test]
fn conditions_and_sizes_that_do_not_fit_are_refused() {
    let folder = ModelFolder::open("ddpm-cifar10-32").unwrap();
    let config = ModelConfig::read(&folder).unwrap();
    assert_eq!(
        (config.defaults.steps, config.sampler.name()),
        (1000, "ddpm")
    );
    let refused = |request: Request, part: &str| {
        let error = request.resolve(&config).unwrap_err();
        assert!(
            error.is_request() && error.to_string().contains(part),
            "{error}"
        );
    };
    refused(Request::new("a red fox"), "`prompt` is given");
    let negative_prompts = vec!["blurry".to_owned()];
    refused(
        Request {
            negative_prompts,
            ..Request::new("")
        },
        "`negative_prompt` is given",
    );
    refused(
        Request {
            guidance_scale: Some(4.0),
            ..Request::new("")
        },
        "`guidance_scale` is given",
    );
    refused(
        Request {
            size: Some((33, 32)),
            ..Request::new("")
        },
        "33x32 is not a multiple of 8",
    );
}

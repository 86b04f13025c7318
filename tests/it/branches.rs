//! The laws of reuse inside cells, on a real `UNet`: T-GATE, alone and beside rules that cut the trunk.

use afterimage::cache::CacheRule;
use afterimage::pipeline::{Generated, Pipeline, Request};
use burn::tensor::Device;

use crate::fixture::{Fixture, shared};
use crate::golden::load;

const STEPS: usize = 6;

fn pipeline() -> Pipeline {
    load(&Fixture::committed("sd15"), &Device::flex())
}

fn made(pipeline: &Pipeline, rule: &str) -> Generated {
    let mut request = Request::new("a red circle");
    request.steps = Some(STEPS);
    request.guidance_scale = Some(5.0);
    request.cache = rule.parse().unwrap();
    pipeline.generate(&request, &mut ()).unwrap()
}

fn latents(generated: &Generated) -> Vec<f32> {
    generated.latents.to_data().iter::<f32>().collect()
}

#[test]
fn a_gate_behind_the_last_step_is_the_plain_run() {
    let pipeline = pipeline();
    let plain = latents(&made(&pipeline, "none"));
    let gated = latents(&made(&pipeline, "tgate:gate=60"));
    assert!(gated == plain);
}

#[test]
fn a_gate_freezes_cross_attention_and_ends_guidance() {
    let pipeline = pipeline();
    let plain = made(&pipeline, "none");
    let gated = made(&pipeline, "tgate:gate=2");
    assert!(latents(&gated) != latents(&plain));
    let again = made(&pipeline, "tgate:gate=2");
    assert!(
        latents(&again) == latents(&gated),
        "no state outlives a run"
    );
    let crosses = crate::golden::unet(&pipeline).config().line().len(); // cells at most
    let reused = gated.report.account.branches_reused;
    assert!(
        reused > 0 && reused.is_multiple_of(STEPS - 2) && reused <= (STEPS - 2) * crosses,
        "{reused}"
    );
    assert_eq!(gated.report.account.fallbacks, 0);
    // Half of the rows for four of six steps, and no attention to the text there.
    let ratio = gated.report.forecast.ratio();
    assert!(ratio < (2.0 + 4.0 * 0.5) / 6.0, "{ratio}");
}

#[test]
fn a_gate_goes_with_rules_that_cut() {
    let pipeline = pipeline();
    for cut in [
        "deepcache:interval=3,branch=1",
        "encoder-propagation:keys=0+1+4",
    ] {
        let rule = format!("{cut};tgate:gate=3");
        let both = made(&pipeline, &rule);
        assert!(latents(&both) != latents(&made(&pipeline, cut)), "{rule}");
        let report = &both.report;
        assert_eq!(report.account.fallbacks, 0, "{rule}");
        assert_eq!(report.account.cells, report.forecast.cells, "{rule}");
        assert!(report.account.branches_reused > 0, "{rule}");
    }
}

#[test]
fn guidance_that_ends_early_saves_a_row() {
    let pipeline = pipeline();
    let made = |until: f64, rule: &str| {
        let mut request = Request::new("a red circle");
        request.steps = Some(STEPS);
        request.guidance_scale = Some(5.0);
        request.guidance_until = Some(until);
        request.cache = rule.parse().unwrap();
        pipeline.generate(&request, &mut ())
    };
    let plain = latents(&self::made(&pipeline, "none"));
    assert!(latents(&made(1.0, "none").unwrap()) == plain);
    let early = made(0.5, "none").unwrap();
    assert!(latents(&early) != plain);
    // PNDM calls the model 7 times in 6 steps; the last 3 have one row instead of two.
    let ratio = early.report.forecast.ratio();
    assert!((ratio - 11.0 / 14.0).abs() < 1e-12, "{ratio}");
    let cached = made(0.5, "deepcache:interval=5").unwrap().report.account;
    assert_eq!((cached.refreshes, cached.fallbacks), (3, 0));
    let error = made(1.5, "none").unwrap_err().to_string();
    assert!(
        error.contains("`guidance_until`") && error.contains("0 to 1"),
        "{error}"
    );
}

#[test]
fn rules_that_do_the_same_are_refused() {
    for rule in [
        "tgate:gate=2;tgate:gate=3",
        "deepcache:interval=2;encoder-propagation:every=2",
    ] {
        let error = rule.parse::<CacheRule>().unwrap_err().to_string();
        assert!(error.contains("do not go together"), "{error}");
    }
    let pipeline = pipeline();
    for (rule, reason) in [
        ("tgate:gate=0", "gate at step 0"),
        (
            "encoder-propagation:every=3,parallel=3;tgate:gate=3",
            "parallel",
        ),
    ] {
        let mut request = Request::new("");
        request.cache = rule.parse().unwrap();
        let error = request.resolve(pipeline.config()).unwrap_err().to_string();
        assert!(error.contains(reason), "{rule}: {error}");
    }
}

/// What the published routers for DiT-XL/2 compute at their reuse steps.
#[test]
fn published_routers_compute_as_many_branches_as_published() {
    use afterimage::cache::{Course, Router};
    use afterimage::models::dit::DiTConfig;

    let Some(routers) = shared("data/routers") else {
        eprintln!("skipped: this checkout has no published routers");
        return;
    };
    let config = DiTConfig::from_json(r#"{"out_channels":8}"#).unwrap();
    let trunk = config.blueprint(32, 32);
    for (file, steps, computed) in [("DDIM20_router.pt", 20, 312), ("DDIM50_router.pt", 50, 736)] {
        let router = Router::read(routers.join(file), 0.1).unwrap();
        let rule = CacheRule::learning_to_cache(router);
        let plan = rule.plan(&Course::steps(steps), &trunk).unwrap();
        let spared: usize = (0..steps)
            .map(|step| plan.branches.reused(step).count())
            .sum();
        assert_eq!(56 * steps / 2 - spared, computed, "{file}");
        let error = rule.plan(&Course::steps(steps + 1), &trunk).unwrap_err();
        assert!(error.to_string().contains("is for"), "{error}");
    }
}

/// The threshold of a calibrated router is the share of the branches' work that is spared where it may be.
#[test]
fn calibrated_routers_spare_what_their_threshold_says() {
    use afterimage::cache::{Course, Router};
    use afterimage::catalog::ModelFolder;
    use afterimage::denoiser::Rows;
    use afterimage::pipeline::Pipeline;
    use burn::tensor::DType;

    let model = Fixture::committed("dit").model();
    let folder = ModelFolder::open(model.to_str().unwrap()).unwrap();
    let pipeline = Pipeline::load(&folder, &Device::flex(), DType::F32).unwrap();
    let mut request = Request::of_classes([207]);
    request.steps = Some(5);
    let router = pipeline.calibrate(&request, &[1, 2], &mut ()).unwrap();
    let blueprint = pipeline.config().blueprint([16, 16]);
    let branches = blueprint.cells.iter().flat_map(|cell| &cell.branches);
    let all = 2 * branches.map(|branch| branch.macs).sum::<u64>();
    let rows = Rows::new(1, 1);
    for threshold in [0.25, 0.5, 1.0] {
        let rule = CacheRule::learning_to_cache(router.clone().with_threshold(threshold));
        let plan = rule.plan(&Course::steps(5), &blueprint).unwrap();
        let forecast = plan.forecast(&blueprint, rows, 4);
        let spared = (forecast.plain_macs - forecast.total_macs()) as f64 / all as f64;
        assert!(
            spared <= threshold && spared > threshold - 0.1,
            "{threshold}: {spared}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("router.safetensors");
    router.write(std::fs::File::create(&path).unwrap()).unwrap();
    assert_eq!(Router::read(&path, 0.5).unwrap().scores(), router.scores());
    request.sampler = Some("heun".parse().unwrap());
    let error = pipeline.calibrate(&request, &[1], &mut ()).unwrap_err();
    assert!(error.is_plan(), "{error}");
}

//! The laws of caching (docs/methods.md) on a real `UNet`, with the tiny weights of the `sd15` fixture.

use afterimage::cache::{CachePlan, CacheRule, Course, Refresh, Session};
use afterimage::conditioning::Conditioning;
use afterimage::denoise::Noise as _;
use afterimage::denoiser::{Carry as _, Evaluation, Rows, StagedDenoiser};
use afterimage::models::unet::{CellModule, Extent, UNet, UNetConfig};
use afterimage::pipeline::{Pipeline, Request, SeededNoise, Seeds};
use afterimage::recall::Recall;
use burn::tensor::{Device, Tensor};

use crate::fixture::{Fixture, Reference, values};
use crate::golden::load;
use crate::tolerance::F32_CPU;

/// An odd size: 9x5 latents halve to 5x3, 3x2, 2x1.
const EXTENT: Extent = Extent {
    height: 9,
    width: 5,
    tokens: 7,
};

fn pipeline() -> Pipeline {
    load(&Fixture::committed("sd15"), &Device::flex())
}

fn normals(shape: [usize; 4], seed: u64) -> Tensor<4> {
    SeededNoise::new(&Seeds::One(seed), &Device::flex()).draw(shape)
}

fn latents(rows: usize, seed: u64) -> Tensor<4> {
    normals([rows, 4, EXTENT.height, EXTENT.width], seed)
}

fn condition(unet: &UNet, rows: usize) -> Conditioning {
    let width = unet.config().context_width;
    Conditioning::of_context(normals([1, rows, EXTENT.tokens, width], 9).squeeze_dim(0))
}

fn evaluation(index: usize, timestep: f64) -> Evaluation {
    Evaluation { index, timestep }
}

fn plan(unet: &UNet, rule: &CacheRule, evaluations: usize) -> CachePlan {
    rule.plan(
        &Course::steps(evaluations),
        &unet.config().blueprint(EXTENT),
    )
    .unwrap()
}

#[test]
fn a_pass_can_pause_at_every_cut() {
    let pipeline = pipeline();
    let unet = crate::golden::unet(&pipeline);
    let evaluations = [evaluation(0, 501.0)];
    let run = unet.start(&condition(unet, 2), &evaluations);
    let prepared = unet.prepare(&run, &evaluations);
    let cells = unet.cells();
    let whole = unet.forward(latents(2, 1), &prepared);
    let whole = values(whole);
    for cut in 0..=cells {
        let carry = unet.enter(latents(2, 1), &prepared);
        let carry = unet.advance(carry, 0..cut, &prepared, &mut Recall::none());
        let rest = |carry| {
            let carry = unet.advance(carry, cut..cells, &prepared, &mut Recall::none());
            unet.leave(carry, &prepared)
        };
        let paused = rest(carry.clone());
        assert_eq!(values(paused), whole, "cut {cut}");
        let again = rest(carry);
        assert_eq!(values(again), whole, "cut {cut}, resumed a second time");
    }
}

#[test]
fn reuse_at_the_same_latents_and_time_changes_nothing() {
    let pipeline = pipeline();
    let unet = crate::golden::unet(&pipeline);
    let evaluations = [0, 1].map(|index| evaluation(index, 501.0));
    let run = unet.start(&condition(unet, 2), &evaluations);
    let rows = Rows::new(2, 1);
    for skip in 0..unet.config().skips() {
        let plan = plan(
            unet,
            &CacheRule::deepcache_skip(skip, Refresh::At(vec![0])),
            2,
        );
        let mut session = Session::new(unet, &run, &plan, rows);
        let mut predict = |index: usize| {
            let span = &plan.spans[index];
            values(
                session
                    .predict(span, &evaluations[index..=index], || latents(2, 1))
                    .remove(0),
            )
        };
        assert_eq!(predict(0), predict(1), "skip {skip}");
        let account = session.account();
        assert_eq!(
            (account.refreshes, account.reuses, account.fallbacks),
            (1, 1, 0),
            "skip {skip}"
        );
        let forecast = plan.forecast(&unet.config().blueprint(EXTENT), rows, size_of::<f32>());
        assert_eq!(account.cells, forecast.cells, "skip {skip}");
        assert_eq!(
            account.store_bytes as u64, forecast.store_bytes,
            "skip {skip}"
        );
    }
}

#[test]
fn a_reuse_step_at_skip_0_runs_the_outermost_two_modules() {
    let pipeline = pipeline();
    let config = crate::golden::unet(&pipeline).config();
    let line = config.line();
    let plan = plan(
        crate::golden::unet(&pipeline),
        &CacheRule::deepcache(2, 0),
        2,
    );
    let run: Vec<CellModule> = plan
        .runs(false)
        .into_iter()
        .flat_map(|cells| line[cells].to_vec())
        .collect();
    assert_eq!(
        run,
        [CellModule::ConvIn, CellModule::Up { level: 0, layer: 2 }]
    );
}

fn short(rule: CacheRule, guidance_scale: f64) -> Request {
    let (steps, size) = (Some(3), Some((72, 40)));
    Request {
        steps,
        size,
        guidance_scale: Some(guidance_scale),
        cache: rule,
        ..Request::new("a red fox")
    }
}

#[test]
fn an_interval_of_one_is_the_plain_run_bit_for_bit() {
    let pipeline = pipeline();
    let run = |request: &Request| values(pipeline.generate(request, &mut ()).unwrap().latents);
    for guidance in [1.0, 7.5] {
        let plain = run(&short(CacheRule::none(), guidance));
        for branch in 0..crate::golden::unet(&pipeline).config().skips() {
            assert_eq!(
                run(&short(CacheRule::deepcache(1, branch), guidance)),
                plain,
                "branch {branch}"
            );
        }
        let every_key = CacheRule::encoder_propagation(Refresh::EveryStep);
        assert_eq!(
            run(&short(every_key, guidance)),
            plain,
            "encoder propagation"
        );
        for rule in [
            CacheRule::deepcache(2, 0),
            CacheRule::encoder_propagation(Refresh::every(2)),
        ] {
            assert_ne!(run(&short(rule, guidance)), plain, "the cache is not used");
        }
        assert_eq!(
            run(&short(CacheRule::none(), guidance)),
            plain,
            "state leaks between runs"
        );
    }
}

#[test]
fn two_passes_of_guidance_equal_the_batched_one() {
    let pipeline = pipeline();
    let unet = crate::golden::unet(&pipeline);
    let both = condition(unet, 2);
    let plan = plan(unet, &CacheRule::deepcache(2, 1), 2);
    let predictions = |context: Tensor<3>, rows: usize| {
        let evaluations = [evaluation(0, 701.0), evaluation(1, 501.0)];
        let run = unet.start(&Conditioning::of_context(context), &evaluations);
        let mut session = Session::new(unet, &run, &plan, Rows::new(rows, 1));
        let predict = |index: usize| {
            let input = || latents(1, index as u64).repeat_dim(0, rows);
            session
                .predict(&plan.spans[index], &evaluations[index..=index], input)
                .remove(0)
        };
        (0..2).map(predict).collect::<Vec<_>>()
    };
    let half = |row: usize| predictions(both.states().clone().narrow(0, row, 1), 1);
    let (unconditioned, conditioned) = (half(0), half(1));
    for (index, batched) in predictions(both.states().clone(), 2)
        .into_iter()
        .enumerate()
    {
        let separate = Tensor::cat(
            vec![unconditioned[index].clone(), conditioned[index].clone()],
            0,
        );
        let reference = Reference::from(batched);
        reference
            .compare(separate, 1e-5)
            .unwrap_or_else(|error| panic!("evaluation {index}: {error}"));
    }
}

#[test]
fn batched_propagation_is_the_sequential_one_under_every_kind_of_sampler() {
    let pipeline = pipeline();
    for sampler in [
        "ddim",
        "dpmsolver++",
        "pndm",
        "euler",
        "ddpm",
        "euler-a",
        "unipc",
    ] {
        for (batch, guidance) in [(1, 7.5), (2, 1.0), (3, 2.0)] {
            let run = |parallel: usize| {
                let rule = CacheRule::encoder_propagation(Refresh::At(vec![0, 1, 4]));
                let request = Request {
                    steps: Some(6),
                    size: Some((72, 40)),
                    batch,
                    sampler: Some(sampler.parse().unwrap()),
                    guidance_scale: Some(guidance),
                    cache: rule.with_parallel(parallel),
                    ..Request::new("a red fox")
                };
                pipeline.generate(&request, &mut ()).unwrap().latents
            };
            let sequential = run(1);
            let reference = Reference::from(sequential);
            for parallel in [2, 3] {
                let outcome = reference.compare(run(parallel), F32_CPU);
                outcome.unwrap_or_else(|error| {
                    panic!("{sampler}, {batch} pictures, parallel {parallel}: {error}")
                });
            }
        }
    }
}

/// Shares of the plain run's cost, SD 1.5 at 512x512.
#[test]
fn forecasts_of_propagation_are_the_published_ones() {
    let card = include_str!("../../models/cards/stable-diffusion-v1-5/unet/config.json");
    let config = UNetConfig::from_json(card).unwrap();
    let blueprint = config.blueprint(Extent {
        height: 64,
        width: 64,
        tokens: 77,
    });
    let rows = Rows::new(2, 1);
    for (steps, share) in [(50, 0.734), (20, 0.79)] {
        let rule: CacheRule = "encoder-propagation:keys=50ls".parse().unwrap();
        let plan = rule.plan(&Course::steps(steps), &blueprint).unwrap();
        let ratio = plan.forecast(&blueprint, rows, 2).ratio();
        assert!(
            (ratio - share).abs() < 0.005,
            "{steps} steps: {ratio}, published {share}"
        );
    }
}

#[test]
fn propagated_steps_do_not_read_the_latents() {
    let pipeline = pipeline();
    let unet = crate::golden::unet(&pipeline);
    let evaluations = [evaluation(0, 701.0), evaluation(1, 501.0)];
    let run = unet.start(&condition(unet, 1), &evaluations);
    let plan = plan(
        unet,
        &CacheRule::encoder_propagation(Refresh::At(vec![0])),
        2,
    );
    let mut session = Session::new(unet, &run, &plan, Rows::new(1, 1));
    session.predict(&plan.spans[0], &evaluations[..1], || latents(1, 1));
    session.predict(&plan.spans[1], &evaluations[1..], || {
        panic!("the latents were read")
    });
    let prepared = unet.prepare(&run, &evaluations[..1]);
    let carry = unet.enter(latents(1, 1), &prepared);
    assert_eq!(carry.bytes(), 4 * 4 * EXTENT.height * EXTENT.width);
}

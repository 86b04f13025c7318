//! Laws of caching, on toy trunks.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests fail by panicking, and their numbers are small"
)]

mod changes;
mod deciders;
mod forecasts;
mod published;
mod rows;
mod verified;
mod whole;

use afterimage::{
    cache::{CacheRule, Course, OpenSkips, Refresh, Session},
    denoiser::{Evaluation, Rows, StagedDenoiser},
    recall::Recall,
};
use proptest::prelude::*;

use crate::toy_trunk::{
    HEIGHT, Request, ToyDit, ToyUnet, WIDTH, assert_forecast, drive, expand, run_dit, run_unet,
    tensor, values, wave,
};

/// Every cut of a trunk that the rules can name, refreshed at `refresh`.
fn rules(unet: &ToyUnet, refresh: &Refresh) -> Vec<CacheRule> {
    let skips = (0..unet.skips).map(|skip| CacheRule::deepcache_skip(skip, refresh.clone()));
    let cells = (1..unet.cells()).map(|cut| CacheRule::dit_propagation(cut, refresh.clone()));
    let middle = [CacheRule::encoder_propagation(refresh.clone())];
    skips.chain(cells).chain(middle).collect()
}

#[test]
fn the_toys_keep_the_law_of_the_split() {
    let unet = ToyUnet::new(4);
    let prepared = unet.prepare(
        &wave(2, 1),
        &[Evaluation {
            index: 0,
            timestep: 500.0,
        }],
    );
    let sample = tensor(wave(2 * HEIGHT * WIDTH, 3), [2, 1, HEIGHT, WIDTH]);
    let whole = unet.forward(sample.clone(), &prepared);
    for cut in 0..=9 {
        let carry = unet.enter(sample.clone(), &prepared);
        let carry = unet.advance(carry, 0..cut, &prepared, &mut Recall::none());
        let carry = unet.advance(carry, cut..9, &prepared, &mut Recall::none());
        let split = unet.leave(carry, &prepared);
        assert_eq!(values(&split), values(&whole), "cut {cut}");
    }
}

/// A rule that always refreshes is the plain run, bit for bit, wherever it cuts.
#[test]
fn always_refreshing_is_the_plain_run() {
    let unet = ToyUnet::new(4);
    for halves in 1..=3 {
        let request = Request::new(6, halves, 2);
        let plain = run_unet(&unet, &CacheRule::none(), &request);
        let everything = [
            Refresh::EveryStep,
            Refresh::Uniform { interval: 1 },
            Refresh::At((0..6).collect()),
        ];
        for refresh in everything {
            for rule in rules(&unet, &refresh) {
                let cached = run_unet(&unet, &rule, &request);
                assert_eq!(cached.predictions, plain.predictions, "{rule}");
                assert_eq!(cached.latents, plain.latents, "{rule}");
                assert_eq!(cached.account.store_bytes, 0, "{rule}");
            }
        }
    }
}

/// The plain run makes exactly the calls of a plain forward pass.
#[test]
fn the_plain_run_is_the_forward_pass() {
    let unet = ToyUnet::new(3);
    let request = Request::new(4, 2, 1);
    let outcome = run_unet(&unet, &CacheRule::none(), &request);
    let first = request.evaluations()[0];
    let prepared = unet.prepare(&request.conditions(), &[first]);
    let latents = tensor(request.latents(), [1, 1, HEIGHT, WIDTH]);
    let forward = unet.forward(expand(&latents, request.rows), &prepared);
    assert_eq!(outcome.predictions[0], values(&forward));
    assert_eq!(outcome.account.cells, [4; 7]);
    assert_eq!(outcome.account.fallbacks, 0);
}

/// A reuse step on the latents and timestep of its refresh gives what the refresh gave.
#[test]
fn reuse_at_the_same_place_changes_nothing() {
    let unet = ToyUnet::new(4);
    let conditions = wave(2, 5);
    let rows = Rows::new(2, 1);
    let evaluations = [0, 1].map(|index| Evaluation {
        index,
        timestep: 321.0,
    });
    let sample = tensor(wave(2 * HEIGHT * WIDTH, 3), [2, 1, HEIGHT, WIDTH]);
    for rule in rules(&unet, &Refresh::every(2)) {
        let plan = rule.plan(&Course::steps(2), &unet.blueprint()).unwrap();
        let mut session = Session::new(&unet, &conditions, &plan, rows);
        let made: Vec<Vec<f32>> = plan
            .spans
            .iter()
            .map(|span| {
                let made = session.predict(span, &evaluations[span.range()], || sample.clone());
                values(&made[0])
            })
            .collect();
        assert_eq!(made[0], made[1], "{rule}");
        assert_eq!(session.account().reuses, 1, "{rule}");
    }
}

/// The cells that really run, by name.
#[test]
fn reuse_steps_run_the_outermost_cells_only() {
    let names = |skip: usize| -> Vec<String> {
        let unet = ToyUnet::new(12);
        run_unet(
            &unet,
            &CacheRule::deepcache(2, skip),
            &Request::new(2, 1, 1),
        );
        let cells = unet.blueprint().cells;
        let log = unet.log.lock().unwrap();
        assert_eq!(log[..25], (0..25).collect::<Vec<_>>());
        log[25..]
            .iter()
            .map(|&cell| cells[cell].name.clone())
            .collect()
    };
    assert_eq!(names(0), ["e0", "d0"]);
    assert_eq!(names(1), ["e0", "e1", "d1", "d0"]);
    assert_eq!(names(3), ["e0", "e1", "e2", "e3", "d3", "d2", "d1", "d0"]);
    let last = names(11);
    assert_eq!(last.len(), 24);
    assert!(!last.contains(&"mid".to_owned()));
}

/// The store is really read.
#[test]
fn reuse_depends_on_the_refresh() {
    let unet = ToyUnet::new(4);
    let conditions = wave(1, 5);
    let rows = Rows::new(1, 1);
    let evaluations = Request::new(2, 1, 1).evaluations();
    let latents = |seed| tensor(wave(HEIGHT * WIDTH, seed), [1, 1, HEIGHT, WIDTH]);
    for rule in rules(&unet, &Refresh::every(2)) {
        let plan = rule.plan(&Course::steps(2), &unet.blueprint()).unwrap();
        let second = |seeds: [usize; 2]| {
            let mut session = Session::new(&unet, &conditions, &plan, rows);
            session.predict(&plan.spans[0], &evaluations[..1], || latents(seeds[0]));
            let made = session.predict(&plan.spans[1], &evaluations[1..], || latents(seeds[1]));
            values(&made[0])
        };
        let reads_latents = plan.skips == OpenSkips::Recompute;
        assert_ne!(second([1, 2]), second([3, 2]), "{rule} ignores its store");
        assert_eq!(second([1, 2]) != second([1, 3]), reads_latents, "{rule}");
    }
}

/// Where skips are held, reuse spans never ask for the latents.
#[test]
fn held_reuse_never_touches_the_latents() {
    let unet = ToyUnet::new(3);
    let request = Request::new(9, 2, 1);
    let evaluations = request.evaluations();
    for parallel in [1, 2, 4] {
        let rule = CacheRule::encoder_propagation(Refresh::every(4)).with_parallel(parallel);
        let plan = rule.plan(&request.course(), &unet.blueprint()).unwrap();
        let conditions = request.conditions();
        let mut session = Session::new(&unet, &conditions, &plan, request.rows);
        let mut asked = Vec::new();
        for span in &plan.spans {
            session.predict(span, &evaluations[span.range()], || {
                asked.push(span.first);
                expand(
                    &tensor(request.latents(), [1, 1, HEIGHT, WIDTH]),
                    request.rows,
                )
            });
        }
        assert_eq!(asked, [0, 4, 8]);
    }
}

/// Decoding several steps in one batch changes no bit.
#[test]
fn batched_is_sequential() {
    let unet = ToyUnet::new(3);
    let dit = ToyDit::new(6);
    for interval in 1..=7 {
        for (halves, items) in [(1, 1), (2, 1), (2, 3), (3, 2)] {
            let request = Request::new(15, halves, items);
            let sequential = CacheRule::encoder_propagation(Refresh::every(interval));
            let blocks = CacheRule::dit_propagation(4, Refresh::every(interval));
            let expected = run_unet(&unet, &sequential, &request);
            let expected_blocks = run_dit(&dit, &blocks, &request);
            for cap in 1..=8 {
                let rule = sequential.clone().with_parallel(cap);
                let found = run_unet(&unet, &rule, &request);
                assert_eq!(found.predictions, expected.predictions, "{rule}");
                assert_eq!(found.latents, expected.latents, "{rule}");
                assert_eq!(found.account.cells, expected.account.cells, "{rule}");
                let found = run_dit(&dit, &blocks.clone().with_parallel(cap), &request);
                assert_eq!(found.predictions, expected_blocks.predictions, "{rule}");
            }
        }
    }
}

proptest! {
    /// What runs is what the forecast says, and the log agrees.
    #[test]
    fn executed_cells_are_the_forecast(
        skips in 1..6_usize,
        steps in 1..14_usize,
        interval in 1..6_usize,
        cap in 1..5_usize,
        guard in prop_oneof![Just(0.0), 0.0..0.4],
        halves in 1..3_usize,
    ) {
        let request = Request::new(steps, halves, 1);
        let refresh = Refresh::every(interval);
        for rule in rules(&ToyUnet::new(skips), &refresh) {
            let rule = rule.with_guard(guard);
            let held = rule.cut.skips() == OpenSkips::Hold;
            let rule = if held { rule.with_parallel(cap) } else { rule };
            let unet = ToyUnet::new(skips);
            let plan = rule.plan(&request.course(), &unet.blueprint()).unwrap();
            let outcome = drive(&unet, &plan, &request);
            assert_forecast(&plan, &unet.blueprint(), request.rows, &outcome.account);
            let batches = |cell| unet.log.lock().unwrap().iter().filter(|&&ran| ran == cell).count();
            prop_assert_eq!(batches(2 * skips), plan.spans.len());
            let front = plan.spans.iter().filter(|span| span.refresh || plan.prefix > 0);
            prop_assert_eq!(batches(0), front.count());
        }
    }
}

/// The store holds the one deep tensor, or the hidden tensor with its skips.
#[test]
fn the_store_holds_what_the_rule_needs() {
    let unet = ToyUnet::new(4);
    let bytes = |rule: CacheRule| {
        run_unet(&unet, &rule, &Request::new(4, 2, 1))
            .account
            .store_bytes
    };
    let row = 4 * 2 * HEIGHT * WIDTH;
    assert_eq!(bytes(CacheRule::deepcache(2, 0)), row);
    assert_eq!(bytes(CacheRule::deepcache(2, 2)), 3 * row);
    assert_eq!(bytes(CacheRule::deepcache(2, 3)), 4 * row);
    let held = CacheRule::encoder_propagation(Refresh::every(2));
    assert_eq!(bytes(held.clone()), (4 + 4 + 3 + 2 + 1) * row);
    assert_eq!(bytes(held.with_parallel(2)), 0);
}

/// `DiT` propagation: the first cells at keys only.
#[test]
fn dit_reuse_runs_the_last_blocks_only() {
    let dit = ToyDit::new(6);
    let rule = CacheRule::dit_propagation(4, vec![0, 2]);
    run_dit(&dit, &rule, &Request::new(4, 2, 1));
    assert_eq!(
        *dit.log.lock().unwrap(),
        [0, 1, 2, 3, 4, 5, 4, 5, 0, 1, 2, 3, 4, 5, 4, 5]
    );
}

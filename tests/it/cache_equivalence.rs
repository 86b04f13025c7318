//! Laws of caching, on toy trunks (METHODS section 8, tests 1 to 15).
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests fail by panicking, and their numbers are small"
)]

use std::ops::Range;

use afterimage::{
    cache::{CachePlan, CacheRule, Course, OpenSkips, Refresh, Session, Span},
    denoiser::{Blueprint, Carry, Cell, Evaluation, Rows, StagedDenoiser},
    recall::Recall,
};
use burn::tensor::Tensor;
use proptest::prelude::*;

use crate::toy_trunk::{
    HEIGHT, Request, ToyDit, ToyUnet, WIDTH, assert_forecast, drive, embedding, expand, gain,
    run_dit, run_unet, shift, tensor, values, wave,
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

/// Tests 1 and 12: a rule that always refreshes is the plain run, bit for bit, wherever it cuts.
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

/// Test 2: a reuse step on the latents and timestep of its refresh gives what the refresh gave.
#[test]
fn reuse_at_the_same_place_changes_nothing() {
    let unet = ToyUnet::new(4);
    let conditions = wave(2, 5);
    let rows = Rows {
        halves: 2,
        items: 1,
    };
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

/// Test 3: the cells that really run, by name.
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
        let log = unet.log.borrow();
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

/// The published loop, straight: one number a pixel, no cells, no spans, no store but `deep`.
mod published {
    use super::{Request, embedding, gain, shift};

    fn squash(value: f32) -> f32 {
        value / (value * value + 1.0)
    }

    /// Encoder levels `0..=upto`, then, if asked for, the middle and the decoder from `deep`. Gives the prediction and the
    /// tensor in front of decoder `skip`.
    fn unet(
        pixel: f32,
        embedding: f32,
        skips: usize,
        skip: usize,
        deep: Option<&[f32]>,
    ) -> (f32, Vec<f32>) {
        let through = |cell: usize, value: f32| squash(value * gain(cell) + shift(cell, embedding));
        let upto = if deep.is_some() { skip + 1 } else { skips };
        let mut encoded: Vec<Vec<f32>> = Vec::new();
        for level in 0..upto {
            let next = match encoded.last() {
                None => vec![through(0, pixel)],
                Some(previous) => {
                    let mut next = previous.clone();
                    next.push(through(level, previous[0]));
                    next
                }
            };
            encoded.push(next);
        }
        let start = deep.map_or(skips - 1, |_| skip);
        let mut hidden = match deep {
            Some(deep) => deep.to_vec(),
            None => encoded[skips - 1]
                .iter()
                .map(|&value| through(skips, value))
                .collect(),
        };
        let mut tapped = hidden.clone();
        for level in (0..=start).rev() {
            if level == skip {
                tapped.clone_from(&hidden);
            }
            let cell = 2 * skips - level;
            let mixed = hidden.iter().zip(&encoded[level]);
            let mut next: Vec<f32> = mixed
                .map(|(&value, &skip)| {
                    squash((value * gain(cell) + shift(cell, embedding)) + skip * 0.5)
                })
                .collect();
            next.truncate(level.max(1));
            hidden = next;
        }
        (hidden[0], tapped)
    }

    /// Latents after the run, without guidance and with one picture.
    pub(super) fn deepcache(
        request: &Request,
        skips: usize,
        skip: usize,
        full: &[usize],
    ) -> Vec<f32> {
        let condition = request.conditions()[0];
        let denoise = |start: f32| {
            let (mut pixel, mut deep) = (start, None::<Vec<f32>>);
            for (index, &timestep) in request.timesteps.iter().enumerate() {
                let embedding = embedding(timestep, condition);
                let kept = deep.as_deref().filter(|_| !full.contains(&index));
                let (prediction, tapped) = unet(pixel, embedding, skips, skip, kept);
                if kept.is_none() {
                    deep = Some(tapped);
                }
                pixel -= prediction * (0.1 + timestep as f32 / 4000.0);
            }
            pixel
        };
        request.latents().into_iter().map(denoise).collect()
    }
}

/// Every branch and interval against the published loop.
#[test]
fn deepcache_is_the_published_loop() {
    let unet = ToyUnet::new(5);
    let request = Request::new(11, 1, 1);
    for skip in 0..5 {
        for interval in 1..=12 {
            let full: Vec<usize> = (0..11).step_by(interval).collect();
            let expected = published::deepcache(&request, 5, skip, &full);
            let found = run_unet(&unet, &CacheRule::deepcache(interval, skip), &request);
            for (found, expected) in found.latents.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "skip {skip}, interval {interval}: {found} and {expected}"
                );
            }
        }
    }
}

/// Test 6 and the published negative test: the store is really read.
#[test]
fn reuse_depends_on_the_refresh() {
    let unet = ToyUnet::new(4);
    let conditions = wave(1, 5);
    let rows = Rows {
        halves: 1,
        items: 1,
    };
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

/// Test 15: where skips are held, reuse spans never ask for the latents.
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

/// Test 13: decoding several steps in one batch changes no bit.
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

/// Answers `[half, item, condition, timestep]` for each row: the first two travel with the stored tensor, the others are prepared.
struct Coder;

#[derive(Clone)]
struct Codes {
    hidden: Tensor<4>,
}

impl Carry for Codes {
    fn graft_deep(&mut self, from: &Self) {
        self.hidden = from.hidden.clone();
    }

    fn without_skips(self) -> Self {
        self
    }

    fn repeat(&self, steps: usize) -> Self {
        Self {
            hidden: self.hidden.clone().repeat_dim(0, steps),
        }
    }

    fn bytes(&self) -> usize {
        0
    }
}

impl StagedDenoiser for Coder {
    type Carry = Codes;
    type Condition = Tensor<3>;
    type Run = Vec<f32>;
    type Prepared = Tensor<4>;

    fn cells(&self) -> usize {
        2
    }

    fn start(&self, condition: &Tensor<3>, _evaluations: &[Evaluation]) -> Vec<f32> {
        values(condition)
    }

    fn prepare(&self, run: &Vec<f32>, evaluations: &[Evaluation]) -> Tensor<4> {
        let rows = evaluations.iter().flat_map(|evaluation| {
            let timestep = evaluation.timestep as f32;
            run.iter().flat_map(move |&condition| [condition, timestep])
        });
        tensor(rows.collect(), [run.len() * evaluations.len(), 2, 1, 1])
    }

    fn select(&self, run: &Vec<f32>, rows: Range<usize>) -> Vec<f32> {
        run[rows].to_vec()
    }

    fn enter(&self, sample: Tensor<4>, _prepared: &Self::Prepared) -> Codes {
        Codes { hidden: sample }
    }

    fn advance(
        &self,
        mut carry: Codes,
        cells: Range<usize>,
        prepared: &Tensor<4>,
        _recall: &mut Recall<'_>,
    ) -> Codes {
        if cells.contains(&1) {
            carry.hidden = Tensor::cat(vec![carry.hidden, prepared.clone()], 1);
        }
        carry
    }

    fn leave(&self, carry: Codes, _prepared: &Self::Prepared) -> Tensor<4> {
        carry.hidden
    }
}

fn coder_plan(steps: usize, interval: usize, cap: usize) -> CachePlan {
    let cell = Cell {
        name: String::new(),
        macs: 1,
        hidden: 2,
        pushes: 0,
        pops: false,
        ..Cell::default()
    };
    let trunk = Blueprint {
        cells: vec![cell.clone(), cell],
        prepare_macs: 0,
        leave_macs: 0,
    };
    let rule = CacheRule::dit_propagation(1, Refresh::every(interval)).with_parallel(cap);
    rule.plan(&Course::steps(steps), &trunk).unwrap()
}

/// `[half, item]` for each row.
fn row_codes(rows: Rows) -> Vec<[f32; 2]> {
    let halves = (0..rows.halves).map(|half| half as f32);
    halves
        .flat_map(|half| (0..rows.items).map(move |item| [half, item as f32]))
        .collect()
}

proptest! {
    /// Test 14: step, half and item of every row belong together. Half-major rows would fail it.
    #[test]
    fn rows_never_mix(
        halves in 1..4_usize,
        items in 1..4_usize,
        steps in 1..12_usize,
        interval in 1..8_usize,
        cap in 1..8_usize,
    ) {
        let rows = Rows { halves, items };
        let plan = coder_plan(steps, interval, cap);
        let conditions: Vec<f32> = row_codes(rows).iter().map(|[half, item]| 10.0 * half + item).collect();
        let evaluations = Request::new(steps, halves, items).evaluations();
        let mut session = Session::new(&Coder, &conditions, &plan, rows);
        let sample = tensor(row_codes(rows).concat(), [rows.total(), 2, 1, 1]);
        for span in &plan.spans {
            let span_evaluations = &evaluations[span.range()];
            let made = session.predict(span, span_evaluations, || sample.clone());
            prop_assert_eq!(made.len(), span.len);
            for (evaluation, prediction) in span_evaluations.iter().zip(made) {
                let expected: Vec<f32> = row_codes(rows)
                    .iter()
                    .flat_map(|&[half, item]| [half, item, 10.0 * half + item, evaluation.timestep as f32])
                    .collect();
                prop_assert_eq!(values(&prediction), expected);
            }
        }
    }

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
            let batches = |cell| unet.log.borrow().iter().filter(|&&ran| ran == cell).count();
            prop_assert_eq!(batches(2 * skips), plan.spans.len());
            let front = plan.spans.iter().filter(|span| span.refresh || plan.prefix > 0);
            prop_assert_eq!(batches(0), front.count());
        }
    }
}

/// Test 8: two passes with a store each are one pass with both halves.
#[test]
fn two_pass_guidance_is_batched_guidance() {
    let unet = ToyUnet::new(4);
    let request = Request::new(8, 2, 2);
    let conditions = request.conditions();
    let evaluations = request.evaluations();
    let half = Rows {
        halves: 1,
        items: 2,
    };
    for rule in rules(&unet, &Refresh::every(3)) {
        let plan = rule.plan(&request.course(), &unet.blueprint()).unwrap();
        let runs = [conditions[..2].to_vec(), conditions[2..].to_vec()];
        let sample = |seed| tensor(wave(2 * HEIGHT * WIDTH, seed), [2, 1, HEIGHT, WIDTH]);
        let mut batched = Session::new(&unet, &conditions, &plan, request.rows);
        let mut passes = runs
            .each_ref()
            .map(|run| Session::new(&unet, run, &plan, half));
        for span in &plan.spans {
            let now = &evaluations[span.range()];
            let whole = batched.predict(span, now, || expand(&sample(span.first), request.rows));
            let mut parts = Vec::new();
            for pass in &mut passes {
                parts.extend(values(&pass.predict(span, now, || sample(span.first))[0]));
            }
            assert_eq!(values(&whole[0]), parts, "{rule}");
        }
    }
}

/// Test 8, second half: when guidance ends in mid-run, the next span refreshes, once, and says so.
#[test]
fn switching_guidance_off_refreshes() {
    let unet = ToyUnet::new(3);
    let both = wave(2, 4);
    let pair = Rows {
        halves: 2,
        items: 1,
    };
    let single = Rows { halves: 1, ..pair };
    let evaluations = Request::new(6, 1, 1).evaluations();
    let sample = tensor(wave(HEIGHT * WIDTH, 2), [1, 1, HEIGHT, WIDTH]);
    for rule in rules(&unet, &Refresh::every(6)) {
        let plan = rule.plan(&Course::steps(6), &unet.blueprint()).unwrap();
        let mut session = Session::new(&unet, &both, &plan, pair);
        for span in &plan.spans {
            let now = &evaluations[span.range()];
            if span.first == 3 {
                session.end_guidance(1..2);
            }
            let rows = if span.first < 3 { pair } else { single };
            let made = session.predict(span, now, || expand(&sample, rows));
            assert_eq!(made[0].dims()[0], rows.total(), "{rule}");
        }
        let account = session.account();
        assert_eq!(
            (account.fallbacks, account.refreshes, account.reuses),
            (1, 2, 4),
            "{rule}"
        );
    }
}

/// A store that does not fit the latents is not read.
#[test]
fn latents_of_another_size_refresh() {
    let unet = ToyUnet::new(3);
    let conditions = wave(1, 4);
    let rows = Rows {
        halves: 1,
        items: 1,
    };
    let plan = CacheRule::deepcache(4, 1)
        .plan(&Course::steps(4), &unet.blueprint())
        .unwrap();
    let evaluations = Request::new(4, 1, 1).evaluations();
    let mut session = Session::new(&unet, &conditions, &plan, rows);
    for span in &plan.spans {
        let side = if span.first < 2 { 4 } else { 6 };
        let sample = || tensor(wave(side * side, 1), [1, 1, side, side]);
        let made = session.predict(span, &evaluations[span.range()], sample);
        assert_eq!(made[0].dims(), [1, 1, side, side]);
    }
    assert_eq!(session.account().fallbacks, 1);
    assert_eq!(session.account().refreshes, 2);
}

/// A session that starts in the middle of a group computes in full instead of failing.
#[test]
fn an_empty_store_refreshes() {
    let unet = ToyUnet::new(3);
    let request = Request::new(6, 1, 1);
    let conditions = request.conditions();
    let evaluations = request.evaluations();
    for parallel in [1, 2] {
        let rule = CacheRule::encoder_propagation(Refresh::every(6)).with_parallel(parallel);
        let plan = rule.plan(&request.course(), &unet.blueprint()).unwrap();
        let mut session = Session::new(&unet, &conditions, &plan, request.rows);
        for span in &plan.spans[1..] {
            let latents = tensor(request.latents(), [1, 1, HEIGHT, WIDTH]);
            session.predict(span, &evaluations[span.range()], || latents);
        }
        assert_eq!(session.account().fallbacks, 1);
        assert_eq!(session.account().cells[0], 1);
    }
}

/// Test 10: the store holds the one deep tensor, or the hidden tensor with its skips.
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
        *dit.log.borrow(),
        [0, 1, 2, 3, 4, 5, 4, 5, 0, 1, 2, 3, 4, 5, 4, 5]
    );
}

#[test]
#[should_panic(expected = "evaluations of Span")]
fn a_span_wants_its_own_evaluations() {
    let plan = coder_plan(4, 2, 1);
    let conditions = vec![0.0];
    let rows = Rows {
        halves: 1,
        items: 1,
    };
    let mut session = Session::new(&Coder, &conditions, &plan, rows);
    let span = Span {
        first: 0,
        len: 1,
        refresh: true,
    };
    session.predict(&span, &[], || unreachable!("asked for the latents"));
}

//! What changes in mid-run: guidance, the latents' size, where a session begins.

use afterimage::{
    cache::{CacheRule, Course, Refresh, Session},
    denoiser::Rows,
};

use super::rules;
use crate::toy_trunk::{HEIGHT, Request, ToyUnet, WIDTH, expand, tensor, values, wave};

/// Two passes with a store each are one pass with both halves.
#[test]
fn two_pass_guidance_is_batched_guidance() {
    let unet = ToyUnet::new(4);
    let request = Request::new(8, 2, 2);
    let conditions = request.conditions();
    let evaluations = request.evaluations();
    let half = Rows::new(1, 2);
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

/// When guidance ends in mid-run, the next span refreshes, once, and says so.
#[test]
fn switching_guidance_off_refreshes() {
    let unet = ToyUnet::new(3);
    let both = wave(2, 4);
    let pair = Rows::new(2, 1);
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
    let rows = Rows::new(1, 1);
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

//! Laws of whole evaluations that are reused: nothing runs, and nothing is read.

use afterimage::{
    cache::{CacheRule, Course, Predictor, Session},
    conditioning::Conditioning,
    denoiser::StagedDenoiser,
};
use proptest::prelude::*;

use crate::toy_trunk::{
    Request, ToyDit, ToyUnet, assert_forecast, drive, expand, run_dit, run_unet, tensor,
};

fn lite(interval: usize, warmup: usize, order: usize) -> CacheRule {
    let rule = format!("taylorseer:interval={interval},warmup={warmup},order={order},sites=output");
    let read: CacheRule = rule.parse().unwrap();
    assert_eq!(read.to_string(), rule);
    read
}

proptest! {
    /// What is not computed is the weighted sum of what was, on every trunk, and the cells that ran are those of the forecast.
    #[test]
    fn a_forecast_output_is_the_series_of_outputs(interval in 1..5_usize, warmup in 1..4_usize, order in 0..4_usize) {
        let rule = lite(interval, warmup, order);
        let request = Request::new(11, 2, 2);
        let dit = ToyDit::new(4);
        let plan = rule.plan(&request.course(), &dit.blueprint()).unwrap();
        let made = drive(&dit, &plan, &request);
        let full: Vec<usize> = plan.refreshes().collect();
        for evaluation in 0..11 {
            let past: Vec<usize> = full.iter().copied().filter(|&at| at <= evaluation).collect();
            if past.last() == Some(&evaluation) {
                continue;
            }
            let positions: Vec<f64> = past.iter().map(|&at| at as f64).collect();
            let weights = Predictor::TaylorSeer(order).weights(&positions, evaluation as f64);
            for (row, &found) in made.predictions[evaluation].iter().enumerate() {
                let terms = past.iter().zip(&weights);
                let sum: f64 = terms.map(|(&at, weight)| weight * f64::from(made.predictions[at][row])).sum();
                prop_assert!((f64::from(found) - sum).abs() < 1e-4 * sum.abs().max(1.0), "{rule} {evaluation}");
            }
        }
        prop_assert_eq!(&made.account.refreshed, &full);
        assert_forecast(&plan, &dit.blueprint(), request.rows, &made.account);
    }
}

/// With everything full, a series is the plain run, bit for bit; over skips too.
#[test]
fn a_series_without_gaps_is_the_plain_run() {
    let request = Request::new(7, 2, 1);
    let (unet, dit) = (ToyUnet::new(3), ToyDit::new(3));
    let rule = lite(1, 3, 2);
    let plain = CacheRule::none();
    assert_eq!(
        run_unet(&unet, &rule, &request).latents,
        run_unet(&unet, &plain, &request).latents
    );
    assert_eq!(
        run_dit(&dit, &rule, &request).latents,
        run_dit(&dit, &plain, &request).latents
    );
}

/// The latents are asked for where everything is computed, and nowhere else.
#[test]
fn the_latents_are_not_read() {
    let (unet, request) = (ToyUnet::new(3), Request::new(6, 1, 1));
    let rule: CacheRule = "taylorseer:interval=2,warmup=1,order=1,sites=output"
        .parse()
        .unwrap();
    let plan = rule.plan(&Course::steps(6), &unet.blueprint()).unwrap();
    let context = tensor(request.conditions(), [1, 1, 1]);
    let evaluations = request.evaluations();
    let run = unet.start(&Conditioning::of_context(context), &evaluations);
    let mut session = Session::new(&unet, &run, &plan, request.rows);
    let latents = tensor(
        request.latents(),
        [1, 1, crate::toy_trunk::HEIGHT, crate::toy_trunk::WIDTH],
    );
    let mut read = Vec::new();
    for span in &plan.spans {
        session.predict(span, &evaluations[span.range()], || {
            read.push(span.first);
            expand(&latents, request.rows)
        });
    }
    assert_eq!(read, [0, 2, 4]);
    let forecast = plan.forecast(&unet.blueprint(), request.rows, 4);
    assert_eq!(forecast.evaluation_macs[1], 0);
}

#[test]
fn a_whole_step_goes_with_no_other_cut() {
    for rules in [
        "deepcache;taylorseer:sites=output",
        "auto:speedup=2;taylorseer:sites=output",
    ] {
        let error = rules.parse::<CacheRule>().unwrap_err().to_string();
        assert!(error.contains("do not go together"), "{error}");
    }
}

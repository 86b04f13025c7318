//! What the published models cost, and what propagation leaves of that.

use afterimage::cache::{CacheRule, Course, Refresh};
use afterimage::denoiser::{Blueprint, Rows};
use afterimage::models::unet::Extent;

use super::{STAGE_1, STAGE_2, UPSCALER, published};

fn blueprint(path: &str, side: usize) -> Option<Blueprint> {
    let extent = Extent {
        height: side,
        width: side,
        tokens: 77,
    };
    Some(published(path)?.blueprint(extent))
}

/// What torch's `FlopCounterMode` counts of diffusers' own networks for one row, in giga-multiply-accumulates.
#[test]
fn costs_are_those_of_the_reference() {
    for (path, side, counted) in [
        (STAGE_1, 64, 1439.507),
        (STAGE_2, 256, 1544.822),
        (UPSCALER, 128, 565.706),
    ] {
        let Some(blueprint) = blueprint(path, side) else {
            return;
        };
        let found = blueprint.full_macs() as f64 / 1e9;
        let off = found / counted - 1.0;
        assert!(off.abs() < 1e-3, "{path}: {found} G, counted {counted} G");
    }
}

/// The keys of Faster Diffusion's list for the first stage, of 100 steps.
fn keys_of_stage_1(steps: usize) -> Vec<usize> {
    let key = |step: &usize| *step < 10 || *step > 85 || step.is_multiple_of(5);
    (0..steps).filter(key).collect()
}

/// Its keys of the upscaler: steps between them grow one by one.
fn keys_of_the_upscaler(steps: usize) -> Vec<usize> {
    let keys = (0..).scan((0, 2), |(step, gap), _| {
        let key = *step;
        (*step, *gap) = (key + *gap, *gap + 1);
        Some(key)
    });
    keys.take_while(|key| *key < steps).collect()
}

/// Multiply-accumulates of a guided run, plain and in propagation with these keys, in G.
fn run(blueprint: &Blueprint, steps: usize, keys: Vec<usize>) -> [f64; 2] {
    let rule = CacheRule::encoder_propagation(Refresh::At(keys));
    let plan = rule.plan(&Course::steps(steps), blueprint).unwrap();
    let forecast = plan.forecast(blueprint, Rows::new(2, 1), size_of::<f32>());
    let cached = forecast.evaluation_macs.iter().sum::<u64>();
    [forecast.plain_macs, cached].map(|macs| macs as f64 / 1e9)
}

/// What `FlopCounterMode` counts of diffusers' networks leaves 0.8229 of DDPM in 225 steps under these keys, all steps of the second stage
/// among them. Faster Diffusion (arXiv 2312.09608, table 2) has 626523 of 734825 GFLOPs, 0.8526, of a plain run that no size of these
/// networks gives: with attention it counts 782088, without 769914.
#[test]
fn propagation_leaves_the_share_of_the_reference() {
    let first = keys_of_stage_1(100);
    assert_eq!(first.len(), 40);
    let last = keys_of_the_upscaler(75);
    assert_eq!(last, [0, 2, 5, 9, 14, 20, 27, 35, 44, 54, 65]);
    let stages = [
        (STAGE_1, 64, 100, first),
        (STAGE_2, 256, 50, (0..50).collect()),
        (UPSCALER, 256, 75, last),
    ];
    let mut sums = [0.0; 2];
    for (path, side, steps, keys) in stages {
        let Some(blueprint) = blueprint(path, side) else {
            return;
        };
        let [plain, cached] = run(&blueprint, steps, keys);
        sums = [sums[0] + plain, sums[1] + cached];
    }
    let share = sums[1] / sums[0];
    assert!(
        (share / (626_523.0 / 734_825.0) - 1.0).abs() < 0.03,
        "{share}"
    );
}

//! One case for every way in which a rule cannot be planned.

use afterimage::{
    Error,
    cache::{CachePlan, CacheRule, Course, Refresh},
    inject::PriorNoise,
};

use super::{list, trunk};
use crate::toy_trunk::ToyDit;

#[track_caller]
fn refused(result: Result<CachePlan, Error>, text: &str) {
    let error = result.unwrap_err();
    assert!(error.is_plan());
    assert!(error.to_string().starts_with(text), "{error}");
}

fn quadratic(interval: usize, center: usize, power: f64) -> CacheRule {
    let refresh = Refresh::Quadratic {
        interval,
        center,
        power,
    };
    CacheRule::deepcache_skip(0, refresh)
}

fn propagation(interval: usize) -> CacheRule {
    CacheRule::encoder_propagation(Refresh::every(interval))
}

/// Two calls a step.
fn heun() -> Course {
    Course::grouped((0..39).map(|evaluation| evaluation / 2))
}

#[test]
fn refused_schedules_name_their_reason() {
    let power = Refresh::Power {
        interval: 3,
        power: -1.0,
    };
    let cases = [
        (
            CacheRule::deepcache(0, 0),
            "a refresh interval of 0\nhint: ",
        ),
        (
            CacheRule::deepcache_skip(0, vec![0, 20]),
            "refresh evaluation 20 lies beyond the last of the run, 19\nhint: the run makes 20",
        ),
        (
            quadratic(3, 20, 1.4),
            "the center 20 of the schedule lies beyond the last step, 19\nhint: ",
        ),
        (
            quadratic(3, 5, 1.0),
            "a quadratic schedule with power 1\nhint: ",
        ),
        (
            quadratic(1, 5, 1.4),
            "no quadratic schedule with interval 1, center 5 and power 1.4",
        ),
        (
            CacheRule::deepcache_skip(0, power),
            "a power schedule with power -1\nhint: ",
        ),
        (
            CacheRule::deepcache(3, 0).with_guard(0.6),
            "a guard band of 0.6\nhint: ",
        ),
    ];
    for (rule, text) in cases {
        refused(rule.plan(&Course::steps(20), &trunk()), text);
    }
    let none = CacheRule::none().plan(&Course::steps(0), &trunk());
    refused(none, "the run makes no model call");
}

#[test]
fn refused_cuts_name_their_reason() {
    let dit = ToyDit::new(28).blueprint();
    let cases = [
        (
            propagation(3),
            "encoder propagation needs skip connections, and this trunk has none\nhint: use `dit-prop",
        ),
        (
            CacheRule::deepcache(3, 0),
            "DeepCache needs skip connections, and this trunk has none",
        ),
        (
            CacheRule::dit_propagation(28, list("a")),
            "a cut in front of cell 28 of 28 leaves nothing to reuse or nothing to compute\nhint: cut at 1 to 27",
        ),
        (
            CacheRule::dit_propagation(0, list("a")),
            "a cut in front of cell 0 of 28",
        ),
    ];
    for (rule, text) in cases {
        refused(rule.plan(&Course::steps(20), &dit), text);
    }
}

#[test]
fn refused_batches_and_noise_name_their_reason() {
    let noise = PriorNoise {
        alpha: f64::INFINITY,
        ..PriorNoise::faster_diffusion()
    };
    let cases = [
        (
            propagation(3).with_parallel(0),
            Course::steps(20),
            "`parallel` is 0\nhint: ",
        ),
        (
            CacheRule::deepcache(3, 0).with_parallel(2),
            Course::steps(20),
            "`parallel` is 2, but this rule recomputes its skips",
        ),
        (
            propagation(3).with_parallel(4),
            heun(),
            "`parallel` is 4, but the sampler calls the model 2 times in step 0\nhint: use parallel=1",
        ),
        (
            propagation(3).with_noise(noise),
            Course::steps(20),
            "prior noise with alpha inf from 0.5\nhint: ",
        ),
    ];
    for (rule, course, text) in cases {
        refused(rule.plan(&course, &trunk()), text);
    }
    let one_at_a_time = propagation(3).plan(&heun(), &trunk());
    assert!(one_at_a_time.is_ok());
}

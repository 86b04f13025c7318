//! Schedules against the tables of the published code.

use afterimage::cache::{CacheRule, Course, Refresh};
use serde_json::Value;

use super::{groups, list, refreshes};

/// What the upstream formulas give; `tests/fixtures/plans/cache_plans.json`.
fn tables() -> Value {
    let text = include_str!("../../fixtures/plans/cache_plans.json");
    serde_json::from_str(text).unwrap()
}

fn cases(table: &str) -> Vec<Value> {
    tables()[table].as_array().unwrap().clone()
}

fn count(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn counts(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(count).collect()
}

#[test]
fn uniform_schedules_are_the_published_ones() {
    for case in cases("uniform") {
        let rule = CacheRule::deepcache(count(&case["N"]), 0);
        let found = refreshes(&rule, &Course::steps(count(&case["T"])));
        assert_eq!(found, counts(&case["full_steps"]), "{case}");
    }
}

#[test]
fn quadratic_schedules_are_the_published_ones() {
    for case in cases("centred") {
        let refresh = Refresh::Quadratic {
            interval: count(&case["N"]),
            center: count(&case["center"]),
            power: case["pow"].as_f64().unwrap(),
        };
        let found = refresh.steps(count(&case["T"]));
        match case.get("error") {
            Some(_) => assert!(found.unwrap_err().is_plan(), "{case}"),
            None => assert_eq!(found.unwrap(), counts(&case["full_steps"]), "{case}"),
        }
    }
}

/// Runs whose lists tell a power lowered by 0.02 from any other: what numpy's complex powers give.
#[test]
fn quadratic_schedules_retry_in_the_published_steps() {
    let steps = |interval, power, count| {
        let refresh = Refresh::Quadratic {
            interval,
            center: 0,
            power,
        };
        refresh.steps(count).unwrap()
    };
    let fifty = [
        0, 1, 2, 3, 5, 7, 9, 10, 12, 14, 16, 18, 20, 22, 24, 27, 29, 31, 33, 35, 38, 40, 42, 45, 47,
    ];
    assert_eq!(steps(2, 1.3, 50), fifty);
    assert_eq!(steps(2, 1.5, 50), fifty);
    let hundred = [
        0, 1, 2, 4, 7, 10, 13, 16, 19, 23, 27, 31, 35, 39, 43, 48, 53, 57, 62, 67, 72, 78, 83, 88,
        94,
    ];
    assert_eq!(steps(4, 1.6, 100), hundred);
}

/// Raised values that fall on an integer but for the last bit: the order of roundings decides.
#[test]
fn quadratic_schedules_round_as_published() {
    let refresh = Refresh::Quadratic {
        interval: 2,
        center: 3,
        power: 1.4,
    };
    let expected = [
        0, 2, 3, 4, 5, 7, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 29, 31, 33, 35, 38, 40, 42, 45, 47,
    ];
    assert_eq!(refresh.steps(50).unwrap(), expected);
}

#[test]
fn power_schedules_are_the_published_ones() {
    for case in cases("ldm_script") {
        let refresh = Refresh::Power {
            interval: count(&case["N"]),
            power: case["pow"].as_f64().unwrap(),
        };
        let found = refresh.steps(count(&case["T"])).unwrap();
        assert_eq!(found, counts(&case["full_steps"]), "{case}");
    }
}

#[test]
fn key_lists_are_the_published_ones() {
    for (steps, case) in tables()["key_steps"].as_object().unwrap() {
        let steps: usize = steps.parse().unwrap();
        for name in ["50ls", "100ls", "pro"] {
            let rule = CacheRule::encoder_propagation(list(name));
            let found = refreshes(&rule, &Course::steps(steps));
            assert_eq!(found, counts(&case[name]), "{name} at {steps}");
        }
        let expected = counts(&case["group_sizes_50ls"]);
        assert_eq!(groups(list("50ls"), steps), expected, "{steps}");
    }
}

/// What the package does on samplers that repeat timesteps can be asked for literally; what a rule of its interval does instead is
/// refresh by solver step.
#[test]
fn the_package_on_any_sampler_can_be_repeated() {
    for case in cases("helper_index_sequences") {
        let evaluations = count(&case["evaluations"]);
        let class = case["class"].as_str().unwrap();
        for (interval, full) in case["full"].as_object().unwrap() {
            let literal = CacheRule::deepcache_skip(0, counts(full));
            let course = match class {
                "HeunDiscreteScheduler" | "KDPM2DiscreteScheduler" => {
                    Course::grouped((0..evaluations).map(|evaluation| evaluation / 2))
                }
                _ => Course::steps(evaluations),
            };
            assert_eq!(refreshes(&literal, &course), counts(full), "{class}");
            if matches!(class, "DDIMScheduler" | "EulerDiscreteScheduler") {
                let rule = CacheRule::deepcache(interval.parse().unwrap(), 0);
                assert_eq!(refreshes(&rule, &course), counts(full), "{class}");
            }
        }
    }
}

//! Schedules and plans against the tables of the published code (METHODS section 8, tests 4, 5, 7, 16), and every refusal.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests fail by panicking, and their numbers are small"
)]

use afterimage::{
    Error,
    cache::{CachePlan, CacheRule, Course, Cut, KeyList, Refresh, Warning},
    denoiser::{Blueprint, Cell},
    inject::PriorNoise,
};
use proptest::prelude::*;
use serde_json::Value;

use crate::toy_trunk::{ToyDit, ToyUnet};

/// What the upstream formulas give; `reference/cache_plans.json`.
fn tables() -> Value {
    let text = include_str!("../fixtures/plans/cache_plans.json");
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

fn list(name: &str) -> KeyList {
    KeyList::named(name).unwrap()
}

fn trunk() -> Blueprint {
    ToyUnet::new(12).blueprint()
}

fn plan(rule: &CacheRule, course: &Course) -> CachePlan {
    rule.plan(course, &trunk()).unwrap()
}

fn refreshes(rule: &CacheRule, course: &Course) -> Vec<usize> {
    plan(rule, course).refreshes().collect()
}

/// Sizes of the groups when a whole group is decoded at once.
fn groups(keys: impl Into<Refresh>, steps: usize) -> Vec<usize> {
    let rule = CacheRule::encoder_propagation(keys).with_parallel(1000);
    let plan = plan(&rule, &Course::steps(steps));
    plan.spans.iter().map(|span| span.len).collect()
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

/// METHODS 8.16.
#[test]
fn groups_have_the_published_sizes() {
    assert_eq!(groups(list("50ls"), 50), [1, 1, 1, 2, 5, 5, 10, 10, 15]);
    assert_eq!(groups(list("50ls"), 20), [1, 1, 1, 2, 5, 5, 5]);
    assert_eq!(groups(list("50ls"), 51).last(), Some(&16));
    assert_eq!(groups(list("50ls"), 48).last(), Some(&13));
    assert_eq!(
        groups(list("pro"), 75),
        [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 10]
    );
    for (name, keys) in [
        ("ldm-48", 48),
        ("ldm-19", 19),
        ("a", 113),
        ("a-prime", 136),
        ("b", 175),
        ("c", 166),
    ] {
        assert_eq!(groups(list(name), 250).len(), keys, "{name}");
    }
    assert_eq!(groups(list("ldm-19"), 250).into_iter().max(), Some(40));
    assert_eq!(groups(Refresh::every(4), 50).len(), 13);
}

/// A group in pieces, as the capped reference decodes it.
#[test]
fn capped_groups_are_cut_from_their_front() {
    let rule = CacheRule::encoder_propagation(list("50ls")).with_parallel(3);
    let plan = plan(&rule, &Course::steps(20));
    let sizes: Vec<usize> = plan.spans.iter().map(|span| span.len).collect();
    assert_eq!(sizes, [1, 1, 1, 2, 3, 2, 3, 2, 3, 2]);
}

/// METHODS 8.7: whatever the number of evaluations, the first is full.
#[test]
fn every_run_starts_in_full() {
    let heun = |steps: usize| Course::grouped((0..2 * steps - 1).map(|evaluation| evaluation / 2));
    let image_to_image = |steps: usize, strength: f64| {
        let executed = (steps as f64 * strength) as usize;
        Course::grouped(steps - executed..steps)
    };
    let courses = [
        (Course::steps(51), 51),
        (heun(50), 99),
        (Course::steps(40), 40),
        (Course::steps(10), 10),
        (Course::steps(2), 2),
        (Course::steps(3), 3),
        (Course::steps(48), 48),
        (image_to_image(50, 0.3), 15),
        (image_to_image(50, 0.8), 40),
        (image_to_image(50, 0.3), 15),
    ];
    for (course, evaluations) in courses {
        for rule in [
            CacheRule::deepcache(3, 0),
            CacheRule::encoder_propagation(list("50ls")),
        ] {
            let plan = plan(&rule, &course);
            assert_eq!(plan.evaluations(), evaluations);
            assert!(plan.spans[0].refresh && plan.spans[0].first == 0);
        }
    }
    let sixteen: Vec<usize> = refreshes(&CacheRule::deepcache(3, 0), &image_to_image(50, 0.3));
    assert_eq!(sixteen, [0, 3, 6, 9, 12]);
}

/// Both evaluations of a solver step are of one kind, with any interval.
#[test]
fn two_evaluation_solvers_refresh_by_step() {
    let course = Course::grouped((0..19).map(|evaluation| evaluation / 2));
    let found = refreshes(&CacheRule::deepcache(2, 0), &course);
    assert_eq!(found, [0, 1, 4, 5, 8, 9, 12, 13, 16, 17]);
    let literal = CacheRule::deepcache_skip(0, vec![0, 5]);
    assert_eq!(refreshes(&literal, &course), [0, 5]);
}

/// The reference case `ddim_long.guard_bands`.
#[test]
fn guard_bands_refresh_at_both_ends() {
    let rule = CacheRule::deepcache(4, 0).with_guard(0.1);
    let found = refreshes(&rule, &Course::steps(20));
    assert_eq!(found, [0, 1, 2, 4, 8, 12, 16, 18, 19]);
}

#[test]
fn a_change_of_conditions_refreshes() {
    let course = Course::steps(12).refreshing_at([5, 7, 99]);
    let found = refreshes(&CacheRule::deepcache(6, 0), &course);
    assert_eq!(found, [0, 5, 6, 7]);
}

/// METHODS 8.5: trunks of one to three layers a level, and the last branch of each.
#[test]
fn branches_end_with_the_trunk() {
    for (skips, last) in [(8, 7), (12, 11), (16, 15), (9, 8)] {
        let trunk = ToyUnet::new(skips).blueprint();
        for branch in 0..=last {
            let plan = CacheRule::deepcache(3, branch)
                .plan(&Course::steps(9), &trunk)
                .unwrap();
            assert_eq!((plan.prefix, plan.cut), (branch + 1, 2 * skips - branch));
        }
        let error = CacheRule::deepcache(3, last + 1)
            .plan(&Course::steps(9), &trunk)
            .unwrap_err();
        let text = format!(
            "branch {} does not exist in this trunk\nhint: its branches are 0 to {last}",
            last + 1
        );
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn cuts_lie_where_the_methods_put_them() {
    let trunk = trunk();
    let course = Course::steps(9);
    let of = |rule: CacheRule| rule.plan(&course, &trunk).unwrap();
    let encoder = of(CacheRule::encoder_propagation(Refresh::every(3)));
    assert_eq!((encoder.prefix, encoder.cut), (0, 13));
    let blocks = of(CacheRule::dit_propagation(18, Refresh::every(3)));
    assert_eq!((blocks.prefix, blocks.cut), (0, 18));
    let none = of(CacheRule::none());
    assert_eq!((none.prefix, none.cut, none.reuses()), (0, 25, false));
}

#[track_caller]
fn refused(result: Result<CachePlan, Error>, text: &str) {
    let error = result.unwrap_err();
    assert!(error.is_plan());
    assert!(error.to_string().starts_with(text), "{error}");
}

/// One case for every way in which a rule cannot be planned.
#[test]
fn refusals_name_their_reason() {
    let unet = trunk();
    let dit = ToyDit::new(28).blueprint();
    let steps = Course::steps(20);
    let heun = Course::grouped((0..39).map(|evaluation| evaluation / 2));
    let every = |interval| CacheRule::encoder_propagation(Refresh::every(interval));
    let noise = PriorNoise {
        alpha: f64::INFINITY,
        ..PriorNoise::faster_diffusion()
    };
    let quadratic = |interval, center, power| {
        let refresh = Refresh::Quadratic {
            interval,
            center,
            power,
        };
        CacheRule::deepcache_skip(0, refresh)
    };
    let power = Refresh::Power {
        interval: 3,
        power: -1.0,
    };
    let cases = [
        (
            CacheRule::deepcache(0, 0),
            &steps,
            &unet,
            "a refresh interval of 0\nhint: ",
        ),
        (
            CacheRule::deepcache_skip(0, vec![0, 20]),
            &steps,
            &unet,
            "refresh evaluation 20 lies beyond the last of the run, 19\nhint: the run makes 20",
        ),
        (
            quadratic(3, 20, 1.4),
            &steps,
            &unet,
            "the center 20 of the schedule lies beyond the last step, 19\nhint: ",
        ),
        (
            quadratic(3, 5, 1.0),
            &steps,
            &unet,
            "a quadratic schedule with power 1\nhint: ",
        ),
        (
            quadratic(1, 5, 1.4),
            &steps,
            &unet,
            "no quadratic schedule with interval 1, center 5 and power 1.4",
        ),
        (
            CacheRule::deepcache_skip(0, power),
            &steps,
            &unet,
            "a power schedule with power -1\nhint: ",
        ),
        (
            CacheRule::deepcache(3, 0).with_guard(0.6),
            &steps,
            &unet,
            "a guard band of 0.6\nhint: ",
        ),
        (
            CacheRule::none(),
            &Course::steps(0),
            &unet,
            "the run makes no model call",
        ),
        (
            every(3),
            &steps,
            &dit,
            "encoder propagation needs skip connections, and this trunk has none\nhint: use `dit-prop",
        ),
        (
            CacheRule::deepcache(3, 0),
            &steps,
            &dit,
            "DeepCache needs skip connections, and this trunk has none",
        ),
        (
            CacheRule::dit_propagation(28, list("a")),
            &steps,
            &dit,
            "a cut in front of cell 28 of 28 leaves nothing to reuse or nothing to compute\nhint: cut at 1 to 27",
        ),
        (
            CacheRule::dit_propagation(0, list("a")),
            &steps,
            &dit,
            "a cut in front of cell 0 of 28",
        ),
        (
            every(3).with_parallel(0),
            &steps,
            &unet,
            "`parallel` is 0\nhint: ",
        ),
        (
            CacheRule::deepcache(3, 0).with_parallel(2),
            &steps,
            &unet,
            "`parallel` is 2, but this rule recomputes its skips",
        ),
        (
            every(3).with_parallel(4),
            &heun,
            &unet,
            "`parallel` is 4, but the sampler calls the model 2 times in step 0\nhint: use parallel=1",
        ),
        (
            every(3).with_noise(noise),
            &steps,
            &unet,
            "prior noise with alpha inf from 0.5\nhint: ",
        ),
    ];
    for (rule, course, trunk, text) in cases {
        refused(rule.plan(course, trunk), text);
    }
    assert!(every(3).plan(&heun, &unet).is_ok(), "one at a time is fine");
}

#[test]
fn warnings_are_data() {
    let warnings = |rule: CacheRule, steps| plan(&rule, &Course::steps(steps)).warnings;
    assert_eq!(warnings(CacheRule::none(), 4), []);
    assert_eq!(warnings(CacheRule::deepcache(3, 0), 30), []);
    assert_eq!(
        warnings(CacheRule::deepcache(1, 0), 30),
        [Warning::NothingReused]
    );
    let few = warnings(CacheRule::deepcache(2, 0), 4);
    assert_eq!(few, [Warning::FewSteps { steps: 4 }]);
    assert!(few[0].to_string().starts_with("4 steps are few"));
    let fifty = CacheRule::encoder_propagation(list("50ls"));
    assert_eq!(warnings(fifty.clone(), 50), []);
    let batched = Warning::Batched { evaluations: 4 };
    assert_eq!(
        warnings(fifty.clone().with_parallel(4), 50),
        std::slice::from_ref(&batched)
    );
    assert!(batched.to_string().contains("never on a CPU"));
    let other = warnings(fifty, 100);
    assert_eq!(
        other[0].to_string(),
        "key list `50ls` was made for 50 steps and is not rescaled to 100"
    );
}

/// A trunk whose cells do not stand in mirror order: only pushes and pops count.
#[test]
fn cuts_follow_pushes_and_pops() {
    let cell = |pushes, pops| Cell {
        name: String::new(),
        macs: 1,
        hidden: 1,
        pushes,
        pops,
        ..Cell::default()
    };
    let trunk = Blueprint {
        cells: vec![
            cell(0, false),
            cell(1, false),
            cell(1, false),
            cell(0, false),
            cell(0, true),
            cell(0, false),
            cell(0, true),
        ],
        prepare_macs: 0,
        leave_macs: 0,
    };
    let place = |branch| {
        let plan = CacheRule::deepcache(2, branch)
            .plan(&Course::steps(4), &trunk)
            .unwrap();
        (plan.prefix, plan.cut)
    };
    assert_eq!(place(0), (2, 6));
    assert_eq!(place(1), (3, 4));
}

fn any_rule() -> impl Strategy<Value = CacheRule> {
    let refreshes = prop_oneof![
        (1..9_usize).prop_map(Refresh::every),
        prop::collection::vec(0..12_usize, 1..6).prop_map(Refresh::At),
        prop::sample::select(KeyList::all().collect::<Vec<_>>()).prop_map(Refresh::Keys),
    ];
    (refreshes, 0..3_usize, 1..9_usize, 0.0..0.3).prop_map(|(refresh, kind, cap, guard)| {
        let rule = match kind {
            0 => CacheRule::deepcache_skip(cap, refresh),
            1 => CacheRule::encoder_propagation(refresh).with_parallel(cap),
            _ => CacheRule::dit_propagation(cap, refresh).with_parallel(cap),
        };
        rule.with_guard(guard)
    })
}

proptest! {
    /// Spans tile the run, start in full, are no longer than allowed, and refresh where they must.
    #[test]
    fn spans_tile_the_run(
        rule in any_rule(),
        steps in 12..60_usize,
        forced in prop::collection::vec(0..12_usize, 0..3),
    ) {
        let course = Course::steps(steps).refreshing_at(forced.clone());
        let plan = plan(&rule, &course);
        let covered: Vec<usize> = plan.spans.iter().flat_map(afterimage::cache::Span::range).collect();
        prop_assert_eq!(covered, (0..steps).collect::<Vec<_>>());
        prop_assert!(plan.spans[0].refresh);
        prop_assert!(plan.spans.iter().all(|span| span.len <= rule.max_parallel));
        let full: Vec<usize> = plan.refreshes().collect();
        prop_assert!(forced.iter().all(|evaluation| full.contains(evaluation)));
        for pair in plan.spans.windows(2) {
            let filled = pair[0].len == rule.max_parallel;
            prop_assert!(pair[1].refresh || filled, "a group is cut only where it must");
        }
    }

    /// The evaluations of one solver step are all full or all not, unless they are listed.
    #[test]
    fn solver_steps_are_of_one_kind(
        interval in 1..9_usize,
        calls in prop::collection::vec(1..4_usize, 1..30),
        guard in 0.0..0.3,
    ) {
        let steps = calls.iter().enumerate();
        let owners: Vec<usize> = steps.flat_map(|(step, &calls)| vec![step; calls]).collect();
        let rule = CacheRule::deepcache(interval, 0).with_guard(guard);
        let full = refreshes(&rule, &Course::grouped(owners.iter().copied()));
        for (a, b) in (0..owners.len()).zip(1..owners.len()) {
            if owners[a] == owners[b] {
                prop_assert_eq!(full.contains(&a), full.contains(&b));
            }
        }
        for (evaluation, &step) in owners.iter().enumerate() {
            prop_assert!(step % interval != 0 || full.contains(&evaluation));
        }
    }

    /// A power schedule may merge neighbours, and never leaves the run.
    #[test]
    fn power_schedules_stay_in_the_run(
        steps in 1..120_usize,
        interval in 1..12_usize,
        power in 0.1..4.0,
    ) {
        let found = Refresh::Power { interval, power }.steps(steps).unwrap();
        prop_assert!(found.len() <= steps.div_ceil(interval));
        prop_assert!(found.is_sorted_by(|a, b| a < b));
        prop_assert!(found[0] == 0 && found.iter().all(|&step| step < steps));
    }

    /// A quadratic schedule, where there is one, has as many refreshes as the uniform one.
    #[test]
    fn quadratic_schedules_keep_the_budget(
        steps in 1..120_usize,
        interval in 1..12_usize,
        center in 0..130_usize,
        power in 1.01..2.0,
    ) {
        let refresh = Refresh::Quadratic { interval, center, power };
        if let Ok(found) = refresh.steps(steps) {
            prop_assert_eq!(found.len(), steps.div_ceil(interval));
            prop_assert!(found.iter().all(|&step| step < steps));
            prop_assert_eq!(found[0], 0);
        }
    }
}

#[test]
fn cut_and_skips_belong_together() {
    use afterimage::cache::OpenSkips::{Hold, Recompute};
    assert_eq!(Cut::Skip(0).skips(), Recompute);
    assert_eq!(Cut::AfterMiddle.skips(), Hold);
    assert_eq!(Cut::Cell(3).skips(), Hold);
}

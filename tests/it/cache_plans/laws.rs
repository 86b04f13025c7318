//! What every plan keeps, whatever the rule and the run.

use afterimage::cache::{CacheRule, Course, KeyList, Refresh};
use proptest::prelude::*;

use super::{plan, refreshes};

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

//! Plans: their groups, their cuts, their warnings and refusals; schedules against the tables of the published code.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests fail by panicking, and their numbers are small"
)]

mod laws;
mod published;
mod refusals;

use afterimage::{
    cache::{CachePlan, CacheRule, Course, Cut, KeyList, Refresh, Remedy, Warning},
    denoiser::{Blueprint, Cell},
};

use crate::toy_trunk::ToyUnet;

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

/// As long as the published programs make them.
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

/// Whatever the number of evaluations, the first is full.
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

/// Trunks of one to three layers a level, and the last branch of each.
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
    let guard = Some(0.25);
    let remedy = Remedy::Refreshes;
    let expected = Warning::FewSteps {
        steps: 4,
        guard,
        remedy,
    };
    assert_eq!(few, [expected]);
    assert_eq!(
        few[0].to_string(),
        "4 steps are few: expect visible changes; a guard band (`guard=0.25`) or more refreshes help"
    );
    let hint = |guard| warnings(CacheRule::deepcache(3, 0).with_guard(guard), 9)[0].to_string();
    assert!(hint(0.1).contains("`guard=0.12`"));
    assert!(hint(0.12).ends_with("changes; more refreshes help"));
    let said = |rule: &str| warnings(rule.parse().unwrap(), 4)[0].to_string();
    let guard = "a guard band (`guard=0.25`) or a lower threshold help";
    assert!(said("easycache:threshold=0.5").ends_with(guard));
    let picked = CacheRule {
        picked: true,
        ..CacheRule::deepcache(2, 0)
    };
    let said = warnings(picked, 4)[0].to_string();
    assert!(
        said.ends_with("changes; less of a speed-up helps"),
        "{said}"
    );
    let fifty = CacheRule::encoder_propagation(list("50ls"));
    assert_eq!(warnings(fifty.clone(), 50), []);
    let batched = Warning::Batched { evaluations: 4 };
    assert_eq!(
        warnings(fifty.clone().with_parallel(4), 50),
        std::slice::from_ref(&batched)
    );
    assert!(
        batched
            .to_string()
            .contains("saves no arithmetic, and pays where")
    );
    // PNDM makes 51 steps of the 50 that are asked for.
    let pndm = plan(&fifty, &Course::steps(51).asked(Some(50)));
    assert_eq!(pndm.warnings, []);
    assert_eq!(pndm.evaluations(), 51);
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
        prediction: 1,
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

#[test]
fn cut_and_skips_belong_together() {
    use afterimage::cache::OpenSkips::{Hold, Recompute};
    assert_eq!(Cut::Skip(0).skips(), Recompute);
    assert_eq!(Cut::AfterMiddle.skips(), Hold);
    assert_eq!(Cut::Cell(3).skips(), Hold);
}

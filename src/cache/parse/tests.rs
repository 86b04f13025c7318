use proptest::prelude::*;

use super::*;
use crate::{
    cache::{keys::KeyList, methods::extras::MOMENTS, refresh::Refresh},
    inject::{Moment, PriorNoise},
};

fn refreshes() -> impl Strategy<Value = Refresh> {
    let list = prop::sample::select(KeyList::all().collect::<Vec<_>>());
    prop_oneof![
        (0..60_usize).prop_map(Refresh::every),
        prop::collection::vec(0..60_usize, 1..8).prop_map(Refresh::At),
        list.prop_map(Refresh::Keys),
        (1..9_usize, 0..60_usize, 1.01..2.0).prop_map(|(interval, center, power)| {
            Refresh::Quadratic {
                interval,
                center,
                power,
            }
        }),
        (1..9_usize, 0.1..3.0).prop_map(|(interval, power)| Refresh::Power { interval, power }),
    ]
}

fn noises() -> impl Strategy<Value = Option<PriorNoise>> {
    let moments = prop::sample::select(MOMENTS.map(|(_, moment)| moment).to_vec());
    prop::option::of((0.0..0.1, 0.0..1.0, moments))
        .prop_map(|noise| noise.map(|(alpha, from, at)| PriorNoise { alpha, from, at }))
}

fn predictors() -> impl Strategy<Value = Predictor> {
    prop_oneof![
        Just(Predictor::Hold),
        Just(Predictor::Linear),
        (0..9_usize).prop_map(Predictor::Taylor),
        (0..9_usize).prop_map(Predictor::Chebyshev),
        (0..9_usize).prop_map(Predictor::TaylorSeer),
    ]
}

fn rules() -> impl Strategy<Value = CacheRule> {
    let held = (refreshes(), 1..20_usize, 0..30_usize, noises());
    let held = held.prop_flat_map(|(refresh, parallel, cut, noise)| {
        let mut encoder = CacheRule::encoder_propagation(refresh.clone());
        encoder.noise = noise;
        prop_oneof![
            Just(encoder),
            Just(CacheRule::dit_propagation(cut, refresh.clone()).with_parallel(parallel)),
            Just(CacheRule::dit_propagation_proportional(refresh)),
        ]
    });
    let deep = (0..12_usize, refreshes())
        .prop_map(|(skip, refresh)| CacheRule::deepcache_skip(skip, refresh));
    let guards = prop_oneof![Just(0.0), 0.0..0.5];
    let cuts = prop_oneof![Just(CacheRule::none()), deep, held];
    let cuts = (cuts, guards, predictors(), prop::option::of(0.001..2.0));
    let cuts = cuts.prop_map(
        |(rule, guard, predictor, verify)| match (rule.cut, verify) {
            (Cut::Nowhere, _) => rule,
            (_, None) => rule.with_guard(guard).with_forecast(predictor),
            (_, Some(verify)) => rule
                .with_guard(guard)
                .with_forecast(predictor)
                .with_verify(verify),
        },
    );
    let gates = (1..30_usize, predictors());
    let gates = prop::option::of(
        gates.prop_map(|(gate, predictor)| CacheRule::tgate(gate).with_forecast(predictor)),
    );
    (cuts, gates)
        .prop_map(|(rule, gate)| CacheRule::combine([rule].into_iter().chain(gate)).unwrap())
}

proptest! {
    #[test]
    fn text_and_rule_are_the_same_thing(rule in rules()) {
        prop_assert_eq!(rule.to_string().parse::<CacheRule>().unwrap(), rule);
    }

    #[test]
    fn reading_never_panics(text in "[a-z0-9:,=+.-]{0,40}") {
        let _ = text.parse::<CacheRule>();
    }
}

fn read(text: &str) -> CacheRule {
    text.parse().unwrap()
}

#[track_caller]
fn assert_read(cases: &[(&str, CacheRule)]) {
    for (text, rule) in cases {
        assert_eq!(read(text), *rule, "{text}");
    }
}

#[test]
fn deepcache_is_read() {
    let quadratic = Refresh::Quadratic {
        interval: 3,
        center: 15,
        power: 1.4,
    };
    let power = Refresh::Power {
        interval: 5,
        power: 1.5,
    };
    assert_read(&[
        ("none", CacheRule::none()),
        ("deepcache", CacheRule::deepcache(3, 0)),
        ("deepcache:interval=5,branch=1", CacheRule::deepcache(5, 1)),
        ("deepcache:interval=5,skip=4", CacheRule::deepcache(5, 4)),
        (
            "deepcache:interval=5,forecast=chebyshev:3",
            CacheRule::deepcache(5, 0).with_forecast(Predictor::Chebyshev(3)),
        ),
        (
            "deepcache:interval=3,branch=0,schedule=quadratic,center=15,power=1.4",
            CacheRule::deepcache_skip(0, quadratic),
        ),
        (
            "deepcache:interval=5,schedule=power,power=1.5,guard=0.05",
            CacheRule::deepcache_skip(0, power).with_guard(0.05),
        ),
        (
            "deepcache:at=0+4+6+8,branch=2",
            CacheRule::deepcache_skip(2, vec![0, 4, 6, 8]),
        ),
    ]);
}

#[test]
fn propagation_is_read() {
    let list = |name| KeyList::named(name).unwrap();
    let noise = PriorNoise {
        alpha: 0.003,
        from: 0.5,
        at: Moment::AfterStep,
    };
    assert_read(&[
        (
            "encoder-propagation:keys=50ls",
            CacheRule::encoder_propagation(list("50ls")),
        ),
        (
            "encoder-propagation:every=4,parallel=4",
            CacheRule::encoder_propagation(Refresh::every(4)).with_parallel(4),
        ),
        (
            "encoder-propagation:keys=0+1+5,noise=0.003,noise-from=0.5,noise-at=after-step",
            CacheRule::encoder_propagation(vec![0, 1, 5]).with_noise(noise),
        ),
        ("faster-diffusion", CacheRule::faster_diffusion()),
        (
            "faster-diffusion-ldm:parallel=4",
            CacheRule::faster_diffusion_ldm().with_parallel(4),
        ),
        (
            "encoder-propagation:keys=ldm-48,noise=0.003,noise-from=0.15,noise-at=after-step",
            CacheRule::faster_diffusion_ldm(),
        ),
        (
            "dit-propagation:cut=18,keys=a-prime,parallel=1",
            CacheRule::dit_propagation(18, list("a-prime")),
        ),
        (
            "dit-propagation:keys=A'",
            CacheRule::dit_propagation_proportional(list("a-prime")),
        ),
        (
            "dit-propagation:keys=C",
            CacheRule::dit_propagation_proportional(list("c")),
        ),
    ]);
}

/// Rules that cannot be read, and how the refusal begins.
const FAULTS: &[(&str, &str)] = &[
    (
        "deepcash",
        "unknown cache rule `deepcash`\nhint: there are none, deepcache, ",
    ),
    (
        "none:interval=3",
        "`none` has no option `interval`\nhint: it has no options",
    ),
    (
        "deepcache:step=3",
        "`deepcache` has no option `step`\nhint: it has interval, at, ",
    ),
    (
        "none:forecast=linear",
        "`none` has no option `forecast`\nhint: it has no options",
    ),
    (
        "tgate:gate=3,forecast=cubic",
        "`forecast` is `cubic`\nhint: one of hold, linear, taylor:N, chebyshev:N",
    ),
    (
        "deepcache:interval",
        "`interval` is ``\nhint: write `interval=VALUE`",
    ),
    (
        "deepcache:interval=x",
        "`interval` is `x`\nhint: it must be a whole number",
    ),
    (
        "deepcache:guard=nan",
        "`guard` is `nan`\nhint: it must be a number",
    ),
    (
        "deepcache:interval=2,interval=3",
        "`interval` is given twice in `deepcache`",
    ),
    (
        "deepcache:interval=2,at=0",
        "`interval` and `at` exclude each other in `deepcache`",
    ),
    (
        "deepcache:branch=2,skip=0",
        "`branch` and `skip` exclude each other in `deepcache`",
    ),
    (
        "deepcache:interval=2,center=3",
        "`center` has no effect without `schedule=quadratic` in `deepcache`",
    ),
    (
        "deepcache:interval=2,schedule=quadratic,center=3",
        "`deepcache` needs `power`\nhint: 1.4 works well",
    ),
    (
        "deepcache:interval=2,schedule=cubic",
        "`schedule` is `cubic`\nhint: one of quadratic",
    ),
    (
        "encoder-propagation",
        "`encoder-propagation` needs `keys`\nhint: `keys=50ls` is",
    ),
    (
        "encoder-propagation:keys=51ls",
        "`keys` is `51ls`\nhint: numbers joined by `+`, or",
    ),
    (
        "encoder-propagation:every=4,noise-from=0.2",
        "`noise-from` has no effect without `noise` in `encoder-propagation`",
    ),
    (
        "encoder-propagation:every=4,noise=0.1,noise-at=noon",
        "`noise-at` is `noon`\nhint: one of before-call, before-step, after-step",
    ),
    (
        "dit-propagation:cut=18",
        "`dit-propagation` needs `keys`\nhint: `keys=a` is",
    ),
];

#[test]
fn faults_are_named() {
    for (text, message) in FAULTS {
        let error = text.parse::<CacheRule>().unwrap_err();
        assert!(error.is_plan());
        let found = error.to_string();
        assert!(found.starts_with(message), "{text}: {found}");
    }
}

#[test]
fn the_manual_is_read() {
    let readable = |(example, _): &(&str, &str)| !example.ends_with("=FILE");
    for (example, help) in CacheRule::manual().filter(readable) {
        let rule = read(example);
        assert_ne!(rule, CacheRule::none(), "{example}");
        assert_eq!(read(&rule.to_string()), rule, "{example}");
        assert!(!help.is_empty() && !help.ends_with('.'), "{help}");
    }
    let unknown = "x".parse::<CacheRule>().unwrap_err().to_string();
    for (example, _) in CacheRule::manual() {
        let name = example.split(':').next().unwrap();
        assert!(unknown.contains(name), "{unknown}");
    }
}

#[test]
fn rules_that_cut_the_trunk_do_not_combine() {
    let deep = CacheRule::deepcache(3, 0);
    let one = CacheRule::combine([CacheRule::none(), deep.clone()]).unwrap();
    assert_eq!(one, deep);
    let two = CacheRule::combine([deep, CacheRule::faster_diffusion()]);
    assert!(two.unwrap_err().to_string().contains("do not go together"));
}

//! Every method with every option, written and read again.

use super::{FORECAST, methods};
use crate::cache::{router::Router, rule::CacheRule};

/// What one option says, or a few that go together: one of these.
type Choice = &'static [&'static str];

const GUARD: Choice = &["", "guard=0.05"];
const FORECASTS: Choice = &["", "forecast=linear", "forecast=chebyshev:2"];
const VERIFIED: Choice = &["", "verify=0.05"];
const PARALLEL: Choice = &["", "parallel=4"];
const NOISES: Choice = &[
    "",
    "noise=0.01",
    "noise=0.01,noise-from=0.2,noise-at=before-call",
];
const KEYS: Choice = &[
    "keys=50ls",
    "keys=0+1+5",
    "every=1",
    "every=4",
    "every=3,schedule=quadratic,center=15,power=1.4",
    "every=5,schedule=power,power=1.5",
];
const PRESET: &[Choice] = &[
    &[
        "",
        "keys=0+1+5",
        "every=4",
        "every=3,schedule=quadratic,center=15,power=1.4",
        "every=5,schedule=power,power=1.5",
    ],
    PARALLEL,
    &["", "noise=0.01", "noise-from=0.2", "noise-at=before-call"],
    GUARD,
    FORECASTS,
    VERIFIED,
];

/// Every method, the one that its rules are written as, and its options; `FILE` is a router.
const OPTIONS: &[(&str, &str, &[Choice])] = &[
    (
        "deepcache",
        "deepcache",
        &[
            &[
                "",
                "interval=1",
                "interval=5",
                "at=0+4+6",
                "at=50ls",
                "interval=3,schedule=quadratic,center=15,power=1.4",
                "interval=5,schedule=power,power=1.5",
            ],
            &["", "branch=2", "skip=4"],
            GUARD,
            FORECASTS,
            VERIFIED,
        ],
    ),
    (
        "encoder-propagation",
        "encoder-propagation",
        &[KEYS, PARALLEL, NOISES, GUARD, FORECASTS, VERIFIED],
    ),
    ("faster-diffusion", "encoder-propagation", PRESET),
    ("faster-diffusion-ldm", "encoder-propagation", PRESET),
    (
        "dit-propagation",
        "dit-propagation",
        &[
            KEYS,
            &["", "cut=18"],
            PARALLEL,
            NOISES,
            GUARD,
            FORECASTS,
            VERIFIED,
        ],
    ),
    ("tgate", "tgate", &[&["gate=10"], FORECASTS, VERIFIED]),
    (
        "l2c",
        "l2c",
        &[
            &["router=FILE"],
            &["", "threshold=0.5"],
            FORECASTS,
            VERIFIED,
        ],
    ),
    (
        "auto",
        "auto",
        &[
            &["speedup=2.4", "psnr=40", "seconds=20"],
            &["", "plan=plan.json"],
            VERIFIED,
        ],
    ),
    (
        "taylorseer",
        "taylorseer",
        &[
            &["", "interval=4"],
            &["", "warmup=2"],
            &["", "order=2"],
            &["", "until=20"],
            &["", "sites=attention", "sites=attention+mlp", "sites=output"],
            VERIFIED,
        ],
    ),
    (
        "easycache",
        "easycache",
        &[
            &["threshold=0.1"],
            &["", "branch=2", "cut=8", "cut=middle", "cut=end"],
            GUARD,
            FORECASTS,
            VERIFIED,
        ],
    ),
    (
        "first-block",
        "first-block",
        &[&["threshold=0.1"], GUARD, FORECASTS, VERIFIED],
    ),
    (
        "dicache",
        "dicache",
        &[
            &["threshold=0.2"],
            &["", "branch=1"],
            GUARD,
            FORECASTS,
            VERIFIED,
        ],
    ),
];

/// Every way to take one of each.
fn combined(name: &str, choices: &[Choice]) -> Vec<String> {
    let all = vec![format!("{name}:")];
    choices.iter().fold(all, |texts, choice| {
        let with = |text: &String| -> Vec<String> {
            let options = choice.iter();
            options.map(|option| format!("{text}{option},")).collect()
        };
        texts.iter().flat_map(with).collect()
    })
}

/// Pictures keep their rule as text, and `--replay` reads it.
#[test]
fn every_method_with_every_option_is_read_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("router.safetensors");
    let router = Router::new("router", vec![vec![0.5; 2]; 4], 0.1);
    router.write(std::fs::File::create(&path).unwrap()).unwrap();
    for (name, method, choices) in OPTIONS {
        for given in combined(name, choices) {
            let given = given.replace("FILE", &path.display().to_string());
            let rule: CacheRule = given.parse().unwrap();
            let written = rule.to_string();
            assert_eq!(written.split(':').next(), Some(*method), "{given}");
            let again: CacheRule = written.parse().unwrap();
            assert_eq!(again, rule, "{given}: {written}");
        }
    }
}

#[test]
fn no_method_and_no_option_is_left_out() {
    let names = methods::ALL.iter().map(|method| method.name);
    let listed = OPTIONS.iter().map(|(name, ..)| *name);
    assert!(
        names
            .clone()
            .all(|name| listed.clone().any(|one| one == name))
    );
    for (name, _, choices) in OPTIONS.iter().filter(|(name, ..)| *name != "l2c") {
        let first = &combined(name, choices)[0];
        let refusal = format!("{first}nothing=1").parse::<CacheRule>();
        let refusal = refusal.unwrap_err().to_string();
        let known = refusal.split("hint: it has ").nth(1).unwrap();
        let options = choices.iter().flat_map(|choice| choice.iter());
        let options: Vec<&str> = options.flat_map(|option| option.split(',')).collect();
        for option in known.split(", ") {
            let listed = options
                .iter()
                .any(|one| one.split('=').next() == Some(option));
            // `auto` picks its forecast itself and refuses the option.
            let refused = (*name, option) == ("auto", FORECAST);
            assert!(listed || refused, "{name}: {option}");
        }
    }
}

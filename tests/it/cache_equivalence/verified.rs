//! Laws of verified caching: what is measured, and that a run which refreshes sooner is the planned run of those refreshes.

use afterimage::{
    cache::{Account, CacheRule, Course, Refresh},
    denoiser::Rows,
};

use super::{
    deciders::{STEPS, planned, run},
    rules,
};
use crate::toy_trunk::ToyUnet;

/// Where no error is too large, nothing but the measuring is added: at every cut, bit for bit.
#[test]
fn a_run_that_does_not_drift_is_the_planned_run() {
    let unet = ToyUnet::new(4);
    for rule in rules(&unet, &Refresh::every(3)) {
        for forecast in ["hold", "linear", "chebyshev:2"] {
            let rule = rule.clone().with_forecast(forecast.parse().unwrap());
            let (expected, plain) = run(&unet, &planned(&unet, &rule), None);
            let verified = rule.with_verify(1e9);
            let (latents, account) = run(&unet, &planned(&unet, &verified), None);
            assert_eq!(latents, expected, "{verified}");
            assert_eq!(account.cells, plain.cells, "{verified}");
            assert_eq!((account.added, account.drift()), (0, None), "{verified}");
            let places: Vec<usize> = account.verified.iter().map(|one| one.evaluation).collect();
            assert_eq!(places, account.refreshed[1..], "{verified}");
            let forecast =
                planned(&unet, &verified).forecast(&unet.blueprint(), Rows::new(2, 2), 4);
            assert!(forecast.decided && account.store_bytes as u64 <= forecast.store_bytes);
        }
    }
}

/// Whatever is added, at every cut and for limits from nothing to everything.
#[test]
fn a_run_that_drifts_is_the_planned_run_of_its_refreshes() {
    let unet = ToyUnet::new(4);
    let mut added = Vec::new();
    for allowed in [1e-9, 0.01, 0.05, 0.2, 0.6] {
        for (index, rule) in rules(&unet, &Refresh::every(4)).into_iter().enumerate() {
            let rule = rule
                .with_forecast("linear".parse().unwrap())
                .with_verify(allowed);
            let (latents, account) = run(&unet, &planned(&unet, &rule), None);
            assert_eq!(account.fallbacks, 0, "{rule}");
            assert_eq!(account.refreshes + account.reuses, STEPS, "{rule}");
            assert_eq!(account.refreshes, STEPS / 4 + account.added, "{rule}");
            assert_eq!(account.drift().is_some(), exceeds(&account), "{rule}");
            let refresh = Refresh::At(account.refreshed.clone());
            let same = rules(&unet, &refresh).swap_remove(index);
            let same = same.with_forecast("linear".parse().unwrap());
            let (expected, other) = run(&unet, &planned(&unet, &same), None);
            assert_eq!(latents, expected, "{rule}");
            assert_eq!(account.cells, other.cells, "{rule}");
            added.push(account.added);
        }
    }
    // Nothing is allowed: behind the first refresh that was looked at, everything is computed.
    assert_eq!(added[0], STEPS - 5 - 1);
    assert!(
        added.iter().any(|&added| (1..STEPS - 6).contains(&added)),
        "{added:?}"
    );
}

fn exceeds(account: &Account) -> bool {
    account.verified.iter().any(|one| one.exceeds)
}

/// What one step finds counts for all that follow, however many are decoded together.
#[test]
fn batches_drift_as_single_steps_do() {
    let unet = ToyUnet::new(4);
    for allowed in [1e-9, 0.05, 0.2, 1e9] {
        let of = |parallel| {
            let rule = CacheRule::encoder_propagation(Refresh::every(4))
                .with_parallel(parallel)
                .with_forecast("linear".parse().unwrap())
                .with_verify(allowed);
            run(&unet, &planned(&unet, &rule), None)
        };
        let (single, account) = of(1);
        for parallel in 2..5 {
            let (batched, other) = of(parallel);
            assert_eq!(batched, single, "{allowed} {parallel}");
            assert_eq!(other.refreshed, account.refreshed, "{allowed} {parallel}");
            let errors = |account: &Account| -> Vec<f64> {
                account.verified.iter().map(|one| one.error).collect()
            };
            assert_eq!(errors(&other), errors(&account), "{allowed} {parallel}");
        }
    }
}

#[test]
fn what_cannot_be_verified_is_refused() {
    let unet = ToyUnet::new(4);
    for (rule, reason) in [
        ("easycache:threshold=0.1,verify=0.1", "decides in the run"),
        ("dicache:threshold=0.1,verify=0.1", "decides in the run"),
        ("tgate:gate=3,verify=0.1", "planned for the refreshes"),
        (
            "taylorseer:interval=3,verify=0.1",
            "planned for the refreshes",
        ),
        (
            "deepcache:interval=3,verify=0.1;tgate:gate=3",
            "planned for the refreshes",
        ),
    ] {
        let rule: CacheRule = rule.parse().unwrap();
        let planned = rule.plan(&Course::steps(STEPS), &unet.blueprint());
        let error = planned.unwrap_err();
        assert!(error.is_plan());
        let text = error.to_string();
        let named = text.starts_with(&format!("`{rule}` cannot be verified: "));
        assert!(named && text.contains(reason), "{text}");
    }
    let whole: CacheRule = "taylorseer:sites=output,verify=0.1".parse().unwrap();
    assert_eq!(
        whole
            .plan(&Course::steps(STEPS), &unet.blueprint())
            .unwrap()
            .verify,
        Some(0.1)
    );
    for (rule, words) in [
        ("deepcache:verify=0", "above 0"),
        ("deepcache:verify=-0.5", "above 0"),
        ("deepcache:verify=nan", "must be a number"),
        ("none:verify=0.1", "has no option `verify`"),
    ] {
        let error = rule.parse::<CacheRule>().unwrap_err().to_string();
        assert!(error.contains(words), "{rule}: {error}");
    }
}

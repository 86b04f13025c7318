//! Rules as text: `name:option=value,option=value`, several joined by `;`.

use std::{fmt, str::FromStr};

use super::{
    branches::BranchRule,
    methods,
    options::{Options, wrong},
    predictor::Predictor,
    rule::{CacheRule, Cut},
};
use crate::error::{Error, PlanError};

/// No caching, as rules call it.
const NONE: &str = "none";

/// The options of every rule.
const FORECAST: &str = "forecast";
const VERIFY: &str = "verify";

/// Between rules that go together.
const JOINT: &str = ";";

/// Reads a rule: `none`, `deepcache:interval=3,branch=0`, `encoder-propagation:keys=50ls,parallel=4`, `dit-propagation:cut=18,keys=a`
/// (without `cut`: 18 of 28 cells, and the same share of other lines).
impl FromStr for CacheRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.contains(JOINT) {
            let rules: Result<Vec<Self>, Error> = text.split(JOINT).map(str::parse).collect();
            return Self::combine(rules?);
        }
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        let mut options = Options::read(name, options)?;
        let method = methods::ALL.iter().find(|method| method.name == name);
        let rule = match method {
            Some(method) => {
                let rule = (method.read)(&mut options)?;
                let rule = forecast(&mut options, rule)?;
                verify(&mut options, rule)?
            }
            None if name == NONE => Self::none(),
            None => return Err(unknown(name)),
        };
        options.finish()?;
        Ok(rule)
    }
}

/// With the forecast that any rule takes that is none itself.
fn forecast(options: &mut Options<'_>, rule: CacheRule) -> Result<CacheRule, Error> {
    if let Some(BranchRule::Series(_)) = rule.branches {
        return Ok(rule);
    }
    match options.take(FORECAST) {
        Some(given) if rule.auto.is_some() => {
            Err(wrong(FORECAST, given, "`auto` picks the forecast itself"))
        }
        Some(predictor) => Ok(rule.with_forecast(predictor.parse()?)),
        None => Ok(rule),
    }
}

/// With the error that its forecasts may have.
fn verify(options: &mut Options<'_>, rule: CacheRule) -> Result<CacheRule, Error> {
    match options.number(VERIFY)? {
        Some(allowed) if allowed > 0.0 => Ok(rule.with_verify(allowed)),
        Some(allowed) => Err(wrong(
            VERIFY,
            &allowed.to_string(),
            "it is the error that a forecast may have, relative to what is computed in its place: above 0; 0.05 is a twentieth",
        )),
        None => Ok(rule),
    }
}

fn unknown(name: &str) -> Error {
    let methods = methods::ALL.iter().map(|method| method.name);
    let known: Vec<&str> = [NONE].into_iter().chain(methods).collect();
    PlanError::UnknownRule {
        rule: name.into(),
        known: known.join(", "),
    }
    .into()
}

/// Writes what [`FromStr`] reads.
impl fmt::Display for CacheRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.cut, &self.branches) {
            (Cut::Nowhere, None) if self.auto.is_some() => self.write(formatter, Predictor::Hold),
            (Cut::Nowhere, None) => formatter.write_str(NONE),
            (Cut::Nowhere, Some(_)) if self.auto.is_none() => {
                self.write(formatter, self.branch_forecast)
            }
            (_, None) => self.write(formatter, self.forecast),
            (_, Some(branches)) => {
                let inside = Self::none().with_branches(branches.clone());
                let inside = inside.with_forecast(self.branch_forecast);
                let mut cuts = self.clone();
                cuts.branches = None;
                write!(formatter, "{cuts}{JOINT}{inside}")
            }
        }
    }
}

impl CacheRule {
    /// Whether it cuts the trunk, or will.
    fn cuts(&self) -> bool {
        self.cut != Cut::Nowhere || self.auto.is_some()
    }

    /// One method with its forecast.
    fn write(&self, formatter: &mut fmt::Formatter<'_>, forecast: Predictor) -> fmt::Result {
        formatter.write_str(&methods::text(self).unwrap_or_default())?;
        if forecast != Predictor::Hold {
            write!(formatter, ",{FORECAST}={forecast}")?;
        }
        match self.verify {
            Some(allowed) => write!(formatter, ",{VERIFY}={allowed}"),
            None => Ok(()),
        }
    }

    /// One rule from several: one that cuts the trunk at most, and one that works inside cells at most. `none` adds nothing.
    ///
    /// # Errors
    ///
    /// If two of them do the same.
    pub fn combine(rules: impl IntoIterator<Item = Self>) -> Result<Self, Error> {
        let mut combined = Self::none();
        for rule in rules {
            if (rule.cuts() && combined.cuts())
                || (rule.branches.is_some() && combined.branches.is_some())
            {
                return Err(PlanError::Combination {
                    first: combined.to_string(),
                    second: rule.to_string(),
                }
                .into());
            }
            let inside = match rule.branches {
                Some(_) => &rule,
                None => &combined,
            };
            let (branches, forecast) = (inside.branches.clone(), inside.branch_forecast);
            let verify = rule.verify.or(combined.verify);
            if rule.cuts() {
                combined = rule;
            }
            (combined.branches, combined.branch_forecast) = (branches, forecast);
            combined.verify = verify;
        }
        Ok(combined)
    }

    /// Every method by a rule that shows how it is written, and what a reuse step computes under it; [`none`](Self::none) left out.
    pub fn manual() -> impl Iterator<Item = (&'static str, &'static str)> {
        methods::ALL
            .iter()
            .map(|method| (method.example, method.help))
    }
}

#[cfg(test)]
mod tests {
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
}

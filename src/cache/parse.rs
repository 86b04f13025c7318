//! Rules as text: `name:option=value,option=value`.

use std::{fmt, str::FromStr};

use super::{
    branches::BranchRule,
    keys::KeyList,
    options::{Options, wrong},
    refresh::Refresh,
    router::{self, Router},
    rule::{CacheRule, Cut},
};
use crate::{
    error::{Error, PlanError},
    inject::{Moment, PriorNoise},
};

const KNOWN_RULES: &str = "none, deepcache, encoder-propagation, faster-diffusion, faster-diffusion-ldm, dit-propagation, tgate, l2c";

/// Between rules that go together.
const JOINT: &str = ";";

const MOMENTS: [(&str, Moment); 3] = [
    ("before-call", Moment::BeforeCall),
    ("before-step", Moment::BeforeStep),
    ("after-step", Moment::AfterStep),
];

/// How a family of methods calls its schedule.
struct Words {
    every: &'static str,
    list: &'static str,
}

const DEEPCACHE: Words = Words {
    every: "interval",
    list: "at",
};

const PROPAGATION: Words = Words {
    every: "every",
    list: "keys",
};

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
        let rule = match name {
            "none" => Self::none(),
            "deepcache" => deepcache(&mut options)?,
            "encoder-propagation" => encoder_propagation(&mut options)?,
            "faster-diffusion" => preset(&mut options, Self::faster_diffusion())?,
            "faster-diffusion-ldm" => preset(&mut options, Self::faster_diffusion_ldm())?,
            "dit-propagation" => dit_propagation(&mut options)?,
            "tgate" => tgate(&mut options)?,
            "l2c" => learning_to_cache(&mut options)?,
            _ => {
                return Err(PlanError::UnknownRule {
                    rule: name.into(),
                    known: KNOWN_RULES,
                }
                .into());
            }
        };
        options.finish()?;
        Ok(rule)
    }
}

impl CacheRule {
    /// One rule from several: one that cuts the trunk at most, and one that works inside cells at most. `none` adds nothing.
    ///
    /// # Errors
    ///
    /// If two of them do the same.
    pub fn combine(rules: impl IntoIterator<Item = Self>) -> Result<Self, Error> {
        let mut combined = Self::none();
        for rule in rules {
            let cuts = rule.cut != Cut::Nowhere && combined.cut != Cut::Nowhere;
            if cuts || (rule.branches.is_some() && combined.branches.is_some()) {
                return Err(PlanError::Combination {
                    first: combined.to_string(),
                    second: rule.to_string(),
                }
                .into());
            }
            let branches = rule.branches.clone().or(combined.branches.take());
            if rule.cut != Cut::Nowhere {
                combined = rule;
            }
            combined.branches = branches;
        }
        Ok(combined)
    }
}

fn deepcache(options: &mut Options) -> Result<CacheRule, Error> {
    let refresh = schedule(options, &DEEPCACHE)?.unwrap_or(Refresh::every(3));
    let (branch, skip) = (options.count("branch")?, options.count("skip")?);
    options.exclude(("branch", branch.is_some()), ("skip", skip.is_some()))?;
    let skip = branch.or(skip).unwrap_or(0);
    guarded(options, CacheRule::deepcache_skip(skip, refresh))
}

fn encoder_propagation(options: &mut Options) -> Result<CacheRule, Error> {
    let Some(refresh) = schedule(options, &PROPAGATION)? else {
        return Err(options.missing("keys", "`keys=50ls` is the published list for 50 steps"));
    };
    held(options, CacheRule::encoder_propagation(refresh))
}

/// A published rule, changed where options say so.
fn preset(options: &mut Options, mut rule: CacheRule) -> Result<CacheRule, Error> {
    if let Some(refresh) = schedule(options, &PROPAGATION)? {
        rule.refresh = refresh;
    }
    held(options, rule)
}

fn dit_propagation(options: &mut Options) -> Result<CacheRule, Error> {
    let cut = options.count("cut")?;
    let Some(refresh) = schedule(options, &PROPAGATION)? else {
        return Err(options.missing("keys", "`keys=a` is a published list for 250 steps"));
    };
    let rule = match cut {
        Some(cut) => CacheRule::dit_propagation(cut, refresh),
        None => CacheRule::dit_propagation_proportional(refresh),
    };
    held(options, rule)
}

fn tgate(options: &mut Options) -> Result<CacheRule, Error> {
    let Some(gate) = options.count("gate")? else {
        return Err(options.missing("gate", "`gate=10` works well for 25 and more steps"));
    };
    Ok(CacheRule::tgate(gate))
}

fn learning_to_cache(options: &mut Options) -> Result<CacheRule, Error> {
    let Some(file) = options.take("router") else {
        return Err(options.missing(
            "router",
            "name the file of a router trained for this model and number of steps",
        ));
    };
    let threshold = options.number("threshold")?.unwrap_or(router::THRESHOLD);
    Ok(CacheRule::learning_to_cache(Router::read(file, threshold)?))
}

/// The options of rules that hold their skips.
fn held(options: &mut Options, mut rule: CacheRule) -> Result<CacheRule, Error> {
    if let Some(parallel) = options.count("parallel")? {
        rule.max_parallel = parallel;
    }
    rule.noise = noise(options, rule.noise)?;
    guarded(options, rule)
}

fn guarded(options: &mut Options, rule: CacheRule) -> Result<CacheRule, Error> {
    let guard = options.number("guard")?.unwrap_or(rule.guard);
    Ok(rule.with_guard(guard))
}

/// `interval=3`, `at=0+4`, `keys=50ls`, and the forms that `schedule` names; `None` if no schedule is given.
fn schedule(options: &mut Options, words: &Words) -> Result<Option<Refresh>, Error> {
    let interval = options.count(words.every)?;
    let list = options.take(words.list);
    let form = options.take("schedule");
    let center = options.count("center")?;
    let power = options.number("power")?;
    let (spaced, listed) = (interval.is_some(), list.is_some());
    options.exclude((words.every, spaced), (words.list, listed))?;
    options.require(("schedule", form.is_some()), (words.every, spaced))?;
    let quadratic = form == Some("quadratic");
    options.require(
        ("center", center.is_some()),
        ("schedule=quadratic", quadratic),
    )?;
    options.require(("power", power.is_some()), ("schedule", form.is_some()))?;
    match (interval, list) {
        (Some(interval), _) => spacing(options, form, interval, center, power).map(Some),
        (None, Some(text)) => listed_steps(words, text).map(Some),
        (None, None) => Ok(None),
    }
}

fn spacing(
    options: &Options,
    form: Option<&str>,
    interval: usize,
    center: Option<usize>,
    power: Option<f64>,
) -> Result<Refresh, Error> {
    let power =
        || power.ok_or_else(|| options.missing("power", "1.4 works well (quadratic), 1.5 (power)"));
    match form {
        None => Ok(Refresh::every(interval)),
        Some("quadratic") => Ok(Refresh::Quadratic {
            interval,
            center: center.ok_or_else(|| {
                options.missing("center", "about a third of the steps works well")
            })?,
            power: power()?,
        }),
        Some("power") => Ok(Refresh::Power {
            interval,
            power: power()?,
        }),
        Some(other) => Err(wrong("schedule", other, "one of quadratic, power")),
    }
}

/// `0+1+5`, or the name of a published list.
fn listed_steps(words: &Words, text: &str) -> Result<Refresh, Error> {
    if let Some(list) = KeyList::named(text) {
        return Ok(list.into());
    }
    let steps: Result<Vec<usize>, _> = text.split('+').map(str::parse).collect();
    steps.map(Refresh::At).map_err(|_| {
        let names: Vec<&str> = KeyList::all().map(KeyList::name).collect();
        let expected = format!("numbers joined by `+`, or one of {}", names.join(", "));
        wrong(words.list, text, expected)
    })
}

fn noise(options: &mut Options, preset: Option<PriorNoise>) -> Result<Option<PriorNoise>, Error> {
    let alpha = options.number("noise")?;
    let from = options.number("noise-from")?;
    let at = options.take("noise-at").map(moment).transpose()?;
    let wanted = alpha.is_some() || preset.is_some();
    options.require(("noise-from", from.is_some()), ("noise", wanted))?;
    options.require(("noise-at", at.is_some()), ("noise", wanted))?;
    let base = preset.unwrap_or(PriorNoise::faster_diffusion());
    Ok(wanted.then_some(PriorNoise {
        alpha: alpha.unwrap_or(base.alpha),
        from: from.unwrap_or(base.from),
        at: at.unwrap_or(base.at),
    }))
}

fn moment(text: &str) -> Result<Moment, Error> {
    let found = MOMENTS.iter().find(|(name, _)| *name == text);
    found.map(|&(_, moment)| moment).ok_or_else(|| {
        wrong(
            "noise-at",
            text,
            "one of before-call, before-step, after-step",
        )
    })
}

/// Writes what [`FromStr`] reads.
impl fmt::Display for CacheRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.cut {
            Cut::Nowhere => {
                return match &self.branches {
                    Some(branches) => branches.fmt(formatter),
                    None => write!(formatter, "none"),
                };
            }
            Cut::Skip(_) => DEEPCACHE,
            Cut::AfterMiddle | Cut::Cell(_) | Cut::Proportional => PROPAGATION,
        };
        match self.cut {
            Cut::Nowhere => {}
            Cut::Skip(skip) => write!(formatter, "deepcache:branch={skip},")?,
            Cut::AfterMiddle => write!(formatter, "encoder-propagation:")?,
            Cut::Cell(cut) => write!(formatter, "dit-propagation:cut={cut},")?,
            Cut::Proportional => write!(formatter, "dit-propagation:")?,
        }
        write_schedule(formatter, &self.refresh, &words)?;
        self.write_extras(formatter)?;
        match &self.branches {
            Some(branches) => write!(formatter, "{JOINT}{branches}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for BranchRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gate { gate } => write!(formatter, "tgate:gate={gate}"),
            Self::Routed(router) => {
                write!(
                    formatter,
                    "l2c:router={},threshold={}",
                    router.name(),
                    router.threshold()
                )
            }
        }
    }
}

impl CacheRule {
    #[allow(clippy::float_cmp, reason = "what differs from the default is written")]
    fn write_extras(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.guard != 0.0 {
            write!(formatter, ",guard={}", self.guard)?;
        }
        if self.max_parallel != 1 {
            write!(formatter, ",parallel={}", self.max_parallel)?;
        }
        let Some(PriorNoise { alpha, from, at }) = self.noise else {
            return Ok(());
        };
        write!(formatter, ",noise={alpha},noise-from={from}")?;
        match MOMENTS.iter().find(|(_, moment)| *moment == at) {
            Some((name, _)) => write!(formatter, ",noise-at={name}"),
            None => Ok(()),
        }
    }
}

fn write_schedule(
    formatter: &mut fmt::Formatter<'_>,
    refresh: &Refresh,
    Words { every, list }: &Words,
) -> fmt::Result {
    match refresh {
        Refresh::EveryStep => write!(formatter, "{every}=1"),
        Refresh::Uniform { interval } => write!(formatter, "{every}={interval}"),
        Refresh::Keys(keys) => write!(formatter, "{list}={}", keys.name()),
        Refresh::At(steps) => {
            let steps: Vec<String> = steps.iter().map(usize::to_string).collect();
            write!(formatter, "{list}={}", steps.join("+"))
        }
        Refresh::Quadratic {
            interval,
            center,
            power,
        } => write!(
            formatter,
            "{every}={interval},schedule=quadratic,center={center},power={power}"
        ),
        Refresh::Power { interval, power } => {
            write!(formatter, "{every}={interval},schedule=power,power={power}")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        (prop_oneof![Just(CacheRule::none()), deep, held], guards).prop_map(|(rule, guard)| {
            match rule.cut {
                Cut::Nowhere => rule,
                _ => rule.with_guard(guard),
            }
        })
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

    #[test]
    fn the_grammar_of_the_manual_is_read() {
        let quadratic = Refresh::Quadratic {
            interval: 3,
            center: 15,
            power: 1.4,
        };
        let power = Refresh::Power {
            interval: 5,
            power: 1.5,
        };
        let fifty = KeyList::named("50ls").unwrap();
        let noise = PriorNoise {
            alpha: 0.003,
            from: 0.5,
            at: Moment::AfterStep,
        };
        let cases = [
            ("none", CacheRule::none()),
            ("deepcache", CacheRule::deepcache(3, 0)),
            ("deepcache:interval=5,branch=1", CacheRule::deepcache(5, 1)),
            ("deepcache:interval=5,skip=4", CacheRule::deepcache(5, 4)),
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
            (
                "encoder-propagation:keys=50ls",
                CacheRule::encoder_propagation(fifty),
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
                CacheRule::dit_propagation(18, KeyList::named("a-prime").unwrap()),
            ),
            (
                "dit-propagation:keys=A'",
                CacheRule::dit_propagation_proportional(KeyList::named("a-prime").unwrap()),
            ),
            (
                "dit-propagation:keys=C",
                CacheRule::dit_propagation_proportional(KeyList::named("c").unwrap()),
            ),
        ];
        for (text, rule) in cases {
            assert_eq!(read(text), rule, "{text}");
        }
    }

    #[test]
    fn faults_are_named() {
        let cases = [
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
        for (text, message) in cases {
            let error = text.parse::<CacheRule>().unwrap_err();
            assert!(error.is_plan());
            let found = error.to_string();
            assert!(found.starts_with(message), "{text}: {found}");
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

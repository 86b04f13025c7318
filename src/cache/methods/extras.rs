//! Options that several methods share: guard bands, batches of evaluations, prior noise.

use crate::{
    cache::{
        options::{Options, wrong},
        rule::CacheRule,
    },
    error::Error,
    inject::{Moment, PriorNoise},
};

pub(in crate::cache) const MOMENTS: [(&str, Moment); 3] = [
    ("before-call", Moment::BeforeCall),
    ("before-step", Moment::BeforeStep),
    ("after-step", Moment::AfterStep),
];

/// The options of rules that hold their skips.
pub(super) fn held(options: &mut Options, mut rule: CacheRule) -> Result<CacheRule, Error> {
    if let Some(parallel) = options.count("parallel")? {
        rule.max_parallel = parallel;
    }
    rule.noise = noise(options, rule.noise)?;
    guarded(options, rule)
}

pub(super) fn guarded(options: &mut Options, rule: CacheRule) -> Result<CacheRule, Error> {
    let guard = options.number("guard")?.unwrap_or(rule.guard);
    Ok(rule.with_guard(guard))
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

/// What [`held`] and [`guarded`] read, with a comma before each.
#[allow(clippy::float_cmp, reason = "what differs from the default is written")]
pub(super) fn text(rule: &CacheRule) -> String {
    let guard = (rule.guard != 0.0).then(|| format!(",guard={}", rule.guard));
    let parallel = (rule.max_parallel != 1).then(|| format!(",parallel={}", rule.max_parallel));
    let noise = rule.noise.map(|PriorNoise { alpha, from, at }| {
        let named = MOMENTS.iter().find(|(_, moment)| *moment == at);
        let at = named.map_or_else(String::new, |(name, _)| format!(",noise-at={name}"));
        format!(",noise={alpha},noise-from={from}{at}")
    });
    [guard, parallel, noise].into_iter().flatten().collect()
}

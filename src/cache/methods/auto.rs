//! `auto`: what a calibrated plan picks for a budget.

use super::method::Method;
use crate::{
    cache::{
        auto::{Auto, Budget},
        options::{Options, wrong},
        rule::CacheRule,
    },
    error::{Error, number},
};

pub(super) const METHOD: Method = Method {
    name: "auto",
    example: "auto:speedup=2",
    help: "what a calibrated plan picks for a speed-up (speedup=2), a closeness to the plain run in dB (psnr=40) or the time of the whole run (seconds=20)",
    read,
    text,
};

/// The most dB that anything is close by: equal pictures.
const CLOSEST: f64 = 70.0;

fn read(options: &mut Options) -> Result<CacheRule, Error> {
    let names = ["speedup", "psnr", "seconds"];
    let [speedup, psnr, seconds] = names.map(|name| options.number(name));
    let given = [speedup?, psnr?, seconds?];
    let file = options.take("plan");
    for (first, second) in [(0, 1), (0, 2), (1, 2)] {
        let place = |index: usize| (names[index], given[index].is_some());
        options.exclude(place(first), place(second))?;
    }
    let refused = |name, value: f64, expected: &str| Err(wrong(name, &number(value), expected));
    let budget = match given {
        [Some(speedup), ..] if speedup >= 1.0 => Budget::Speedup(speedup),
        [Some(speedup), ..] => {
            return refused("speedup", speedup, "it is at least 1, the plain run's");
        }
        [_, Some(psnr), _] if psnr > 0.0 && psnr <= CLOSEST => Budget::Psnr(psnr),
        [_, Some(psnr), _] => {
            let expected = "it is above 0 and at most 70, which equal pictures count as";
            return refused("psnr", psnr, expected);
        }
        [_, _, Some(seconds)] if seconds > 0.0 => Budget::Seconds(seconds),
        [_, _, Some(seconds)] => return refused("seconds", seconds, "it is above 0"),
        [None, None, None] => {
            return Err(options.missing("speedup", "or `psnr`, or `seconds`: what it must keep"));
        }
    };
    Ok(CacheRule::auto(Auto {
        budget,
        plan: file.map(str::to_owned),
    }))
}

fn text(rule: &CacheRule) -> Option<String> {
    let Auto { budget, plan } = rule.auto.as_ref()?;
    let plan = plan.as_ref().map(|plan| format!(",plan={plan}"));
    Some(format!("auto:{budget}{}", plan.unwrap_or_default()))
}

impl CacheRule {
    /// A rule that is picked when model and run are known.
    pub fn auto(auto: Auto) -> Self {
        Self {
            auto: Some(auto),
            ..Self::none()
        }
    }
}

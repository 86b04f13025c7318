//! `auto`: what a calibrated plan picks for a budget.

use super::method::Method;
use crate::{
    cache::{
        auto::{Auto, Budget},
        options::{Options, wrong},
        rule::CacheRule,
    },
    error::Error,
};

pub(super) const METHOD: Method = Method {
    name: "auto",
    example: "auto:speedup=2",
    help: "what a calibrated plan picks for a speed-up (speedup=2) or a closeness to the plain run in dB (psnr=40)",
    read,
    text,
};

/// The most dB that anything is close by: equal pictures.
const CLOSEST: f64 = 70.0;

fn read(options: &mut Options) -> Result<CacheRule, Error> {
    let (speedup, psnr) = (options.number("speedup")?, options.number("psnr")?);
    let file = options.take("plan");
    options.exclude(("speedup", speedup.is_some()), ("psnr", psnr.is_some()))?;
    let budget = match (speedup, psnr) {
        (Some(speedup), _) if speedup >= 1.0 => Budget::Speedup(speedup),
        (Some(speedup), _) => {
            let given = speedup.to_string();
            return Err(wrong(
                "speedup",
                &given,
                "it is at least 1, the plain run's",
            ));
        }
        (None, Some(psnr)) if psnr > 0.0 && psnr <= CLOSEST => Budget::Psnr(psnr),
        (None, Some(psnr)) => {
            let expected = "it is above 0 and at most 70, which equal pictures count as";
            return Err(wrong("psnr", &psnr.to_string(), expected));
        }
        (None, None) => {
            return Err(options.missing("speedup", "or `psnr`: what the plan must keep"));
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

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
        self.cut != Cut::Nowhere || self.auto.is_some() || self.outputs().is_some()
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

    /// Which of two rules that cut the trunk is the other's beside one that is still to be picked.
    fn beside_picked<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        match (&self.auto, &other.auto) {
            _ if !(self.cuts() && other.cuts()) => None,
            (_, Some(_)) => Some(self),
            (Some(_), None) => Some(other),
            (None, None) => None,
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
                if let Some(other) = combined.beside_picked(&rule) {
                    let other = other.to_string();
                    return Err(PlanError::BesidePicked { other }.into());
                }
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
mod round_trips;
#[cfg(test)]
mod tests;

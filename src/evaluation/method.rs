//! Ways of making the same pictures.

use serde::{Deserialize, Serialize};

use crate::cache::{CacheRule, Forecast};
use crate::error::{Error, EvaluationError};
use crate::pipeline::{ModelConfig, Request, Resolved};
use crate::samplers::SamplerKind;

/// One way of making the pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// The cache rule as text; `none` for the plain run and for fewer steps.
    pub rule: String,
    /// Solver steps.
    pub steps: usize,
    /// The update rule, where it is not the study's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<String>,
    /// Whether it has so many steps that more would change nothing: what the others are measured to as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub converged: bool,
    /// How much faster than the plain run its denoising loop can be at best.
    pub speedup_forecast: f64,
    /// Cells that it runs, over all evaluations.
    pub cells_forecast: usize,
}

impl Method {
    fn new(request: &Request, plain_macs: u64, model: &ModelConfig) -> Result<Self, Error> {
        let resolved = request.resolve(model)?;
        let forecast = resolved.forecast(1);
        Ok(Self {
            rule: request.cache.to_string(),
            steps: resolved.steps,
            sampler: None,
            converged: false,
            speedup_forecast: short(plain_macs as f64 / forecast.total_macs().max(1) as f64),
            cells_forecast: forecast.cells.iter().sum(),
        })
    }

    /// Whether nothing is reused.
    pub fn is_plain(&self) -> bool {
        self.rule == "none"
    }

    /// The method's name without its settings: `deepcache`, `encoder-propagation`; `fewer steps` for plain runs.
    pub fn family(&self) -> &str {
        if self.is_plain() {
            return self.sampler.as_deref().unwrap_or("fewer steps");
        }
        self.rule.split(':').next().unwrap_or(&self.rule)
    }

    /// The rule, or how many plain steps.
    pub fn name(&self) -> String {
        if self.converged {
            return format!("{} steps, converged", self.steps);
        }
        match (&self.sampler, self.is_plain()) {
            (Some(sampler), true) => format!("{} steps of {sampler}", self.steps),
            (None, true) => format!("{} steps", self.steps),
            (_, false) => self.rule.clone(),
        }
    }

    /// The plain run that `request` describes, then the rules, then for each rule as few plain steps as cost the same, by the run's own
    /// sampler and by those of `peers`; nothing twice. The converged run is the last.
    ///
    /// # Errors
    ///
    /// If a rule or a peer does not fit the model and the run, or more steps do not bring its sampler nearer to anything.
    pub fn all(
        request: &Request,
        rules: &[CacheRule],
        peers: &Peers,
        model: &ModelConfig,
    ) -> Result<Vec<Self>, Error> {
        let with = |steps, cache| Request {
            steps,
            cache,
            ..request.clone()
        };
        let plain = with(request.steps, CacheRule::none());
        let resolved = plain.resolve(model)?;
        let plain_macs = resolved.forecast(1).total_macs();
        let mut methods = vec![Self::new(&plain, plain_macs, model)?];
        let mut fewer = Vec::new();
        for rule in rules {
            let cached = with(request.steps, rule.clone());
            let (cached, _) = cached.settled(model)?;
            let share = share(&cached.resolve(model)?.forecast(1), plain_macs);
            let steps = ((resolved.steps as f64 * share).round() as usize).max(1);
            fewer.push(steps);
            let sampler = cached.sampler.filter(|own| Some(*own) != request.sampler);
            methods.push(Self {
                sampler: sampler.map(|sampler| sampler.name().to_owned()),
                ..Self::new(&cached, plain_macs, model)?
            });
        }
        fewer.sort_unstable_by(|a, b| b.cmp(a));
        let own: &str = match request.sampler {
            Some(own) => own.name(),
            None => model.sampler.name(),
        };
        let others = peers.samplers.iter().filter(|peer| peer.name() != own);
        for sampler in std::iter::once(None).chain(others.map(Some)) {
            for &steps in &fewer {
                let fewer = Request {
                    sampler: sampler.copied().or(request.sampler),
                    ..with(Some(steps), CacheRule::none())
                };
                methods.push(Self {
                    sampler: sampler.map(|sampler| sampler.name().to_owned()),
                    ..Self::new(&fewer, plain_macs, model)?
                });
            }
        }
        let mut methods = without_repetitions(methods);
        if let Some(steps) = peers.converged {
            let plain = with(Some(steps), CacheRule::none());
            converges(&plain, &resolved, own, model)?;
            methods.push(Self {
                converged: true,
                ..Self::new(&plain, plain_macs, model)?
            });
        }
        Ok(methods)
    }
}

/// How much of the plain run's work a rule does; what is decided in the run lies between the least and everything.
fn share(rule: &Forecast, plain_macs: u64) -> f64 {
    let least = rule.total_macs() as f64 / plain_macs.max(1) as f64;
    if rule.decided { least.sqrt() } else { least }
}

/// What rules are compared with, beside fewer steps of their own sampler.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    /// Samplers whose fewer steps are made, too.
    pub samplers: Vec<SamplerKind>,
    /// Steps of a plain run that stands for infinitely many.
    pub converged: Option<usize>,
}

/// Refuses what many steps of do not come nearer to a picture: noise that is drawn on the way makes another with every number of steps.
fn converges(
    many: &Request,
    plain: &Resolved,
    sampler: &str,
    model: &ModelConfig,
) -> Result<(), Error> {
    let many = many.resolve(model)?;
    let (steps, fewest) = (many.steps, plain.steps);
    if steps <= fewest {
        return Err(EvaluationError::NotConverged { steps, fewest }.into());
    }
    let mut evaluations = 0..many.sampler.evaluations().len();
    if evaluations.any(|evaluation| many.sampler.draws_noise(evaluation)) {
        return Err(EvaluationError::NeverConverges {
            sampler: sampler.into(),
        }
        .into());
    }
    Ok(())
}

/// Six decimals: long numbers do not come back from JSON to the last bit, and manifests are compared.
fn short(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

fn without_repetitions(methods: Vec<Method>) -> Vec<Method> {
    let mut kept: Vec<Method> = Vec::new();
    for method in methods {
        let what = |one: &Method| (one.rule.clone(), one.steps, one.sampler.clone());
        let same = |other: &Method| what(other) == what(&method);
        if !kept.iter().any(same) {
            kept.push(method);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_names_and_families() {
        let method = |rule: &str, steps| Method {
            rule: rule.into(),
            steps,
            sampler: None,
            converged: false,
            speedup_forecast: 2.0,
            cells_forecast: 9,
        };
        let cached = method("deepcache:interval=3,branch=0", 30);
        assert_eq!(
            (cached.name().as_str(), cached.family()),
            ("deepcache:interval=3,branch=0", "deepcache")
        );
        let fewer = method("none", 12);
        assert_eq!(
            (fewer.name().as_str(), fewer.family()),
            ("12 steps", "fewer steps")
        );
        let other = Method {
            sampler: Some("dpmsolver++".into()),
            ..fewer.clone()
        };
        assert_eq!(
            (other.name().as_str(), other.family()),
            ("12 steps of dpmsolver++", "dpmsolver++")
        );
        let kept = without_repetitions(vec![cached.clone(), fewer.clone(), fewer.clone()]);
        assert_eq!(kept, [cached, fewer]);
    }
}

//! A rule `auto` becomes an ordinary one, when the model and the run are known.

use std::borrow::Cow;

use super::asked::Request;
use super::resolved::Resolved;
use super::stage::Stage;
use crate::cache::{Auto, Budget, CacheRule, Choice, PlanFile, Predictor, Refresh};
use crate::catalog::ModelFolder;
use crate::error::{Error, PlanError};
use crate::pipeline::config::ModelConfig;
use crate::samplers::SamplerKind;

/// Where a model's own plan lies in its folder.
pub const PLAN_FILE: &str = "afterimage-plan.json";

/// The plan that a run is picked from, and what it is called; or why there is none.
type Found = Result<(String, PlanFile), String>;

impl Request {
    /// The request with what its rule `auto` picks for `model` in place of it: an ordinary rule, or fewer steps where those are closer;
    /// and what was picked, in a sentence. A request with an ordinary rule stays as it is.
    ///
    /// # Errors
    ///
    /// If the request does not fit the model, a plan file that it names does not fit both, or nothing keeps the budget.
    pub fn settled(&self, model: &ModelConfig) -> Result<(Cow<'_, Self>, Option<String>), Error> {
        let Some(auto) = &self.cache.auto else {
            return Ok((Cow::Borrowed(self), None));
        };
        if let Budget::Seconds(_) = auto.budget {
            let budget = auto.budget.to_string();
            return Err(PlanError::Unmeasured { budget }.into());
        }
        let plain = self.unpicked();
        let resolved = plain.resolve(model)?;
        let (settled, note) = match plain.plan_for(auto, model, &resolved)? {
            Ok((name, plan)) => {
                let choice = plan.choose(auto.budget)?;
                let note = said(auto.budget, &choice, (&name, &plan), model);
                let picked = plain.picked(choice, &plan, &resolved)?;
                picked
                    .resolve_ordinary(model)
                    .map_err(|error| of_plan(&name, error))?;
                (picked, note)
            }
            Err(reason) => plain.by_default(auto.budget, model, &resolved, &reason)?,
        };
        Ok((Cow::Owned(settled), Some(note)))
    }

    /// The calibrated plan that a rule `auto` picks from, and what it is called; `None` where the family's default stands in, or the rule
    /// is an ordinary one.
    ///
    /// # Errors
    ///
    /// As [`settled`](Self::settled).
    pub fn calibrated(&self, model: &ModelConfig) -> Result<Option<(String, PlanFile)>, Error> {
        let Some(auto) = &self.cache.auto else {
            return Ok(None);
        };
        let plain = self.unpicked();
        Ok(plain.plan_for(auto, model, &plain.resolve(model)?)?.ok())
    }

    /// Without the rule that is still to be picked.
    fn unpicked(&self) -> Self {
        let mut plain = self.clone();
        plain.cache.auto = None;
        plain
    }

    fn sampler_name<'a>(&self, model: &'a ModelConfig) -> &'a str {
        match self.sampler {
            Some(kind) => kind.name(),
            None => model.sampler.name(),
        }
    }

    fn plan_for(
        &self,
        auto: &Auto,
        model: &ModelConfig,
        resolved: &Resolved,
    ) -> Result<Found, Error> {
        if let Some(file) = &auto.plan {
            let plan = PlanFile::read(file)?;
            return match self.misfit(&plan, file, model, resolved)? {
                Some(misfit) => Err(misfit.into()),
                None => Ok(Ok((file.clone(), plan))),
            };
        }
        let folder = model.folder().filter(|folder| folder.has(PLAN_FILE));
        let Some(folder) = folder else {
            return Ok(Err("the model has none".into()));
        };
        let name = format!("{}/{PLAN_FILE}", folder.name());
        let plan = PlanFile::from_json(&folder.read_json(PLAN_FILE)?, &name)?;
        match self.misfit(&plan, &name, model, resolved)? {
            None => Ok(Ok((name, plan))),
            Some(PlanError::PlanOfOther {
                made_for, found, ..
            }) => Ok(Err(format!(
                "its own is for {made_for}, and this is {found}"
            ))),
            Some(broken) => Err(broken.into()),
        }
    }

    /// In what a plan is for another run.
    fn misfit(
        &self,
        plan: &PlanFile,
        file: &str,
        model: &ModelConfig,
        resolved: &Resolved,
    ) -> Result<Option<PlanError>, Error> {
        let differs = |made_for: String, found: String, hint: String| {
            let other = (made_for != found).then(|| PlanError::PlanOfOther {
                file: file.to_owned(),
                made_for,
                found,
                hint,
            });
            Ok(other)
        };
        let anew = "`afterimage calibrate` makes one for it";
        if resolved.motion.is_some() {
            let film = "a film that one frame is moved to".to_owned();
            return differs("one loop".into(), film, anew.into());
        }
        if let Some(hash) = weights_hash(model)?.filter(|hash| *hash != plan.model) {
            let [made_for, found] = [&plan.model, &hash].map(|hash| format!("weights `{hash}`"));
            return differs(made_for, found, anew.into());
        }
        if let Some(unknown) = unknown_sampler(plan) {
            return Ok(Some(unfit(file, unknown)));
        }
        let sampler = self.sampler_name(model);
        if sampler != plan.sampler {
            let hint = format!("use --sampler {}, or calibrate anew", plan.sampler);
            return differs(plan.sampler.clone(), sampler.to_owned(), hint);
        }
        let steps = |steps: usize| format!("{steps} steps");
        let hint = format!("use --steps {}, or calibrate anew", plan.steps);
        let other = differs(steps(plan.steps), steps(resolved.steps), hint)?;
        if other.is_some() {
            return Ok(other);
        }
        let [_, _, height, width] = resolved.latent_shape;
        let whole = self.sampler_for(model, [height, width]);
        let whole = whole.build(resolved.steps, self.eta)?;
        let (called, said) = (whole.evaluations().len(), plan.evaluations);
        Ok((called != said).then(|| {
            let run = format!("{} steps of {sampler} call it {called} times", plan.steps);
            unfit(
                file,
                format!("it says that the model is called {said} times, and {run}"),
            )
        }))
    }

    /// With what a plan has picked, cut to the evaluations that are really made.
    fn picked(
        mut self,
        choice: Choice,
        plan: &PlanFile,
        resolved: &Resolved,
    ) -> Result<Self, Error> {
        if choice.rule == CacheRule::none() {
            self.steps = Some(choice.steps);
            if choice.sampler != plan.sampler {
                self.sampler = Some(choice.sampler.parse()?);
            }
            return Ok(self);
        }
        let made = resolved.plan.evaluations();
        let skipped = match self.stage {
            Stage::Begin { .. } => 0,
            _ => plan.evaluations.saturating_sub(made),
        };
        // The first that is made is computed in full, whatever is left of the list.
        let cut = |refreshes: Vec<usize>| {
            let left = refreshes
                .into_iter()
                .filter_map(|at| at.checked_sub(skipped));
            let left: Vec<usize> = left.filter(|&at| at < made).collect();
            if left.is_empty() { vec![0] } else { left }
        };
        let refresh = match choice.rule.refresh {
            Refresh::At(refreshes) => Refresh::At(cut(refreshes)),
            other => other,
        };
        let rule = CacheRule {
            refresh,
            picked: true,
            ..choice.rule
        };
        self.cache = CacheRule::combine([rule, self.cache])?;
        Ok(self)
    }

    /// With the default of the model's family: the outermost cells, or the last block, around a linear forecast, refreshed at equal
    /// distances.
    fn by_default(
        self,
        budget: Budget,
        model: &ModelConfig,
        resolved: &Resolved,
        reason: &str,
    ) -> Result<(Self, String), Error> {
        let run = format!("{} steps of {}", resolved.steps, self.sampler_name(model));
        let Budget::Speedup(wanted) = budget else {
            let budget = budget.to_string();
            return Err(PlanError::Uncalibrated { budget, run }.into());
        };
        let trunk = &resolved.blueprint;
        let rule = |interval| match trunk.skips() {
            0 => CacheRule::dit_propagation(trunk.cells.len() - 1, Refresh::every(interval)),
            _ => CacheRule::deepcache(interval, 0),
        };
        let mut fastest: f64 = 1.0;
        for interval in 1..=resolved.plan.evaluations() {
            let rule = CacheRule {
                picked: true,
                ..rule(interval).with_forecast(Predictor::Linear)
            };
            let mut request = self.clone();
            request.cache = CacheRule::combine([rule, request.cache])?;
            let speedup = request.resolve(model)?.forecast(1).speedup();
            if speedup >= wanted {
                let note = format!(
                    "`auto:{budget}` without a calibrated plan ({reason}): the default of the family, `{}`, {speedup:.2}x; `afterimage calibrate` finds closer ones",
                    request.cache
                );
                return Ok((request, note));
            }
            fastest = fastest.max(speedup);
        }
        let fastest = (fastest * 100.0).floor() / 100.0;
        let [budget, nearest] = [budget, Budget::Speedup(fastest)].map(|one| one.to_string());
        Err(PlanError::Unreached {
            budget,
            nearest,
            fastest,
        }
        .into())
    }
}

/// A plan file that does not do what it says.
fn unfit(file: &str, reason: String) -> PlanError {
    PlanError::PlanFile {
        file: file.to_owned(),
        reason,
    }
}

/// What does not fit of a pick whose plain run does: the plan's rule or sampler, or the request with fewer steps.
fn of_plan(file: &str, error: Error) -> Error {
    if error.is_request() {
        return error;
    }
    unfit(file, error.message()).into()
}

/// What is wrong with the first name in a plan that no sampler has.
fn unknown_sampler(plan: &PlanFile) -> Option<String> {
    let fewer = plan.fewer_steps.iter().map(|fewer| &fewer.sampler);
    let mut names = std::iter::once(&plan.sampler).chain(fewer);
    names.find_map(|name| Some(name.parse::<SamplerKind>().err()?.message()))
}

/// The identity of the weights, where the model has any.
fn weights_hash(model: &ModelConfig) -> Result<Option<String>, Error> {
    let folder = model.folder();
    let folder = folder.filter(|folder| folder.parts().iter().any(|part| folder.has_weights(part)));
    folder.map(ModelFolder::weights_hash).transpose()
}

/// What was picked.
fn said(
    budget: Budget,
    choice: &Choice,
    (name, plan): (&str, &PlanFile),
    model: &ModelConfig,
) -> String {
    let Choice {
        rule,
        sampler,
        steps,
        speedup,
        psnr,
    } = choice;
    let what = match (
        *rule == CacheRule::none(),
        *steps == plan.steps && *sampler == plan.sampler,
    ) {
        (true, true) => "the plain run".to_owned(),
        (true, false) => format!("{steps} steps of {sampler}, closer than anything cached"),
        _ => format!("`{rule}`"),
    };
    let [width, height] = plan.size;
    format!(
        "`auto:{budget}` is {what}: {speedup:.2}x, {psnr:.1} dB from the plain run on the {} {} of {width}x{height} of `{name}`",
        plan.pictures,
        model.films().samples()
    )
}

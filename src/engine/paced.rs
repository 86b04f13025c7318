//! A budget in seconds: steps are timed on the machine that makes the pictures, and what is picked is an ordinary rule.

use super::{listener::Listener, stages::Stage};
use crate::{
    cache::{Auto, Budget, CacheRule},
    denoise::Observer,
    error::{Error, PlanError},
    pipeline::{Pipeline, Request},
};

/// Takes a budget that must be measured out of a request, which is without a cache until then: what it takes at most is known so.
pub(super) fn take(request: &mut Request) -> Option<Auto> {
    let auto = request.cache.auto.as_mut();
    auto.filter(|auto| matches!(auto.budget, Budget::Seconds(_)))?;
    request.cache.auto.take()
}

/// The error for several models in a row.
pub(super) fn refused(rule: Option<&CacheRule>) -> Error {
    let auto = rule.and_then(|rule| rule.auto.as_ref());
    let budget = auto.map_or_else(String::new, |auto| auto.budget.to_string());
    PlanError::Unmeasured { budget }.into()
}

/// Times some steps of the stage on `pipeline`, and puts what `auto` picks into its request.
pub(super) fn pick(
    stage: &mut Stage,
    auto: Auto,
    pipeline: &Pipeline,
    observer: &mut dyn Observer,
    listener: &mut dyn Listener,
) -> Result<(), Error> {
    let Budget::Seconds(seconds) = auto.budget else {
        return Ok(());
    };
    let pace = pipeline.pace(&stage.request, observer)?;
    let speedup = pace.speedup(seconds, stage.resolved.evaluations());
    listener.note(&format!(
        "a step takes {:.3} s and all else {:.2} s: {seconds} s are a speed-up of {speedup:.2}",
        pace.evaluation, pace.rest
    ));
    let budget = Budget::Speedup(speedup);
    stage.request.cache.auto = Some(Auto { budget, ..auto });
    let (request, picked) = stage.request.settled(&stage.model.config)?;
    let request = request.into_owned();
    if let Some(picked) = &picked {
        listener.note(picked);
    }
    stage.resolved = request.resolve(&stage.model.config)?;
    stage.request = request;
    Ok(())
}

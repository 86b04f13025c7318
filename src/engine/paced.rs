//! A budget in seconds: steps are timed on the machine that makes the pictures, and what is picked is an ordinary rule.

use super::{listener::Listener, stages::Stage};
use crate::{
    cache::{Auto, Budget, CacheRule},
    denoise::Observer,
    error::{Error, PlanError},
    pipeline::{Pace, Pipeline, Request},
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
    let evaluations = stage.resolved.evaluations();
    let speedup = pace.speedup(seconds, evaluations);
    let means = if speedup.is_finite() {
        format!("{seconds} s are a speed-up of {speedup:.2}")
    } else {
        format!("{seconds} s leave nothing for steps")
    };
    listener.note(&format!(
        "a step takes {:.3} s and all else {:.2} s: {means}",
        pace.evaluation, pace.rest
    ));
    let budget = Budget::Speedup(speedup);
    stage.request.cache.auto = Some(Auto { budget, ..auto });
    let settled = stage.request.settled(&stage.model.config);
    let (request, picked) =
        settled.map_err(|error| in_seconds(error, seconds, pace, evaluations))?;
    let request = request.into_owned();
    if let Some(picked) = &picked {
        listener.note(picked);
    }
    stage.resolved = request.resolve(&stage.model.config)?;
    stage.request = request;
    Ok(())
}

/// An error that speaks of speed-ups, where so many seconds were asked for.
fn in_seconds(error: Error, seconds: f64, pace: Pace, evaluations: usize) -> Error {
    let Some(fastest) = error.fastest() else {
        return error;
    };
    // Upwards, so that it is reached.
    let reached = (pace.seconds(fastest, evaluations) * 100.0).ceil() / 100.0;
    let [budget, nearest] = [seconds, reached].map(|one| Budget::Seconds(one).to_string());
    PlanError::Unreached {
        budget,
        nearest,
        fastest,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_that_are_asked_for_are_answered_in_seconds() {
        let unreached = |fastest: f64| -> Error {
            PlanError::Unreached {
                budget: "speedup=inf".into(),
                nearest: format!("speedup={fastest}"),
                fastest,
            }
            .into()
        };
        let pace = Pace {
            evaluation: 0.125,
            rest: 0.25,
        };
        let said = in_seconds(unreached(4.0), 0.0001, pace, 30).to_string();
        assert_eq!(
            said,
            "nothing reaches `seconds=0.0001`\nhint: the nearest is `auto:seconds=1.19`"
        );
        let other = in_seconds(Error::cancelled(), 0.0001, pace, 30);
        assert!(other.is_cancelled());
    }
}

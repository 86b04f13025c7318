//! What of a plan file contradicts itself, or is no number of any calibration.

use super::file::{EQUAL, FewerSteps, PlanFile, Point};
use crate::{
    cache::rule::{CacheRule, Cut},
    error::number,
};

/// The most that anything is faster than a run of a thousand evaluations, and more.
const FASTEST: f64 = 1e6;

/// Refreshes that a message shows.
const SHOWN: usize = 20;

/// Why no schedules can be found for a rule, if there are none.
pub(crate) fn unschedulable(rule: &CacheRule) -> Option<&'static str> {
    match rule {
        _ if rule.auto.is_some() || rule.cut == Cut::Nowhere => Some("it cuts no trunk"),
        _ if rule.decider.is_some() => Some("it decides in the run when to refresh"),
        _ if rule.branches.is_some() => Some("it also works inside cells"),
        _ if rule.verify.is_some() => Some("it adds refreshes in the run"),
        _ if rule.max_parallel > 1 || rule.guard > 0.0 || rule.noise.is_some() => {
            Some("batches, guard bands and prior noise go with schedules of their own")
        }
        _ => None,
    }
}

impl PlanFile {
    /// The first that is wrong.
    pub(super) fn fault(&self) -> Option<String> {
        if self.steps == 0 || self.evaluations == 0 {
            return Some("it is of a run without steps".into());
        }
        let points = self.curves.iter().flat_map(|curve| &curve.points);
        let mut points = points.filter_map(|point| self.fault_of(point));
        let mut fewer = self
            .fewer_steps
            .iter()
            .filter_map(|one| self.fault_of_fewer(one));
        let mut rules = self.curves.iter().map(|curve| curve.rule.as_str());
        points
            .next()
            .or_else(|| fewer.next())
            .or_else(|| rules.find_map(fault_of_rule))
    }

    fn fault_of(&self, point: &Point) -> Option<String> {
        let Point {
            refreshes,
            speedup,
            error,
            psnr,
        } = point;
        let ascend = refreshes.windows(2).all(|pair| pair[0] < pair[1]);
        let within = refreshes
            .last()
            .is_some_and(|last| *last < self.evaluations);
        if refreshes.first() != Some(&0) || !ascend || !within {
            let shown = &refreshes[..refreshes.len().min(SHOWN)];
            let more = if shown.len() < refreshes.len() {
                "…"
            } else {
                ""
            };
            return Some(format!(
                "the refreshes {shown:?}{more} are no list of a run of {} evaluations",
                self.evaluations
            ));
        }
        let is_error = *error >= 0.0 && error.is_finite();
        let unfit = measured(*speedup, psnr.unwrap_or_default());
        unfit.or_else(|| (!is_error).then(|| format!("{} is no error", number(*error))))
    }

    fn fault_of_fewer(&self, fewer: &FewerSteps) -> Option<String> {
        // Those of a sampler that calls the model once may be more steps than those of one that calls it twice.
        let most = self.evaluations.max(self.steps);
        if !(1..=most).contains(&fewer.steps) {
            return Some(format!(
                "{} steps are no fewer of a run of {most} evaluations",
                fewer.steps
            ));
        }
        measured(fewer.speedup, fewer.psnr)
    }
}

/// What of two numbers was never measured.
fn measured(speedup: f64, psnr: f64) -> Option<String> {
    if !(0.0..=FASTEST).contains(&speedup) {
        return Some(format!("{} is no speed-up", number(speedup)));
    }
    let is_psnr = (0.0..=EQUAL).contains(&psnr);
    (!is_psnr).then(|| format!("{} is no PSNR, which is 0 to {EQUAL} dB", number(psnr)))
}

fn fault_of_rule(text: &str) -> Option<String> {
    match text.parse::<CacheRule>() {
        Ok(rule) => {
            let reason = unschedulable(&rule)?;
            Some(format!("`{text}` has no schedules: {reason}"))
        }
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Curve;

    fn plan(rule: &str, point: (f64, f64, f64), fewer: (usize, f64)) -> PlanFile {
        let (speedup, error, psnr) = point;
        let point = Point {
            refreshes: vec![0, 3],
            speedup,
            error,
            psnr: Some(psnr),
        };
        let (steps, psnr) = fewer;
        let fewer = FewerSteps {
            sampler: "ddim".into(),
            steps,
            speedup: 2.0,
            psnr,
        };
        let mut plan = PlanFile::new("0123456789abcdef".into(), ("ddim", 6), 6);
        plan.curves.push(Curve {
            rule: rule.into(),
            points: vec![point],
        });
        plan.fewer_steps.push(fewer);
        plan
    }

    #[test]
    fn plans_claim_nothing_that_they_do_not_do() {
        const RULE: &str = "deepcache:branch=0,at=0";
        const POINT: (f64, f64, f64) = (2.0, 1e-3, 40.0);
        assert_eq!(plan(RULE, POINT, (3, 33.0)).fault(), None);
        for (rule, point, fewer, said) in [
            ("none", POINT, (3, 33.0), "cuts no trunk"),
            ("tgate:gate=5", POINT, (3, 33.0), "cuts no trunk"),
            ("auto:speedup=2", POINT, (3, 33.0), "cuts no trunk"),
            (RULE, POINT, (0, 33.0), "0 steps"),
            (RULE, POINT, (7, 33.0), "7 steps"),
            (RULE, POINT, (3, -1e308), "-1e308 is no PSNR"),
            (RULE, (2.0, 1e-3, 1e308), (3, 33.0), "1e308 is no PSNR"),
            (RULE, (1e308, 1e-3, 40.0), (3, 33.0), "1e308 is no speed-up"),
            (
                RULE,
                (2.0, f64::INFINITY, 40.0),
                (3, 33.0),
                "inf is no error",
            ),
        ] {
            let found = plan(rule, point, fewer).fault().unwrap_or_default();
            assert!(found.contains(said), "{said}: {found}");
        }
    }
}

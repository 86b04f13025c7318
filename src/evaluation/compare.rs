//! Rules against fewer steps that are as fast.

use serde::{Deserialize, Serialize};

use super::outcome::{Estimate, Outcome};

/// How a rule compares with fewer steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nearer to the pictures of the reference.
    Better,
    /// Farther from them.
    Worse,
    /// Not told apart by so many pictures.
    Alike,
}

/// The pictures that both are measured to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// Those of the plain run.
    #[default]
    Plain,
    /// Those of so many plain steps that more would change nothing.
    Converged,
}

impl Reference {
    fn lpips(self, outcome: &Outcome) -> Option<Estimate> {
        match self {
            Self::Plain => outcome.lpips,
            Self::Converged => outcome.to_converged?.lpips,
        }
    }
}

/// A rule against fewer steps at the rule's own measured speed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The rule.
    pub rule: String,
    /// What both are measured to.
    #[serde(default)]
    pub reference: Reference,
    /// The sampler of the fewer steps, where it is not the study's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<String>,
    /// Its measured speed-up.
    pub speedup: f64,
    /// Its LPIPS distance from the pictures of the reference.
    pub lpips: Estimate,
    /// That of fewer steps, on the straight line between the measured speeds next to the rule's.
    pub fewer_steps_lpips: Estimate,
    /// Whether the rule is faster than the fewest steps that were tried, so that those stand for the line.
    pub beyond: bool,
    /// What follows, at two standard errors.
    pub standing: Standing,
}

impl Comparison {
    /// Every rule against fewer steps of every sampler at the rule's measured speed; nothing without LPIPS.
    pub(super) fn all(outcomes: &[Outcome]) -> Vec<Self> {
        let rules = outcomes.iter().filter(|outcome| !outcome.method.is_plain());
        let lines: Vec<Line> = [Reference::Plain, Reference::Converged]
            .into_iter()
            .flat_map(|reference| Line::all(outcomes, reference))
            .collect();
        rules
            .flat_map(|rule| lines.iter().filter_map(|line| Self::new(rule, line)))
            .collect()
    }

    fn new(rule: &Outcome, line: &Line) -> Option<Self> {
        let (speedup, lpips) = (rule.speedup.median, line.reference.lpips(rule)?);
        let fewer = at(&line.points, speedup)?;
        Some(Self {
            rule: rule.method.name(),
            reference: line.reference,
            sampler: line.sampler.clone(),
            speedup,
            lpips,
            fewer_steps_lpips: fewer,
            beyond: line.points.last().is_some_and(|last| speedup > last.0),
            standing: lpips.standing(fewer),
        })
    }
}

impl Estimate {
    /// Whether a distance is less than another by more than two standard errors of their difference.
    pub(super) fn standing(self, other: Self) -> Standing {
        let difference = self.mean - other.mean;
        match difference {
            _ if difference.abs() <= 2.0 * self.error.hypot(other.error) => Standing::Alike,
            ..0.0 => Standing::Better,
            _ => Standing::Worse,
        }
    }
}

/// Distances of plain runs of one sampler by their measured speed, the slowest first.
struct Line {
    reference: Reference,
    sampler: Option<String>,
    points: Vec<(f64, Estimate)>,
}

impl Line {
    /// One a sampler, the study's own first.
    fn all(outcomes: &[Outcome], reference: Reference) -> Vec<Self> {
        let mut lines: Vec<Self> = Vec::new();
        let is_compared = |outcome: &&Outcome| {
            let method = &outcome.method;
            method.is_plain() && !method.converged
        };
        for outcome in outcomes.iter().filter(is_compared) {
            let Some(lpips) = reference.lpips(outcome) else {
                continue;
            };
            let sampler = &outcome.method.sampler;
            let point = (outcome.speedup.median, lpips);
            match lines.iter_mut().find(|line| line.sampler == *sampler) {
                Some(line) => line.points.push(point),
                None => lines.push(Self {
                    reference,
                    sampler: sampler.clone(),
                    points: vec![point],
                }),
            }
        }
        for line in &mut lines {
            line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        lines
    }
}

/// The line at a speed; its ends go on level.
fn at(line: &[(f64, Estimate)], speed: f64) -> Option<Estimate> {
    let next = line.partition_point(|(at, _)| *at < speed);
    let (_, upper) = line.get(next).or(line.last())?;
    let Some((from, lower)) = next.checked_sub(1).and_then(|before| line.get(before)) else {
        return Some(*upper);
    };
    let span = line.get(next).map_or(0.0, |(to, _)| to - from);
    let share = if span > 0.0 {
        (speed - from) / span
    } else {
        1.0
    };
    let between = |a: f64, b: f64| a + (b - a) * share;
    Some(Estimate {
        mean: between(lower.mean, upper.mean),
        error: between(lower.error, upper.error),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{method::Method, outcome::ToConverged, timing::Spread};
    use super::*;

    fn estimate(mean: f64, error: f64) -> Estimate {
        Estimate { mean, error }
    }

    #[test]
    fn the_line_of_fewer_steps_is_straight_between_its_points() {
        let line = [(1.0, estimate(0.0, 0.0)), (3.0, estimate(0.4, 0.02))];
        let mean = |speed| (at(&line, speed).unwrap().mean * 1e9).round() / 1e9;
        assert_eq!(
            [0.9, 1.0, 2.0, 3.0, 9.0].map(mean),
            [0.0, 0.0, 0.2, 0.4, 0.4]
        );
        assert_eq!(at(&[], 1.0), None);
    }

    fn outcome(rule: &str, speedup: f64, lpips: Estimate) -> Outcome {
        Outcome {
            method: Method {
                rule: rule.into(),
                steps: 10,
                sampler: None,
                converged: false,
                speedup_forecast: speedup,
                cells_forecast: 1,
            },
            speedup: Spread::of([speedup]),
            whole_speedup: Spread::of([speedup]),
            denoising_seconds: Spread::of([1.0]),
            cells_run: 1,
            mean_squared_error: 1.0,
            float_psnr: None,
            ssim: None,
            lpips: Some(lpips),
            to_converged: None,
            frechet_to_plain: None,
            frechet_to_data: None,
            judged: None,
            steadiness: None,
            clip: None,
        }
    }

    #[test]
    fn a_rule_that_loses_to_fewer_steps_is_said_to() {
        let outcomes = [
            outcome("none", 1.0, estimate(0.0, 0.0)),
            outcome("none", 3.0, estimate(0.4, 0.01)),
            outcome("good", 2.0, estimate(0.1, 0.01)),
            outcome("bad", 2.0, estimate(0.3, 0.01)),
            outcome("close", 2.0, estimate(0.21, 0.01)),
            outcome("far", 4.0, estimate(0.3, 0.01)),
        ];
        let found = Comparison::all(&outcomes);
        let standings: Vec<_> = found.iter().map(|one| (one.standing, one.beyond)).collect();
        assert_eq!(
            standings,
            [
                (Standing::Better, false),
                (Standing::Worse, false),
                (Standing::Alike, false),
                (Standing::Better, true)
            ]
        );
    }

    /// Nearer to the plain run than fewer steps of another sampler, and farther than they from where both go: both are said.
    #[test]
    fn another_sampler_is_compared_with_and_so_is_the_converged_run() {
        let far = |outcome: Outcome, mean| Outcome {
            to_converged: Some(ToConverged {
                float_psnr: estimate(30.0, 1.0),
                lpips: Some(estimate(mean, 0.001)),
            }),
            ..outcome
        };
        let of = |mut outcome: Outcome, sampler: Option<&str>, converged| {
            outcome.method.sampler = sampler.map(Into::into);
            outcome.method.converged = converged;
            outcome
        };
        let plain = |speedup, mean| outcome("none", speedup, estimate(mean, 0.001));
        let outcomes = [
            far(plain(1.0, 0.0), 0.1),
            far(outcome("rule", 2.0, estimate(0.05, 0.001)), 0.11),
            far(plain(2.0, 0.2), 0.25),
            of(far(plain(2.0, 0.1), 0.02), Some("dpmsolver++"), false),
            of(far(plain(0.1, 0.1), 0.0), None, true),
        ];
        let found = Comparison::all(&outcomes);
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.reference, one.sampler.as_deref(), one.standing))
            .collect();
        let (to_plain, to_converged) = (Reference::Plain, Reference::Converged);
        assert_eq!(
            found,
            [
                (to_plain, None, Standing::Better),
                (to_plain, Some("dpmsolver++"), Standing::Better),
                (to_converged, None, Standing::Better),
                (to_converged, Some("dpmsolver++"), Standing::Worse),
            ]
        );
    }
}

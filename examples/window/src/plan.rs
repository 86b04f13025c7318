//! What a run would do, as the engine's plan says it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use afterimage::engine;
use afterimage::pipeline::Recipe;
use eframe::egui;
use serde::Deserialize;

/// What a run would do. The names are those of `afterimage plan --json`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Plan {
    pub(crate) model: String,
    pub(crate) sampler: String,
    pub(crate) steps: usize,
    pub(crate) evaluations: usize,
    pub(crate) guidance_scale: f64,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) frames: Option<usize>,
    spans: Vec<Span>,
    #[serde(default)]
    refiner_spans: Vec<Span>,
    pub(crate) work: Work,
}

/// What a plan spares.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Work {
    pub(crate) full_evaluations: usize,
    pub(crate) cells_run: usize,
    pub(crate) cells_total: usize,
    pub(crate) predicted_speedup: f64,
    gmacs_without_cache: f64,
    /// The run decides what is computed.
    #[serde(default)]
    pub(crate) decided_in_the_run: bool,
}

/// Evaluations that are computed together.
#[derive(Debug, Clone, Deserialize)]
struct Span {
    len: usize,
    refresh: bool,
    /// Of all its evaluations, in thousands of millions.
    gmacs: f64,
}

/// One evaluation of a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Planned {
    /// Whether it computes everything.
    pub(crate) refresh: bool,
    /// Its multiply-accumulates, as a share of those of an evaluation that computes everything.
    pub(crate) share: f32,
}

impl Plan {
    fn of(recipe: &Recipe) -> Result<Self, String> {
        let json = engine::plan(recipe, &mut ()).map_err(|error| error.to_string())?;
        serde_json::from_str(&json).map_err(|error| error.to_string())
    }

    /// What each evaluation does.
    pub(crate) fn evaluations(&self) -> Vec<Planned> {
        let full = self.work.gmacs_without_cache / self.evaluations.max(1) as f64;
        let spans = self.spans.iter().chain(&self.refiner_spans);
        spans.flat_map(|span| span.evaluations(full)).collect()
    }
}

impl Span {
    /// `full` is the work of an evaluation that computes everything. What follows such a one in its span shares the rest.
    fn evaluations(&self, full: f64) -> impl Iterator<Item = Planned> + use<> {
        let share =
            |gmacs: f64, of: usize| (gmacs / full / of.max(1) as f64).clamp(0.0, 1.0) as f32;
        let (first, next) = if self.refresh {
            (1.0, share(self.gmacs - full, self.len - 1))
        } else {
            let all = share(self.gmacs, self.len);
            (all, all)
        };
        let refresh = self.refresh;
        (0..self.len).map(move |index| Planned {
            refresh: refresh && index == 0,
            share: if index == 0 { first } else { next },
        })
    }
}

/// Plans on a thread of its own: a model's card may have to be fetched.
pub(crate) struct Planner {
    recipes: Sender<(u64, Recipe)>,
    plans: Receiver<(u64, Result<Plan, String>)>,
    /// How often it was asked.
    asked: u64,
}

impl Planner {
    pub(crate) fn new(context: egui::Context) -> Self {
        let (recipes, asked) = channel::<(u64, Recipe)>();
        let (answers, plans) = channel();
        thread::spawn(move || {
            while let Ok(mut last) = asked.recv() {
                // Only the last one matters.
                while let Ok(later) = asked.try_recv() {
                    last = later;
                }
                let (number, recipe) = last;
                if answers.send((number, Plan::of(&recipe))).is_err() {
                    break;
                }
                context.request_repaint();
            }
        });
        Self {
            recipes,
            plans,
            asked: 0,
        }
    }

    pub(crate) fn ask(&mut self, recipe: Recipe) {
        self.asked += 1;
        // A planner that has ended answers nothing, which shows.
        let _ = self.recipes.send((self.asked, recipe));
    }

    /// The plan of what was asked last, once.
    pub(crate) fn answer(&self) -> Option<Result<Plan, String>> {
        let (number, plan) = self.plans.try_iter().last()?;
        (number == self.asked).then_some(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(rule: &str) -> Plan {
        let recipe = format!(
            r#"{{"version": 1, "prompts": ["a red circle"], "steps": 6, "cache": "{rule}"}}"#
        );
        Plan::of(&Recipe::from_json(&recipe).unwrap()).unwrap()
    }

    #[test]
    fn the_strip_is_what_the_engine_plans() {
        let plan = planned("deepcache:interval=3,branch=0");
        let evaluations = plan.evaluations();
        let full: Vec<_> = evaluations.iter().map(|one| one.refresh).collect();
        assert_eq!(full, [true, false, false, true, false, false]);
        for one in evaluations {
            assert!(one.refresh == (one.share == 1.0), "{one:?}");
            assert!(one.share > 0.0, "{one:?}");
        }
        assert_eq!(plan.work.full_evaluations, 2);
    }

    #[test]
    fn a_batch_of_steps_is_one_full_one_and_its_followers() {
        let plan = planned("encoder-propagation:keys=0+3,parallel=3");
        let evaluations = plan.evaluations();
        assert_eq!(evaluations.len(), plan.evaluations);
        let full = evaluations.iter().filter(|one| one.refresh).count();
        assert_eq!(full, plan.work.full_evaluations);
        assert!(
            evaluations
                .iter()
                .any(|one| one.share > 0.0 && one.share < 1.0)
        );
    }

    #[test]
    fn what_cannot_be_planned_says_why() {
        let recipe = r#"{"version": 1, "prompts": ["a circle"], "steps": 0}"#;
        let recipe = Recipe::from_json(recipe).unwrap();
        assert!(Plan::of(&recipe).unwrap_err().contains("steps"));
    }
}

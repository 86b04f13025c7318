//! Caching as data: rules, plans and the session that runs them.
//!
//! A [`CacheRule`] says what is reused and when; [`CacheRule::plan`] turns it into a [`CachePlan`] for one run of one trunk; a
//! [`Session`] executes that plan on any [`StagedDenoiser`](crate::denoiser::StagedDenoiser), span by span, or one whose [`Spans`] are
//! decided in the run. No model and no sampler knows any
//! method.
//!
//! **Source**: `DeepCache` (arXiv 2312.00858, sections 3.2 and 3.3); Faster Diffusion, encoder propagation (arXiv 2312.09608,
//! sections 3.2 and 3.3) and its `DiT` variant; inside cells, Learning-to-Cache (arXiv 2406.01733, section 3) and T-GATE (arXiv
//! 2404.02747, section 4); decided in the run, `EasyCache` (arXiv 2507.02860), first-block cache as diffusers has it, and `DiCache` (arXiv
//! 2508.17356); forecasts, `TaylorSeer` (arXiv 2503.06923) and Spectrum (arXiv 2603.01623).

mod account;
mod auto;
mod branches;
mod changing;
mod cost;
mod course;
mod decider;
mod graphs;
mod keys;
mod methods;
mod options;
mod parse;
mod pass;
mod plan;
mod planner;
mod predictor;
mod probe;
mod refresh;
mod resumed;
mod router;
mod rule;
mod series;
mod session;
mod spans;
mod step;
mod store;
mod verify;
mod warning;
mod whole;

pub use account::Account;
pub use auto::{Auto, Budget};
pub use branches::{BranchPlan, BranchRule};
pub use cost::Forecast;
pub use course::Course;
pub use decider::Decider;
pub use keys::KeyList;
pub use plan::CachePlan;
#[cfg(feature = "eval")]
pub(crate) use planner::unschedulable;
pub use planner::{
    Choice, CostEntry, CostTable, Curve, FewerSteps, PlanFile, Point, Probe, Schedule, schedules,
};
pub use predictor::Predictor;
pub use refresh::Refresh;
pub use router::Router;
pub use rule::{CacheRule, Cut, OpenSkips};
pub use series::{Series, Sites};
pub use session::Session;
pub use spans::{Before, Span, Spans};
pub use verify::Verified;
pub use warning::{Remedy, Warning};

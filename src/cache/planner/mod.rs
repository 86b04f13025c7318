//! Where to refresh, and how that is known: what forecasts cost, measured once a model, and the schedules of least error.
//!
//! A [`CostTable`] holds the error of every forecast that a schedule could ask for; [`schedules`] finds the best schedule for every
//! number of refreshes; a [`PlanFile`] keeps them, with what they save and how close they are to the plain run, and picks one for a
//! [`Budget`](super::Budget). What is picked is an ordinary rule.

mod fault;
mod file;
mod probe;
mod programme;
mod table;

#[cfg(feature = "eval")]
pub(crate) use fault::unschedulable;
pub use file::{Choice, Curve, FewerSteps, PlanFile, Point};
pub use probe::Probe;
pub use programme::{Schedule, schedules};
pub use table::{CostEntry, CostTable};

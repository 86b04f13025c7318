//! From a recipe to pictures: what every program does that embeds the engine, the command line among them.
//!
//! An [`Engine`] holds a model in memory and runs one [`Recipe`](crate::pipeline::Recipe) after the other on it, from whatever thread;
//! [`plan`] says what one would do, from configurations alone.
//!
//! ```no_run
//! use afterimage::engine::{Cancel, Engine, EngineOptions};
//! use afterimage::pipeline::Recipe;
//!
//! # fn main() -> Result<(), afterimage::Error> {
//! let engine = Engine::open(&EngineOptions::default(), &mut ())?;
//! let recipe = Recipe::from_json(r#"{"version": 1, "prompts": ["a red circle"], "seed": 7}"#)?;
//! let finished = engine.run(&recipe, &Cancel::default(), &mut ())?;
//! finished.generated.pictures()?[0].save("circle.png".as_ref(), &finished.texts)?;
//! # Ok(()) }
//! ```

mod account;
#[cfg(feature = "eval")]
mod calibrate;
mod cancel;
mod facts;
mod finished;
mod health;
mod held;
mod job;
mod listener;
mod machine;
mod memory;
mod model;
mod paced;
mod plan;
mod sources;
mod stages;
mod summary;
mod told;
mod turn;

#[cfg(feature = "eval")]
pub use calibrate::Watched;
pub use cancel::Cancel;
pub use finished::Finished;
pub use held::{Engine, EngineOptions};
pub use listener::Listener;
pub use plan::plan;

#[cfg(feature = "cli")]
pub(crate) use account::Account;
#[cfg(feature = "cli")]
pub(crate) use facts::Facts;
#[cfg(feature = "cli")]
pub(crate) use health::{examine, keep, named};
#[cfg(feature = "eval")]
pub(crate) use held::Lent;
#[cfg(feature = "cli")]
pub(crate) use held::random_seed;
#[cfg(feature = "cli")]
pub(crate) use job::{Job, Wishes};
#[cfg(feature = "eval")]
pub(crate) use machine::Machine;
#[cfg(feature = "serve")]
pub(crate) use machine::check_format;
#[cfg(feature = "cli")]
pub(crate) use machine::{Arithmetic, Place};
#[cfg(feature = "cli")]
pub(crate) use memory::MemoryFacts;
#[cfg(feature = "eval")]
pub(crate) use model::Model;
#[cfg(feature = "cli")]
pub(crate) use model::{Reading, workload};
#[cfg(feature = "cli")]
pub(crate) use plan::{Part, PlanDocument, Published, cells_run};
#[cfg(feature = "serve")]
pub(crate) use plan::{outline, weigh};
#[cfg(feature = "cli")]
pub(crate) use sources::Sources;
#[cfg(feature = "cli")]
pub(crate) use stages::{Made, Others, Stage, Stages, no_refiner};
#[cfg(feature = "cli")]
pub(crate) use summary::{Summary, giga};

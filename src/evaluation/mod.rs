//! Evaluations: what caching costs in quality, and what it saves in time, on many pictures.
//!
//! A [`Study`] says which pictures are made: samples, each with a seed of its own, by every [`Method`]: the plain run, cache rules,
//! and plain runs of fewer steps that cost as much as the rules, by the run's own sampler and by others; and one of so many that more
//! would change nothing. [`fill`] makes them batch by batch into a [`Store`], where every
//! batch is one file that appears whole or not at all; a [`Shard`] makes a part of the batches, and a run that was stopped goes on
//! where it was. An [`Evaluator`] does so on a model that an engine holds. [`Joined`] brings the folders of all shards together, and
//! [`measure`] turns the pictures into [`Results`].
//!
//! Within a batch every method takes its turn, so that each batch is one round of a paired timing.

mod archive;
mod chart;
mod compare;
mod data;
mod held;
mod instruments;
mod joined;
mod measure;
mod method;
mod outcome;
mod plot;
mod report;
mod results;
mod run;
mod sampling;
mod store;
mod study;
mod timing;

pub use archive::write_archive;
pub use chart::{Chart, svg};
pub use compare::{Comparison, Reference, Standing};
pub use data::{for_each_picture, read_prompts};
pub use held::Evaluator;
pub use instruments::Measures;
pub use joined::Joined;
pub use measure::{Instruments, measure};
pub use method::{Method, Peers};
pub use outcome::{Estimate, Judged, Outcome, ToConverged};
pub use plot::plot;
pub use report::report;
pub use results::Results;
pub use run::{Made, Maker, PipelineMaker, Tally, fill};
pub use sampling::Sampling;
pub use store::{Batch, Cost, Store};
pub use study::{Sample, Shard, Study, Subjects};
pub use timing::{Spread, of_the_whole, turns};

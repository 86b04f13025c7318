//! The update rules.
//!
//! Every rule is a table of scalars, made in f64 when the sampler is built, and a step that mixes tensors by them. Read in this order:
//!
//! 1. `config`: a model's `scheduler_config.json` and the ways to change it, what old ones are mended by (`repairs`), and the words of
//!    the command line (`kind`) and of other programs (`elsewhere`);
//! 2. `build`: from a configuration, steps and `eta` to a [`Sampler`](crate::sampler::Sampler);
//! 3. `rules`: a file for each sampler, with its formula, its table and its `CLASS`: names, keys, defaults, how it is built;
//! 4. `parts`: what rules are made of.
//!
//! To add a sampler: its file in `rules` and a line in the list there, and its golden rows in `tests/it/samplers`.

mod build;
mod config;
mod elsewhere;
mod kind;
mod parts;
mod repairs;
mod rules;

pub use config::SamplerConfig;
pub use kind::SamplerKind;
pub use parts::steps::Steps;

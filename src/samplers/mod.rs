//! The update rules, one file each.
//!
//! Every rule is a table of scalars, made in f64 when the sampler is built, and a step that mixes tensors by them. From below:
//!
//! - `json` and `settings`: the keys of a scheduler configuration and what they mean; `steps`, `update` (the linear step) and
//!   `trajectory` (the reading of predictions and the levels of a run);
//! - `sigmas`, `discrete`, `dpm`: the tables and weights that kin share;
//! - a file for each sampler, which states its `CLASS`: names, keys, defaults and how it is built;
//! - `registry`: the list of them; above it the words of the command line (`kind`), what old configurations are mended by
//!   (`repairs`), and `config`, which is what the rest of the crate sees.
//!
//! To add a sampler: its file, its golden rows in `tests/it/samplers`, and its line in `registry`.

mod class;
mod config;
mod discrete;
mod dpm;
mod json;
mod kind;
mod registry;
mod repairs;
mod settings;
mod sigmas;
mod steps;
mod trajectory;
mod update;

mod consistency;
mod ddim;
mod ddpm;
mod deis;
mod dpm2;
mod dpm2_ancestral;
mod dpm_singlestep;
mod dpm_solver;
mod edm;
mod edm_dpm_solver;
mod euler;
mod euler_ancestral;
mod heun;
mod lcm;
mod lms;
mod pndm;
mod tcd;
mod unipc;

pub use config::SamplerConfig;
pub use kind::SamplerKind;
pub use steps::Steps;

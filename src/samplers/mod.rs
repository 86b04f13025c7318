//! The update rules, one file each.
//!
//! Every rule is a table of scalars, made in f64 when the sampler is built, and a step that mixes tensors by them. What rules
//! share: the tables a configuration asks for (`sigmas`), the reading of predictions and the levels of a run (`trajectory`), and
//! the linear step (`update`).
//!
//! To add a sampler: its file, its golden rows in `tests/it/samplers.rs`, and its lines in the two tables of `kind`.

mod config;
mod json;
mod kind;
mod sigmas;
mod steps;
mod trajectory;
mod update;

mod consistency;
mod ddim;
mod ddpm;
mod dpm_solver;
mod euler;
mod euler_ancestral;
mod heun;
mod lms;
mod pndm;
mod unipc;

pub use config::SamplerConfig;
pub use kind::SamplerKind;
pub use steps::Steps;

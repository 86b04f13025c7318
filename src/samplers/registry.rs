//! The samplers there are, one line each.

use super::class::Class;
use super::{
    consistency, ddim, ddpm, deis, dpm_singlestep, dpm_solver, dpm2, dpm2_ancestral, edm,
    edm_dpm_solver, euler, euler_ancestral, heun, lcm, lms, pndm, tcd, unipc,
};

/// In the order in which their words are listed to users.
pub(super) static CLASSES: [&Class; 18] = [
    &ddim::CLASS,
    &pndm::CLASS,
    &ddpm::CLASS,
    &dpm_solver::CLASS,
    &dpm_singlestep::CLASS,
    &euler::CLASS,
    &euler_ancestral::CLASS,
    &heun::CLASS,
    &dpm2::CLASS,
    &dpm2_ancestral::CLASS,
    &unipc::CLASS,
    &deis::CLASS,
    &lms::CLASS,
    &lcm::CLASS,
    &tcd::CLASS,
    &consistency::CLASS,
    &edm::CLASS,
    &edm_dpm_solver::CLASS,
];

/// The class that diffusers calls `name`, in its JAX edition too.
pub(super) fn class(name: &str) -> Option<&'static Class> {
    let name = name.strip_prefix("Flax").unwrap_or(name);
    let found = CLASSES.iter().find(|class| class.names.contains(&name));
    found.copied()
}

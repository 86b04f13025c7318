//! The samplers there are: a file each, and a line each in the list.

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
mod flow_euler;
mod flow_heun;
mod heun;
mod lcm;
mod lms;
mod pndm;
mod tcd;
mod unipc;

use super::parts::class::Class;

/// In the order in which their words are listed to users.
pub(in crate::samplers) static CLASSES: [&Class; 20] = [
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
    &flow_euler::CLASS,
    &flow_heun::CLASS,
];

/// The class that diffusers calls `name`, in its JAX edition too.
pub(in crate::samplers) fn class(name: &str) -> Option<&'static Class> {
    let name = name.strip_prefix("Flax").unwrap_or(name);
    let found = CLASSES.iter().find(|class| class.names.contains(&name));
    found.copied()
}

/// Samplers of networks that no others sample, and that sample no others: preconditioned ones, and consistency models.
static APART: [&[&Class]; 2] = [
    &[&edm::CLASS, &edm_dpm_solver::CLASS],
    &[&consistency::CLASS],
];

/// Whether a model whose own sampler is `own` is none for `class`.
pub(in crate::samplers) fn is_strange(class: &Class, own: &Class) -> bool {
    let group = |class: &Class| {
        let holds = |group: &&[&Class]| group.iter().any(|one| std::ptr::eq(*one, class));
        APART.iter().position(holds)
    };
    group(class) != group(own)
}

/// Those that are told `eta`.
static OF_ETA: [&Class; 2] = [&ddim::CLASS, &tcd::CLASS];

/// Whether `eta` changes what `class` makes.
pub(in crate::samplers) fn takes_eta(class: &Class) -> bool {
    OF_ETA.iter().any(|one| std::ptr::eq(*one, class))
}

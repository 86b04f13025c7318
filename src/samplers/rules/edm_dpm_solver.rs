//! DPM-Solver++, multistep, for preconditioned networks: the update of `dpm_solver` over exploding levels (`α = 1`), with
//! `x0 = c_skip·x + c_out·F`.
//!
//! Source: Karras et al. (arXiv 2206.00364, table 1: preconditioning and sigmas); Lu et al., DPM-Solver++ (2211.01095, algorithm 2).
//! Behaviour as diffusers' `EDMDPMSolverMultistepScheduler`.

use super::dpm_solver::Solver;
use super::edm::{ends, sigmas, trajectory};
use crate::Error;
use crate::noise::NoiseLevel;
use crate::sampler::Sampler;
use crate::samplers::parts::{
    class::{Class, Word},
    dpm::Algorithm,
    json::Key,
    settings::{Defaults, Settings},
    steps::Steps,
    trajectory::Run,
};

pub(super) static CLASS: Class = Class {
    names: &["EDMDPMSolverMultistepScheduler"],
    words: &[Word {
        name: "edm-dpmsolver++",
        set: |json| json.algorithm_type = Some("dpmsolver++".to_owned()),
        is: |_| true,
    }],
    knows: &[Key::SigmaEnds, Key::FinalSigmas, Key::Thresholding],
    defaults: Defaults::PLAIN,
    build,
};

fn build(settings: &Settings, steps: Steps, _eta: f64) -> Result<Box<dyn Sampler>, Error> {
    let words = ["dpmsolver++", "sde-dpmsolver++", "deis"];
    let solver = Solver::new(settings, Algorithm::of(settings, &words)?)?;
    let sigmas = sigmas(settings, steps.total)?;
    let (min, _) = ends(settings)?;
    let last = if settings.ends_at_zero()? { 0.0 } else { min };
    let points = sigmas.iter().copied().chain([last]);
    let points: Vec<NoiseLevel> = points.map(NoiseLevel::exploding).collect();
    let trajectory = trajectory(settings, &sigmas, settings.clip()?)?;
    let trajectory = trajectory.joined_after(steps.skipped);
    let rule = solver.over(&points, steps);
    Ok(Box::new(Run { trajectory, rule }))
}

//! Samplers by name: diffusers classes and the words of the command line.

use std::fmt;
use std::str::FromStr;

use super::config::SamplerConfig;
use super::steps::Steps;
use super::{consistency, ddim, ddpm, dpm_solver, euler, euler_ancestral, heun, lms, pndm, unipc};
use crate::Error;
use crate::error::{ConfigError, RequestError};
use crate::sampler::Sampler;

/// The update rules there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Ddim,
    Ddpm,
    Pndm,
    DpmSolver,
    Euler,
    EulerAncestral,
    Heun,
    UniPc,
    Lms,
    Consistency,
}

/// diffusers' `_class_name` of each.
const CLASSES: [(&str, Class); 10] = [
    ("DDIMScheduler", Class::Ddim),
    ("DDPMScheduler", Class::Ddpm),
    ("PNDMScheduler", Class::Pndm),
    ("DPMSolverMultistepScheduler", Class::DpmSolver),
    ("EulerDiscreteScheduler", Class::Euler),
    ("EulerAncestralDiscreteScheduler", Class::EulerAncestral),
    ("HeunDiscreteScheduler", Class::Heun),
    ("UniPCMultistepScheduler", Class::UniPc),
    ("LMSDiscreteScheduler", Class::Lms),
    ("CMStochasticIterativeScheduler", Class::Consistency),
];

impl Class {
    pub(super) fn from_class_name(name: &str) -> Result<Self, ConfigError> {
        super::config::choose("_class_name", name, &CLASSES)
    }

    pub(super) fn build(
        self,
        config: &SamplerConfig,
        steps: Steps,
        eta: f64,
    ) -> Result<Box<dyn Sampler>, Error> {
        match self {
            Self::Ddim => ddim::build(config, steps, eta),
            Self::Ddpm => ddpm::build(config, steps),
            Self::Pndm => pndm::build(config, steps),
            Self::DpmSolver => dpm_solver::build(config, steps),
            Self::Euler => euler::build(config, steps),
            Self::EulerAncestral => euler_ancestral::build(config, steps),
            Self::Heun => heun::build(config, steps),
            Self::UniPc => unipc::build(config, steps),
            Self::Lms => lms::build(config, steps),
            Self::Consistency => consistency::build(config, steps),
        }
    }
}

/// A sampler as the command line names it.
///
/// ```
/// use afterimage::samplers::SamplerKind;
///
/// let kind: SamplerKind = "dpmsolver++-karras".parse()?;
/// assert_eq!(kind.to_string(), "dpmsolver++-karras");
/// assert!("dpm".parse::<SamplerKind>().is_err());
/// # Ok::<(), afterimage::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SamplerKind {
    /// Denoising diffusion implicit models.
    Ddim,
    /// DDIM with quadratically spaced timesteps.
    DdimQuadratic,
    /// Pseudo linear multistep.
    Pndm,
    /// Ancestral sampling of DDPM.
    Ddpm,
    /// DPM-Solver, predicting noise.
    DpmSolver,
    /// DPM-Solver++, predicting data.
    DpmSolverPlusPlus,
    /// DPM-Solver++ on Karras' sigmas.
    DpmSolverPlusPlusKarras,
    /// DPM-Solver++ of the stochastic equation.
    DpmSolverPlusPlusSde,
    /// Euler's method.
    Euler,
    /// Euler's method on Karras' sigmas.
    EulerKarras,
    /// Euler's method with fresh noise every step.
    EulerAncestral,
    /// Heun's method: two evaluations a step.
    Heun,
    /// Unified predictor-corrector.
    UniPc,
    /// Linear multistep (Adams-Bashforth in sigma).
    Lms,
    /// Jumps of a consistency model.
    Consistency,
}

/// The words of the command line.
const NAMES: [(&str, SamplerKind, Class); 15] = [
    ("ddim", SamplerKind::Ddim, Class::Ddim),
    ("ddim-quad", SamplerKind::DdimQuadratic, Class::Ddim),
    ("pndm", SamplerKind::Pndm, Class::Pndm),
    ("ddpm", SamplerKind::Ddpm, Class::Ddpm),
    ("dpmsolver", SamplerKind::DpmSolver, Class::DpmSolver),
    (
        "dpmsolver++",
        SamplerKind::DpmSolverPlusPlus,
        Class::DpmSolver,
    ),
    (
        "dpmsolver++-karras",
        SamplerKind::DpmSolverPlusPlusKarras,
        Class::DpmSolver,
    ),
    (
        "dpmsolver++-sde",
        SamplerKind::DpmSolverPlusPlusSde,
        Class::DpmSolver,
    ),
    ("euler", SamplerKind::Euler, Class::Euler),
    ("euler-karras", SamplerKind::EulerKarras, Class::Euler),
    (
        "euler-a",
        SamplerKind::EulerAncestral,
        Class::EulerAncestral,
    ),
    ("heun", SamplerKind::Heun, Class::Heun),
    ("unipc", SamplerKind::UniPc, Class::UniPc),
    ("lms", SamplerKind::Lms, Class::Lms),
    ("consistency", SamplerKind::Consistency, Class::Consistency),
];

impl SamplerKind {
    /// Every kind, in the order they are listed to users.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.into_iter().map(|(_, kind, _)| kind)
    }

    /// The word of the command line.
    pub fn name(self) -> &'static str {
        self.entry().0
    }

    /// What a configuration of `class` is called.
    pub(super) fn of(class: Class, algorithm: Option<&str>, karras: bool, quadratic: bool) -> Self {
        match (class, algorithm, karras) {
            (Class::Ddim, ..) if quadratic => Self::DdimQuadratic,
            (Class::DpmSolver, Some("dpmsolver"), _) => Self::DpmSolver,
            (Class::DpmSolver, Some("sde-dpmsolver++"), _) => Self::DpmSolverPlusPlusSde,
            (Class::DpmSolver, _, true) => Self::DpmSolverPlusPlusKarras,
            (Class::DpmSolver, _, false) => Self::DpmSolverPlusPlus,
            (Class::Euler, _, true) => Self::EulerKarras,
            _ => {
                let entry = NAMES.into_iter().find(|(.., known)| *known == class);
                entry
                    .expect("every class stands in the table, which a test checks")
                    .1
            }
        }
    }

    pub(super) fn class(self) -> Class {
        self.entry().2
    }

    fn entry(self) -> (&'static str, Self, Class) {
        let entry = NAMES.into_iter().find(|(_, kind, _)| *kind == self);
        entry.expect("every kind stands in the table, which a test checks")
    }
}

impl fmt::Display for SamplerKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for SamplerKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = NAMES.into_iter().find(|(word, ..)| *word == name);
        let known = NAMES.map(|(word, ..)| word).join(", ");
        let unknown = || RequestError::UnknownSampler {
            name: name.to_owned(),
            known,
        };
        Ok(found.ok_or_else(unknown)?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_knows_the_word_it_was_made_from() {
        let model = r#"{"_class_name": "PNDMScheduler"}"#;
        for kind in SamplerKind::all() {
            let model = SamplerConfig::from_json(model, "model".as_ref()).expect("a configuration");
            assert_eq!(model.with_kind(kind).name(), kind.name());
        }
    }
}

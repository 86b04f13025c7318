//! The sigmas of a run, for solvers that integrate over `sigma / alpha`.
//!
//! Two families of diffusers schedulers lay them out differently: Euler's visits a grid that includes the cleanest timestep and
//! keeps fractional timesteps; DPM-Solver's has one point more, rounds to whole timesteps, and takes the range of Karras' sigmas
//! from the whole schedule.

use super::parameterisation::Parameterisation;
use super::settings::{Settings, choose};
use super::trajectory::Trajectory;
use crate::Error;
use crate::error::ConfigError;
use crate::noise::{
    NoiseLevel, Prediction, Spacing, beta_sigmas, exponential_sigmas, interpolate, karras_sigmas,
    log_sigmas, timestep_of_sigma,
};

/// Timesteps and sigmas, from noisy to clean; the sigmas have one entry more, where the last step ends.
#[derive(Debug, Clone)]
pub(in crate::samplers) struct SigmaTable {
    pub(in crate::samplers) timesteps: Vec<f64>,
    pub(in crate::samplers) sigmas: Vec<f64>,
    /// Standard deviation of the exploding sample a run starts from.
    pub(in crate::samplers) initial: f64,
}

impl SigmaTable {
    /// What `level` makes of every sigma.
    pub(in crate::samplers) fn points(&self, level: fn(f64) -> NoiseLevel) -> Vec<NoiseLevel> {
        self.sigmas.iter().copied().map(level).collect()
    }

    /// With a last step that stays at the last sigma where sigmas are laid out, however far from the schedule's smallest.
    pub(in crate::samplers) fn ending_where_laid_out(mut self, settings: &Settings) -> Self {
        let steps = self.timesteps.len();
        if Layout::of(settings) != Layout::Visited {
            self.sigmas[steps] = self.sigmas[steps - 1];
        }
        self
    }

    /// One evaluation for each sigma but the last.
    ///
    /// # Errors
    ///
    /// If the configuration names a prediction or a clipping that there is not.
    pub(in crate::samplers) fn trajectory(
        &self,
        settings: &Settings,
        level: fn(f64) -> NoiseLevel,
    ) -> Result<Trajectory, Error> {
        let mut levels = self.points(level);
        levels.truncate(self.timesteps.len());
        let trajectory = Trajectory::new(
            &self.timesteps,
            levels,
            Parameterisation::Plain(settings.prediction()?),
            settings.clip()?,
        );
        Ok(trajectory.starting_from(self.initial))
    }
}

/// How sigmas lie between the largest and the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Where the visited timesteps have them.
    Visited,
    Karras,
    Exponential,
    Beta,
    /// Lu's lambdas with rho = 1, which are equal parts of the logarithm too; only the rounding of timesteps differs.
    Lu,
}

impl Layout {
    pub(super) fn of(settings: &Settings) -> Self {
        Self::all_of(settings).next().unwrap_or(Self::Visited)
    }

    /// All that a configuration asks for, the one that counts first.
    fn all_of(settings: &Settings) -> impl Iterator<Item = Self> {
        let json = &settings.json;
        let layouts = [
            (json.use_karras_sigmas, Self::Karras),
            (json.use_lu_lambdas, Self::Lu),
            (json.use_exponential_sigmas, Self::Exponential),
            (json.use_beta_sigmas, Self::Beta),
        ];
        let asked = layouts.into_iter().filter(|(flag, _)| *flag == Some(true));
        asked.map(|(_, layout)| layout)
    }

    /// `steps` sigmas between the ends that a configuration names, else `min` and `max`; `None`, and its ends do not count, if the visited
    /// timesteps decide.
    fn between(
        self,
        settings: &Settings,
        (min, max): (f64, f64),
        steps: usize,
    ) -> Result<Option<Vec<f64>>, ConfigError> {
        if self == Self::Visited {
            return Ok(None);
        }
        let (min, max) = settings.sigma_ends(min, max)?;
        Ok(self.sigmas(max, min, steps))
    }

    /// What asks for it in a configuration.
    pub(super) fn key(self) -> Option<&'static str> {
        match self {
            Self::Visited => None,
            Self::Karras => Some("use_karras_sigmas"),
            Self::Exponential => Some("use_exponential_sigmas"),
            Self::Beta => Some("use_beta_sigmas"),
            Self::Lu => Some("use_lu_lambdas"),
        }
    }

    /// `steps` sigmas from `max` to `min`; `None` if the visited timesteps decide.
    pub(super) fn sigmas(self, max: f64, min: f64, steps: usize) -> Option<Vec<f64>> {
        match self {
            Self::Visited => None,
            Self::Karras => Some(karras_sigmas(max, min, steps)),
            Self::Beta => Some(beta_sigmas(max, min, steps)),
            Self::Exponential | Self::Lu => Some(exponential_sigmas(max, min, steps)),
        }
    }
}

/// What a configuration says of layouts that do not count beside another; diffusers takes no such configuration.
pub(in crate::samplers) fn layouts_beside(settings: &Settings) -> Option<String> {
    let asked: Vec<&str> = Layout::all_of(settings).filter_map(Layout::key).collect();
    let [taken, others @ ..] = &asked[..] else {
        return None;
    };
    let others = others.iter().map(|key| format!("`{key}`"));
    let others = others.collect::<Vec<_>>().join(" and ");
    (!others.is_empty()).then(|| {
        format!(
            "the scheduler's configuration has `{taken}` and {others}, which do not go together: `{taken}` is taken"
        )
    })
}

/// The table of Euler, Heun, LMS and DPM2.
pub(in crate::samplers) fn exploding(
    settings: &Settings,
    steps: usize,
) -> Result<SigmaTable, Error> {
    let table = settings.schedule()?.with_finite_sigmas().sigmas();
    let grid = settings.grid()?;
    let visited = grid.closed(steps)?;
    let visited_sigmas = at(&table, &visited);
    let ends = (visited_sigmas[steps - 1], visited_sigmas[0]);
    let laid_out = Layout::of(settings).between(settings, ends, steps)?;
    let (mut timesteps, mut sigmas) = match laid_out {
        None => (visited, visited_sigmas),
        Some(sigmas) => (timesteps_of(&table, &sigmas), sigmas),
    };
    if continuous(settings)? {
        timesteps = sigmas.iter().map(|sigma| 0.25 * sigma.ln()).collect();
    }
    sigmas.push(final_sigma(settings, &table)?);
    // Leading grids stop short of pure noise: their first sample is taken to hold signal of unit variance as well.
    let initial = match grid.spacing {
        Spacing::Leading => sigmas[0].hypot(1.0),
        Spacing::Trailing | Spacing::Linspace | Spacing::Quadratic => sigmas[0],
    };
    Ok(SigmaTable {
        timesteps,
        sigmas,
        initial,
    })
}

/// The table of DPM-Solver, `UniPC` and DEIS, whose timesteps are whole. `rounds` says whether those of Karras' sigmas are rounded or
/// cut.
pub(in crate::samplers) fn preserving(
    settings: &Settings,
    steps: usize,
    rounds: bool,
) -> Result<SigmaTable, Error> {
    if settings.json.use_flow_sigmas.unwrap_or(false) || settings.flows()? {
        let hint = "this sampler has no sigmas of a flow";
        return Err(ConfigError::unsupported("use_flow_sigmas", true, hint).into());
    }
    let table = settings.schedule()?.with_finite_sigmas().sigmas();
    let visited = settings
        .grid()?
        .open(steps, clipped_end(settings, &table))?;
    let layout = Layout::of(settings);
    let laid_out = layout.between(settings, (table[0], table[table.len() - 1]), steps)?;
    let (timesteps, mut sigmas) = match laid_out {
        None => (visited.clone(), at(&table, &visited)),
        Some(sigmas) => {
            let whole = match layout {
                Layout::Karras | Layout::Lu if rounds => f64::round_ties_even,
                _ => f64::trunc,
            };
            let timesteps = timesteps_of(&table, &sigmas).into_iter().map(whole);
            (timesteps.collect(), sigmas)
        }
    };
    sigmas.push(final_sigma(settings, &table)?);
    Ok(SigmaTable {
        timesteps,
        sigmas,
        initial: 1.0,
    })
}

fn at(table: &[f64], timesteps: &[f64]) -> Vec<f64> {
    let sigma = |timestep: &f64| interpolate(table, *timestep);
    timesteps.iter().map(sigma).collect()
}

/// The fractional timesteps at which the schedule has `sigmas`.
pub(in crate::samplers) fn scheduled(
    settings: &Settings,
    sigmas: &[f64],
) -> Result<Vec<f64>, Error> {
    let table = settings.schedule()?.with_finite_sigmas().sigmas();
    Ok(timesteps_of(&table, sigmas))
}

fn timesteps_of(table: &[f64], sigmas: &[f64]) -> Vec<f64> {
    let logs = log_sigmas(table);
    let timestep = |sigma: &f64| timestep_of_sigma(&logs, *sigma);
    sigmas.iter().map(timestep).collect()
}

/// Where the last step ends.
fn final_sigma(settings: &Settings, table: &[f64]) -> Result<f64, Error> {
    Ok(if settings.ends_at_zero()? {
        0.0
    } else {
        table[0]
    })
}

/// Whether the network is called with `ln(sigma) / 4` in place of a timestep (SVD, after Karras et al., table 1).
fn continuous(settings: &Settings) -> Result<bool, Error> {
    let json = &settings.json;
    let interpolation = json.interpolation_type.as_deref().unwrap_or("linear");
    choose("interpolation_type", interpolation, &[("linear", ())])?;
    let kind = json.timestep_type.as_deref().unwrap_or("discrete");
    let choices = [("discrete", false), ("continuous", true)];
    let continuous = choose("timestep_type", kind, &choices)?;
    Ok(continuous && settings.prediction()? == Prediction::Velocity)
}

/// The first timestep that is too noisy for the solver: `lambda_min_clipped` (DPM-Solver on cosine schedules).
fn clipped_end(settings: &Settings, table: &[f64]) -> usize {
    let clipped = settings.json.lambda_min_clipped;
    let clipped = clipped.map_or(f64::NEG_INFINITY, |value| value.0);
    // lambda = ln(alpha / sigma)
    table.iter().filter(|sigma| -sigma.ln() >= clipped).count()
}

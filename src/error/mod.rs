//! The one error of the crate.
//!
//! Embedders match on the predicates ([`Error::is_weights`] and its siblings); people read the message. The kinds behind it are
//! private, one file a domain. A message is lower case, names stand in backticks, a hint follows on its own line.

mod adapter;
mod amount;
mod config;
mod device;
#[cfg(feature = "eval")]
mod evaluation;
mod file;
mod list;
mod output;
#[cfg(feature = "cli")]
mod panics;
mod plan;
mod recipe;
mod request;
mod weights;

use std::path::{Path, PathBuf};

pub(crate) use adapter::AdapterError;
pub(crate) use amount::{bytes, least_strength, number};
pub(crate) use config::ConfigError;
pub(crate) use device::{ANY_GPU, DeviceError};
#[cfg(feature = "eval")]
pub(crate) use evaluation::EvaluationError;
#[cfg(feature = "eval")]
pub(crate) use evaluation::check_seeds;
pub(crate) use file::FileError;
pub(crate) use list::{listed, shortened};
pub(crate) use output::OutputError;
#[cfg(feature = "cli")]
pub(crate) use panics::{last_panic, note_panic};
pub(crate) use plan::PlanError;
pub(crate) use recipe::RecipeError;
pub(crate) use request::RequestError;
pub(crate) use weights::{Misfit, WeightsError};

/// Everything that can go wrong, as one small value.
#[derive(thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Kind>);

impl std::fmt::Debug for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}", self.0)
    }
}

#[derive(Debug, thiserror::Error)]
enum Kind {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    File(#[from] FileError),
    #[cfg(feature = "eval")]
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    #[error("cancelled")]
    Cancelled,
}

/// What an [`Error`] is of, for programs that tell kinds apart by a value; each has its predicate too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// [`Error::is_config`]
    Config,
    /// [`Error::is_weights`]
    Weights,
    /// [`Error::is_request`]
    Request,
    /// [`Error::is_plan`]
    Plan,
    /// [`Error::is_device`]
    Device,
    /// [`Error::is_file`]
    File,
    /// What `is_evaluation` says, in builds with the feature `eval`.
    Evaluation,
    /// [`Error::is_cancelled`]
    Cancelled,
}

/// How a line with a hint begins.
const HINT: &str = "hint: ";

impl Error {
    /// What the error is of.
    pub fn kind(&self) -> ErrorKind {
        match &*self.0 {
            Kind::Config(_) => ErrorKind::Config,
            Kind::Weights(_) => ErrorKind::Weights,
            Kind::Request(_) | Kind::Output(_) | Kind::Recipe(_) => ErrorKind::Request,
            Kind::Plan(_) => ErrorKind::Plan,
            Kind::Device(_) => ErrorKind::Device,
            Kind::File(_) => ErrorKind::File,
            #[cfg(feature = "eval")]
            Kind::Evaluation(_) => ErrorKind::Evaluation,
            Kind::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// The message without its hint.
    pub fn message(&self) -> String {
        self.parts().0
    }

    /// What to do about it, where something can be done.
    pub fn hint(&self) -> Option<String> {
        Some(self.parts().1).filter(|hint| !hint.is_empty())
    }

    /// Lines that are no hints, and hints.
    fn parts(&self) -> (String, String) {
        let text = self.to_string();
        let is_hint = |line: &&str| line.starts_with(HINT);
        let (hints, lines): (Vec<_>, Vec<_>) = text.lines().partition(is_hint);
        let hints = hints.iter().map(|line| line.trim_start_matches(HINT));
        (lines.join("\n"), hints.collect::<Vec<_>>().join("\n"))
    }

    /// The run was stopped by its observer.
    pub fn cancelled() -> Self {
        Self(Box::new(Kind::Cancelled))
    }

    /// A model folder's JSON says something unreadable or unsupported.
    pub fn is_config(&self) -> bool {
        matches!(*self.0, Kind::Config(_))
    }

    /// Weight files are missing, malformed or do not fit the model.
    pub fn is_weights(&self) -> bool {
        matches!(*self.0, Kind::Weights(_))
    }

    /// What was asked for makes no sense (steps, size, sampler, model id, …), or the recipe of it cannot be followed.
    pub fn is_request(&self) -> bool {
        matches!(
            *self.0,
            Kind::Request(_) | Kind::Output(_) | Kind::Recipe(_)
        )
    }

    /// A cache rule cannot be planned for this run.
    pub fn is_plan(&self) -> bool {
        matches!(*self.0, Kind::Plan(_))
    }

    /// The device is absent, lost or out of memory.
    pub fn is_device(&self) -> bool {
        matches!(*self.0, Kind::Device(_))
    }

    /// A file could not be read or written.
    pub fn is_file(&self) -> bool {
        matches!(*self.0, Kind::File(_))
    }

    /// The reader of the standard output has gone away, which is nobody's fault.
    #[cfg(feature = "cli")]
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(&*self.0, Kind::File(error) if error.is_closed_pipe())
    }

    /// Parts of an evaluation do not belong together, are missing or damaged.
    #[cfg(feature = "eval")]
    pub fn is_evaluation(&self) -> bool {
        matches!(*self.0, Kind::Evaluation(_))
    }

    /// Adds what `more` says of a configuration's key to the hint, where its value is not supported.
    #[must_use]
    pub(crate) fn with_hint(mut self, more: impl FnOnce(&str) -> Option<String>) -> Self {
        if let Kind::Config(ConfigError::Unsupported { key, hint, .. }) = &mut *self.0 {
            hint.extend(more(key));
        }
        self
    }

    /// The largest speed-up there is, where none is as large as was asked for.
    pub(crate) fn fastest(&self) -> Option<f64> {
        match *self.0 {
            Kind::Plan(PlanError::Unreached { fastest, .. }) => Some(fastest),
            _ => None,
        }
    }

    /// Says where a configuration's file is, of which its reader knows the path within the model alone.
    #[must_use]
    pub(crate) fn located(mut self, place: impl FnOnce(&Path) -> PathBuf) -> Self {
        if let Kind::Config(ConfigError::Json { path, .. } | ConfigError::Value { path, .. }) =
            &mut *self.0
        {
            *path = place(path);
        }
        self
    }

    /// The observer stopped the run.
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.0, Kind::Cancelled)
    }

    /// This error, where the model computes in f32 already: advice to do so would help nobody.
    pub(crate) fn in_full_precision(mut self) -> Self {
        if let Kind::Device(DeviceError::NotFinite { full, .. }) = &mut *self.0 {
            *full = true;
        }
        self
    }
}

impl From<AdapterError> for Error {
    fn from(kind: AdapterError) -> Self {
        WeightsError::Adapter(Box::new(kind)).into()
    }
}

macro_rules! from_kinds {
    ($($kind:ident),*) => {
        $(impl From<$kind> for Error {
            fn from(kind: $kind) -> Self {
                Self(Box::new(kind.into()))
            }
        })*
    };
}

from_kinds!(
    ConfigError,
    WeightsError,
    RequestError,
    OutputError,
    PlanError,
    RecipeError,
    DeviceError,
    FileError
);
#[cfg(feature = "eval")]
from_kinds!(EvaluationError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicates_follow_the_kind() {
        let error = Error::from(RequestError::ZeroSteps);
        assert!(error.is_request() && !error.is_plan());
        assert_eq!(error.kind(), ErrorKind::Request);
        assert_eq!(error.message(), "`steps` is 0");
        assert_eq!(error.hint().as_deref(), Some("ask for at least one step"));
        assert_eq!(Error::cancelled().hint(), None);
        assert!(Error::cancelled().is_cancelled());
    }
}

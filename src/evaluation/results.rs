//! What an evaluation found.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::compare::Comparison;
use super::outcome::Outcome;
use super::study::{LONGEST, Study};
use crate::error::{Error, FileError};
use crate::image_io::write_atomically;
use crate::reading::read_bounded;

/// What an evaluation leaves beside its pictures.
const FILE: &str = "results.json";

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// What was evaluated.
    #[serde(flatten)]
    pub study: Study,
    /// Devices that made the pictures.
    pub devices: Vec<String>,
    /// Batches whose timing counts.
    pub rounds: usize,
    /// The feature space of the Fréchet distances.
    pub feature_space: Option<String>,
    /// What the data are called, and how many pictures they have.
    pub data: Option<(String, usize)>,
    /// What the judge counts.
    pub judge: Option<String>,
    /// The CLIP model of the scores.
    pub clip_model: Option<String>,
    /// By method, the plain run first.
    pub outcomes: Vec<Outcome>,
    /// Rule by rule, to the plain pictures and to the converged ones, with every sampler.
    pub comparisons: Vec<Comparison>,
}

impl Results {
    /// The whole as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Writes `results.json` into a folder, whole or not at all.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        write_atomically(&folder.join(FILE), "the results", |file| {
            writeln!(file, "{}", self.to_json())
        })
    }

    /// Unless they are of more or fewer methods than were evaluated.
    fn checked(self) -> Result<Self, String> {
        match (self.outcomes.len(), self.study.methods.len()) {
            (outcomes, methods) if outcomes == methods => Ok(self),
            (outcomes, methods) => Err(format!(
                "`outcomes` has {outcomes} entries, `methods` {methods}"
            )),
        }
    }

    /// Reads the `results.json` of a folder.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is none.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path: PathBuf = folder.join(FILE);
        let read = read_bounded(&path, LONGEST);
        let read = read.and_then(|bytes| Ok(serde_json::from_slice::<Self>(&bytes)?));
        let read = read.and_then(|results| results.checked().map_err(io::Error::other));
        let failed = |source| FileError::Read {
            what: "the results".into(),
            path,
            source,
        };
        read.map_err(|source| failed(source).into())
    }
}

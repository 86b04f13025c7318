//! Learning-to-Cache routers: which branches of which steps are worth computing.
//!
//! Source: Ma et al., "Learning-to-Cache" (arXiv 2406.01733, section 3.3). A router belongs to one trunk and one number of steps. Row
//! r belongs to the r-th evaluation counted from the last; the even ones reuse branches of the evaluation before, the odd ones
//! compute everything. Entry k of a row is branch k of the line, and is computed where the sigmoid of its score is above the
//! threshold.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use crate::{
    error::{Error, PlanError},
    recall::Site,
    weights::WeightSource,
};

/// The threshold of the published router for `DiT-XL/2` at 256x256.
pub(super) const THRESHOLD: f64 = 0.1;

/// Scores of every branch at every step, and the threshold that they are held against.
#[derive(Debug, Clone, PartialEq)]
pub struct Router {
    name: String,
    /// By evaluation counted from the last.
    scores: Vec<Vec<f32>>,
    threshold: f64,
}

/// Scores that can be held against a threshold, the row `key` of the file `name`.
fn numbers(scores: Vec<f32>, key: &str, name: &str) -> Result<Vec<f32>, Error> {
    if !scores.iter().any(|score| score.is_nan()) {
        return Ok(scores);
    }
    let (row, file) = (key.to_owned(), name.to_owned());
    Err(PlanError::RouterScores { row, file }.into())
}

impl Router {
    /// From scores by evaluation counted from the last. `name` stands in errors and in a rule's text.
    pub fn new(name: impl Into<String>, scores: Vec<Vec<f32>>, threshold: f64) -> Self {
        Self {
            name: name.into(),
            scores,
            threshold,
        }
    }

    /// Reads a published torch file or a safetensors file: a vector `r.prob` for every evaluation r, 0 the last.
    ///
    /// # Errors
    ///
    /// If the file is unreadable, or a row is missing.
    pub fn read(path: impl AsRef<Path>, threshold: f64) -> Result<Self, Error> {
        let name = path.as_ref().display().to_string();
        if let Err(cause) = fs::metadata(&path) {
            let reason = cause.to_string();
            return Err(PlanError::RouterFile { file: name, reason }.into());
        }
        let source = WeightSource::open(&path)?;
        let row = |index: usize| {
            let key = ["", "routers."]
                .into_iter()
                .map(|prefix| format!("{prefix}{index}.prob"))
                .find(|key| source.shape(key).is_some())?;
            let read = source.read(&key);
            let scores = read.map(|data| data.convert::<f32>().iter::<f32>().collect::<Vec<f32>>());
            Some(scores.and_then(|scores| numbers(scores, &key, &name)))
        };
        let scores = (0..).map_while(row).collect::<Result<Vec<_>, Error>>()?;
        if scores.is_empty() {
            return Err(PlanError::NoRouter { file: name }.into());
        }
        Ok(Self::new(name, scores, threshold))
    }

    /// Writes the safetensors file that [`read`](Self::read) reads; the threshold is not in it.
    ///
    /// # Errors
    ///
    /// What `writer` answers.
    pub fn write(&self, mut writer: impl Write) -> io::Result<()> {
        let file = self.serialised().map_err(io::Error::other)?;
        writer.write_all(&file)
    }

    fn serialised(&self) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let bytes = |row: &Vec<f32>| -> Vec<u8> {
            let bytes = row.iter().flat_map(|score| score.to_le_bytes());
            bytes.collect()
        };
        let rows: Vec<Vec<u8>> = self.scores.iter().map(bytes).collect();
        let views = rows.iter().enumerate().map(|(index, bytes)| {
            let view = TensorView::new(Dtype::F32, vec![bytes.len() / size_of::<f32>()], bytes)?;
            Ok((format!("{index}.prob"), view))
        });
        safetensors::serialize(
            views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?,
            None,
        )
    }

    /// The same scores held against another threshold.
    #[must_use]
    pub fn with_threshold(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self
    }

    /// Where it was read from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Scores above this are computed, after the sigmoid.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Scores of every branch, by evaluation counted from the last.
    pub fn scores(&self) -> &[Vec<f32>] {
        &self.scores
    }

    fn computes(&self, score: f32) -> bool {
        1.0 / (1.0 + (-f64::from(score)).exp()) > self.threshold
    }

    /// For each evaluation, the branches that are not computed.
    pub(super) fn wanted(
        &self,
        evaluations: usize,
        sites: &[Site],
    ) -> Result<Vec<BTreeSet<Site>>, Error> {
        self.check(evaluations, sites.len())?;
        let of = |evaluation: usize| {
            let from_last = evaluations - 1 - evaluation;
            if from_last % 2 == 1 {
                return BTreeSet::new();
            }
            let scored = sites.iter().zip(&self.scores[from_last]);
            let skipped = scored.filter(|(_, score)| !self.computes(**score));
            skipped.map(|(site, _)| *site).collect()
        };
        Ok((0..evaluations).map(of).collect())
    }

    fn check(&self, evaluations: usize, branches: usize) -> Result<(), PlanError> {
        let router = || self.name.clone();
        if !(0.0..=1.0).contains(&self.threshold) {
            return Err(PlanError::RouterThreshold {
                threshold: self.threshold,
            });
        }
        if self.scores.len() != evaluations {
            return Err(PlanError::RouterSteps {
                router: router(),
                found: self.scores.len(),
                expected: evaluations,
            });
        }
        match self.scores.iter().find(|row| row.len() != branches) {
            Some(row) => Err(PlanError::RouterBranches {
                router: router(),
                found: row.len(),
                expected: branches,
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recall::Branch;

    fn sites(cells: usize) -> Vec<Site> {
        let branches = [Branch::SelfAttention, Branch::FeedForward];
        let of = |cell| {
            let site = move |(ordinal, branch)| Site {
                cell,
                ordinal,
                branch,
            };
            branches.into_iter().enumerate().map(site)
        };
        (0..cells).flat_map(of).collect()
    }

    #[test]
    fn scores_that_are_no_numbers_are_refused_by_their_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("router.safetensors");
        for (score, read) in [(f32::NAN, false), (f32::NEG_INFINITY, true)] {
            let router = Router::new("r", vec![vec![1.0], vec![score]], 0.1);
            let file = std::fs::File::create(&path).unwrap();
            router.write(file).unwrap();
            match Router::read(&path, 0.1) {
                Ok(_) => assert!(read, "{score}"),
                Err(error) => {
                    assert!(!read && error.to_string().contains("`1.prob`"), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_router_that_is_gone_is_called_one() {
        let refused = Router::read("/nowhere/router.safetensors", 0.1).unwrap_err();
        let text = refused.to_string();
        assert!(refused.is_plan(), "{text}");
        assert!(
            text.starts_with("the router `/nowhere/router.safetensors` cannot be read: "),
            "{text}"
        );
        assert!(text.contains("another rule with `--cache`"), "{text}");
    }

    #[test]
    fn even_steps_from_the_last_skip_what_scores_low() {
        let router = Router::new(
            "r",
            vec![vec![-9.0, 9.0], vec![-9.0, -9.0], vec![9.0, -9.0]],
            0.1,
        );
        let wanted = router.wanted(3, &sites(1)).unwrap();
        let skipped: Vec<Vec<usize>> = wanted
            .iter()
            .map(|sites| sites.iter().map(|site| site.ordinal).collect())
            .collect();
        assert_eq!(skipped, [vec![1], vec![], vec![0]]);
    }

    #[test]
    fn a_router_of_another_run_is_refused() {
        let router = Router::new("router.pt", vec![vec![0.0; 2]; 4], 0.1);
        let error = router.wanted(5, &sites(1)).unwrap_err().to_string();
        assert!(
            error.contains("`router.pt`") && error.contains('4') && error.contains('5'),
            "{error}"
        );
        let error = router.wanted(4, &sites(28)).unwrap_err().to_string();
        assert!(error.contains('2') && error.contains("56"), "{error}");
    }
}

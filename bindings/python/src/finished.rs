//! What a run has made.

use std::path::PathBuf;

use afterimage::{
    engine::Finished as Made,
    image_io::{Picture, save_item},
    pipeline::{Recipe, Report},
};
use pyo3::{
    exceptions::{PyIndexError, PyValueError},
    prelude::*,
    types::PyBytes,
};
use serde_json::json;

use crate::errors::raised;

/// Pictures or films, and what they took.
#[pyclass(frozen, module = "afterimage._afterimage")]
pub(crate) struct Finished {
    pictures: Vec<Picture>,
    values: Vec<f32>,
    recipe: Recipe,
    report: String,
    texts: Vec<(String, String)>,
    /// Of every item as if it had been made alone, where it could be.
    alone: Vec<Option<Vec<(String, String)>>>,
    fps: usize,
    /// Pictures of an item: 1, or the frames of a film.
    #[pyo3(get)]
    frames: usize,
}

impl Finished {
    pub(crate) fn of(made: Made) -> Result<Self, afterimage::Error> {
        let generated = &made.generated;
        let reports: Vec<_> = made.reports.iter().map(told).collect();
        let pictures = generated.pictures()?;
        let items = pictures.len() / generated.frames.max(1);
        Ok(Self {
            pictures,
            alone: (0..items).map(|item| made.texts_alone(item)).collect(),
            values: generated.values()?,
            frames: generated.frames,
            report: json!({"loading_seconds": made.loading.as_secs_f64(), "models": reports})
                .to_string(),
            recipe: made.recipe,
            texts: made.texts,
            fps: made.fps,
        })
    }

    fn picture(&self, index: usize) -> PyResult<&Picture> {
        let missing = || PyIndexError::new_err(format!("there is no picture {index}"));
        self.pictures.get(index).ok_or_else(missing)
    }
}

#[pymethods]
impl Finished {
    /// All of them; the frames of a film follow each other.
    fn __len__(&self) -> usize {
        self.pictures.len()
    }

    /// Pixels across and down.
    #[getter]
    fn size(&self) -> (usize, usize) {
        let first = self.pictures.first();
        first.map_or((0, 0), |picture| (picture.width(), picture.height()))
    }

    /// Red, green and blue of a picture's pixels, row after row.
    fn pixels<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, self.picture(index)?.pixels()))
    }

    /// All pictures before they were rounded to bytes, in 0 to 1: little-endian f32, `[pictures, 3, height, width]`.
    fn values<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let bytes: Vec<u8> = self
            .values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        PyBytes::new(py, &bytes)
    }

    /// The recipe with everything that was picked, as JSON.
    #[getter]
    fn recipe(&self) -> String {
        self.recipe.to_json()
    }

    /// Seconds and cells of each model, as JSON.
    #[getter]
    fn report(&self) -> &str {
        &self.report
    }

    /// Writes a picture or film as the program does, with the same texts in it; or, `alone`, with those of a run of this item.
    #[pyo3(signature = (item, path, alone = false))]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "arguments from Python are owned"
    )]
    fn save(&self, py: Python<'_>, item: usize, path: PathBuf, alone: bool) -> PyResult<()> {
        let mut items = self.pictures.chunks(self.frames.max(1));
        let missing = || PyIndexError::new_err(format!("there is no picture or film {item}"));
        let frames = items.nth(item).ok_or_else(missing)?;
        let texts = match self.alone.get(item) {
            Some(own) if alone => own.as_ref().ok_or_else(|| {
                PyValueError::new_err(format!("picture or film {item} cannot be made alone"))
            })?,
            _ => &self.texts,
        };
        py.detach(|| save_item(frames, self.fps, &path, texts))
            .map_err(|error| raised(&error))
    }
}

/// What one model took.
fn told(report: &Report) -> serde_json::Value {
    json!({
        "text_seconds": report.text.as_secs_f64(),
        "denoising_seconds": report.denoising.as_secs_f64(),
        "decoding_seconds": report.decoding.as_secs_f64(),
        "evaluations": report.account.refreshes + report.account.reuses,
        "refreshed": report.account.refreshed,
        "cells": report.account.cells.iter().sum::<usize>(),
        "store_bytes": report.account.store_bytes,
    })
}

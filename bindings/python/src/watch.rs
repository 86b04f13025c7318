//! Python's callbacks as what the engine tells.

use std::ops::ControlFlow;

use afterimage::{
    Error,
    burn::tensor::Tensor,
    catalog::FetchProgress,
    denoise::{Observer, Progress},
    engine::Listener,
    image_io::Picture,
};
use pyo3::{prelude::*, types::PyBytes};

use crate::errors::raised;

/// Tells a callable what the user should know. What it raises is kept, and raised once the engine is back.
pub(crate) struct Told {
    warn: Option<Py<PyAny>>,
    raised: Option<PyErr>,
}

impl Told {
    pub(crate) fn new(warn: Option<Py<PyAny>>) -> Self {
        Self { warn, raised: None }
    }

    /// What a callback raised, else the engine's own outcome.
    pub(crate) fn settle<T>(self, outcome: Result<T, Error>) -> PyResult<T> {
        match self.raised {
            Some(error) => Err(error),
            None => outcome.map_err(|error| raised(&error)),
        }
    }

    fn tell(&mut self, text: &str) {
        if let (Some(warn), None) = (&self.warn, &self.raised) {
            let told = Python::attach(|py| warn.call1(py, (text,)));
            self.raised = told.err();
        }
    }
}

impl FetchProgress for Told {
    fn begin(&mut self, _file: &str, _size: u64) {}
    fn advance(&mut self, _bytes: u64) {}
    fn end(&mut self) {}
}

impl Listener for Told {
    fn warn(&mut self, text: &str) {
        self.tell(text);
    }
}

/// What a run tells, and where signals are looked for.
pub(crate) struct Watch {
    pub(crate) told: Told,
    /// Called with the calls that are made, those of the run, and whether the last computed everything; False ends the run.
    pub(crate) progress: Option<Py<PyAny>>,
    /// Called with the number of a picture, its width, height, and red, green and blue of its pixels.
    pub(crate) preview: Option<Py<PyAny>>,
    /// Model calls from one preview to the next.
    pub(crate) preview_every: usize,
    /// Whether previews are decoded.
    pub(crate) preview_decoded: bool,
}

impl Watch {
    /// Tells how far a run is, and shows nothing.
    pub(crate) fn new(progress: Option<Py<PyAny>>, warn: Option<Py<PyAny>>) -> Self {
        Self {
            told: Told::new(warn),
            progress,
            preview: None,
            preview_every: 1,
            preview_decoded: false,
        }
    }

    /// Runs what calls back; what it raises ends the run.
    fn call(
        &mut self,
        call: impl FnOnce(&Self, Python<'_>) -> PyResult<ControlFlow<()>>,
    ) -> ControlFlow<()> {
        if self.told.raised.is_some() {
            return ControlFlow::Break(());
        }
        match Python::attach(|py| call(self, py)) {
            Ok(flow) => flow,
            Err(error) => {
                self.told.raised = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

impl Observer for Watch {
    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        let (done, total) = (progress.evaluation.index + 1, progress.total);
        let refresh = progress.refresh;
        self.call(|watch, py| {
            py.check_signals()?;
            let Some(tell) = &watch.progress else {
                return Ok(ControlFlow::Continue(()));
            };
            let answer = tell.call1(py, (done, total, refresh))?;
            // None goes on: a callback need not return anything.
            let stops = !answer.is_none(py) && !answer.is_truthy(py)?;
            Ok(if stops {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })
    }

    fn wants_preview(&mut self, progress: &Progress<'_>) -> bool {
        let done = progress.evaluation.index + 1;
        self.preview.is_some() && done < progress.total && done.is_multiple_of(self.preview_every)
    }

    fn previews_decoded(&self) -> bool {
        self.preview_decoded
    }

    fn preview(&mut self, images: Tensor<4>) {
        let Ok(pictures) = Picture::from_batch(images) else {
            return; // the run itself says what the device fails at
        };
        // What a preview raises ends the run at its next step.
        let _ = self.call(|watch, py| {
            if let Some(show) = &watch.preview {
                for (item, picture) in pictures.iter().enumerate() {
                    let pixels = PyBytes::new(py, picture.pixels());
                    show.call1(py, (item, picture.width(), picture.height(), pixels))?;
                }
            }
            Ok(ControlFlow::Continue(()))
        });
    }

    fn warn(&mut self, message: &str) {
        self.told.tell(message);
    }
}

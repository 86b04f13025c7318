//! What clients are told of a run while it goes on.

use std::{ops::ControlFlow, sync::Arc, time::Instant};

use burn::tensor::Tensor;

use super::{
    asked::named,
    job::{Preview, State, Step},
    server::Server,
    together::Run,
};
use crate::{
    catalog::FetchProgress,
    denoise::{Observer, Progress},
    engine::Listener,
    image_io::{Picture, PictureFormat},
};

/// Tells the clients of all jobs that are one run, and ends it where nobody waits for it.
pub(super) struct Watch<'a> {
    server: &'a Server,
    runs: &'a [Run],
    until: Instant,
    begun: bool,
    /// Whose previews are due.
    due: Vec<bool>,
    /// The time was up.
    pub(super) late: bool,
    /// Something was said that is not of all jobs, for it was said before the first step; it is nobody else's affair.
    pub(super) apart: bool,
}

impl<'a> Watch<'a> {
    /// Of `runs`, one run that may go on until then.
    pub(super) fn new(server: &'a Server, runs: &'a [Run], until: Instant) -> Self {
        Self {
            server,
            runs,
            until,
            begun: false,
            due: Vec::new(),
            late: false,
            apart: false,
        }
    }

    /// Ends the jobs that were stopped, where others go on; whether none is left.
    fn leave(&self) -> bool {
        if let [run] = self.runs {
            return run.job.cancel.is_now();
        }
        let stopped = self.runs.iter().filter(|run| run.job.cancel.is_now());
        for Run { job, .. } in stopped.clone() {
            if job.end(State::Cancelled, None) {
                self.server.queue.tell(job);
            }
        }
        stopped.count() == self.runs.len()
    }

    fn say(&mut self, message: &str) {
        let said = |run: &Run| named(message, &run.work.names);
        let known = |run: &Run| run.job.seen.borrow().warnings.contains(&said(run));
        if self.runs.len() > 1 && !self.begun {
            self.apart |= !self.runs.iter().all(known);
            return;
        }
        for run in self.runs {
            run.job.warn(&said(run));
        }
    }
}

impl Observer for Watch<'_> {
    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        self.begun = true;
        self.late = Instant::now() > self.until;
        if self.late || self.apart {
            return ControlFlow::Break(());
        }
        for Run { job, .. } in self.runs {
            job.change(|seen| {
                seen.phase = Some(Step::Denoising);
                seen.step = progress.evaluation.index + 1;
                seen.steps = progress.total;
                seen.computed = progress.refresh;
            });
        }
        if self.leave() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn wants_preview(&mut self, progress: &Progress<'_>) -> bool {
        let step = progress.evaluation.index + 1;
        let due = self.runs.iter();
        let due = due.map(|run| run.job.wants_preview(step, progress.total));
        self.due = due.collect();
        self.due.contains(&true)
    }

    fn previews_decoded(&self) -> bool {
        let due = self.runs.iter().zip(&self.due);
        due.filter(|(_, due)| **due)
            .any(|(run, _)| run.job.previews_decoded)
    }

    fn preview(&mut self, images: Tensor<4>) {
        let pictures = Picture::from_batch(images).unwrap_or_default();
        let jobs = self.runs.iter().zip(&self.due).zip(&pictures);
        for ((Run { job, .. }, _), picture) in jobs.filter(|((_, due), _)| **due) {
            let mut jpeg = Vec::new();
            let format = PictureFormat::Jpeg;
            if picture.encode_as(&mut jpeg, format, &[]).is_ok() {
                let seen = job.now();
                let (step, steps) = (seen.step, seen.steps);
                let preview = Preview { step, steps, jpeg };
                job.preview.send_replace(Some(Arc::new(preview)));
            }
        }
    }

    fn warn(&mut self, message: &str) {
        self.say(message);
    }
}

impl FetchProgress for Watch<'_> {
    fn begin(&mut self, _file: &str, _size: u64) {}
    fn advance(&mut self, _bytes: u64) {}
    fn end(&mut self) {}
}

impl Listener for Watch<'_> {
    fn warn(&mut self, text: &str) {
        self.say(text);
    }
}

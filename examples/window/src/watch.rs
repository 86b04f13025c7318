//! What a run shows of itself while it goes on.

use std::ops::ControlFlow;
use std::sync::mpsc::Sender;

use afterimage::catalog::FetchProgress;
use afterimage::denoise::{Observer, Progress};
use afterimage::display::{LinearMap, Painter, Painting};
use afterimage::engine::Listener;
use eframe::egui;

use crate::worker::News;

/// One evaluation of a run.
#[derive(Debug)]
pub(crate) struct Step {
    /// Counted from 1.
    pub(crate) number: usize,
    pub(crate) of: usize,
    /// Whether it computed everything.
    pub(crate) refresh: bool,
    /// What the picture seems to become.
    pub(crate) preview: Option<Painting>,
}

/// Sends the window what a run, or a model that is opened, says.
pub(crate) struct Watch<'a> {
    pub(crate) news: &'a Sender<News>,
    pub(crate) context: &'a egui::Context,
    pub(crate) painter: &'a Painter,
    /// Of the model.
    pub(crate) map: Option<&'a LinearMap>,
    /// Frames of each film: the middle one is shown.
    pub(crate) frames: usize,
}

impl Watch<'_> {
    fn tell(&self, news: News) -> ControlFlow<()> {
        let heard = self.news.send(news);
        self.context.request_repaint();
        heard.map_or(ControlFlow::Break(()), ControlFlow::Continue)
    }

    fn seen(&self, progress: &Progress<'_>) -> Option<Painting> {
        let [rows, channels, _, _] = progress.latents.dims();
        let map = self.map.filter(|map| map.channels() == channels)?;
        let row = (self.frames / 2).min(rows - 1);
        self.painter.preview(progress.clean(), row, map).ok()
    }
}

impl Observer for Watch<'_> {
    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        self.tell(News::Step(Step {
            number: progress.evaluation.index + 1,
            of: progress.total,
            refresh: progress.refresh,
            preview: self.seen(progress),
        }))
    }

    fn warn(&mut self, message: &str) {
        let _ = self.tell(News::Warned(message.to_owned()));
    }
}

impl FetchProgress for Watch<'_> {
    fn begin(&mut self, file: &str, size: u64) {
        let megabytes = size.div_ceil(1_000_000);
        let _ = self.tell(News::Busy(format!("fetching {file}, {megabytes} MB")));
    }

    fn advance(&mut self, _bytes: u64) {}

    fn end(&mut self) {}
}

impl Listener for Watch<'_> {
    fn warn(&mut self, text: &str) {
        let _ = self.tell(News::Warned(text.to_owned()));
    }

    fn busy(&mut self, text: &str) {
        let _ = self.tell(News::Busy(text.to_owned()));
    }
}

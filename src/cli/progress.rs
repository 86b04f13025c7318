//! What watches a run: the progress bar (on stderr, and only when that is a terminal), warnings and Ctrl-C.

use std::{
    io::{self, IsTerminal as _},
    ops::ControlFlow,
};

use burn::tensor::Tensor;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::{cancel, console, preview::Preview};
use crate::{
    catalog::FetchProgress,
    denoise::{Observer, Progress},
    doctor::Check,
    engine::Listener,
};

/// The observer of the command line.
#[derive(Debug)]
pub(super) struct Watch {
    bar: Bar,
    warns: bool,
    /// What was said: both models of a run have something to say of the same prompt.
    said: Vec<String>,
    preview: Option<Preview>,
}

impl Watch {
    /// Shows a bar and warnings.
    pub(super) fn new() -> Self {
        Self {
            bar: Bar::new(),
            warns: true,
            said: Vec::new(),
            preview: None,
        }
    }

    /// The same, and `preview`.
    pub(super) fn with(preview: Option<Preview>) -> Self {
        Self {
            preview,
            ..Self::new()
        }
    }

    /// Shows a bar alone.
    pub(super) fn quiet() -> Self {
        Self {
            warns: false,
            ..Self::new()
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.bar.clear();
    }
}

impl Observer for Watch {
    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        let how = if progress.refresh { "full" } else { "reuse" };
        let done = progress.evaluation.index + 1;
        self.bar.show(done, progress.total, how);
        if cancel::asked() {
            self.finish();
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn wants_preview(&mut self, progress: &Progress<'_>) -> bool {
        let preview = self.preview.as_ref();
        preview.is_some_and(|preview| preview.is_due(progress.evaluation.index, progress.total))
    }

    fn previews_decoded(&self) -> bool {
        self.preview.as_ref().is_some_and(Preview::is_decoded)
    }

    fn preview(&mut self, images: Tensor<4>) {
        let shown = self.preview.as_ref().map(|preview| preview.show(images));
        if let Some(Err(error)) = shown {
            self.preview = None;
            self.warn(&format!("there are no more previews: {error}"));
        }
    }

    fn warn(&mut self, message: &str) {
        if self.warns && !self.said.iter().any(|said| said == message) {
            self.bar.say(|| console::warning(message));
            self.said.push(message.to_owned());
        }
    }
}

/// What is shown while a model is opened and a device made ready: a bar for every file that is fetched and over the checks of kernels.
/// Without a terminal, what is said alone.
#[derive(Debug)]
pub(super) struct Preparation {
    download: ProgressBar,
    checks: Option<Checks>,
}

impl Preparation {
    /// Draws nothing before there is something to show.
    pub(super) fn new() -> Self {
        Self {
            download: ProgressBar::hidden(),
            checks: None,
        }
    }

    /// Says something in the place of the bar over the checks, which are done then.
    fn say(&mut self, say: impl FnOnce()) {
        self.checks = None;
        say();
    }
}

impl FetchProgress for Preparation {
    fn begin(&mut self, file: &str, size: u64) {
        let style = styled("{msg}  {bytes}/{total_bytes} [{bar:30}] {bytes_per_sec}, {eta} left");
        self.download = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr())
            .with_style(style)
            .with_message(file.to_owned());
    }

    fn advance(&mut self, bytes: u64) {
        self.download.inc(bytes);
    }

    fn end(&mut self) {
        self.download.finish();
    }
}

impl Listener for Preparation {
    fn warn(&mut self, text: &str) {
        self.say(|| console::warning(text));
    }

    fn note(&mut self, text: &str) {
        self.say(|| console::note(text));
    }

    /// Where a bar would be drawn, and nowhere else.
    fn busy(&mut self, text: &str) {
        if io::stderr().is_terminal() {
            self.note(text);
        }
    }

    fn check(&mut self, check: &Check, total: usize) {
        let Checks(bar) = self.checks.get_or_insert_with(|| Checks::new(total));
        bar.set_message(format!("{}, {}", check.kernel(), check.case()));
        bar.inc(1);
    }
}

/// A bar over the checks of a device.
#[derive(Debug)]
struct Checks(ProgressBar);

impl Checks {
    fn new(total: usize) -> Self {
        let total = Some(total as u64);
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        Self(bar.with_style(styled("{pos:>4}/{len} [{bar:40}] {msg}")))
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar over the evaluations of a run.
#[derive(Debug)]
struct Bar(ProgressBar);

impl Bar {
    /// A bar that is not drawn before its first step.
    fn new() -> Self {
        // `stderr` draws nothing when it is no terminal.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Self(bar.with_style(style()))
    }

    /// `done` of `total` evaluations are made; `how` says what the last one did.
    fn show(&self, done: usize, total: usize, how: &'static str) {
        self.0.set_length(total as u64);
        self.0.set_message(how);
        self.0.set_position(done as u64);
    }

    /// Says a line above the bar.
    fn say(&self, line: impl FnOnce()) {
        self.0.suspend(line);
    }

    /// Removes the bar.
    fn clear(&self) {
        self.0.finish_and_clear();
    }
}

fn style() -> ProgressStyle {
    styled("{pos:>4}/{len} [{bar:40}] {speed}, {eta} left  {msg}").with_key(
        "speed",
        |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            let _ = text.write_str(&speed(state.per_sec()));
        },
    )
}

fn styled(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// Steps a second, or seconds a step where a step takes longer than one.
pub(super) fn speed(steps_per_second: f64) -> String {
    if !steps_per_second.is_finite() {
        // A clock that stood still or ran back.
        "not timed".into()
    } else if steps_per_second >= 1.0 || steps_per_second <= 0.0 {
        format!("{steps_per_second:.1} steps/s")
    } else {
        format!("{:.1} s/step", 1.0 / steps_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_steps_are_counted_in_seconds() {
        assert_eq!(speed(12.34), "12.3 steps/s");
        assert_eq!(speed(0.25), "4.0 s/step");
        assert_eq!(speed(0.0), "0.0 steps/s");
        assert_eq!(speed(1.0 / 0.0), "not timed");
    }
}

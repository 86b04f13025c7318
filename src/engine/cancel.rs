//! Stopping runs from any thread.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use burn::tensor::Tensor;

use crate::{
    denoise::{Observer, Progress},
    error::Error,
};

/// Runs go on.
const GO: u8 = 0;
/// What runs is finished; nothing begins after it.
const AFTERWARDS: u8 = 1;
/// What runs stops after the step it is in.
const NOW: u8 = 2;

/// Stops runs that were given it or a clone of it, from any thread: those under way and those that still wait. It does not go back.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicU8>);

impl Cancel {
    /// Has the run under way end after the step of the denoising loop that it is in, with an error that [`Error::is_cancelled`]. What is
    /// read or decoded just then is read or decoded to its end.
    pub fn now(&self) {
        self.0.store(NOW, Ordering::Relaxed);
    }

    /// Lets the run under way finish, and has those that still wait for it end at once with an error that [`Error::is_cancelled`].
    pub fn after_this(&self) {
        self.0.fetch_max(AFTERWARDS, Ordering::Relaxed);
    }

    /// Whether runs under way are to end now.
    pub fn is_now(&self) -> bool {
        self.0.load(Ordering::Relaxed) == NOW
    }

    /// Ends a run between two phases.
    ///
    /// # Errors
    ///
    /// One that [`Error::is_cancelled`], if it is to end now.
    pub fn check(&self) -> Result<(), Error> {
        if self.is_now() {
            return Err(Error::cancelled());
        }
        Ok(())
    }

    /// Ends a run that has not begun.
    pub(super) fn check_before(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) == GO {
            return Ok(());
        }
        Err(Error::cancelled())
    }
}

/// An observer that can be told to stop.
pub(super) struct Stoppable<'a> {
    pub(super) observer: &'a mut dyn Observer,
    pub(super) cancel: &'a Cancel,
}

impl Observer for Stoppable<'_> {
    fn begin(&mut self, initial_latents: &Tensor<4>) {
        self.observer.begin(initial_latents);
    }

    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        self.observer.progress(progress)?;
        if self.cancel.is_now() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn wants_preview(&mut self, progress: &Progress<'_>) -> bool {
        self.observer.wants_preview(progress)
    }

    fn previews_decoded(&self) -> bool {
        self.observer.previews_decoded()
    }

    fn preview(&mut self, images: Tensor<4>) {
        self.observer.preview(images);
    }

    fn warn(&mut self, message: &str) {
        self.observer.warn(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_does_not_go_back() {
        let cancel = Cancel::default();
        let elsewhere = cancel.clone();
        assert!(cancel.check().is_ok() && cancel.check_before().is_ok());
        elsewhere.after_this();
        assert!(cancel.check().is_ok() && cancel.check_before().is_err());
        elsewhere.now();
        elsewhere.after_this();
        assert!(cancel.check().is_err_and(|error| error.is_cancelled()));
    }
}

//! What is said before a run.

use crate::{catalog::FetchProgress, denoise::Observer, doctor::Check};

/// Hears what there is to say while a model is opened and a recipe is made ready; what a run says itself is its
/// [`Observer`]'s affair. Every method has a default that does nothing.
pub trait Listener: FetchProgress {
    /// Something the user should know.
    fn warn(&mut self, _text: &str) {}

    /// Something the user may like to know, such as what was picked for them.
    fn note(&mut self, _text: &str) {}

    /// Work begins that takes a while.
    fn busy(&mut self, _text: &str) {}

    /// A kernel of a GPU is about to be checked, one of `total` checks.
    fn check(&mut self, _check: &Check, _total: usize) {}
}

/// Hears nothing.
impl Listener for () {}

/// Tells an observer what a listener hears.
pub(super) struct Observed<'a>(pub(super) &'a mut dyn Observer);

impl FetchProgress for Observed<'_> {
    fn begin(&mut self, _file: &str, _size: u64) {}
    fn advance(&mut self, _bytes: u64) {}
    fn end(&mut self) {}
}

impl Listener for Observed<'_> {
    fn warn(&mut self, text: &str) {
        self.0.warn(text);
    }

    fn note(&mut self, text: &str) {
        self.0.warn(text);
    }
}

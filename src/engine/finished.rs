//! What a run has made, and what its files keep.

use std::time::Duration;

use super::account::Account as Told;
use crate::{
    cache::Account,
    pipeline::{Generated, Recipe, Report},
};

/// What a run has made.
#[derive(Debug)]
pub struct Finished {
    /// Pictures or films, by the last model.
    pub generated: Generated,
    /// The recipe with everything that was picked, and with hashes: what makes the same again.
    pub recipe: Recipe,
    /// One a model, in the order they ran.
    pub reports: Vec<Report>,
    /// What they computed together.
    pub account: Account,
    /// What a file of it keeps, as the program writes it ([`save_item`](crate::image_io::save_item)): lines for people, and the recipe.
    pub texts: Vec<(String, String)>,
    /// Frames a second that a film is shown at.
    pub fps: usize,
    /// Reading weights; nothing is read where the model of the run before serves.
    pub loading: Duration,
    pub(super) told: Told,
}

impl Finished {
    /// What the file of an item keeps if it is to be that of a run of its own; nothing where the item depends on the others of the run, or what the
    /// cache did was measured for all of them.
    pub fn texts_alone(&self, item: usize) -> Option<Vec<(String, String)>> {
        let items = self.generated.images.dims()[0] / self.generated.frames.max(1);
        if items > 1 && self.told.drift.is_some() {
            return None;
        }
        Some(self.told.alone(item, items)?.texts())
    }
}

//! Weights in the space of products that are kept from call to call, where they are few: moving those of a small map's layer takes as long
//! as the products.
//!
//! They are found by where the weights lie. Whose memory that is says the tensor's counter, of which a weak reference is held: as long as
//! it lives nobody else can have its place, and with it nobody writes to the weights without moving them elsewhere first.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

/// Who holds the memory of a layer's weights.
pub(crate) type Owner = Arc<dyn Any + Send + Sync>;

/// Numbers of a layer, at most: 2 MiB.
const LAYER: usize = 1 << 19;

/// Numbers that are kept, at most: 16 MiB.
pub(super) const ALL: usize = 1 << 22;

/// Where weights lie, how many bytes they are, and in how many points they are moved, as fixed numbers or not.
pub(super) type Place = (usize, usize, (usize, bool));

/// Whose the weights are, and what they were moved to.
type Layer = (Weak<dyn Any + Send + Sync>, Arc<Vec<f32>>);

#[derive(Default)]
struct Kept {
    layers: HashMap<Place, Layer>,
    numbers: usize,
}

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

impl Kept {
    fn find(&self, place: Place) -> Option<Arc<Vec<f32>>> {
        let (owner, moved) = self.layers.get(&place)?;
        (owner.strong_count() > 0).then(|| Arc::clone(moved))
    }

    /// Keeps a layer, unless those whose weights are still there leave no room.
    fn keep(&mut self, place: Place, owner: &Owner, moved: &Arc<Vec<f32>>) {
        self.layers.retain(|_, (owner, _)| owner.strong_count() > 0);
        self.layers.remove(&place);
        let numbers = self.layers.values().map(|(_, moved)| moved.len());
        self.numbers = numbers.sum();
        if self.numbers + moved.len() <= ALL {
            let entry = (Arc::downgrade(owner), Arc::clone(moved));
            self.layers.insert(place, entry);
        }
    }
}

/// Whether a layer of so many numbers is one to be kept.
pub(super) fn suits(numbers: usize) -> bool {
    numbers <= LAYER
}

/// The weights at `place`, which `owner` holds, moved by `make` if they are not kept.
pub(super) fn kept(place: Place, owner: &Owner, make: impl FnOnce() -> Vec<f32>) -> Arc<Vec<f32>> {
    // A panic elsewhere leaves nothing half done in here.
    let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(moved) = kept().find(place) {
        return moved;
    }
    let moved = Arc::new(make());
    kept().keep(place, owner, &moved);
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_dies_with_its_owner() {
        let mut all = Kept::default();
        let owner: Owner = Arc::new(vec![1.0f32]);
        let moved = Arc::new(vec![2.0; 3]);
        let place = (64, 4, (16, false));
        all.keep(place, &owner, &moved);
        assert_eq!(all.find(place), Some(Arc::clone(&moved)));
        assert_eq!(all.find((64, 4, (36, false))), None);
        drop(owner);
        assert_eq!(all.find(place), None);
        let owner: Owner = Arc::new(vec![3.0f32]);
        all.keep((128, 4, (16, true)), &owner, &moved);
        assert_eq!((all.layers.len(), all.numbers), (1, 0));
    }

    #[test]
    fn there_is_an_end_to_it() {
        let mut all = Kept::default();
        let owner: Owner = Arc::new(());
        let moved = Arc::new(vec![0.0; ALL / 2]);
        for at in 0..3 {
            all.keep((at, 4, (16, false)), &owner, &moved);
        }
        assert_eq!(all.layers.len(), 2);
    }
}

//! Filling a network whose blocks wait for their turns.

use std::{collections::HashMap, sync::Arc};

use super::{
    Storage, WeightSource,
    adapt::Patches,
    load::{Matched, filled, matched},
    stack::{BlockReader, Stacked},
};
use crate::error::Error;

/// [`load_merged`](super::load_merged), but the blocks of `module` stay unread: each is read when it is needed, adapters merged, and given up after.
///
/// # Errors
///
/// As [`load_merged`](super::load_merged) for all that is read now, and for names and shapes of the blocks.
#[expect(
    clippy::iter_over_hash_type,
    reason = "what is sorted goes into maps again"
)]
pub(crate) fn load_streamed<M: Stacked>(
    module: M,
    source: &WeightSource,
    part: &str,
    storage: impl Into<Storage>,
    patches: &Patches,
) -> Result<M, Error> {
    let storage = storage.into();
    let matched = matched(&module, source, part, patches)?;
    let (mut streamed, mut rest) = (HashMap::<String, Matched>::new(), Matched::new());
    for (path, (tensor, slot)) in matched {
        let place = slot.in_block();
        let place = place.map(|(block, inside)| (block.to_owned(), inside.to_owned()));
        let (tensors, path) = match place {
            Some((block, inside)) => (streamed.entry(block).or_default(), inside),
            None => (&mut rest, path),
        };
        tensors.insert(path, (tensor, slot));
    }
    let mut module = filled(module, rest, storage, source.origin())?;
    let reader = Arc::new(BlockReader::new(storage, source.origin()));
    for (name, stack) in module.stacks() {
        let mut tensors = |index: usize| {
            streamed
                .remove(&format!("{name}.{index}"))
                .unwrap_or_default()
        };
        stack.stream_from(reader.clone(), &mut tensors);
    }
    Ok(module)
}

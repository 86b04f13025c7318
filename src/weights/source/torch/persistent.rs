//! What a pickle leaves to its container: storages.

use super::call::{element, size, unread};
use super::fault::Fault;
use super::value::{Heap, Node, Storage, Value};

/// The storage that an identifier means: `("storage", class, key, device, elements)`, in old files behind it `(key, start, elements)` of the
/// part that is meant.
pub(super) fn storage(heap: &mut Heap, id: Value) -> Result<Value, Fault> {
    let Some(&[_, class, key, _, elements, ref part @ ..]) = heap.items(id) else {
        return Ok(Value::Other);
    };
    let part = part.first().and_then(|part| heap.items(*part));
    let start = match part {
        Some(&[_, start, ..]) => size(start),
        _ => Some(0),
    };
    let (Some(elements), Some(start)) = (size(elements), start) else {
        return Err(Fault::wrong("a storage does not say its size"));
    };
    let class_name = heap.class(class).map(|(_, name)| name);
    let name = class_name
        .as_deref()
        .and_then(|name| name.strip_suffix("Storage"));
    let stored = match name {
        Some("Untyped" | "_Untyped" | "Typed") => None,
        Some(name) => match element(name) {
            Some(stored) => Some(stored),
            None => return unread(heap, class),
        },
        None => return Err(Fault::wrong("a storage has no type")),
    };
    heap.add(Node::Storage(Storage {
        key,
        stored,
        elements,
        start,
    }))
}

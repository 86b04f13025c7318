//! The table of everything that programs hold.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use afterimage::engine::{Cancel, Engine};

use crate::{
    fault::{Fault, Report},
    request::Builder,
    result::Pictures,
};

/// What a handle stands for. Whoever works with it holds it too, so that freeing a handle ends no work.
#[derive(Clone)]
pub(crate) enum Held {
    Model(Arc<Engine>),
    Cancel(Cancel),
    Request(Arc<Mutex<Builder>>),
    Result(Arc<Pictures>),
    Error(Arc<Report>),
}

/// A type that handles point to in the header.
pub(crate) trait Handle {
    /// What is behind it.
    type Kept;
    /// What messages call it.
    const NAME: &'static str;

    /// What is behind it, if it is this.
    fn of(held: &Held) -> Option<Self::Kept>;
}

#[derive(Default)]
struct Table {
    held: HashMap<usize, Held>,
    /// Handles given out so far: no number comes twice.
    given: usize,
}

/// Handles are apart from each other as pointers to things are, and odd as no such pointer is.
const STEP: usize = 16;

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

fn table<T>(work: impl FnOnce(&mut Table) -> T) -> T {
    // Nothing below panics with the table in hand but for want of memory.
    work(&mut TABLE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A handle of `held`.
pub(crate) fn give<T: Handle>(held: Held) -> *mut T {
    table(|table| {
        table.given += 1;
        let number = table.given * STEP + 1;
        table.held.insert(number, held);
        std::ptr::without_provenance_mut(number)
    })
}

/// What `handle` stands for.
pub(crate) fn find<T: Handle>(handle: *const T) -> Result<T::Kept, Fault> {
    if handle.is_null() {
        return Err(Fault::Null { what: T::NAME });
    }
    let found = table(|table| table.held.get(&handle.addr()).and_then(T::of));
    found.ok_or(Fault::Handle { what: T::NAME })
}

/// Forgets `handle`; none at all is nothing to forget.
pub(crate) fn forget<T: Handle>(handle: *mut T) -> Result<(), Fault> {
    if handle.is_null() {
        return Ok(());
    }
    find(handle.cast_const())?;
    // What was behind it is dropped once the table is free again: that may take a while.
    let held = table(|table| table.held.remove(&handle.addr()));
    held.map(drop).ok_or(Fault::Handle { what: T::NAME })
}

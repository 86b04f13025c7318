//! Memory of the kernels' outputs, used again: the first touch of a page that the system has just given costs more than writing it.
//!
//! It is kept while somebody holds a [`Keeper`], as runs do. What lies free never makes the whole larger than what was in use at once so far,
//! so a forecast of that holds; with the last keeper all of it goes back to the allocator.
//!
//! Under `--cfg unpooled`, which sanitizers are run with, nothing is kept: outputs and working memory have ends of their own that can be overrun.

#![allow(
    clippy::inline_always,
    reason = "inner loops look at what is kept here"
)]

use std::any::Any;
use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::LocalKey;

/// Bytes that are not worth keeping: the allocator has so little at hand.
const LEAST: usize = 1 << 16;

/// A buffer serves for what is smaller by a part of itself, one in so many at most.
const SPARE: usize = 8;

/// What is free, and what is in use.
#[derive(Debug, Default)]
struct Pool {
    /// The oldest first.
    free: Vec<Free>,
    /// Bytes that are free.
    held: usize,
    /// Bytes in use, of what comes back.
    used: usize,
    /// Bytes that were in use at once, at most.
    most: usize,
    keepers: usize,
}

/// An empty vector of some type.
#[derive(Debug)]
struct Free {
    bytes: usize,
    values: Box<dyn Any + Send>,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    free: Vec::new(),
    held: 0,
    used: 0,
    most: 0,
    keepers: 0,
});

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bytes<T>(values: &Vec<T>) -> usize {
    values.capacity() * size_of::<T>()
}

impl Pool {
    /// The smallest that is free and serves for as many bytes; of equal ones the latest, which the cache may still hold.
    fn take<T: 'static>(&mut self, bytes: usize) -> Option<Vec<T>> {
        let serves = |free: &Free| {
            free.values.is::<Vec<T>>() && (bytes..=bytes + bytes / SPARE).contains(&free.bytes)
        };
        let fitting = self.free.iter().enumerate().rev();
        let fitting = fitting.filter(|(_, free)| serves(free));
        let (index, _) = fitting.min_by_key(|(_, free)| free.bytes)?;
        let free = self.free.remove(index);
        self.held -= free.bytes;
        free.values.downcast().ok().map(|values| *values)
    }

    /// Takes out the oldest until there is room for as many bytes more.
    fn make_room(&mut self, bytes: usize) -> Vec<Free> {
        let most = self.most.max(self.used + bytes);
        let mut gone = 0;
        while gone < self.free.len() && self.used + self.held + bytes > most {
            self.held -= self.free[gone].bytes;
            gone += 1;
        }
        self.free.drain(..gone).collect()
    }

    /// Takes all of it out, and forgets how much was in use.
    fn emptied(&mut self) -> Vec<Free> {
        (self.held, self.most) = (0, self.used);
        std::mem::take(&mut self.free)
    }

    fn count(&mut self, bytes: usize) {
        self.used += bytes;
        self.most = self.most.max(self.used);
    }
}

/// Room for `count` values, none of which is there yet; it counts as in use until [`unused`] says otherwise.
pub(super) fn taken<T: Send + 'static>(count: usize) -> Vec<T> {
    let wanted = count * size_of::<T>();
    let mut pool = pool();
    let found = (wanted >= LEAST).then(|| pool.take(wanted)).flatten();
    let gone = match found {
        Some(_) => Vec::new(),
        None => pool.make_room(wanted),
    };
    pool.count(found.as_ref().map_or(wanted, bytes));
    drop(pool);
    drop(gone); // outside of the lock: the system takes its time
    found.unwrap_or_else(|| Vec::with_capacity(count))
}

/// Takes values back, and keeps their memory if that makes the whole no larger than it was.
pub(crate) fn given<T: Send + 'static>(mut values: Vec<T>) {
    let size = bytes(&values);
    if size < LEAST || cfg!(unpooled) {
        return;
    }
    values.clear();
    let mut pool = pool();
    if pool.keepers == 0 {
        return;
    }
    let gone = pool.make_room(size);
    if pool.used + pool.held + size <= pool.most {
        pool.held += size;
        pool.free.push(Free {
            bytes: size,
            values: Box::new(std::mem::take(&mut values)),
        });
    }
    drop(pool);
    drop((gone, values));
}

/// Counts values as in use until [`unused`] says otherwise.
pub(crate) fn used<T>(values: &Vec<T>) {
    pool().count(bytes(values));
}

/// Counts those that are in use no more.
pub(crate) fn unused<T>(values: &Vec<T>) {
    let mut pool = pool();
    pool.used = pool.used.saturating_sub(bytes(values));
}

/// Values that are in use, whose memory goes back with them.
#[derive(Debug)]
pub(super) struct Pooled<T: Send + 'static>(Vec<T>);

impl<T: Send + 'static> Pooled<T> {
    pub(super) fn new(values: Vec<T>) -> Self {
        used(&values);
        Self(values)
    }

    #[inline(always)]
    pub(super) fn values(&self) -> &[T] {
        &self.0
    }
}

impl<T: Send + 'static> Drop for Pooled<T> {
    fn drop(&mut self) {
        unused(&self.0);
        given(std::mem::take(&mut self.0));
    }
}

/// Does `work` in the thread's `room`, which it keeps from call to call.
pub(super) fn working<T: Default, R>(
    room: &'static LocalKey<RefCell<T>>,
    work: impl FnOnce(&mut T) -> R,
) -> R {
    if cfg!(unpooled) {
        return work(&mut T::default());
    }
    room.with_borrow_mut(work)
}

/// While one is there, outputs' memory is kept for the next ones.
#[derive(Debug)]
pub(crate) struct Keeper(());

impl Keeper {
    pub(crate) fn new() -> Self {
        pool().keepers += 1;
        Self(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let mut pool = pool();
        pool.keepers -= 1;
        let free = (pool.keepers == 0).then(|| pool.emptied());
        drop(pool);
        drop(free);
    }
}

/// Frees what is free.
pub(crate) fn let_go() {
    let free = pool().emptied();
    drop(free);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(pool: &Pool) -> Vec<usize> {
        pool.free.iter().map(|free| free.bytes).collect()
    }

    fn free(bytes: usize) -> Free {
        Free {
            bytes,
            values: Box::new(Vec::<f32>::with_capacity(bytes / size_of::<f32>())),
        }
    }

    fn with(sizes: &[usize], used: usize, most: usize) -> Pool {
        Pool {
            free: sizes.iter().copied().map(free).collect(),
            held: sizes.iter().sum(),
            used,
            most,
            keepers: 1,
        }
    }

    #[test]
    fn the_closest_serves() {
        let mut pool = with(&[1000, 1100, 1052, 500], 0, 9000);
        let mut take = |size: usize| pool.take::<f32>(size).as_ref().map(bytes);
        assert_eq!(take(1020), Some(1052));
        assert_eq!(take(1020), Some(1100));
        assert_eq!(take(1020), None, "too small, and too large by far");
        assert_eq!(take(400), None, "too large");
        assert!(pool.take::<u8>(1000).is_none(), "of another type");
        assert_eq!((room(&pool), pool.held), (vec![1000, 500], 1500));
    }

    #[test]
    fn what_is_let_go_is_not_held() {
        let mut pool = with(&[300, 400], 800, 2000);
        assert_eq!(pool.emptied().len(), 2);
        assert_eq!((room(&pool), pool.held, pool.most), (vec![], 0, 800));
    }

    #[test]
    fn the_whole_is_no_larger_than_what_was_in_use() {
        let mut pool = with(&[300, 400, 500], 800, 2000);
        assert_eq!(pool.make_room(100).len(), 1);
        assert_eq!((room(&pool), pool.held), (vec![400, 500], 900));
        assert!(pool.make_room(300).is_empty());
        // More than was ever in use: nothing else is kept.
        assert_eq!(pool.make_room(5000).len(), 2);
        assert_eq!(pool.held, 0);
    }
}

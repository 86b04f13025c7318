//! Whose turn it is with a pipeline: threads wait for each other, and who would wait for ever is told so.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::error::{DeviceError, Error, RequestError};

thread_local! {
    /// What this thread works on, by where it lies.
    static WORKING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The process whose threads compute; 0 before the first.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// What one thread works on at a time.
#[derive(Debug)]
pub(super) struct Turns<T>(Mutex<Option<T>>);

/// The turn of a thread, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a, T> {
    held: MutexGuard<'a, Option<T>>,
    place: usize,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Turns<T> {
    /// Waits until nobody works on it. Work that panicked leaves nothing behind.
    ///
    /// # Errors
    ///
    /// If this thread works on it already, as an observer does that begins a run within its run, or if the process cannot compute.
    pub(super) fn take(&self) -> Result<Turn<'_, T>, Error> {
        check_process()?;
        let place = std::ptr::from_ref(self).addr();
        if WORKING.with_borrow(|working| working.contains(&place)) {
            return Err(RequestError::WithinRun.into());
        }
        let held = self.0.lock().unwrap_or_else(|poisoned| {
            self.0.clear_poison();
            let mut held = PoisonError::into_inner(poisoned);
            *held = None;
            held
        });
        WORKING.with_borrow_mut(|working| working.push(place));
        Ok(Turn { held, place })
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = Option<T>;

    fn deref(&self) -> &Option<T> {
        &self.held
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut Option<T> {
        &mut self.held
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        WORKING.with_borrow_mut(|working| working.retain(|place| *place != self.place));
    }
}

/// Refuses to compute in a fork of a process that has computed: none of its threads is there, and what they are to do would be waited for
/// for ever.
pub(super) fn check_process() -> Result<(), DeviceError> {
    let own = std::process::id();
    let before = PROCESS.load(Ordering::Relaxed);
    if before != 0 && before != own && !threads_answer() {
        return Err(DeviceError::Forked);
    }
    PROCESS.store(own, Ordering::Relaxed);
    Ok(())
}

/// Whether the threads that compute do anything. Before the first work they are begun for this.
#[cfg(feature = "cpu")]
fn threads_answer() -> bool {
    use std::{sync::mpsc, thread, time::Duration};

    const PATIENCE: Duration = Duration::from_secs(5);
    let (done, answer) = mpsc::channel();
    // Asking may wait for ever, too.
    let ask = move || {
        rayon::spawn(move || {
            // Nobody may wait any more.
            let _ = done.send(());
        });
    };
    let asking = thread::Builder::new().spawn(ask);
    asking.is_ok() && answer.recv_timeout(PATIENCE).is_ok()
}

#[cfg(not(feature = "cpu"))]
fn threads_answer() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::{panic::catch_unwind, thread};

    use super::*;

    #[test]
    fn a_turn_within_a_turn_is_refused_and_others_wait() {
        let (one, other) = (Turns::default(), Turns::<u32>::default());
        let mut turn = one.take().expect("the first");
        *turn = Some(7);
        let within = one.take().expect_err("a turn within it");
        assert!(within.is_request(), "{within}");
        assert!(other.take().is_ok(), "of something else");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| *one.take().expect("the next"));
            drop(turn);
            assert_eq!(waiting.join().expect("a turn"), Some(7));
        });
        assert!(one.take().is_ok());
    }

    #[test]
    fn work_that_panicked_leaves_nothing_behind() {
        let turns = Turns::default();
        *turns.take().expect("a turn") = Some(7);
        let panicked = catch_unwind(|| {
            let _turn = turns.take().expect("a turn");
            panic!("the pen broke");
        });
        assert!(panicked.is_err());
        assert_eq!(*turns.take().expect("a turn"), None);
    }
}

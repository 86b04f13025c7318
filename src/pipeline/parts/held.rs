//! Networks that can be given up and read again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::Device;

use crate::{error::Error, ops};

/// Networks in memory, or released until they are asked for again.
#[derive(Debug)]
pub(super) struct Held<T>(Mutex<Option<Arc<T>>>);

impl<T> Held<T> {
    /// Those that are there, if any are.
    pub(super) fn new(there: Option<T>) -> Self {
        Self(Mutex::new(there.map(Arc::new)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those in memory.
    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.lock().clone()
    }

    /// Those in memory, or else what `load` reads.
    pub(super) fn get_or(&self, load: impl FnOnce() -> Result<T, Error>) -> Result<Arc<T>, Error> {
        let mut held = self.lock();
        if let Some(there) = &*held {
            return Ok(there.clone());
        }
        tracing::info!("reading the text encoders");
        let read = Arc::new(load()?);
        *held = Some(read.clone());
        Ok(read)
    }

    /// Gives the memory on `device` back; whether there was anything.
    pub(super) fn release(&self, device: &Device) -> bool {
        let released = self.lock().take().is_some();
        if released {
            device.memory_cleanup();
            ops::trim();
        }
        released
    }
}

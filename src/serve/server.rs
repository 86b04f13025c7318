//! What all handlers share.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use super::{
    bodies::Room, fault::Fault, job::since_epoch, metrics::Metrics, options::Options, queue::Queue,
    shelf::Shelf, store::Store,
};
use crate::{
    device::OpenDevice,
    engine::weigh,
    error::Error,
    pipeline::{Recipe, RecipeModel},
};

/// Plans that are made at once: they read configurations and pictures.
const PLANNING: usize = 4;

/// Between looks whether all jobs have ended.
const LOOK: Duration = Duration::from_millis(20);

/// What all handlers share.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) options: Options,
    pub(super) queue: Queue,
    pub(super) store: Store,
    pub(super) metrics: Metrics,
    pub(super) devices: Vec<OpenDevice>,
    shelf: RwLock<Shelf>,
    pub(super) bodies: Room,
    planning: Semaphore,
    /// Models in memory, by the number of their device.
    loaded: Mutex<BTreeSet<(usize, String)>>,
    /// What models are, by their names, once they were looked at.
    described: Mutex<BTreeMap<String, Value>>,
    /// Bytes of models' weights, once they were weighed.
    weighed: Mutex<BTreeMap<String, u64>>,
    begun: SystemTime,
    /// What clients of `/sdapi` have set.
    pub(super) picked: Mutex<BTreeMap<String, Picked>>,
    /// Whether the server ends.
    pub(super) closing: watch::Sender<bool>,
}

/// What a client of `/sdapi` has set for its next pictures.
#[derive(Debug, Clone, Default)]
pub(super) struct Picked {
    pub(super) model: Option<String>,
    pub(super) vae: Option<String>,
    /// Layers of the text encoder that are not read, and 1.
    pub(super) clip_stop: Option<usize>,
}

/// Every handler's way to it.
pub(super) type Shared = axum::extract::State<Arc<Server>>;

impl Server {
    pub(super) fn new(options: Options, store: Store, devices: Vec<OpenDevice>) -> Self {
        Self {
            queue: Queue::new(options.limits.clone()),
            shelf: RwLock::new(Shelf::look(&options)),
            bodies: Room::new(options.limits.max_body),
            planning: Semaphore::new(PLANNING),
            options,
            store,
            devices,
            metrics: Metrics::default(),
            loaded: Mutex::default(),
            described: Mutex::default(),
            weighed: Mutex::default(),
            begun: SystemTime::now(),
            picked: Mutex::default(),
            closing: watch::channel(false).0,
        }
    }

    /// What there is to name.
    pub(super) fn shelf(&self) -> RwLockReadGuard<'_, Shelf> {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks into the operator's folders again.
    pub(super) fn look_again(&self) {
        let found = Shelf::look(&self.options);
        *self.shelf.write().unwrap_or_else(PoisonError::into_inner) = found;
        self.described().clear();
        self.weighed().clear();
    }

    fn weighed(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.weighed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the weights that a run of `recipe` holds at once. A model by itself is weighed once.
    pub(super) fn weights_of(&self, recipe: &Recipe) -> Result<u64, Error> {
        let others = recipe.controls.len() + recipe.upscalers.len();
        if others > 0 || recipe.refiner.is_some() {
            return weigh(recipe);
        }
        let same = Recipe {
            model: RecipeModel {
                hash: None,
                ..recipe.model.clone()
            },
            dtype: recipe.dtype,
            weights: recipe.weights,
            activations: recipe.activations,
            stream_weights: recipe.stream_weights,
            ..Recipe::default()
        };
        let key = same.to_json();
        if let Some(bytes) = self.weighed().get(&key) {
            return Ok(*bytes);
        }
        let bytes = weigh(recipe)?;
        self.weighed().insert(key, bytes);
        Ok(bytes)
    }

    /// What models are, by their names, as far as that was asked.
    pub(super) fn described(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.described
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// When it began, in seconds since 1970.
    pub(super) fn started(&self) -> f64 {
        since_epoch(self.begun)
    }

    /// Models in memory, by the number of their device.
    pub(super) fn loaded(&self) -> MutexGuard<'_, BTreeSet<(usize, String)>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more jobs, gives back those that wait, and waits for those that run as long as the operator says; then they are stopped.
    pub(super) async fn drain(&self) {
        self.queue.close();
        let until = Instant::now() + self.options.drain;
        while self.queue.counts().1 > 0 && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
        }
        self.queue.stop();
        while self.queue.counts().1 > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Does work that reads files on a thread of its own, a few at once.
    pub(super) async fn aside<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let permit = self.planning.acquire().await;
        let server = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&server)).await;
        drop(permit);
        done.unwrap_or_else(|panic| {
            tracing::error!("a request failed where it should not: {panic}");
            Err(Fault::internal())
        })
    }
}

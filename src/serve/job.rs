//! One run that a client has asked for.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Instant, SystemTime},
};

use serde::{Serialize, Serializer};
use serde_json::Value;
use tokio::sync::watch;

use super::{fault::Fault, keys::random_key, store::Folder, work::Work};
use crate::engine::Cancel;

/// Where a job is. The last three stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Queued,
    Running,
    Done,
    Failed,
    Cancelled,
}

impl State {
    pub(super) const ALL: [Self; 5] = [
        Self::Queued,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Cancelled,
    ];

    pub(super) fn stays(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    /// The word of the interface.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a running job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Step {
    /// Weights are read.
    Loading,
    Denoising,
    /// The files are written.
    Encoding,
}

/// What clients see of a job.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) state: State,
    /// Jobs in front of it.
    pub(super) position: Option<usize>,
    pub(super) phase: Option<Step>,
    /// Model calls that are made, of so many.
    pub(super) step: usize,
    pub(super) steps: usize,
    /// Whether the last of them computed everything.
    pub(super) computed: bool,
    #[serde(serialize_with = "seconds")]
    pub(super) created: SystemTime,
    #[serde(serialize_with = "maybe_seconds")]
    pub(super) started: Option<SystemTime>,
    #[serde(serialize_with = "maybe_seconds")]
    pub(super) finished: Option<SystemTime>,
    pub(super) model: String,
    #[serde(serialize_with = "shared")]
    pub(super) recipe: Arc<Value>,
    pub(super) warnings: Vec<String>,
    pub(super) error: Option<Fault>,
    #[serde(serialize_with = "shared")]
    pub(super) images: Arc<Value>,
    #[serde(serialize_with = "shared")]
    pub(super) seconds: Arc<Value>,
    #[serde(serialize_with = "shared")]
    pub(super) work: Arc<Value>,
    /// Grows with every change.
    pub(super) version: u64,
}

/// What a picture seems to become.
#[derive(Debug)]
pub(super) struct Preview {
    pub(super) step: usize,
    pub(super) steps: usize,
    /// A JPEG file.
    pub(super) jpeg: Vec<u8>,
}

/// Which interface a job came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Own,
    OpenAi,
    Sdapi,
}

/// One run.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: String,
    /// Of its results' addresses.
    pub(super) key: String,
    pub(super) owner: String,
    pub(super) door: Door,
    pub(super) cancel: Cancel,
    /// What it has in common with jobs that can be one run with it.
    pub(super) kind: Option<String>,
    /// What is to be done, until a worker takes it.
    work: Mutex<Option<Work>>,
    /// Where its files are.
    pub(super) folder: Folder,
    pub(super) seen: watch::Sender<Seen>,
    pub(super) preview: watch::Sender<Option<Arc<Preview>>>,
    /// Model calls from one preview to the next; 0 is never.
    preview_every: AtomicU32,
    pub(super) previews_decoded: bool,
    /// Whether somebody looks just now.
    looked_at: AtomicBool,
    pub(super) begun: Instant,
    /// Hashes of the files that came with it and their names in the folder, once it is done.
    pub(super) inputs: OnceLock<Vec<(String, String)>>,
}

/// How a job shows what its pictures seem to become.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Previews {
    /// Model calls from one to the next; 0 is never.
    pub(super) every: u32,
    /// Whether they are decoded.
    pub(super) decoded: bool,
}

/// What a job is made of.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) owner: String,
    pub(super) door: Door,
    pub(super) work: Work,
    pub(super) folder: Folder,
    pub(super) previews: Previews,
    pub(super) warnings: Vec<String>,
}

impl Job {
    pub(super) fn new(order: Order) -> Self {
        let folder = order.folder;
        let seen = Seen {
            id: folder.id.clone(),
            state: State::Queued,
            position: None,
            phase: None,
            step: 0,
            steps: order.work.evaluations,
            computed: false,
            created: SystemTime::now(),
            started: None,
            finished: None,
            model: order.work.model.clone(),
            recipe: Arc::new(recipe_value(&order.work.shown)),
            warnings: order.warnings,
            error: None,
            images: Arc::new(Value::Array(Vec::new())),
            seconds: Arc::default(),
            work: Arc::default(),
            version: 0,
        };
        Self {
            door: order.door,
            owner: order.owner,
            kind: order.work.kind.clone(),
            work: Mutex::new(Some(order.work)),
            preview_every: AtomicU32::new(order.previews.every),
            previews_decoded: order.previews.decoded,
            ..Self::seen(seen, random_key(), folder)
        }
    }

    /// A job that was finished by a server before this one.
    pub(super) fn restored(seen: Seen, owner: String, key: String, folder: Folder) -> Self {
        Self {
            owner,
            ..Self::seen(seen, key, folder)
        }
    }

    fn seen(seen: Seen, key: String, folder: Folder) -> Self {
        Self {
            id: seen.id.clone(),
            key,
            owner: String::new(),
            door: Door::Own,
            cancel: Cancel::default(),
            kind: None,
            work: Mutex::default(),
            folder,
            seen: watch::channel(seen).0,
            preview: watch::channel(None).0,
            preview_every: AtomicU32::default(),
            previews_decoded: false,
            looked_at: AtomicBool::default(),
            begun: Instant::now(),
            inputs: OnceLock::new(),
        }
    }

    pub(super) fn now(&self) -> Seen {
        self.seen.borrow().clone()
    }

    pub(super) fn state(&self) -> State {
        self.seen.borrow().state
    }

    /// Tells those who watch of a change; one that stays does not change any more, which is answered with `false`.
    pub(super) fn change(&self, change: impl FnOnce(&mut Seen)) -> bool {
        self.seen.send_if_modified(|seen| {
            if seen.state.stays() {
                return false;
            }
            change(seen);
            seen.version += 1;
            true
        })
    }

    /// Adds a word for the client, once.
    pub(super) fn warn(&self, text: &str) {
        self.change(|seen| {
            if !seen.warnings.iter().any(|said| said == text) {
                seen.warnings.push(text.to_owned());
            }
        });
    }

    /// Ends it, if it has not ended.
    pub(super) fn end(&self, state: State, error: Option<Fault>) -> bool {
        let work = self.take();
        drop(work);
        self.change(|seen| {
            seen.state = state;
            seen.error = error;
            seen.position = None;
            seen.phase = None;
            seen.finished = Some(SystemTime::now());
        })
    }

    /// What is to be done, to the first who asks.
    pub(super) fn take(&self) -> Option<Work> {
        self.work
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Has every so many model calls be followed by a preview.
    pub(super) fn show_every(&self, calls: usize) {
        let calls = u32::try_from(calls).unwrap_or(u32::MAX);
        self.preview_every.store(calls, Ordering::Relaxed);
    }

    /// Has the next model call be followed by a preview.
    pub(super) fn look(&self) {
        self.looked_at.store(true, Ordering::Relaxed);
    }

    /// Whether a preview is due after `step` of `steps`.
    pub(super) fn wants_preview(&self, step: usize, steps: usize) -> bool {
        let every = self.preview_every.load(Ordering::Relaxed) as usize;
        let due = every > 0 && step.is_multiple_of(every);
        step < steps && (self.looked_at.swap(false, Ordering::Relaxed) || due)
    }

    /// Waits until it has ended.
    pub(super) async fn ended(&self) -> Seen {
        let mut seen = self.seen.subscribe();
        let last = seen.wait_for(|seen| seen.state.stays()).await;
        last.map_or_else(|_| self.now(), |seen| seen.clone())
    }
}

/// A recipe for clients.
pub(super) fn recipe_value(recipe: &crate::pipeline::Recipe) -> Value {
    serde_json::from_str(&recipe.to_json()).unwrap_or_default()
}

/// Seconds since 1970.
pub(super) fn since_epoch(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    millis as f64 / 1000.0
}

fn seconds<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(since_epoch(*time))
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn maybe_seconds<S: Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(since_epoch).serialize(serializer)
}

fn shared<S: Serializer>(value: &Arc<Value>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().serialize(serializer)
}

//! One queue in front of all devices, and the jobs that there are.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use tokio::sync::broadcast;

use super::{
    fault::Fault,
    job::{Door, Job, State},
    options::Limits,
};

/// Finished jobs that are remembered, whatever their age: those of pictures count, and those that failed.
const MOST_FINISHED: usize = 10_000;

/// How long what a client has computed counts.
const HOUR: Duration = Duration::from_hours(1);

/// Changes that a reader may lag behind before it has to look at everything again.
const CHANGES: usize = 1024;

/// A job has changed, or is no more.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) job: Arc<Job>,
    pub(super) gone: bool,
}

/// All jobs.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    inner: Mutex<Inner>,
    /// Told when a job waits, and when the queue closes.
    ready: Condvar,
    changes: broadcast::Sender<Change>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Arc<Job>>,
    /// By the order in which they came.
    jobs: BTreeMap<u64, Arc<Job>>,
    numbers: HashMap<String, u64>,
    keys: HashMap<String, u64>,
    next: u64,
    running: usize,
    closed: bool,
    /// How often models were asked to make way.
    given_up: u64,
    /// When a client's jobs ended, and the seconds that they computed.
    computed: HashMap<String, VecDeque<(Instant, f64)>>,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            inner: Mutex::default(),
            ready: Condvar::new(),
            changes: broadcast::channel(CHANGES).0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a client who may not have one more job wait, before anything is done for it.
    pub(super) fn check(&self, owner: &str) -> Result<(), Fault> {
        self.lock().check(owner, &self.limits)
    }

    /// Puts `job` at the end.
    pub(super) fn add(&self, job: Arc<Job>) -> Result<(), Fault> {
        let mut inner = self.lock();
        inner.check(&job.owner, &self.limits)?;
        let position = inner.waiting.len();
        job.change(|seen| seen.position = Some(position));
        inner.keep(Arc::clone(&job));
        inner.waiting.push_back(Arc::clone(&job));
        drop(inner);
        self.ready.notify_one();
        self.tell(&job);
        Ok(())
    }

    /// Takes a job in that was finished before.
    pub(super) fn restore(&self, job: Job) {
        self.lock().keep(Arc::new(job));
    }

    /// Asks all who wait for jobs to give their models up, once nothing waits.
    pub(super) fn give_up(&self) {
        self.lock().given_up += 1;
        self.ready.notify_all();
    }

    /// Waits for the next job, and takes with it up to `most` in all of those that can be one run with it, wherever they wait. None is
    /// left when the queue was closed; an empty list asks to give models up, as was asked more often than `heard`.
    pub(super) fn next(&self, most: usize, heard: &mut u64) -> Option<Vec<Arc<Job>>> {
        let mut inner = self.lock();
        loop {
            if let Some(job) = inner.waiting.pop_front() {
                let jobs = inner.with_its_kind(job, most);
                inner.running += jobs.len();
                let moved: Vec<_> = inner.waiting.iter().cloned().collect();
                drop(inner);
                self.renumber(&moved);
                return Some(jobs);
            }
            if inner.closed {
                return None;
            }
            if inner.given_up > *heard {
                *heard = inner.given_up;
                return Some(Vec::new());
            }
            inner = self
                .ready
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether nothing runs, and nothing comes for so long.
    pub(super) fn rests(&self, time: Duration) -> bool {
        let quiet = |inner: &mut Inner| inner.waiting.is_empty() && !inner.closed;
        let waited = self.ready.wait_timeout_while(self.lock(), time, quiet);
        let (inner, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        waited.timed_out() && inner.running == 0
    }

    /// A job that [`next`](Self::next) gave has computed so many seconds, and ended.
    pub(super) fn done(&self, job: &Job, seconds: f64) {
        let mut inner = self.lock();
        inner.running -= 1;
        let of = inner.computed.entry(job.owner.clone()).or_default();
        of.push_back((Instant::now(), seconds));
    }

    /// Stops exactly `job`.
    pub(super) fn cancel(&self, job: &Arc<Job>) {
        job.cancel.now();
        let mut inner = self.lock();
        let waiting = inner.waiting.iter().position(|one| one.id == job.id);
        let Some(place) = waiting else { return };
        inner.waiting.remove(place);
        let moved: Vec<_> = inner.waiting.iter().cloned().collect();
        drop(inner);
        job.end(State::Cancelled, None);
        self.tell(job);
        self.renumber(&moved);
    }

    /// Forgets a job; its files go with the last who reads them.
    pub(super) fn forget(&self, job: &Arc<Job>) {
        job.folder.go();
        let mut inner = self.lock();
        let known = inner.numbers.remove(&job.id);
        inner.keys.remove(&job.key);
        if let Some(number) = known {
            inner.jobs.remove(&number);
            drop(inner);
            let (job, gone) = (Arc::clone(job), true);
            let _ = self.changes.send(Change { job, gone });
        }
    }

    /// A job of `owner`.
    pub(super) fn find(&self, owner: &str, id: &str) -> Result<Arc<Job>, Fault> {
        let inner = self.lock();
        let number = inner.numbers.get(id);
        let job = number.and_then(|number| inner.jobs.get(number));
        let own = job.filter(|job| job.owner == owner);
        own.cloned()
            .ok_or_else(|| Fault::not_found("there is no such job").of("id"))
    }

    /// The job whose results go by `key`.
    pub(super) fn by_key(&self, key: &str) -> Option<Arc<Job>> {
        let inner = self.lock();
        let number = inner.keys.get(key)?;
        inner.jobs.get(number).cloned()
    }

    /// Jobs of `owner`, newest first.
    pub(super) fn of(&self, owner: &str) -> Vec<Arc<Job>> {
        let inner = self.lock();
        let own = inner.jobs.values().rev().filter(|job| job.owner == owner);
        own.cloned().collect()
    }

    /// What `owner`'s jobs of an interface do: the running one, else the next; of the newest where several run.
    pub(super) fn current(&self, owner: &str, door: Door) -> Option<Arc<Job>> {
        let jobs = self.of(owner);
        let mut jobs = jobs.into_iter().filter(|job| job.door == door);
        let (mut queued, mut running) = (None, None);
        for job in &mut jobs {
            match job.state() {
                State::Queued => queued = Some(job),
                State::Running => running = running.or(Some(job)),
                _ => {}
            }
        }
        running.or(queued)
    }

    /// Jobs that wait, and jobs that run.
    pub(super) fn counts(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.waiting.len(), inner.running)
    }

    /// Told of every change.
    pub(super) fn watch(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Tells those who watch that `job` has changed.
    pub(super) fn tell(&self, job: &Arc<Job>) {
        let (job, gone) = (Arc::clone(job), false);
        // Nobody may be there to hear it.
        let _ = self.changes.send(Change { job, gone });
    }

    fn renumber(&self, waiting: &[Arc<Job>]) {
        for (position, job) in waiting.iter().enumerate() {
            let mut moved = false;
            job.change(|seen| {
                moved = seen.state == State::Queued && seen.position != Some(position);
                if seen.state == State::Queued {
                    seen.position = Some(position);
                }
            });
            if moved {
                self.tell(job);
            }
        }
    }

    /// Forgets results that are too old or too many.
    pub(super) fn sweep(&self) {
        for job in self.old() {
            self.forget(&job);
        }
        self.lock().forget_computed();
    }

    fn old(&self) -> Vec<Arc<Job>> {
        let inner = self.lock();
        let age = self
            .limits
            .keep
            .map(|minutes| Duration::from_secs(60 * minutes));
        let (mut bytes, mut count) = (0, 0);
        let mut old = Vec::new();
        for job in inner.jobs.values().rev() {
            let seen = job.seen.borrow();
            let Some(finished) = seen.finished.filter(|_| seen.state.stays()) else {
                continue;
            };
            // Without pictures there is nothing to keep for long.
            let age = if seen.state == State::Done {
                age
            } else {
                age.or(Some(HOUR))
            };
            let aged = age.is_some_and(|age| finished.elapsed().unwrap_or_default() > age);
            bytes += job.folder.bytes();
            count += 1;
            if aged || bytes > self.limits.keep_bytes || count > MOST_FINISHED {
                old.push(Arc::clone(job));
            }
        }
        old
    }

    /// Takes no more jobs, and gives back those that wait.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        self.ready.notify_all();
        for job in waiting {
            job.end(State::Failed, Some(Fault::shutting_down()));
            self.tell(&job);
        }
    }

    /// Stops all that runs.
    pub(super) fn stop(&self) {
        let inner = self.lock();
        let running = inner
            .jobs
            .values()
            .filter(|job| job.state() == State::Running);
        running.for_each(|job| job.cancel.now());
    }
}

impl Inner {
    fn check(&self, owner: &str, limits: &Limits) -> Result<(), Fault> {
        if self.closed {
            return Err(Fault::shutting_down());
        }
        let full = |message: String| {
            let fault = Fault::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message);
            Err(fault.hint("ask again later"))
        };
        let own = self.waiting.iter().filter(|job| job.owner == owner).count();
        if own >= limits.max_queue_client {
            return full(format!(
                "{own} of your jobs wait, as many as may (`--max-queue-client`)"
            ));
        }
        let all = self.waiting.len();
        if all >= limits.max_queue {
            return full(format!("{all} jobs wait, as many as may (`--max-queue`)"));
        }
        let computed = self.computed.get(owner).into_iter().flatten();
        let recent = computed.filter(|(when, _)| when.elapsed() < HOUR);
        let seconds: f64 = recent.map(|(_, seconds)| seconds).sum();
        if seconds > limits.max_seconds_client as f64 {
            return full(format!(
                "your jobs have computed {seconds:.0} s within an hour, and {} are allowed (`--max-seconds-client`)",
                limits.max_seconds_client
            ));
        }
        Ok(())
    }

    /// `job`, and those of its kind that wait, in their order.
    fn with_its_kind(&mut self, job: Arc<Job>, most: usize) -> Vec<Arc<Job>> {
        let mut jobs = vec![job];
        if most == 1 || jobs[0].kind.is_none() {
            return jobs;
        }
        let mut others = VecDeque::new();
        for job in std::mem::take(&mut self.waiting) {
            if jobs.len() < most && job.kind == jobs[0].kind {
                jobs.push(job);
            } else {
                others.push_back(job);
            }
        }
        self.waiting = others;
        jobs
    }

    fn keep(&mut self, job: Arc<Job>) {
        let number = self.next;
        self.next += 1;
        self.numbers.insert(job.id.clone(), number);
        self.keys.insert(job.key.clone(), number);
        self.jobs.insert(number, job);
    }

    fn forget_computed(&mut self) {
        self.computed.retain(|_, of| {
            of.retain(|(when, _)| when.elapsed() < HOUR);
            !of.is_empty()
        });
    }
}

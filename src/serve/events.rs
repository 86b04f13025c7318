//! Jobs as they go on, as server-sent events.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    http::{HeaderName, HeaderValue},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream::{self, Stream};
use serde_json::json;
use tokio::sync::{broadcast, watch};

use super::{
    job::{Job, Preview, Seen},
    queue::Change,
    read::to_base64,
    server::Server,
};

/// Between comments that keep a silent connection open.
const SILENCE: Duration = Duration::from_secs(10);

/// Has a proxy hand events on as they come: nginx keeps answers back otherwise.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// An answer of events, which stays open while nothing happens.
pub(super) fn answer<S>(stream: S) -> Response
where
    S: Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    let events = Sse::new(stream).keep_alive(KeepAlive::new().interval(SILENCE));
    let mut response = events.into_response();
    let headers = response.headers_mut();
    headers.insert(UNBUFFERED, HeaderValue::from_static("no"));
    response
}

/// An event with one line of JSON.
pub(super) fn event(name: &str, data: &impl serde::Serialize) -> Event {
    let text = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(name).data(text)
}

/// Something to see of a job.
#[derive(Debug)]
pub(super) enum Sight {
    State(Box<Seen>),
    Preview(Arc<Preview>),
}

/// Follows one job. Changes that come faster than they are asked for are joined.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) job: Arc<Job>,
    seen: watch::Receiver<Seen>,
    preview: watch::Receiver<Option<Arc<Preview>>>,
    ended: bool,
}

impl Following {
    /// Begins with where the job is.
    pub(super) fn new(job: Arc<Job>) -> Self {
        let (mut seen, mut preview) = (job.seen.subscribe(), job.preview.subscribe());
        seen.mark_changed();
        if job.preview.borrow().is_some() {
            preview.mark_changed();
        }
        Self {
            job,
            seen,
            preview,
            ended: false,
        }
    }

    /// What is next to see; nothing after the state that stays.
    pub(super) async fn next(&mut self) -> Option<Sight> {
        if self.ended {
            return None;
        }
        tokio::select! {
            biased;
            changed = self.seen.changed() => {
                changed.ok()?;
                let seen = self.seen.borrow_and_update().clone();
                self.ended = seen.state.stays();
                Some(Sight::State(Box::new(seen)))
            }
            changed = self.preview.changed() => {
                changed.ok()?;
                let preview = self.preview.borrow_and_update().clone();
                preview.map(Sight::Preview)
            }
        }
    }
}

/// The events of one job.
pub(super) fn of_job(job: Arc<Job>) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    stream::unfold(Following::new(job), async |mut following| {
        let sight = following.next().await?;
        let event = match sight {
            Sight::State(seen) => event("state", &seen),
            Sight::Preview(preview) => event("preview", &shown(&following.job.id, &preview)),
        };
        Some((Ok(event), following))
    })
}

fn shown(id: &str, preview: &Preview) -> serde_json::Value {
    json!({
        "id": id,
        "step": preview.step,
        "steps": preview.steps,
        "item": 0,
        "type": "image/jpeg",
        "data": to_base64(&preview.jpeg),
    })
}

/// Follows all jobs of a client.
struct All {
    server: Arc<Server>,
    owner: String,
    changes: broadcast::Receiver<Change>,
    closing: watch::Receiver<bool>,
    /// What is to be told before anything else.
    first: VecDeque<Arc<Job>>,
}

impl All {
    fn active(&self) -> VecDeque<Arc<Job>> {
        let jobs = self.server.queue.of(&self.owner).into_iter();
        jobs.filter(|job| !job.state().stays()).collect()
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(job) = self.first.pop_front() {
                return Some(event("job", &job.now()));
            }
            let change = tokio::select! {
                change = self.changes.recv() => change,
                _ = self.closing.wait_for(|closing| *closing) => return None,
            };
            match change {
                Ok(Change { job, gone }) if job.owner == self.owner => {
                    return Some(if gone {
                        event("job", &json!({"id": job.id, "state": "gone"}))
                    } else {
                        event("job", &job.now())
                    });
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => self.first = self.active(),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// The events of all jobs of a client.
pub(super) fn of_all(
    server: Arc<Server>,
    owner: String,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    let mut all = All {
        changes: server.queue.watch(),
        closing: server.closing.subscribe(),
        server,
        owner,
        first: VecDeque::new(),
    };
    all.first = all.active();
    stream::unfold(all, async |mut all| {
        let event = all.next().await?;
        Some((Ok(event), all))
    })
}

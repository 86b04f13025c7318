//! Jobs of requests that wait for their pictures: they end with the request.

use std::sync::Arc;

use super::{
    asked::{self, Ask},
    fault::Fault,
    job::{Door, Job, Seen, State},
    server::Server,
};

/// A job whose client waits; it is stopped when that client is gone, and nobody else's is.
#[derive(Debug)]
pub(super) struct Once {
    server: Arc<Server>,
    pub(super) job: Arc<Job>,
    /// Whether results stay for as long as others.
    keeps: bool,
}

impl Once {
    /// Puts a job at the end of the queue.
    pub(super) async fn begin(
        server: &Arc<Server>,
        owner: &str,
        door: Door,
        ask: Ask,
    ) -> Result<Self, Fault> {
        let job = asked::submit(server, owner, door, ask).await?;
        let server = Arc::clone(server);
        let keeps = false;
        Ok(Self { server, job, keeps })
    }

    /// Has results stay when this is dropped.
    pub(super) fn keep(&mut self) {
        self.keeps = true;
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) -> Result<Seen, Fault> {
        outcome(self.job.ended().await)
    }

    /// What was made, file by file.
    pub(super) async fn files(&self, seen: &Seen) -> Result<Vec<Vec<u8>>, Fault> {
        let images = seen.images.as_array().into_iter().flatten();
        let names = images.filter_map(|image| image["url"].as_str()?.rsplit_once('/'));
        let paths: Vec<_> = names
            .map(|(_, name)| self.job.folder.path.join(name))
            .collect();
        let read = move || {
            paths
                .iter()
                .map(std::fs::read)
                .collect::<Result<Vec<_>, _>>()
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.ok().and_then(Result::ok).ok_or_else(Fault::internal)
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        if !self.job.state().stays() {
            tracing::info!(job = self.job.id, "its client is gone");
            self.server.queue.cancel(&self.job);
            self.keeps = false;
        }
        if !self.keeps {
            self.server.queue.forget(&self.job);
        }
    }
}

/// What an ended job came to.
pub(super) fn outcome(seen: Seen) -> Result<Seen, Fault> {
    match seen.state {
        State::Failed => Err(seen.error.unwrap_or_else(Fault::internal)),
        State::Cancelled => Err(Fault::cancelled()),
        _ => Ok(seen),
    }
}

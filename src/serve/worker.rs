//! What runs jobs: a thread for every device, one job after the other.

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::http::StatusCode;
use burn::tensor::Tensor;

use super::{
    asked::named,
    fault::Fault,
    finish,
    job::{Job, Preview, State, Step},
    pool::Pool,
    server::Server,
    work::Work,
};
use crate::{
    catalog::FetchProgress,
    denoise::{Observer, Progress},
    engine::Listener,
    image_io::{Picture, PictureFormat},
};

/// Runs what waits until the queue is closed and empty.
pub(super) fn run(server: &Arc<Server>, number: usize, mut pool: Pool) {
    while let Some(job) = server.queue.next() {
        let begun = Instant::now();
        if let Some(work) = job.take() {
            let made = catch_unwind(AssertUnwindSafe(|| make(server, &job, &work, &mut pool)));
            let made = made.unwrap_or_else(|_| {
                tracing::error!(job = job.id, "a run failed where it should not");
                pool.drop_last();
                Err(Fault::internal())
            });
            end(&job, made);
        }
        let seconds = begun.elapsed().as_secs_f64();
        server.queue.done(&job, seconds);
        server.metrics.job(&job, seconds);
        server.metrics.weights(number, pool.bytes());
        note_loaded(server, number, &pool);
        let state = job.state().name();
        tracing::info!(job = job.id, state, seconds, "ended");
        server.queue.tell(&job);
    }
}

fn end(job: &Job, made: Result<(), Fault>) {
    match made {
        Ok(()) => {}
        Err(fault) if fault.code == "cancelled" => {
            job.end(State::Cancelled, None);
        }
        Err(fault) => {
            job.end(State::Failed, Some(fault));
        }
    }
}

fn note_loaded(server: &Server, number: usize, pool: &Pool) {
    let mut loaded = server.loaded();
    loaded.retain(|(of, _)| *of != number);
    loaded.extend(pool.names().map(|name| (number, name.to_owned())));
}

fn make(server: &Arc<Server>, job: &Arc<Job>, work: &Work, pool: &mut Pool) -> Result<(), Fault> {
    if job.cancel.is_now() {
        return Err(Fault::cancelled());
    }
    let begun = Instant::now();
    job.change(|seen| {
        seen.state = State::Running;
        seen.position = None;
        seen.phase = Some(Step::Loading);
        seen.started = Some(SystemTime::now());
    });
    server.queue.tell(job);
    let most = Duration::from_secs(server.options.limits.max_seconds);
    let mut watch = Watch {
        job,
        work,
        until: begun + most,
        late: false,
    };
    let model = (work.model.as_str(), work.weights);
    let engine = pool.engine(&work.recipe, model, &mut watch);
    let engine = engine.map_err(|error| Fault::from(error).with_names(&work.names))?;
    let loading = begun.elapsed();
    let finished = engine.run(&work.recipe, &job.cancel, &mut watch);
    if watch.late {
        return Err(late(most));
    }
    let mut finished = finished.map_err(|error| Fault::from(error).with_names(&work.names))?;
    finished.loading += loading;
    job.change(|seen| seen.phase = Some(Step::Encoding));
    server.metrics.computed(&finished.account);
    finish::write(server, job, work, finished)
}

fn late(most: Duration) -> Fault {
    let message = format!(
        "the job computed for longer than {} s (`--max-seconds`)",
        most.as_secs()
    );
    Fault::new(StatusCode::REQUEST_TIMEOUT, "time_limit", message)
        .hint("ask for fewer steps, a smaller picture or a faster rule")
}

/// Tells a job's clients of its run.
struct Watch<'a> {
    job: &'a Job,
    work: &'a Work,
    until: Instant,
    late: bool,
}

impl Observer for Watch<'_> {
    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        self.job.change(|seen| {
            seen.phase = Some(Step::Denoising);
            seen.step = progress.evaluation.index + 1;
            seen.steps = progress.total;
            seen.computed = progress.refresh;
        });
        self.late = Instant::now() > self.until;
        if self.late {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn wants_preview(&mut self, progress: &Progress<'_>) -> bool {
        let step = progress.evaluation.index + 1;
        self.job.wants_preview(step, progress.total)
    }

    fn preview(&mut self, images: Tensor<4>) {
        let Some(picture) = Picture::from_batch(images).ok().and_then(first) else {
            return;
        };
        let mut jpeg = Vec::new();
        if picture
            .encode_as(&mut jpeg, PictureFormat::Jpeg, &[])
            .is_ok()
        {
            let seen = self.job.now();
            let (step, steps) = (seen.step, seen.steps);
            let preview = Preview { step, steps, jpeg };
            self.job.preview.send_replace(Some(Arc::new(preview)));
        }
    }

    fn warn(&mut self, message: &str) {
        self.job.warn(&named(message, &self.work.names));
    }
}

fn first(pictures: Vec<Picture>) -> Option<Picture> {
    pictures.into_iter().next()
}

impl FetchProgress for Watch<'_> {
    fn begin(&mut self, _file: &str, _size: u64) {}
    fn advance(&mut self, _bytes: u64) {}
    fn end(&mut self) {}
}

impl Listener for Watch<'_> {
    fn warn(&mut self, text: &str) {
        Observer::warn(self, text);
    }
}

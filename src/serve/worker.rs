//! What runs jobs: a thread for every device, one run after the other.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::http::StatusCode;

use super::{
    fault::Fault,
    finish,
    job::{Job, State, Step},
    pool::Pool,
    server::Server,
    together::{self, Run},
    watch::Watch,
};
use crate::{engine::Cancel, error::last_panic, ops::give_back};

/// Without work for so long, a worker gives back what the next run would only ask for again.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs what waits until the queue is closed and empty.
pub(super) fn run(server: &Arc<Server>, number: usize, mut pool: Pool) {
    let mut heard = 0;
    while let Some(jobs) = server.queue.next(server.options.together, &mut heard) {
        if jobs.is_empty() {
            pool.give_up();
        }
        let runs = jobs.into_iter().filter_map(|job| {
            if let Some(work) = job.take() {
                return Some(Run { job, work });
            }
            ended(server, &job, Duration::ZERO);
            None
        });
        let runs: Vec<_> = runs.collect();
        if runs.len() > 1 {
            make_together(server, &runs, &mut pool);
        } else {
            for run in &runs {
                make_alone(server, run, &mut pool);
            }
        }
        server.metrics.weights(number, pool.bytes());
        note_loaded(server, number, &pool);
        if server.queue.rests(PAUSE) {
            give_back();
        }
    }
}

/// Counts and tells a job that has ended, after so long.
fn ended(server: &Server, job: &Arc<Job>, time: Duration) {
    let seconds = time.as_secs_f64();
    server.queue.done(job, seconds);
    server.metrics.job(job, seconds);
    let state = job.state().name();
    tracing::info!(job = job.id, state, seconds, "ended");
    server.queue.tell(job);
}

fn note_loaded(server: &Server, number: usize, pool: &Pool) {
    let mut loaded = server.loaded();
    loaded.retain(|(of, _)| *of != number);
    loaded.extend(pool.names().map(|name| (number, name.to_owned())));
}

/// One run for several jobs, which share its time. Where that cannot be, each is made alone, and a fault is its own.
fn make_together(server: &Arc<Server>, runs: &[Run], pool: &mut Pool) {
    let begun = Instant::now();
    let made = caught(server, runs, pool);
    let each = begun.elapsed() / u32::try_from(runs.len()).unwrap_or(u32::MAX);
    let apart = match made {
        Err(fault) if fault.code != "cancelled" => Some(fault.message),
        _ => None,
    };
    if let Some(cause) = &apart {
        tracing::info!(jobs = runs.len(), "are made one after the other: {cause}");
    }
    for run in runs {
        if apart.is_some() && !run.job.state().stays() {
            make_alone(server, run, pool);
        } else {
            run.job.end(State::Cancelled, None);
            ended(server, &run.job, each);
        }
    }
}

fn make_alone(server: &Arc<Server>, run: &Run, pool: &mut Pool) {
    let begun = Instant::now();
    match caught(server, std::slice::from_ref(run), pool) {
        Ok(()) => {}
        Err(fault) if fault.code == "cancelled" => {
            run.job.end(State::Cancelled, None);
        }
        Err(fault) => {
            run.job.end(State::Failed, Some(fault));
        }
    }
    ended(server, &run.job, begun.elapsed());
}

/// [`make`], and what is said where it panics.
fn caught(server: &Arc<Server>, runs: &[Run], pool: &mut Pool) -> Result<(), Fault> {
    let made = catch_unwind(AssertUnwindSafe(|| make(server, runs, pool)));
    made.unwrap_or_else(|payload| {
        let jobs: Vec<_> = runs.iter().map(|run| run.job.id.as_str()).collect();
        // Where it failed, the hook alone knows, if there is ours.
        let cause = last_panic().unwrap_or_else(|| said(&*payload));
        tracing::error!(?jobs, "a run failed where it should not: {cause}");
        pool.drop_last();
        Err(Fault::internal())
    })
}

/// A panic's message.
fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

/// Makes one run of `runs`, and ends their jobs as they are written.
fn make(server: &Arc<Server>, runs: &[Run], pool: &mut Pool) -> Result<(), Fault> {
    let [first, ..] = runs else { return Ok(()) };
    let stopped = |run: &Run| run.job.cancel.is_now();
    if runs.iter().all(stopped) {
        return Err(Fault::cancelled());
    }
    let begun = Instant::now();
    for Run { job, .. } in runs {
        job.change(|seen| {
            seen.state = State::Running;
            seen.position = None;
            seen.phase = Some(Step::Loading);
            seen.started = Some(SystemTime::now());
        });
        server.queue.tell(job);
    }
    let most = Duration::from_secs(server.options.limits.max_seconds);
    let mut watch = Watch::new(server, runs, begun + most * runs.len() as u32);
    let work = &first.work;
    let model = (work.model.as_str(), work.weights);
    let engine = pool.engine(&work.recipe, model, &mut watch);
    let engine = engine.map_err(|error| Fault::from(error).with_names(&work.names))?;
    let loading = begun.elapsed();
    let (recipe, cancel) = match runs {
        [run] => (run.work.recipe.clone(), run.job.cancel.clone()),
        // Those that are stopped leave; the watch ends the run after the last.
        runs => (together::joined(runs), Cancel::default()),
    };
    let finished = engine.run(&recipe, &cancel, &mut watch);
    if watch.late {
        return Err(late(most));
    }
    if watch.apart {
        let message = "the model says something of one of them";
        return Err(Fault::value("prompt", message));
    }
    let mut finished = finished.map_err(|error| Fault::from(error).with_names(&work.names))?;
    finished.loading += loading;
    server.metrics.computed(&finished.account);
    finish::write(server, runs, finished)
}

fn late(most: Duration) -> Fault {
    let message = format!(
        "the job computed for longer than {} s (`--max-seconds`)",
        most.as_secs()
    );
    Fault::new(StatusCode::REQUEST_TIMEOUT, "time_limit", message)
        .hint("ask for fewer steps, a smaller picture or a faster rule")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_panic_are_kept() {
        let words = |payload: Box<dyn Any + Send>| said(&*payload);
        assert_eq!(words(Box::new("the pen broke")), "the pen broke");
        assert_eq!(words(Box::new("in two".to_owned())), "in two");
        assert_eq!(words(Box::new(2)), "no message");
    }
}

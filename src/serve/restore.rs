//! Results of servers before this one.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use super::{
    job::{Job, Seen, State},
    server::Server,
    store::{Folder, Record},
};

/// Takes in what earlier servers have finished, the oldest first.
pub(super) fn restore(server: &Server) {
    let kept = server.store.kept().into_iter();
    let mut jobs: Vec<_> = kept.map(|(record, folder)| job(record, folder)).collect();
    jobs.sort_by_key(|job| job.seen.borrow().created);
    let count = jobs.len();
    for job in jobs {
        server.queue.restore(job);
    }
    if count > 0 {
        tracing::info!(count, "results of earlier servers are here");
    }
}

fn job(record: Record, folder: Folder) -> Job {
    let Record {
        owner,
        key,
        mut job,
        inputs,
    } = record;
    let time = |key: &str| job[key].as_f64().map(time);
    let text = |key: &str| job[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| job[key].as_u64().unwrap_or(0);
    let warnings = job["warnings"].as_array().into_iter().flatten();
    let seen = Seen {
        id: folder.id.clone(),
        state: State::Done,
        position: None,
        phase: None,
        step: number("step") as usize,
        steps: number("steps") as usize,
        computed: job["computed"].as_bool().unwrap_or(false),
        created: time("created").unwrap_or(SystemTime::UNIX_EPOCH),
        started: time("started"),
        finished: time("finished"),
        model: text("model"),
        warnings: warnings
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect(),
        error: None,
        version: number("version"),
        recipe: shared(&mut job, "recipe"),
        images: shared(&mut job, "images"),
        seconds: shared(&mut job, "seconds"),
        work: shared(&mut job, "work"),
    };
    let restored = Job::restored(seen, owner, key, folder);
    // Nobody has set it before.
    let _ = restored.inputs.set(inputs);
    restored
}

fn time(seconds: f64) -> SystemTime {
    let since = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    SystemTime::UNIX_EPOCH + since
}

fn shared(job: &mut Value, key: &str) -> Arc<Value> {
    Arc::new(job.get_mut(key).map(Value::take).unwrap_or_default())
}

//! What `/metrics` says, in Prometheus' text format.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::job::{Door, Job};
use crate::cache::Account;

/// Bounds of the histogram of jobs' seconds.
const BOUNDS: [f64; 12] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 150.0, 600.0, 1800.0,
];

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Metrics(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By interface and status.
    requests: BTreeMap<(&'static str, u16), u64>,
    /// By interface and state.
    jobs: BTreeMap<(&'static str, &'static str), u64>,
    /// Jobs that took no longer than each bound.
    within: [u64; BOUNDS.len()],
    seconds: f64,
    ended: u64,
    evaluations: u64,
    refreshes: u64,
    /// Bytes by device.
    weights: BTreeMap<usize, u64>,
}

impl Metrics {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request was answered.
    pub(super) fn request(&self, path: &str, status: u16) {
        *self
            .lock()
            .requests
            .entry((interface(path), status))
            .or_default() += 1;
    }

    /// A job has ended, after so many seconds of computing.
    pub(super) fn job(&self, job: &Job, seconds: f64) {
        let door = match job.door {
            Door::Own => "own",
            Door::OpenAi => "openai",
            Door::Sdapi => "sdapi",
        };
        let mut counts = self.lock();
        *counts.jobs.entry((door, job.state().name())).or_default() += 1;
        counts.seconds += seconds;
        counts.ended += 1;
        for (count, bound) in counts.within.iter_mut().zip(BOUNDS) {
            *count += u64::from(seconds <= bound);
        }
    }

    /// What a run has computed.
    pub(super) fn computed(&self, account: &Account) {
        let mut counts = self.lock();
        counts.evaluations += (account.refreshes + account.reuses) as u64;
        counts.refreshes += account.refreshes as u64;
    }

    /// Weights that a device holds.
    pub(super) fn weights(&self, device: usize, bytes: u64) {
        self.lock().weights.insert(device, bytes);
    }

    /// All of it, with the lengths of the queue.
    pub(super) fn text(&self, (waiting, running): (usize, usize)) -> String {
        let counts = self.lock();
        let mut text = String::new();
        let out = &mut text;
        let answered = "Requests answered, by interface and status.";
        family(out, "requests_total", "counter", answered);
        for ((interface, status), count) in &counts.requests {
            line(
                out,
                &format!("requests_total{{interface=\"{interface}\",status=\"{status}\"}}"),
                count,
            );
        }
        let ended = "Jobs that ran and ended, by interface and state.";
        family(out, "jobs_total", "counter", ended);
        for ((door, state), count) in &counts.jobs {
            line(
                out,
                &format!("jobs_total{{interface=\"{door}\",state=\"{state}\"}}"),
                count,
            );
        }
        family(out, "job_seconds", "histogram", "Seconds that jobs ran.");
        for (bound, count) in BOUNDS.iter().zip(counts.within) {
            line(out, &format!("job_seconds_bucket{{le=\"{bound}\"}}"), count);
        }
        line(out, "job_seconds_bucket{le=\"+Inf\"}", counts.ended);
        line(out, "job_seconds_sum", counts.seconds);
        line(out, "job_seconds_count", counts.ended);
        let evaluations = "Calls of models.";
        single(
            out,
            ("evaluations_total", "counter", evaluations),
            counts.evaluations,
        );
        let refreshes = "Calls of models that computed everything.";
        single(
            out,
            ("full_evaluations_total", "counter", refreshes),
            counts.refreshes,
        );
        single(out, ("queue_waiting", "gauge", "Jobs that wait."), waiting);
        single(out, ("queue_running", "gauge", "Jobs that run."), running);
        let weights = "Weights in memory, by device.";
        family(out, "weights_bytes", "gauge", weights);
        for (device, bytes) in &counts.weights {
            line(out, &format!("weights_bytes{{device=\"{device}\"}}"), bytes);
        }
        text
    }
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(
        text,
        "# HELP afterimage_{name} {help}\n# TYPE afterimage_{name} {kind}"
    );
}

fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "afterimage_{name} {value}");
}

fn single(
    text: &mut String,
    (name, kind, help): (&str, &str, &str),
    value: impl std::fmt::Display,
) {
    family(text, name, kind, help);
    line(text, name, value);
}

/// Few words for many paths: a label with every path there is would grow without end.
fn interface(path: &str) -> &'static str {
    let mut parts = path.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("v1"), Some("images")) => "openai",
        (Some("v1"), _) => "own",
        (Some("sdapi" | "controlnet" | "internal"), _) => "sdapi",
        (Some("results"), _) => "results",
        _ => "page",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_as_prometheus_reads_them() {
        let metrics = Metrics::default();
        metrics.request("/v1/jobs", 202);
        metrics.request("/v1/jobs", 202);
        metrics.request("/x/../y", 404);
        let text = metrics.text((3, 1));
        assert!(text.contains("afterimage_requests_total{interface=\"own\",status=\"202\"} 2\n"));
        assert!(text.contains("afterimage_requests_total{interface=\"page\",status=\"404\"} 1\n"));
        assert!(
            text.contains("# TYPE afterimage_queue_waiting gauge\nafterimage_queue_waiting 3\n")
        );
        assert!(
            text.lines()
                .all(|line| line.starts_with("# ") || line.starts_with("afterimage_"))
        );
    }
}

//! What the benchmarks that are compared with other programs share: repetitions, clocks and the JSON that they print.
//!
//! `{"threads": 2, "cases": {"name": [[wall, processor], …]}}`, the seconds of every repetition by the clock and on the processor. The latter
//! is what a shared machine leaves comparable, with one thread. `peers/harness.py` is the same on the other side.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Distribution, Tensor};

/// A case is repeated for as long, and at least as often.
const TIME: Duration = Duration::from_millis(400);
const REPEATS: usize = 5;

/// Time of a repetition, at least: what is faster runs several times in it.
const LEAST: Duration = Duration::from_millis(50);

/// What takes longer is repeated no more than twice.
const LONG: Duration = Duration::from_secs(2);

/// One repetition.
pub(crate) type Run = Box<dyn Fn()>;

/// A name, and what makes ready to run: weights and inputs are there only while the case runs.
pub(crate) type Case = (String, Box<dyn FnOnce() -> Run>);

/// Normal numbers.
pub(crate) fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Seconds that the threads of this process have run, where the system says (Linux).
fn processor() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return f64::NAN;
    };
    let nanoseconds = threads.filter_map(|thread| {
        let times = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        times.split(' ').next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() * 1e-9
}

fn samples(run: &dyn Fn()) -> Vec<[f64; 2]> {
    run();
    let start = Instant::now();
    run();
    let once = start.elapsed();
    // Repetitions last long enough for the processor's clock, which runs in milliseconds.
    let count = (LEAST.as_secs_f64() / once.as_secs_f64()).ceil() as u32;
    let repeats = if once > LONG { 2 } else { REPEATS };
    let start = Instant::now();
    let mut samples = Vec::new();
    while samples.len() < repeats || start.elapsed() < TIME {
        let (clock, before) = (Instant::now(), processor());
        (0..count).for_each(|_| run());
        let times = [clock.elapsed().as_secs_f64(), processor() - before];
        samples.push(times.map(|time| time / f64::from(count)));
    }
    samples
}

/// Times the cases whose names contain every one of `filters`, and prints them.
pub(crate) fn report(cases: Vec<Case>, filters: &[String]) {
    let wanted = |(name, _): &Case| filters.iter().all(|filter| name.contains(filter.as_str()));
    let cases = cases
        .into_iter()
        .filter(wanted)
        .map(|(name, ready)| (name, samples(&*ready())))
        .collect::<BTreeMap<_, _>>();
    let threads = std::env::var("RAYON_NUM_THREADS")
        .ok()
        .and_then(|count| count.parse().ok());
    let threads =
        threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    println!(
        "{}",
        serde_json::json!({ "threads": threads, "cases": cases })
    );
}

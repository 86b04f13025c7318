//! What a server holds that has nothing to do.

use std::{fs, thread, time::Duration};

use serde_json::json;

use super::Served;

/// Beside weights.
const MOST: u64 = 30 << 20;

/// Longer than a server takes to find that nothing comes.
const REST: Duration = Duration::from_secs(4);

/// Resident bytes of the process that are no file's.
fn own_memory(served: &Served) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", served.child.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kilobytes << 10
}

/// Bytes of the models that are loaded.
fn weights(served: &Served) -> u64 {
    let metrics = served.get("/metrics").text();
    let lines = metrics.lines();
    let weights = lines.filter(|line| line.starts_with("afterimage_weights_bytes{"));
    let numbers = weights.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    numbers.sum()
}

#[test]
fn what_a_large_picture_took_goes_back() {
    let served = Served::start(&[]);
    let recipe = json!({"prompts": ["a red circle"], "seed": 7, "steps": 1, "size": [512, 512]});
    let done = served.ended(&served.job(&recipe)["id"]);
    assert_eq!(done["state"], "done", "{done}");
    thread::sleep(REST);
    let (held, weights) = (own_memory(&served), weights(&served));
    assert!(weights > 0);
    assert!(
        held < weights + MOST,
        "{} MiB beside {} MiB of weights",
        held.saturating_sub(weights) >> 20,
        weights >> 20
    );
}

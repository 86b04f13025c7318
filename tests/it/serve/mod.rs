//! `afterimage serve`, over a real socket: the program with the bundled model at few steps.

mod bad;
mod client;
mod gate;
mod jobs;
mod kinds;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod memory;
mod openai;
mod pictures;
mod sdapi;
mod together;

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use self::client::{Answer, Ask};
use crate::cli::program;

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_mins(2);

/// A program that serves, until it is dropped.
struct Served {
    child: Child,
    /// `127.0.0.1:41234`
    address: String,
}

impl Served {
    fn start(options: &[&str]) -> Self {
        let mut command = program();
        command
            .args(["serve", "--port", "0", "--device", "cpu"])
            .args(options);
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .stdin(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line
            .trim()
            .strip_prefix("http://")
            .expect("an address")
            .to_owned();
        Self { child, address }
    }

    fn ask<'a>(&'a self, method: &'a str, path: &'a str) -> Ask<'a> {
        Ask::new(&self.address, method, path)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).answer()
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path).json(body).answer()
    }

    /// The job of `recipe`, as it was taken in.
    fn job(&self, recipe: &Value) -> Value {
        let answer = self.post("/v1/jobs", &json!({"recipe": recipe}));
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.body()
    }

    /// Waits until a job is so.
    fn until(&self, id: &Value, so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let job = self
                .get(&format!("/v1/jobs/{}", id.as_str().unwrap()))
                .body();
            if so(&job) {
                return job;
            }
            assert!(begun.elapsed() < PATIENCE, "waited in vain: {job}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn ended(&self, id: &Value) -> Value {
        let stays = |job: &Value| !["queued", "running"].contains(&job["state"].as_str().unwrap());
        self.until(id, stays)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A short run.
fn circle() -> Value {
    json!({"prompts": ["a red circle"], "seed": 7, "steps": 2})
}

/// A run that nobody waits for.
fn long() -> Value {
    json!({"prompts": ["a red circle"], "seed": 7, "steps": 200})
}

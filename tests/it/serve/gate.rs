//! Who may ask, how much, and for how long.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
};

use serde_json::json;

use super::{Served, circle, jobs::base64, long};
use crate::cli::{afterimage, program};

#[test]
fn other_addresses_need_a_token() {
    afterimage(["serve", "--host", "0.0.0.0", "--port", "0"])
        .refused(2, &["`0.0.0.0`", "AFTERIMAGE_TOKEN"]);
    afterimage(["serve", "--memory", "much"]).refused(2, &["as in 8GiB"]);
}

/// A server on all addresses, with the tokens of a file and one more.
fn everywhere(tokens: &Path) -> Served {
    let mut command = program();
    command
        .args(["serve", "--host", "0.0.0.0", "--port", "0"])
        .args(["--device", "cpu", "--tokens"])
        .arg(tokens);
    command.env("AFTERIMAGE_TOKEN", "c-secret");
    let mut served = Served::of(command);
    served.address = served.address.replace("0.0.0.0", "127.0.0.1");
    served
}

#[test]
fn tokens_are_asked_for_and_tell_clients_apart() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "# ours\nalice a-secret\n\nbob b-secret\n").unwrap();
    let served = everywhere(&tokens);
    let refused = served.get("/v1/jobs");
    assert_eq!(
        (refused.status, &refused.body()["error"]["code"]),
        (401, &json!("unauthorized"))
    );
    assert!(
        refused
            .header("www-authenticate")
            .unwrap()
            .contains("Basic")
    );
    for open in ["/", "/healthz", "/openapi.json", "/style.css"] {
        assert_eq!(served.get(open).status, 200, "{open}");
    }
    let wrong = served
        .ask("GET", "/sdapi/v1/options")
        .token("d-secret")
        .answer();
    assert!(wrong.status == 401 && wrong.body()["detail"].is_string());
    let basic = format!("Basic {}", base64(b"anyone:c-secret"));
    assert_eq!(
        served
            .ask("GET", "/v1/info")
            .with("Authorization", &basic)
            .answer()
            .status,
        200
    );
    let job = served
        .ask("POST", "/v1/jobs")
        .token("a-secret")
        .json(&json!({"recipe": circle()}))
        .answer()
        .body();
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    for method in ["GET", "DELETE"] {
        assert_eq!(
            served.ask(method, &path).token("b-secret").answer().status,
            404,
            "{method}"
        );
    }
    assert_eq!(
        served.ask("GET", &path).token("a-secret").answer().status,
        200
    );
    assert_eq!(
        served
            .ask("GET", "/v1/jobs")
            .token("b-secret")
            .answer()
            .body()["jobs"],
        json!([])
    );
}

#[test]
fn other_sites_and_other_names_are_kept_out() {
    let served = Served::start(&["--cors", "https://front.example"]);
    let status = |name: &str, value: &str| {
        served
            .ask("GET", "/v1/info")
            .with(name, value)
            .answer()
            .status
    };
    assert_eq!(status("Host", "rebound.example"), 403);
    assert_eq!(status("Host", "localhost:7860"), 200);
    assert_eq!(status("Origin", "https://evil.example"), 403);
    assert_eq!(status("Origin", "null"), 403);
    assert_eq!(status("Origin", &format!("http://{}", served.address)), 200);
    let allowed = served
        .ask("GET", "/v1/info")
        .with("Origin", "https://front.example")
        .answer();
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://front.example")
    );
}

#[test]
fn queues_are_bounded_and_close() {
    let served = Served::start(&["--max-queue", "1", "--drain", "0"]);
    let running = served.job(&long());
    served.until(&running["id"], |job| job["state"] == "running");
    let waiting = served.job(&long());
    let full = served.post("/v1/jobs", &json!({"recipe": long()}));
    assert_eq!(
        (full.status, &full.body()["error"]["code"]),
        (429, &json!("queue_full"))
    );
    assert!(full.text().contains("--max-queue") && full.header("retry-after").is_some());
    let path = format!("/v1/jobs/{}/events", waiting["id"].as_str().unwrap());
    let reading = served.ask("GET", &path).send();
    // Taken up before the signal, and answered after it.
    let mut open = TcpStream::connect(&served.address).unwrap();
    let body = json!({"recipe": circle()}).to_string();
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    open.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let id = served.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    let events = reading.events();
    let last = &events.last().unwrap().1;
    assert_eq!(
        (&last["state"], &last["error"]["code"]),
        (&json!("failed"), &json!("shutting_down"))
    );
    open.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("shutting_down"),
        "{answer}"
    );
    let mut served = served;
    assert!(served.child.wait().unwrap().success());
}

#[test]
fn jobs_end_when_their_time_is_up() {
    let served = Served::start(&["--max-seconds", "0", "--max-seconds-client", "0"]);
    let failed = served.ended(&served.job(&circle())["id"]);
    assert_eq!(
        (&failed["state"], &failed["error"]["code"]),
        (&json!("failed"), &json!("time_limit"))
    );
    let refused = served.post("/v1/images/generations", &json!({"prompt": "a red circle"}));
    assert!(
        refused.status == 429 && refused.text().contains("--max-seconds-client"),
        "{}",
        refused.text()
    );
}

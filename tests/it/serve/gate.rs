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
use crate::fixture::fixture;

#[test]
fn help_is_worth_reading() {
    insta::assert_snapshot!("help", afterimage(["serve", "--help"]).shown());
}

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

/// `OpenAI`'s library for browsers sends a dozen headers of its own, and reads the request's number.
#[test]
fn pages_send_and_read_the_headers_of_their_libraries() {
    let served = Served::start(&["--cors", "https://front.example"]);
    let asked = "authorization,content-type,x-stainless-os";
    let before = served
        .ask("OPTIONS", "/v1/images/generations")
        .with("Origin", "https://front.example")
        .with("Access-Control-Request-Method", "POST")
        .with("Access-Control-Request-Headers", asked)
        .answer();
    assert_eq!(before.header("access-control-allow-headers"), Some(asked));
    let after = served.ask("GET", "/v1/info");
    let after = after.with("Origin", "https://front.example").answer();
    let told = after.header("access-control-expose-headers").unwrap();
    assert!(told.contains("x-request-id"), "{told}");
}

#[test]
fn names_below_localhost_are_this_machines() {
    let served = Served::start(&[]);
    for (host, status) in [
        ("pictures.localhost:7860", 200),
        ("localhost.:7860", 200),
        ("localhost.example", 403),
        ("", 403),
        ("notlocalhost", 403),
    ] {
        let answer = served.ask("GET", "/v1/info").with("Host", host).answer();
        assert_eq!(answer.status, status, "{host}");
        let health = served.ask("GET", "/healthz").with("Host", host);
        assert_eq!(health.answer().status, 200, "{host}");
    }
}

/// Who reads the address may have read it to end the server.
#[cfg(unix)]
#[test]
fn a_server_that_is_ended_at_once_ends_in_order() {
    for _ in 0..8 {
        let mut served = Served::start(&[]);
        let id = served.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status();
        assert!(told.unwrap().success());
        assert_eq!(served.child.wait().unwrap().code(), Some(0));
    }
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

/// A server that keeps its results below `folder`, begun by `shell` words that end in `"$@"`.
#[cfg(unix)]
fn below(folder: &Path, shell: &str) -> Served {
    let mut command = Command::new("sh");
    command
        .args(["-c", shell, "sh"])
        .arg(program().get_program());
    command.args(["serve", "--port", "0", "--device", "cpu"]);
    command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    command.env("TMPDIR", folder);
    Served::of(command)
}

#[cfg(unix)]
fn send(signal: &str, served: &Served) {
    let id = served.child.id().to_string();
    let sent = Command::new("kill").args([signal, &id]).status();
    assert!(sent.unwrap().success());
}

/// A terminal that is closed ends the server as Ctrl-C does, and says so twice. `env` undoes what the tests themselves may have been begun with.
#[cfg(target_os = "linux")]
#[test]
fn nothing_is_left_where_a_terminal_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let left = || std::fs::read_dir(folder.path()).unwrap().count();
    let mut served = below(folder.path(), "exec env --default-signal=HUP \"$@\"");
    served.ended(&served.job(&circle())["id"]);
    assert_eq!(left(), 1, "its results");
    send("-HUP", &served);
    send("-HUP", &served);
    assert!(served.child.wait().unwrap().success());
    assert_eq!(left(), 0);
}

/// As `nohup` begins programs.
#[cfg(unix)]
#[test]
fn a_server_that_is_to_outlive_its_terminal_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = below(folder.path(), "trap '' HUP; exec \"$@\"");
    send("-HUP", &served);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(served.get("/healthz").status, 200);
    send("-TERM", &served);
    assert!(served.child.wait().unwrap().success());
}

/// What no request could be made with is refused before there are any.
#[test]
fn what_cannot_work_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results");
    std::fs::write(&file, "mine").unwrap();
    let serve = |options: &[&str]| {
        let all = ["serve", "--port", "0", "--device", "cpu"];
        afterimage(all.iter().chain(options).copied().collect::<Vec<_>>())
    };
    let here = folder.path().to_str().unwrap();
    let file = file.to_str().unwrap();
    serve(&["--model", "nope"]).refused(2, &["there is no model `nope`"]);
    serve(&["--model", "/no/such/model"]).refused(2, &["`/no/such/model`"]);
    serve(&["--model", here]).refused(1, &["is not a model"]);
    let called = |name: &str| fixture(name).join("model").display().to_string();
    let [first, second] = ["sd15", "dit"].map(called);
    serve(&["--model", &first, "--model", &second])
        .refused(2, &["dit/model` is no model of a name of its own", "link"]);
    let card = "stable-diffusion-v1-5";
    serve(&["--model", card]).refused(1, &["`stable-diffusion-v1-5` has no weights for `text_enc"]);
    serve(&["--weights", "q4", "--activations", "q8"]).refused(1, &["not in `q4`"]);
    serve(&["--weights", "q4", "--dtype", "bf16"]).refused(1, &["weights in `q4`"]);
    serve(&["--results", file]).refused(1, &["a file has that name", "a folder is wanted"]);
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

#[test]
fn one_client_does_not_fill_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "alice a-secret\nbob b-secret\n").unwrap();
    let tokens = tokens.to_str().unwrap();
    let served = Served::start(&["--tokens", tokens, "--max-queue-client", "1"]);
    let ask = |token: &str| {
        let body = json!({"recipe": long()});
        let ask = served.ask("POST", "/v1/jobs").token(token);
        ask.json(&body).answer()
    };
    let begun = ask("a-secret").body();
    let path = format!("/v1/jobs/{}", begun["id"].as_str().unwrap());
    let runs = || {
        let job = served.ask("GET", &path).token("a-secret").answer().body();
        job["state"] == "running"
    };
    while !runs() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(ask("a-secret").status, 202);
    let full = ask("a-secret");
    assert!(full.status == 429 && full.text().contains("--max-queue-client"));
    assert_eq!(ask("b-secret").status, 202, "there is place for others");
}

#[test]
fn connections_beyond_their_number_wait() {
    let served = Served::start(&["--max-connections", "1"]);
    let first = TcpStream::connect(&served.address).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    std::thread::scope(|scope| {
        let next = scope.spawn(|| served.get("/healthz").status);
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!next.is_finished());
        drop(first);
        assert_eq!(next.join().unwrap(), 200);
    });
}

#[test]
fn results_are_kept_within_bounds() {
    let served = Served::start(&["--keep-bytes", "1"]);
    let done = served.ended(&served.job(&circle())["id"]);
    let url = done["images"][0]["url"].as_str().unwrap();
    let begun = std::time::Instant::now();
    while served.get(url).status == 200 {
        assert!(begun.elapsed() < super::PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(served.get("/v1/jobs").body()["jobs"], json!([]));
}

//! Fetching models, against a small server on this machine.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "tests fail by panicking, and their numbers are small"
)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use afterimage::catalog::{FetchProgress, ModelFolder, Needs, hub::Hub};
use serde_json::json;

use crate::{
    catalog::toy_model,
    weights::{counting, folder},
};

pub(crate) const ID: &str = "someone/toy";
const UNET: &str = "unet/diffusion_pytorch_model.safetensors";

/// What the server holds, and what was asked of it.
#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Cuts the next answer for this file after so many bytes.
    cut: Option<(String, usize)>,
    /// File and first byte of every request for content.
    asked: Vec<(String, usize)>,
}

/// A server with the Hub's addresses and headers, with ranges.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) fn start(files: BTreeMap<&'static str, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let files = files
            .into_iter()
            .map(|(path, bytes)| (path.to_owned(), bytes))
            .collect();
        let state = Arc::new(Mutex::new(State {
            files,
            ..State::default()
        }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &mut shared.lock().unwrap());
            }
        });
        Self { address, state }
    }

    /// Files whose content was asked for (not only their size), each with the first byte asked.
    fn fetched(&self) -> Vec<(String, usize)> {
        self.state.lock().unwrap().asked.clone()
    }
}

fn answer(stream: TcpStream, state: &mut State) {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) <= 2 {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let Some(path) = lines.first().and_then(|line| line.split(' ').nth(1)) else {
        return;
    };
    let range = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(": bytes=")?;
        name.eq_ignore_ascii_case("range")
            .then(|| value.split_once('-').unwrap())
    });
    let reply = reply(path, range, state);
    // A client that hangs up early is its own affair.
    drop(reader.get_mut().write_all(&reply));
}

fn reply(path: &str, range: Option<(&str, &str)>, state: &mut State) -> Vec<u8> {
    if path == format!("/api/models/{ID}/revision/main") {
        let siblings: Vec<_> = state
            .files
            .keys()
            .map(|file| json!({"rfilename": file}))
            .collect();
        let body = json!({"siblings": siblings, "sha": "0123abcd"}).to_string();
        return http("200 OK", &[], body.as_bytes());
    }
    let file = path.strip_prefix(&format!("/{ID}/resolve/main/"));
    let Some((file, bytes)) = file.and_then(|file| state.files.get_key_value(file)) else {
        return http("404 Not Found", &[], b"");
    };
    let (first, last) = range.unwrap_or(("0", ""));
    let first: usize = first.parse().unwrap();
    if first >= bytes.len() {
        return http("416 Range Not Satisfiable", &[], b"");
    }
    let end = last.parse().map_or(bytes.len(), |last: usize| last + 1);
    if last.is_empty() {
        state.asked.push((file.clone(), first));
    }
    let headers = [
        (
            "ETag",
            format!("\"{}-{}\"", file.replace('/', "-"), bytes.len()),
        ),
        ("X-Repo-Commit", "0123abcd".to_owned()),
        (
            "Content-Range",
            format!("bytes {first}-{}/{}", end - 1, bytes.len()),
        ),
    ];
    let mut reply = http("206 Partial Content", &headers, &bytes[first..end]);
    if last.is_empty()
        && let Some((_, keep)) = state.cut.take_if(|(cut, _)| cut == file)
    {
        reply.truncate(reply.len() - (end - first) + keep);
    }
    reply
}

fn http(status: &str, headers: &[(&str, String)], body: &[u8]) -> Vec<u8> {
    let mut reply = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (name, value) in headers {
        let _ = write!(reply, "{name}: {value}\r\n");
    }
    let _ = write!(reply, "Content-Length: {}\r\n\r\n", body.len());
    [reply.as_bytes(), body].concat()
}

fn hub(cache: &Path, server: &Server) -> Hub {
    Hub::new(cache, &server.address).unwrap()
}

/// The toy model with things nobody needs.
fn remote_model() -> BTreeMap<&'static str, Vec<u8>> {
    let mut files = toy_model();
    files.insert("README.md", b"hello".to_vec());
    files.insert("toy-pruned.ckpt", vec![0; 100]);
    files.insert("safety_checker/config.json", b"{}".to_vec());
    files.insert("safety_checker/model.safetensors", vec![0; 100]);
    files.insert("unet/diffusion_pytorch_model.bin", vec![0; 100]);
    files.insert(
        "unet/diffusion_pytorch_model.fp16.safetensors",
        vec![0; 100],
    );
    files
}

#[test]
fn fetches_what_is_read_and_nothing_else() {
    let (cache, server) = (folder(), Server::start(remote_model()));
    let model = hub(cache.path(), &server)
        .open(ID, Needs::All, &mut ())
        .unwrap();
    assert_eq!(model.name(), ID);
    assert!(model.weights("unet").unwrap().read("u").is_ok());
    let mut fetched: Vec<_> = server.fetched().into_iter().map(|(file, _)| file).collect();
    fetched.sort();
    let expected: Vec<_> = toy_model().into_keys().collect();
    assert_eq!(fetched, expected);
    assert!(
        cache
            .path()
            .join("models--someone--toy/refs/main")
            .is_file()
    );
}

#[test]
fn a_complete_cache_asks_nobody() {
    let (cache, server) = (folder(), Server::start(remote_model()));
    hub(cache.path(), &server)
        .open(ID, Needs::All, &mut ())
        .unwrap();
    let before = server.fetched().len();
    let nowhere = Hub::new(cache.path(), "http://127.0.0.1:9").unwrap();
    for hub in [nowhere.clone(), nowhere.with_offline(true)] {
        let model = hub.open(ID, Needs::All, &mut ()).unwrap();
        assert_eq!(model.weights("vae").unwrap().len(), 1);
    }
    assert_eq!(server.fetched().len(), before);
}

#[test]
fn configs_alone_fetch_no_weights() {
    let (cache, server) = (folder(), Server::start(remote_model()));
    let hub = hub(cache.path(), &server);
    let model = hub.open(ID, Needs::Configs, &mut ()).unwrap();
    assert!(model.read_json("unet/config.json").is_ok());
    assert!(
        server
            .fetched()
            .iter()
            .all(|(file, _)| !file.ends_with(".safetensors"))
    );
    // Weights come when they are needed, and nothing comes twice.
    hub.open(ID, Needs::All, &mut ()).unwrap();
    let mut files: Vec<_> = server.fetched().into_iter().map(|(file, _)| file).collect();
    let all = files.len();
    files.sort();
    files.dedup();
    assert_eq!(files.len(), all);
}

/// Records a download's progress.
#[derive(Default)]
struct Log(Vec<(String, u64, u64, bool)>);

impl FetchProgress for Log {
    fn begin(&mut self, file: &str, size: u64) {
        self.0.push((file.to_owned(), size, 0, false));
    }

    fn advance(&mut self, bytes: u64) {
        self.0.last_mut().unwrap().2 += bytes;
    }

    fn end(&mut self) {
        self.0.last_mut().unwrap().3 = true;
    }
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let mut files = remote_model();
    let weights = counting(&[("u", &[300, 100])]);
    files.insert(UNET, weights.clone());
    let (cache, server) = (folder(), Server::start(files));
    server.state.lock().unwrap().cut = Some((UNET.to_owned(), 50_000));
    let mut log = Log::default();
    let model = hub(cache.path(), &server)
        .open(ID, Needs::All, &mut log)
        .unwrap();
    let asked: Vec<_> = server
        .fetched()
        .into_iter()
        .filter(|(file, _)| file == UNET)
        .collect();
    assert_eq!(asked, [(UNET.to_owned(), 0), (UNET.to_owned(), 50_000)]);
    let source = model.weights("unet").unwrap();
    assert_eq!(source.read("u").unwrap().num_elements(), 30_000);
    let size = weights.len() as u64;
    let last = log.0.iter().rfind(|(file, ..)| file == UNET).unwrap();
    assert_eq!(last, &(UNET.to_owned(), size, size, true));
}

#[test]
fn shards_are_fetched_by_their_index() {
    let mut files = remote_model();
    files.remove(UNET);
    let index = json!({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}});
    let name = "unet/diffusion_pytorch_model.safetensors.index.json";
    files.insert(name, index.to_string().into_bytes());
    files.insert("unet/m-1.safetensors", counting(&[("a", &[1])]));
    files.insert("unet/m-2.safetensors", counting(&[("b", &[2])]));
    let (cache, server) = (folder(), Server::start(files));
    let model = hub(cache.path(), &server)
        .open(ID, Needs::All, &mut ())
        .unwrap();
    let source = model.weights("unet").unwrap();
    assert_eq!(source.names().collect::<Vec<_>>(), ["a", "b"]);
    server.state.lock().unwrap().files.clear();
    assert!(
        hub(cache.path(), &server)
            .open(ID, Needs::All, &mut ())
            .is_ok()
    );
}

#[test]
fn a_file_that_the_hub_lacks_is_named() {
    let mut files = remote_model();
    files.retain(|file, _| !file.starts_with("vae/"));
    let (cache, server) = (folder(), Server::start(files));
    let error = hub(cache.path(), &server)
        .open(ID, Needs::All, &mut ())
        .unwrap_err();
    assert!(error.is_file(), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("`vae/config.json` is missing from `someone/toy`")
    );
    let error = hub(cache.path(), &server)
        .open("some/other", Needs::All, &mut ())
        .unwrap_err();
    assert!(
        error.to_string().contains("hint: is the id right?"),
        "{error}"
    );
}

#[test]
fn offline_and_unreachable_say_what_they_wanted() {
    let (cache, server) = (folder(), Server::start(remote_model()));
    hub(cache.path(), &server)
        .open(ID, Needs::Configs, &mut ())
        .unwrap();
    let nowhere = Hub::new(cache.path(), "http://127.0.0.1:9").unwrap();
    for hub in [nowhere.clone(), nowhere.with_offline(true)] {
        let error = hub.open(ID, Needs::All, &mut ()).unwrap_err();
        let text = error.to_string();
        let wanted =
            "wanted: text_encoder/model.safetensors, unet/diffusion_pytorch_model.safetensors";
        assert!(error.is_file() && text.contains(wanted), "{text}");
        let text = hub
            .open("some/other", Needs::All, &mut ())
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("wanted: model_index.json, the files of its parts"),
            "{text}"
        );
    }
}

/// Runs [`environment_child`] in a process with this environment; what it printed.
fn with_environment(variables: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "hub::environment_child",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env_remove("HF_HUB_CACHE")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

#[test]
#[ignore = "run by its parents with an environment"]
fn environment_child() {
    let model = ModelFolder::open(ID).unwrap();
    assert!(model.weights("unet").is_ok());
}

#[test]
fn the_environment_decides() {
    let (home, server) = (folder(), Server::start(remote_model()));
    let home_path = home.path().to_str().unwrap();
    let place = [("HF_HOME", home_path), ("HF_ENDPOINT", &server.address)];
    let offline = [&place[..], &[("HF_HUB_OFFLINE", "1")]].concat();
    let (done, text) = with_environment(&offline);
    assert!(!done && text.contains("`HF_HUB_OFFLINE` is set"), "{text}");
    let (done, text) = with_environment(&place);
    assert!(done, "{text}");
    assert!(home.path().join("hub/models--someone--toy").is_dir());
    let (done, text) = with_environment(&offline);
    assert!(done, "{text}");
}

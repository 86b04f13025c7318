//! The server's own interface.

use std::fs;

use afterimage::image_io::Picture;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Served, circle, long};
use crate::cli::afterimage_in;

/// A picture of 64 by 64 as a file.
pub(super) fn photo() -> Vec<u8> {
    let mut bytes = Vec::new();
    let picture = Picture::from_fn(64, 64, |x, y| [(3 * x) as u8, (2 * y) as u8, 99]);
    picture.encode(&mut bytes, &[]).unwrap();
    bytes
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// As players of films and downloads that go on ask.
#[test]
fn results_are_sent_in_parts() {
    let served = Served::start(&[]);
    let done = served.ended(&served.job(&circle())["id"]);
    let url = done["images"][0]["url"].as_str().unwrap();
    let whole = served.get(url);
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let part = served.ask("GET", url).with("Range", "bytes=1-3").answer();
    assert_eq!((part.status, &part.bytes[..]), (206, &b"PNG"[..]));
    let told = format!("bytes 1-3/{}", whole.bytes.len());
    assert_eq!(part.header("content-range"), Some(told.as_str()));
    assert_eq!(part.header("content-type"), Some("image/png"));
    let beyond = served.ask("GET", url).with("Range", "bytes=99999999-");
    assert_eq!(beyond.answer().status, 200);
}

#[test]
fn a_job_makes_the_picture_that_the_program_makes() {
    let served = Served::start(&[]);
    let job = served.job(&circle());
    assert_eq!(job["recipe"]["model"]["name"], "bundled");
    let events = served
        .ask(
            "GET",
            &format!("/v1/jobs/{}/events", job["id"].as_str().unwrap()),
        )
        .send()
        .events();
    let (name, last) = events.last().unwrap();
    assert_eq!(
        (name.as_str(), &last["state"]),
        ("state", &json!("done")),
        "{last}"
    );
    assert_eq!(last["work"]["evaluations"], last["steps"]);
    let image = &last["images"][0];
    let answer = served.get(image["url"].as_str().unwrap());
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("image/png"))
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("served.png");
    fs::write(&path, &answer.bytes).unwrap();
    let options = [
        "generate",
        "a red circle",
        "--device",
        "cpu",
        "--seed",
        "7",
        "--steps",
        "2",
        "--output",
        "own.png",
    ];
    assert_eq!(afterimage_in(folder.path(), options).code, Some(0));
    let read = |name: &str| Picture::read(&folder.path().join(name)).unwrap();
    assert_eq!(read("served.png"), read("own.png"));
    let again = [
        "generate",
        "--device",
        "cpu",
        "--replay",
        "served.png",
        "--output",
        "again.png",
    ];
    assert_eq!(afterimage_in(folder.path(), again).code, Some(0));
    assert_eq!(read("again.png"), read("own.png"));
}

#[test]
fn previews_come_between_the_steps() {
    let served = Served::start(&[]);
    let recipe = json!({"prompts": ["a red circle"], "seed": 7, "steps": 6});
    let answer = served.post(
        "/v1/jobs",
        &json!({"recipe": recipe, "preview_every": 2, "colour": "red"}),
    );
    let job = answer.body();
    assert_eq!(
        job["warnings"],
        json!(["`colour` is not known and was ignored"])
    );
    let events = served
        .ask(
            "GET",
            &format!("/v1/jobs/{}/events", job["id"].as_str().unwrap()),
        )
        .send()
        .events();
    let first = |events: Vec<(String, Value)>| {
        let shown = events.into_iter().find(|(name, _)| name == "preview");
        let data = shown.expect("a preview").1;
        let jpeg = STANDARD.decode(data["data"].as_str().unwrap()).unwrap();
        assert!(jpeg.starts_with(b"\xff\xd8\xff"));
        let picture = image::load_from_memory(&jpeg).expect("a picture");
        picture.to_rgb8()
    };
    let mapped = first(events);
    let asked = json!({"recipe": recipe, "preview_every": 2, "preview_decoded": true});
    let job = served.post("/v1/jobs", &asked).body();
    let events = format!("/v1/jobs/{}/events", job["id"].as_str().unwrap());
    let decoded = first(served.ask("GET", &events).send().events());
    assert_eq!(mapped.dimensions(), decoded.dimensions());
    assert!(mapped != decoded, "decoded, and by a map");
}

#[test]
fn exactly_one_job_is_stopped_running_or_waiting() {
    let served = Served::start(&[]);
    let (running, second, third) = (
        served.job(&long()),
        served.job(&long()),
        served.job(&circle()),
    );
    served.until(&running["id"], |job| job["state"] == "running");
    assert_eq!(
        served.until(&third["id"], |job| job["position"] == 1)["state"],
        "queued"
    );
    let delete = |job: &Value| {
        let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
        served.ask("DELETE", &path).answer()
    };
    assert_eq!(delete(&second).body()["state"], "cancelled");
    assert_eq!(
        served.until(&third["id"], |job| job["position"] == 0)["state"],
        "queued"
    );
    assert_eq!(served.until(&running["id"], |_| true)["state"], "running");
    assert_eq!(delete(&running).status, 200);
    assert_eq!(served.ended(&running["id"])["state"], "cancelled");
    let done = served.ended(&third["id"]);
    assert_eq!(done["state"], "done");
    assert_eq!(delete(&third).status, 200);
    let url = done["images"][0]["url"].as_str().unwrap();
    assert_eq!(served.get(url).status, 404, "its results are taken away");
    assert_eq!(delete(&third).status, 404);
}

#[test]
fn a_recipe_is_sent_again_without_its_files() {
    let served = Served::start(&[]);
    let mut recipe = circle();
    recipe["init_image"] = json!({"path": "photo.png"});
    recipe["strength"] = 1.0.into();
    let asked = json!({"recipe": recipe, "files": {"photo.png": base64(&photo())}});
    let answer = served.post("/v1/jobs", &asked);
    assert_eq!(answer.status, 202, "{}", answer.text());
    let done = served.ended(&answer.body()["id"]);
    assert_eq!(done["state"], "done", "{done}");
    let settled = &done["images"][0]["recipe"];
    assert_eq!(settled["init_image"]["path"], "photo.png", "{settled}");
    let again = served.ended(&served.job(settled)["id"]);
    let bytes = |job: &Value| served.get(job["images"][0]["url"].as_str().unwrap()).bytes;
    assert!(bytes(&again) == bytes(&done));
}

#[test]
fn results_outlive_the_server_where_they_are_to() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results");
    let options = ["--results", results.to_str().unwrap()];
    let served = Served::start(&options);
    let done = served.ended(&served.job(&circle())["id"]);
    let url = done["images"][0]["url"].as_str().unwrap().to_owned();
    let bytes = served.get(&url).bytes;
    served.job(&long());
    drop(served);
    let next = Served::start(&options);
    let jobs = next.get("/v1/jobs?state=done").body();
    assert_eq!(jobs["jobs"][0]["id"], done["id"]);
    assert_eq!(
        jobs["jobs"].as_array().unwrap().len(),
        1,
        "what was not finished is gone"
    );
    assert!(next.get(&url).bytes == bytes);
    assert_eq!(next.get("/v1/jobs?limit=1").body()["more"], false);
}

#[test]
fn plans_models_and_the_document_are_served() {
    let served = Served::start(&[]);
    let rule = json!({"prompts": ["a"], "steps": 12, "cache": "deepcache:interval=3,branch=0"});
    let plan = served.post("/v1/plan", &json!({"recipe": rule})).body();
    assert!(
        plan["work"]["predicted_speedup"].as_f64().unwrap() > 1.0,
        "{plan}"
    );
    let model = served.get("/v1/models/bundled").body();
    assert_eq!(
        (&model["kind"], &model["default"]),
        (&json!("text"), &json!(true))
    );
    assert_eq!(served.get("/v1/models").body()["data"][0]["id"], "bundled");
    let info = served.get("/v1/info").body();
    assert!(
        info["samplers"]
            .as_array()
            .unwrap()
            .contains(&"ddim".into())
    );
    let document = served.get("/openapi.json").body();
    for path in [
        "/v1/jobs",
        "/v1/jobs/{id}/events",
        "/v1/images/edits",
        "/sdapi/v1/txt2img",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    let page = served.get("/");
    let policy = page.header("content-security-policy").unwrap();
    assert!(page.status == 200 && policy.contains("script-src 'self'"));
    let metrics = served.get("/metrics").text();
    assert!(
        metrics.contains("afterimage_requests_total{interface=\"own\",status=\"200\"}"),
        "{metrics}"
    );
}

//! `OpenAI`'s images interface.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Served, jobs::photo, long};

const GENERATIONS: &str = "/v1/images/generations";

fn picture(data: &Value) -> Vec<u8> {
    STANDARD.decode(data["b64_json"].as_str().unwrap()).unwrap()
}

#[test]
fn pictures_are_answered_in_base64_or_by_address() {
    let served = Served::start(&[]);
    let asked = json!({"prompt": "a red circle", "model": "bundled", "n": 2, "size": "64x64", "seed": 7, "steps": 2, "sead": 1});
    let answer = served.post(GENERATIONS, &asked);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.body();
    assert_eq!(
        (&body["data"][0]["seed"], &body["data"][1]["seed"]),
        (&json!(7), &json!(8))
    );
    assert_eq!(body["size"], "64x64");
    assert_eq!(
        body["warnings"],
        json!(["`sead` is not known and was ignored"])
    );
    assert!(picture(&body["data"][1]).starts_with(b"\x89PNG"));
    assert_eq!(
        served.get("/v1/jobs").body()["jobs"],
        json!([]),
        "nothing is left"
    );
    let asked = json!({"prompt": "a red circle", "seed": 7, "steps": 2, "response_format": "url"});
    let body = served.post(GENERATIONS, &asked).body();
    let url = body["data"][0]["url"].as_str().unwrap();
    let path = url
        .strip_prefix(&format!("http://{}", served.address))
        .expect("an address of this server");
    assert_eq!(served.get(path).status, 200);
}

#[test]
fn pictures_to_change_come_in_forms() {
    let served = Served::start(&[]);
    let photo = photo();
    let path = "/v1/images/edits";
    let form: [(&str, bool, &[u8]); 3] = [
        ("image[0]", true, &photo),
        ("prompt", false, b"a red circle"),
        ("steps", false, b"2"),
    ];
    let answer = served.ask("POST", path).form(&form).answer();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let form: [(&str, bool, &[u8]); 1] = [("picture", true, &photo)];
    let unknown = served.ask("POST", path).form(&form).answer();
    assert!(unknown.status == 400 && unknown.text().contains("a picture goes by `image`"));
    let json = served.post(path, &json!({"prompt": "a red circle"}));
    assert!(json.status == 415 && json.text().contains("send a form"));
    let undivided = served
        .ask("POST", path)
        .with("Content-Type", "multipart/form-data");
    let undivided = undivided.body(b"--a").answer();
    assert!(undivided.status == 400 && undivided.text().contains("boundary"));
}

#[test]
fn refusals_repeat_no_request() {
    let served = Served::start(&[]);
    let long = "x".repeat(1 << 20);
    for asked in [
        json!({"prompt": "a", "model": long}),
        json!({"prompt": "a", "response_format": long}),
        json!({"prompt": "a", "sampler": long}),
        json!({"prompt": "a", "n": long}),
    ] {
        let refused = served.post(GENERATIONS, &asked);
        assert!((400..500).contains(&refused.status));
        assert!(refused.text().len() < 10_000, "{}", refused.text().len());
    }
}

#[test]
fn answers_say_where_their_time_went() {
    let served = Served::start(&[]);
    let asked = json!({"prompt": "a red circle", "seed": 7, "steps": 4});
    for path in [GENERATIONS, "/sdapi/v1/txt2img"] {
        let begun = std::time::Instant::now();
        let answer = served.post(path, &asked);
        let took = begun.elapsed().as_secs_f64() * 1e3;
        let header = answer.header("server-timing").expect("a header");
        let parts = header.split(", ").map(|part| {
            let (name, time) = part.split_once(";dur=").expect("a time");
            (name, time.parse::<f64>().expect("milliseconds"))
        });
        let parts: Vec<_> = parts.collect();
        let names = [
            "waiting",
            "loading",
            "text",
            "denoising",
            "decoding",
            "encoding",
            "total",
        ];
        assert!(
            parts.iter().map(|(name, _)| *name).eq(names),
            "{path}: {header}"
        );
        let total = parts[6].1;
        let sum: f64 = parts[..6].iter().map(|(_, time)| time).sum();
        assert!(
            parts[3].1 > 0.0 && sum <= total && total <= took,
            "{path}: {took} ms, {header}"
        );
    }
    let unfinished = served.post(GENERATIONS, &json!({"prompt": "a", "steps": -1}));
    assert_eq!(unfinished.header("server-timing"), None);
}

#[test]
fn streams_show_previews_and_end_with_the_picture() {
    let served = Served::start(&[]);
    let asked = json!({"prompt": "a red circle", "seed": 7, "steps": 6, "stream": true, "partial_images": 2});
    let events = served.ask("POST", GENERATIONS).json(&asked).send().events();
    let (name, last) = events.last().unwrap();
    assert_eq!(name, "image_generation.completed");
    assert!(picture(last).starts_with(b"\x89PNG"));
    let partial: Vec<_> = events
        .iter()
        .filter(|(name, _)| name == "image_generation.partial_image")
        .collect();
    assert!((1..=2).contains(&partial.len()), "{}", partial.len());
    assert_eq!(partial[0].1["partial_image_index"], 0);
    let plain = json!({"prompt": "a red circle", "seed": 7, "steps": 6});
    assert!(picture(&served.post(GENERATIONS, &plain).body()["data"][0]) == picture(last));
}

/// A mask of 64 by 64 whose left half is transparent.
fn mask() -> Vec<u8> {
    let alpha = |x: u32| if x < 32 { 0 } else { 255 };
    let image = image::RgbaImage::from_fn(64, 64, |x, _| image::Rgba([0, 0, 0, alpha(x)]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn edits_paint_what_is_transparent() {
    let served = Served::start(&[]);
    let (photo, mask) = (photo(), mask());
    for name in ["image", "image[]"] {
        let parts: [(&str, bool, &[u8]); 5] = [
            (name, true, &photo),
            ("mask", true, &mask),
            ("prompt", false, b"a red circle"),
            ("seed", false, b"7"),
            ("steps", false, b"2"),
        ];
        let answer = served.ask("POST", "/v1/images/edits").form(&parts).answer();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let made = image::load_from_memory(&picture(&answer.body()["data"][0]))
            .unwrap()
            .into_rgb8();
        assert_eq!((made.width(), made.height()), (64, 64));
    }
}

#[test]
fn a_client_that_leaves_stops_its_own_job_alone() {
    let served = Served::start(&[]);
    let mut prompt = long();
    prompt["prompts"] = json!(["a blue square"]);
    let other = served.job(&prompt);
    served.until(&other["id"], |job| job["state"] == "running");
    let asked = json!({"prompt": "a red circle", "steps": 200, "stream": true});
    let mut reading = served.ask("POST", GENERATIONS).json(&asked).send();
    assert_eq!(reading.status, 200);
    let count = |served: &Served| {
        served.get("/v1/jobs").body()["jobs"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count(&served), 2);
    drop(reading);
    served.until(&other["id"], |_| count(&served) == 1);
    assert_eq!(served.until(&other["id"], |_| true)["state"], "running");
    reading = served.ask("OPTIONS", GENERATIONS).send();
    assert_eq!(reading.status, 200);
}

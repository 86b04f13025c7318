//! All kinds of pictures: with `ControlNets` and adapters as web interfaces send them, films, masks, several models.

use afterimage::image_io::Picture;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Served, circle, jobs::base64};
use crate::fixture::{fixture, shipped};

const TXT2IMG: &str = "/sdapi/v1/txt2img";

fn png(picture: &Picture) -> String {
    let mut bytes = Vec::new();
    picture.encode(&mut bytes, &[]).unwrap();
    base64(&bytes)
}

/// The colours of the first picture of an answer.
#[track_caller]
fn pixels(answer: &super::Answer) -> image::RgbImage {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let file = STANDARD.decode(answer.body()["images"][0].as_str().unwrap());
    image::load_from_memory(&file.unwrap()).unwrap().into_rgb8()
}

fn path(folder: &std::path::Path) -> &str {
    folder.to_str().unwrap()
}

/// The outline of a ring.
fn outline() -> Picture {
    Picture::from_fn(64, 64, |x, y| {
        let (x, y) = (x as f64 - 32.0, y as f64 - 32.0);
        [255 * u8::from((18.0..20.0).contains(&x.hypot(y))); 3]
    })
}

#[test]
fn control_nets_as_their_extension_sends_them() {
    let models = shipped("");
    let served = Served::start(&["--controls", path(&models)]);
    let list = served.get("/controlnet/model_list").body();
    assert_eq!(list["model_list"], json!(["scenes-control"]));
    let ask = |unit: Value| {
        let mut asked =
            json!({"prompt": "a red ring", "seed": 7, "steps": 2, "width": 64, "height": 64});
        let mut whole = json!({"model": "scenes-control [0123abcd]", "image": png(&outline())});
        for (key, value) in unit.as_object().unwrap() {
            whole[key] = value.clone();
        }
        asked["alwayson_scripts"] = json!({"ControlNet": {"args": [whole]}});
        served.post(TXT2IMG, &asked)
    };
    let plain = pixels(&ask(json!({"enabled": false})));
    let whole = pixels(&ask(json!({"module": "none", "pixel_perfect": true})));
    assert_ne!(whole, plain);
    assert_eq!(pixels(&ask(json!({"weight": 0.0}))), plain);
    let half = pixels(&ask(json!({"guidance_end": 0.5})));
    assert!(half != plain && half != whole);
    let canny = ask(json!({"module": "canny", "threshold_a": 200, "threshold_b": 100}));
    assert_ne!(pixels(&canny), plain, "thresholds in either order");
    for (unit, word) in [
        (json!({"module": "openpose"}), "openpose"),
        (json!({"model": "other"}), "other"),
        (json!({"image": null}), "no picture"),
        (
            json!({"guidance_start": 0.8, "guidance_end": 0.2}),
            "window",
        ),
        (json!({"weight": "much"}), "weight"),
    ] {
        let refused = ask(unit);
        assert!((400..500).contains(&refused.status), "{}", refused.text());
        assert!(refused.text().contains(word), "{}", refused.text());
    }
    let recipe = json!({"prompts": ["a"], "controls": [
        {"model": "scenes-control", "image": {"path": "a"}, "canny": [200, 100]}]});
    let body = json!({"recipe": recipe, "files": {"a": png(&outline())}});
    let refused = served.post("/v1/jobs", &body);
    assert!(refused.status == 400 && refused.text().contains("thresholds"));
}

#[test]
fn adapters_in_prompts_and_in_recipes() {
    let (model, loras) = (fixture("sd15/model"), fixture("sd15-lora"));
    let served = Served::start(&["--model", path(&model), "--loras", path(&loras)]);
    let ask = |prompt: &str| {
        let asked = json!({"prompt": prompt, "seed": 7, "steps": 2, "width": 64, "height": 64});
        served.post(TXT2IMG, &asked)
    };
    let plain = pixels(&ask("a fox"));
    let half = pixels(&ask("a fox<lora:lora_diffusers:0.5>"));
    assert_ne!(half, plain);
    assert_ne!(pixels(&ask("a fox <lora:lora_diffusers>")), half);
    assert_eq!(pixels(&ask("a fox")), plain, "it is taken out again");
    let other = ask("a fox <lora:other:1>");
    assert!(other.status == 404 && other.text().contains("lora_kohya"));
    let job = served.job(&json!({
        "prompts": ["a fox"], "seed": 7, "steps": 2, "size": [64, 64],
        "loras": [{"file": {"path": "lora_diffusers"}, "scale": 0.5}],
    }));
    let done = served.ended(&job["id"]);
    let file = served.get(done["images"][0]["url"].as_str().unwrap());
    let found = image::load_from_memory(&file.bytes).unwrap().into_rgb8();
    assert_eq!(found, half);
    let settled = done["images"][0]["recipe"].to_string();
    assert!(settled.contains("hash") && !settled.contains("fixtures"));
}

#[test]
fn films_are_files_with_frames() {
    let film = shipped("scenes-film");
    let served = Served::start(&["--model", path(&film), "--max-frames", "3"]);
    let ask = |frames: usize, format: &str| {
        let recipe =
            json!({"prompts": ["a red circle"], "seed": 7, "steps": 1, "film": {"frames": frames}});
        let body = json!({"recipe": recipe, "format": format});
        served.post("/v1/jobs", &body)
    };
    assert_eq!(served.get("/v1/models/scenes-film").body()["films"], true);
    let done = served.ended(&ask(2, "gif").body()["id"]);
    let image = &done["images"][0];
    assert_eq!(
        (&image["frames"], &image["type"]),
        (&json!(2), &json!("image/gif")),
        "{done}"
    );
    let file = served.get(image["url"].as_str().unwrap());
    assert!(file.bytes.starts_with(b"GIF89a"));
    let long = ask(4, "gif");
    assert!(long.status == 400 && long.text().contains("--max-frames"));
    let jpeg = ask(2, "jpeg");
    assert!(
        jpeg.status == 400 && jpeg.text().contains("apng"),
        "{}",
        jpeg.text()
    );
}

#[test]
fn models_make_way_for_each_other_and_are_the_same_again() {
    let model = fixture("sd15/model");
    let served = Served::start(&[
        "--model",
        "bundled",
        "--model",
        path(&model),
        "--memory",
        "1",
    ]);
    let loaded = || {
        let models = served.get("/v1/models").body();
        let models = models["data"].as_array().unwrap().clone();
        let loaded = models.iter().filter(|model| model["loaded"] == true);
        loaded.map(|model| model["id"].clone()).collect::<Vec<_>>()
    };
    let make = |name: &str| {
        let mut recipe = circle();
        recipe["model"] = json!({"name": name});
        let done = served.ended(&served.job(&recipe)["id"]);
        assert_eq!(done["state"], "done", "{done}");
        served.get(done["images"][0]["url"].as_str().unwrap()).bytes
    };
    assert_eq!(loaded(), [] as [Value; 0]);
    let first = make("bundled");
    assert_eq!(loaded(), ["bundled"]);
    make("model");
    assert_eq!(loaded(), ["model"]);
    assert!(make("bundled") == first);
    assert_eq!(loaded(), ["bundled"]);
}

#[test]
fn web_pages_of_a_site_that_is_let_in_may_ask() {
    let served = Served::start(&["--cors", "https://front.example"]);
    let ask = |origin: &str| {
        served
            .ask("OPTIONS", "/v1/jobs")
            .with("Origin", origin)
            .with("Access-Control-Request-Method", "POST")
            .with(
                "Access-Control-Request-Headers",
                "authorization,content-type",
            )
            .answer()
    };
    let allowed = ask("https://front.example");
    let header = |name: &str| allowed.header(name).unwrap_or_default().to_lowercase();
    assert_eq!(allowed.status, 200);
    assert_eq!(
        header("access-control-allow-origin"),
        "https://front.example"
    );
    assert!(header("access-control-allow-methods").contains("post"));
    assert!(header("access-control-allow-headers").contains("authorization"));
    let other = ask("https://evil.example");
    assert_eq!(other.header("access-control-allow-origin"), None);
}

#[test]
fn a_sampler_without_its_scheduler_is_told() {
    let served = Served::start(&[]);
    let asked = json!({"prompt": "a red circle", "seed": 7, "steps": 2, "width": 64, "height": 64,
        "sampler_name": "Euler a", "scheduler": "karras"});
    let answer = served.post(TXT2IMG, &asked);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let warnings = answer.body()["warnings"].to_string();
    assert!(warnings.contains("karras"), "{warnings}");
    let info: Value = serde_json::from_str(answer.body()["info"].as_str().unwrap()).unwrap();
    assert!(
        info["comments"].as_str().unwrap().contains("karras"),
        "{info}"
    );
}

//! The web interface's own interface.

use std::thread;

use afterimage::image_io::Picture;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    Served, circle,
    jobs::{base64, photo},
};

const TXT2IMG: &str = "/sdapi/v1/txt2img";

fn info(answer: &Value) -> Value {
    serde_json::from_str(answer["info"].as_str().expect("a text")).unwrap()
}

/// A mask of the right half.
fn half() -> Vec<u8> {
    let mut bytes = Vec::new();
    let picture = Picture::from_fn(64, 64, |x, _| [255 * u8::from(x > 31); 3]);
    picture.encode(&mut bytes, &[]).unwrap();
    bytes
}

#[test]
fn pictures_of_texts_and_of_pictures() {
    let served = Served::start(&[]);
    let asked = json!({
        "prompt": "a red circle", "negative_prompt": "blue", "seed": "7", "steps": 2.0, "width": "64", "height": 64, "cfg_scale": "5",
        "sampler_name": "Euler a", "scheduler": "automatic", "batch_size": 2, "n_iter": 1, "styles": [], "script_args": [],
        "override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"}, "tiling": true,
    });
    let answer = served.post(TXT2IMG, &asked);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.body();
    assert_eq!(body["images"].as_array().unwrap().len(), 2);
    assert_eq!(info(&body)["all_seeds"], json!([7, 8]));
    let word = json!("`tiling` has no effect here and was ignored");
    assert!(body["warnings"].as_array().unwrap().contains(&word));
    let png = served
        .post("/sdapi/v1/png-info", &json!({"image": body["images"][1]}))
        .body();
    assert!(png["info"].as_str().unwrap().contains("Seed: 8"), "{png}");
    let mut asked =
        json!({"prompt": "a red circle", "seed": 7, "steps": 4, "denoising_strength": 0.5});
    let photo = base64(&photo());
    asked["init_images"] = json!([format!("data:image/png;base64,{photo}")]);
    asked["mask"] = base64(&half()).into();
    for invert in [0, 1] {
        asked["inpainting_mask_invert"] = invert.into();
        let answer = served.post("/sdapi/v1/img2img", &asked);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let file = STANDARD
            .decode(answer.body()["images"][0].as_str().unwrap())
            .unwrap();
        assert!(file.starts_with(b"\x89PNG"));
    }
}

#[test]
fn progress_is_whole_and_interrupting_reaches_ones_own_job_alone() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "alice a-secret\nbob b-secret\n").unwrap();
    let served = Served::start(&["--tokens", tokens.to_str().unwrap()]);
    let get = |path: &str, token: &str| served.ask("GET", path).token(token).answer().body();
    let idle = get("/sdapi/v1/progress", "a-secret");
    assert_eq!(
        (&idle["progress"], &idle["state"]["job_count"]),
        (&json!(0.0), &json!(0))
    );
    let asked = json!({"prompt": "a red circle", "steps": 200});
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            served
                .ask("POST", TXT2IMG)
                .token("a-secret")
                .json(&asked)
                .answer()
        });
        let running = loop {
            let progress = get("/sdapi/v1/progress", "a-secret");
            if progress["progress"].as_f64().unwrap() > 0.0 && !progress["current_image"].is_null()
            {
                break progress;
            }
            thread::sleep(std::time::Duration::from_millis(10));
        };
        assert_eq!(running["state"]["sampling_steps"], 200);
        assert_eq!(
            get("/sdapi/v1/progress", "b-secret")["state"]["job_count"],
            0
        );
        let stop = |token: &str| {
            served
                .ask("POST", "/sdapi/v1/interrupt")
                .token(token)
                .answer()
                .status
        };
        assert_eq!(stop("b-secret"), 200);
        assert_eq!(
            get("/sdapi/v1/progress", "a-secret")["state"]["job_count"],
            1
        );
        assert_eq!(stop("a-secret"), 200);
        let answer = asking.join().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            answer.body()["images"].as_array().unwrap().len(),
            1,
            "what it was about to become"
        );
    });
}

#[test]
fn lists_are_true_or_empty() {
    let served = Served::start(&[]);
    for path in [
        "latent-upscale-modes",
        "sd-modules",
        "sd-vae",
        "loras",
        "hypernetworks",
    ] {
        assert_eq!(
            served.get(&format!("/sdapi/v1/{path}")).body(),
            json!([]),
            "{path}"
        );
    }
    let list = |path: &str| served.get(&format!("/sdapi/v1/{path}")).body();
    assert_eq!(list("sd-models")[0]["model_name"], "bundled");
    assert_eq!(list("upscalers")[0]["name"], "None");
    assert!(
        list("samplers")
            .as_array()
            .unwrap()
            .iter()
            .any(|sampler| sampler["name"] == "Euler a")
    );
    assert_eq!(list("embeddings")["loaded"], json!({}));
    let title = list("options")["sd_model_checkpoint"].clone();
    assert_eq!(title, list("sd-models")[0]["title"]);
    let set = |options: Value| served.post("/sdapi/v1/options", &options);
    assert_eq!(
        set(json!({"sd_model_checkpoint": title})).body(),
        Value::Null
    );
    assert_eq!(set(json!({"sd_model_checkpoint": "other"})).status, 404);
    assert!(set(json!({"samples_format": "jpg"})).body()["warnings"].is_array());
    assert_eq!(
        served
            .ask("POST", "/sdapi/v1/refresh-checkpoints")
            .answer()
            .status,
        200
    );
    let unknown = served.get("/sdapi/v1/interrogate");
    assert!(unknown.status == 404 && unknown.body()["detail"].is_string());
    assert_eq!(served.ended(&served.job(&circle())["id"])["state"], "done");
}

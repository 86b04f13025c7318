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

/// What an answer says beside its pictures, line by line.
fn words(answer: &Value) -> String {
    let words = answer["warnings"].as_array().into_iter().flatten();
    let words = words.map(|word| word.as_str().expect("a text"));
    words.collect::<Vec<_>>().join("\n")
}

#[test]
fn requests_are_read_as_clients_send_them() {
    let served = Served::start(&[]);
    let plain = json!({"prompt": "a red circle", "seed": 7, "steps": 2});
    let with = |more: Value| {
        let mut asked = plain.clone();
        let more = more.as_object().expect("an object").clone();
        asked.as_object_mut().expect("an object").extend(more);
        served.post(TXT2IMG, &asked)
    };
    let sampled = with(
        json!({"sampler_name": "", "sampler_index": "Euler a", "save_images": "False", "tiling": "False"}),
    );
    assert_eq!(sampled.status, 200, "{}", sampled.text());
    let sampled = sampled.body();
    assert_eq!(info(&sampled)["sampler_name"], "Euler a");
    assert_eq!(words(&sampled), "");
    let settings = with(
        json!({"override_settings": {"CLIP_stop_at_last_layers": "2", "eta_noise_seed_delta": 31337}}),
    );
    let settings = settings.body();
    assert_eq!(info(&settings)["clip_skip"], 2, "{settings}");
    assert!(words(&settings).contains("`eta_noise_seed_delta`"));
    let set = served.post(
        "/sdapi/v1/options",
        &json!({"CLIP_stop_at_last_layers": 2, "sd_vae": "None"}),
    );
    assert_eq!((set.status, set.body()), (200, Value::Null));
    assert_eq!(info(&with(json!({})).body())["clip_skip"], 2);
    assert_eq!(info(&with(json!({"clip_skip": 1})).body())["clip_skip"], 1);
    let options = served.get("/sdapi/v1/options").body();
    assert_eq!(options["CLIP_stop_at_last_layers"], 2, "{options}");
    let absent = served.post("/sdapi/v1/options", &json!({"sd_vae": "soft.pt"}));
    assert!(absent.status == 404 && absent.text().contains("`soft.pt`"));
    let wrong = with(json!({"override_settings": {"sd_model_checkpoint": 5}}));
    assert!(wrong.status == 400 && wrong.text().contains("`sd_model_checkpoint`"));
    let body = plain.to_string();
    let marked = ["\u{feff}", &body].concat();
    for (path, body) in [(TXT2IMG, &body), ("/sdapi/v1/txt2img/", &marked)] {
        let answer = served.ask("POST", path).body(body.as_bytes()).answer();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let packed = served.ask("POST", TXT2IMG).with("Content-Encoding", "gzip");
    let packed = packed.json(&plain).answer();
    assert!(packed.status == 415 && packed.text().contains("`gzip`"));
    let progress = served.get("/sdapi/v1/progress?skip_current_image=True");
    assert_eq!(progress.status, 200, "{}", progress.text());
}

/// What shares a device with another program asks for it, with bodies of all kinds.
#[test]
fn models_make_way_when_they_are_asked_to() {
    let served = Served::start(&[]);
    let loaded = || served.get("/v1/models/bundled").body()["loaded"] == true;
    let asked = json!({"prompt": "a red circle", "seed": 7, "steps": 2});
    let made = |asked: &Value| served.post(TXT2IMG, asked).body()["images"].clone();
    let first = made(&asked);
    let begun = std::time::Instant::now();
    let wait = |so: bool| {
        while loaded() != so {
            assert!(begun.elapsed() < super::PATIENCE, "waited in vain");
            thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    wait(true);
    let unload = served.ask("POST", "/sdapi/v1/unload-checkpoint");
    assert_eq!(unload.body(b"\"\"").answer().status, 200);
    wait(false);
    let reload = served.post("/sdapi/v1/reload-checkpoint", &json!({}));
    assert_eq!(reload.status, 200);
    assert_eq!(made(&asked), first);
    wait(true);
}

#[test]
fn control_nets_are_followed_or_told() {
    let served = Served::start(&[]);
    let asked = |script: Value| {
        let scripts = json!({"ControlNet": script});
        served.post(
            TXT2IMG,
            &json!({"prompt": "a red circle", "seed": 7, "steps": 2, "alwayson_scripts": scripts}),
        )
    };
    let unit = json!({"model": "edges", "image": base64(&photo())});
    for script in [
        json!({"args": unit}),
        json!([unit]),
        json!({"args": [unit]}),
    ] {
        let refused = asked(script);
        assert!(refused.status == 404 && refused.text().contains("`edges`"));
    }
    let places = asked(json!({"args": [false, false, true, "none", "edges", 1.0]}));
    assert!(places.status == 400 && places.text().contains("name its parts"));
    let unnamed = asked(json!({"args": [{"enabled": true, "module": "reference_only"}]}));
    assert_eq!(unnamed.status, 200, "{}", unnamed.text());
    assert!(words(&unnamed.body()).contains("without a `model`"));
    for off in [
        json!({"args": []}),
        json!({"args": [{"enabled": false, "module": "canny"}]}),
        Value::Null,
    ] {
        assert_eq!(words(&asked(off).body()), "");
    }
}

/// Masks as programs draw them: in any colour on nothing.
#[test]
fn what_is_opaque_in_a_mask_is_painted() {
    let served = Served::start(&[]);
    let png = |image: image::DynamicImage| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        base64(&bytes.into_inner())
    };
    let photo = base64(&photo());
    let changed = |image: &str, mask: Option<String>| {
        let asked = json!({
            "prompt": "a red circle", "seed": 7, "steps": 4, "denoising_strength": 0.9, "init_images": [image], "mask": mask,
        });
        let answer = served.post("/sdapi/v1/img2img", &asked);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = answer.body();
        let file = STANDARD.decode(body["images"][0].as_str().unwrap());
        let picture = image::load_from_memory(&file.unwrap()).unwrap().into_rgb8();
        (picture, words(&body))
    };
    let strokes = image::RgbaImage::from_fn(64, 64, |x, _| {
        image::Rgba([0, 0, 0, 255 * u8::from(x > 31)])
    });
    let (drawn, _) = changed(&photo, Some(png(strokes.clone().into())));
    let (plain, _) = changed(&photo, Some(base64(&half())));
    assert_eq!(drawn, plain);
    let white = image::RgbImage::from_fn(64, 64, |x, _| image::Rgb([255 * u8::from(x < 32); 3]));
    let (clear, said) = changed(&png(strokes.into()), None);
    let (flat, silent) = changed(&png(white.into()), None);
    assert_eq!(clear, flat);
    assert!(
        said.contains("lies on white") && silent.is_empty(),
        "{said}"
    );
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
        // What it was about to become.
        assert_eq!(answer.body()["images"].as_array().unwrap().len(), 1);
        let info = info(&answer.body());
        assert!(
            info["seed"].is_u64() && info["all_seeds"][0] == info["seed"],
            "{info}"
        );
        assert!(info["infotexts"][0].as_str().unwrap().contains("Seed: "));
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

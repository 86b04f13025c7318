//! What makes no sense is refused with a 4xx in the form of its interface, and nothing breaks.

use serde_json::{Value, json};

use super::{
    Served, circle,
    client::Answer,
    jobs::{base64, photo},
};

/// A picture that says to have 30000 pixels a side.
fn bomb() -> Vec<u8> {
    let mut bytes = photo();
    bytes[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    bytes
}

/// A white square of so many pixels a side.
fn white(side: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let picture = afterimage::image_io::Picture::filled(side, side, [255; 3]);
    picture.encode(&mut bytes, &[]).unwrap();
    bytes
}

/// Refused, in the form of the interface at `path`.
#[track_caller]
fn refused(answer: &Answer, path: &str, word: &str) {
    assert!(
        (400..500).contains(&answer.status),
        "{path}: {} {}",
        answer.status,
        answer.text()
    );
    let body = answer.body();
    let said = if path.starts_with("/sdapi") {
        body["detail"].as_str()
    } else {
        body["error"]["message"].as_str()
    };
    let said = said.unwrap_or_else(|| panic!("{path}: {body}"));
    assert!(said.contains(word), "{path}: no `{word}` in {said}");
}

/// Jobs that are refused, and a word of why.
fn nonsense() -> Vec<(Value, &'static str)> {
    let image = json!({"a.png": base64(&photo())});
    let with = |key: &str, value: Value| {
        let mut recipe = circle();
        recipe[key] = value;
        json!({"recipe": recipe, "files": image})
    };
    vec![
        (json!({}), "recipe"),
        (json!({"recipe": 7}), "recipe"),
        (with("seed", json!("seven")), ""),
        (with("steps", json!(-1)), ""),
        (with("steps", json!(0)), "steps"),
        (with("steps", json!(100_000)), "--max-steps"),
        (with("batch", json!(9)), "--max-batch"),
        (with("size", json!([4096, 4096])), "--max-pixels"),
        (with("size", json!([63, 64])), "63"),
        (with("sead", json!(7)), "sead"),
        (with("version", json!(99)), "99"),
        (with("model", json!({"name": "/etc/passwd"})), "/etc/passwd"),
        (
            with("init_image", json!({"path": "/etc/passwd"})),
            "/etc/passwd",
        ),
        (with("initial_latents", json!({"path": "../a"})), "../a"),
        (
            with("loras", json!([{"file": {"path": "/etc/passwd"}}])),
            "LoRA",
        ),
        (
            with(
                "controls",
                json!([{"model": "/etc", "image": {"path": "a.png"}}]),
            ),
            "ControlNet",
        ),
        (
            with("cache", json!("l2c:router=/etc/passwd")),
            "files of rules",
        ),
        (
            with("cache", json!("auto:speedup=2,plan=/etc/passwd")),
            "files of rules",
        ),
        (with("cache", json!("fastest")), "fastest"),
        (
            with("router", json!({"path": "/etc/passwd"})),
            "files of rules",
        ),
    ]
}

/// The same, of what stands beside a recipe.
fn nonsense_beside() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({"recipe": circle(), "files": {"a.png": "no base64!"}}),
            "base64",
        ),
        (json!({"recipe": circle(), "format": "exe"}), "exe"),
        (
            json!({"recipe": circle(), "preview_every": "often"}),
            "preview_every",
        ),
        (
            json!({"recipe": circle(), "preview_decoded": "often"}),
            "preview_decoded",
        ),
    ]
}

#[test]
fn recipes_that_make_no_sense() {
    let served = Served::start(&["--max-pixels", "65536"]);
    for (body, word) in nonsense().into_iter().chain(nonsense_beside()) {
        refused(&served.post("/v1/jobs", &body), "/v1/jobs", word);
        if body["format"].is_null() {
            refused(&served.post("/v1/plan", &body), "/v1/plan", word);
        }
    }
    let mut recipe = circle();
    recipe["init_image"] = json!({"path": "bomb.png"});
    let body = json!({"recipe": recipe, "files": {"bomb.png": base64(&bomb())}});
    refused(&served.post("/v1/jobs", &body), "/v1/jobs", "");
    let mut recipe = circle();
    recipe["init_image"] = json!({"path": "a.png"});
    recipe["mask"] = json!({"path": "mask.png"});
    let files = json!({"a.png": base64(&photo()), "mask.png": base64(&white(8))});
    let body = json!({"recipe": recipe, "files": files});
    for path in ["/v1/jobs", "/v1/plan"] {
        refused(&served.post(path, &body), path, "`mask` is 8x8");
    }
    let missing = served.get("/v1/jobs/00000000000000000000000000000000");
    refused(&missing, "/v1/jobs", "no such job");
    assert_eq!(missing.status, 404);
    assert_eq!(
        served.ended(&served.job(&circle())["id"])["state"],
        "done",
        "it still works"
    );
}

#[test]
fn bodies_that_cannot_be_read() {
    let served = Served::start(&["--max-body", "64KiB"]);
    for path in [
        "/v1/jobs",
        "/v1/images/generations",
        "/sdapi/v1/txt2img",
        "/sdapi/v1/options",
    ] {
        let send = |body: &[u8]| {
            let ask = served
                .ask("POST", path)
                .with("Content-Type", "application/json");
            ask.body(body).answer()
        };
        refused(&send(b"{"), path, "not JSON");
        refused(&send(b"[1]"), path, "object");
        refused(&send(b""), path, "not JSON");
        refused(&send(b"{\"prompt\": \"\xff\xfe\"}"), path, "not JSON");
        refused(&send(&vec![b'['; 10_000]), path, "not JSON");
        let large = send(&vec![b' '; 70_000]);
        refused(&large, path, "--max-body");
        assert_eq!(large.status, 413);
        let plain = served
            .ask("POST", path)
            .with("Content-Type", "text/plain")
            .body(b"{}")
            .answer();
        assert_eq!(plain.status, 415, "{path}");
        assert_eq!(
            served.ask("PUT", path).body(b"{}").answer().status,
            405,
            "{path}"
        );
    }
    refused(
        &served.get("/v1/nothing"),
        "/v1/nothing",
        "nothing at this path",
    );
    let many = served.get("/v1/jobs?limit=many");
    refused(&many, "/v1/jobs", "`many` is no whole number of 1 to 200");
    assert_eq!(many.body()["error"]["param"], "limit");
    let path = "/sdapi/v1/progress?skip_current_image=perhaps";
    refused(
        &served.get(path),
        path,
        "`skip_current_image` cannot be read",
    );
    refused(&served.get("/v1/jobs?limit=0"), "/v1/jobs", "limit");
    refused(
        &served.get("/v1/jobs?state=done,lost"),
        "/v1/jobs",
        "`lost`",
    );
    refused(
        &served.get("/results/00/..%2f..%2fetc%2fpasswd"),
        "/results",
        "no such result",
    );
}

/// The same through the web interface: a call, what it is sent, a word of why it is refused.
fn sdapi_nonsense() -> Vec<(&'static str, Value, &'static str)> {
    let small = base64(&white(8));
    let photo = base64(&photo());
    vec![
        (
            "txt2img",
            json!({"prompt": "a", "seed": "seven"}),
            "`\"seven\"`",
        ),
        (
            "txt2img",
            json!({"prompt": "a", "steps": 9999}),
            "--max-steps",
        ),
        ("txt2img", json!({"prompt": "a", "width": 64}), "height"),
        (
            "txt2img",
            json!({"prompt": "a <lora:/etc/passwd:1>"}),
            "LoRA",
        ),
        (
            "txt2img",
            json!({"prompt": "a", "sampler_name": "Best"}),
            "Best",
        ),
        (
            "txt2img",
            json!({"prompt": "a", "override_settings": {"sd_model_checkpoint": "other"}}),
            "other",
        ),
        (
            "txt2img",
            json!({"prompt": "a", "override_settings": 7}),
            "override_settings",
        ),
        ("img2img", json!({"prompt": "a"}), "init_images"),
        (
            "img2img",
            json!({"prompt": "a", "init_images": ["???"]}),
            "base64",
        ),
        (
            "img2img",
            json!({"prompt": "a", "init_images": ["Zm94"]}),
            "no format that is known",
        ),
        (
            "img2img",
            json!({"prompt": "a", "init_images": [base64(&bomb())]}),
            "",
        ),
        (
            "img2img",
            json!({"prompt": "a", "init_images": [photo], "mask": small}),
            "`mask` is 8x8, and `init_images` is 64x64",
        ),
        ("png-info", json!({"image": "Zm94"}), "image"),
    ]
}

#[test]
fn requests_for_pictures_that_make_no_sense() {
    let served = Served::start(&["--max-pixels", "65536"]);
    let openai = [
        (json!({}), "prompt"),
        (json!({"prompt": "a", "model": "dall-e-9"}), "dall-e-9"),
        (json!({"prompt": "a", "seed": "7"}), "seed"),
        (json!({"prompt": "a", "n": 100}), "--max-batch"),
        (json!({"prompt": "a", "size": "1024x1024"}), "--max-pixels"),
        (json!({"prompt": "a", "size": "large"}), "large"),
        (json!({"prompt": "a", "sampler": "best"}), "best"),
    ];
    for (body, word) in openai {
        let path = "/v1/images/generations";
        refused(&served.post(path, &body), path, word);
    }
    let body = json!({"prompt": "a", "output_format": "bmp"});
    let format = served.post("/v1/images/generations", &body);
    assert_eq!(format.body()["error"]["param"], "output_format");
    for (name, body, word) in sdapi_nonsense() {
        let path = format!("/sdapi/v1/{name}");
        refused(&served.post(&path, &body), &path, word);
    }
    let edits = "/v1/images/edits";
    let form = served
        .ask("POST", edits)
        .form(&[("prompt", false, b"a")])
        .answer();
    refused(&form, edits, "0 pictures");
    let broken = served
        .ask("POST", edits)
        .with("Content-Type", "multipart/form-data; boundary=x")
        .body(b"--x\r\n")
        .answer();
    refused(&broken, edits, "");
    let plain = served
        .ask("POST", edits)
        .json(&json!({"prompt": "a"}))
        .answer();
    refused(&plain, edits, "");
}

/// Of a form: its name, whether it is a file, what is in it.
type Part<'a> = (&'a str, bool, &'a [u8]);

#[test]
fn edits_that_make_no_sense() {
    let served = Served::start(&["--max-pixels", "65536"]);
    let (photo, bomb) = (photo(), bomb());
    let small = {
        let mut bytes = Vec::new();
        let picture = afterimage::image_io::Picture::filled(8, 8, [255; 3]);
        picture.encode(&mut bytes, &[]).unwrap();
        bytes
    };
    let prompt: Part<'_> = ("prompt", false, b"a red circle");
    let cases: [(Vec<Part<'_>>, &str); 7] = [
        (vec![("image", true, &photo)], "prompt"),
        (vec![("image", true, &bomb), prompt], ""),
        (
            vec![("image", true, b"no picture"), prompt],
            "no format that is known",
        ),
        (
            vec![("image", true, &photo), ("mask", true, &small), prompt],
            "`mask` is 8x8, and `image` is 64x64",
        ),
        (
            vec![("image", true, &photo), ("prompt", false, b"\xff\xfe")],
            "UTF-8",
        ),
        (
            vec![("image", true, &photo), ("seed", false, b"seven"), prompt],
            "seed",
        ),
        (
            vec![("image[]", true, &photo), ("image[]", true, &photo), prompt],
            "2 pictures",
        ),
    ];
    let path = "/v1/images/edits";
    for (parts, word) in cases {
        refused(&served.ask("POST", path).form(&parts).answer(), path, word);
    }
}

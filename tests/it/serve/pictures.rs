//! Pictures that come with requests: measured and read as the engine reads them.

use afterimage::image_io::Picture;
use serde_json::{Value, json};

use super::{Served, circle, client::Answer, jobs::base64};
use crate::fixture::fixture;

/// A JPEG that is stored as 64 by 128, and shown as 128 by 64.
fn turned() -> Vec<u8> {
    /// `Exif`, and a directory that says orientation 6.
    const EXIF: &[u8] =
        b"\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let stored = image::RgbImage::from_fn(64, 128, |x, y| image::Rgb([(3 * x) as u8, y as u8, 99]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    stored
        .write_to(&mut bytes, image::ImageFormat::Jpeg)
        .unwrap();
    let bytes = bytes.into_inner();
    [&bytes[..2], EXIF, &bytes[2..]].concat()
}

/// A mask of the right half.
fn half(width: usize, height: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let light = |x: usize, _: usize| [255 * u8::from(2 * x >= width); 3];
    let picture = Picture::from_fn(width, height, light);
    picture.encode(&mut bytes, &[]).unwrap();
    bytes
}

/// What each interface answers to a picture with a mask.
fn asked(served: &Served, image: &[u8], mask: &[u8]) -> [(&'static str, Answer); 3] {
    let mut recipe = circle();
    recipe["init_image"] = json!({"path": "a.jpg"});
    recipe["mask"] = json!({"path": "mask.png"});
    let files = json!({"a.jpg": base64(image), "mask.png": base64(mask)});
    let plan = served.post("/v1/plan", &json!({"recipe": recipe, "files": files}));
    let form: [(&str, bool, &[u8]); 4] = [
        ("image", true, image),
        ("mask", true, mask),
        ("prompt", false, b"a red circle"),
        ("steps", false, b"2"),
    ];
    let edited = served.ask("POST", "/v1/images/edits").form(&form).answer();
    let body = json!({"prompt": "a red circle", "steps": 2, "init_images": [base64(image)], "mask": base64(mask)});
    let changed = served.post("/sdapi/v1/img2img", &body);
    [
        ("init_image", plan),
        ("image", edited),
        ("init_images", changed),
    ]
}

/// A mask has the size of the picture as it is shown.
#[test]
fn pictures_are_measured_as_their_exif_turns_them() {
    let served = Served::start(&[]);
    for (name, answer) in asked(&served, &turned(), &half(128, 64)) {
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
    for (name, answer) in asked(&served, &turned(), &half(64, 128)) {
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
        let both = format!("`mask` is 64x128, and `{name}` is 128x64");
        assert!(answer.text().contains(&both), "{name}: {}", answer.text());
    }
}

/// TGA has no first bytes of its own, and its name does not come with every request.
#[test]
fn every_format_of_the_command_line_is_read() {
    let served = Served::start(&[]);
    for name in ["plain.tga", "plain.ppm", "plain.bmp", "scan.tif"] {
        let image = std::fs::read(fixture("pictures").join(name)).unwrap();
        let body = json!({"prompt": "a red circle", "steps": 2, "width": 64, "height": 64, "init_images": [base64(&image)]});
        let answer = served.post("/sdapi/v1/img2img", &body);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
    let heic = base64(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    let answer = served.post("/sdapi/v1/img2img", &json!({"init_images": [heic]}));
    let detail: Value = answer.body()["detail"].clone();
    assert!(
        detail
            .as_str()
            .is_some_and(|said| said.contains("HEIC") && said.contains("TGA and PNM")),
        "{detail}"
    );
}

/// What a recipe does not name is told, and does no harm.
#[test]
fn files_that_nothing_uses_are_told() {
    let served = Served::start(&[]);
    let image = base64(&half(64, 64));
    let mut recipe = circle();
    recipe["init_image"] = json!({"path": "a.png"});
    let body = json!({"recipe": recipe, "files": {"a.png": image, "b.png": image}});
    let plan = served.post("/v1/plan", &body);
    assert_eq!(plan.status, 200, "{}", plan.text());
    let job = served.post("/v1/jobs", &body).body();
    for answer in [plan.body(), job] {
        let said = answer["warnings"].to_string();
        assert!(
            said.contains("the file `b.png` is named by nothing in the recipe and was ignored"),
            "{said}"
        );
        assert!(!said.contains("a.png"), "{said}");
    }
}

//! Pictures on the command line: what a run starts from, and what it follows.

use afterimage::image_io::Picture;
use serde_json::{Value, json};

use crate::cli::{Ending, afterimage, afterimage_in, generate, names, texts};

const NET: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/sd15-controlnet/model"
);

/// A photograph of sorts, a mask of another size, a dark mask, and half a file.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let save = |name: &str, picture: Picture| {
        picture
            .save(&folder.path().join(name), &[])
            .expect("a file");
    };
    let square = |x: usize, y: usize| (20..44).contains(&x) && (16..50).contains(&y);
    save(
        "photo.png",
        Picture::from_fn(70, 64, |x, y| [255 * u8::from(square(x, y)), x as u8, 9]),
    );
    save(
        "mask.png",
        Picture::from_fn(33, 40, |x, _| [255 * u8::from(x > 16); 3]),
    );
    save("dark.png", Picture::filled(64, 64, [20; 3]));
    save("wide.png", Picture::filled(128, 64, [0; 3]));
    let whole = std::fs::read(folder.path().join("photo.png")).expect("a file");
    std::fs::write(folder.path().join("torn.png"), &whole[..whole.len() / 2]).expect("a file");
    folder
}

fn told(ending: &Ending) -> Value {
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    serde_json::from_str(&ending.stdout).expect("JSON")
}

#[test]
fn a_picture_is_changed_and_its_account_names_it() {
    let folder = folder();
    let start = [
        "--init-image",
        "photo.png",
        "--strength",
        "0.5",
        "--seed",
        "3",
        "--json",
    ];
    let ending = generate(folder.path(), &[&start[..], &["--steps", "4"]].concat());
    let told = told(&ending);
    assert_eq!((&told["width"], &told["height"]), (&json!(64), &json!(64)));
    assert_eq!(
        (&told["steps"], &told["evaluations"]),
        (&json!(4), &json!(2))
    );
    assert_eq!(told["init_image"], "photo.png");
    let texts = texts(&folder.path().join("afterimage-3.png"));
    assert_eq!(texts["init image"], "photo.png");
    assert_eq!(texts["strength"], "0.5");
}

#[test]
fn a_mask_of_any_size_keeps_the_rest() {
    let folder = folder();
    let edit = [
        "--init-image",
        "photo.png",
        "--mask",
        "mask.png",
        "--size",
        "64x64",
    ];
    let ending = generate(
        folder.path(),
        &[&edit[..], &["--steps", "2", "--seed", "3"]].concat(),
    );
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert_eq!(
        texts(&folder.path().join("afterimage-3.png"))["mask"],
        "mask.png"
    );
}

/// The published demonstration, on the small model: Canny's outlines at 100 and 200, 50 steps of DDIM, nine keys.
#[test]
fn the_published_control_demo_runs() {
    let folder = folder();
    let net = format!("{NET}/controlnet");
    let demo = [
        "generate",
        "a cat",
        "--model",
        NET,
        "--control-model",
        &net,
        "--control-image",
        "photo.png",
        "--control-canny",
        "--sampler",
        "ddim",
        "--steps",
        "50",
        "--seed",
        "8888",
        "--device",
        "cpu",
        "--size",
        "64x64",
        "--cache",
        "faster-diffusion",
        "--json",
    ];
    // The picture is 70 pixels wide; without a size it is rounded down, with one it is refused unless it fits.
    let told = told(&afterimage_in(folder.path(), demo));
    assert_eq!(told["work"]["full_evaluations"], 9);
    assert_eq!(told["controls"][0]["image"], "photo.png");
    assert_eq!(told["controls"][0]["window"], json!([0.0, 1.0]));
}

#[test]
fn a_picture_without_outlines_is_told() {
    let folder = folder();
    let net = format!("{NET}/controlnet");
    let run = |image: &str| {
        let words = ["generate", "a cat", "--model", NET, "--device", "cpu"];
        let control = ["--control-model", &net, "--control-image", image];
        let rest = ["--control-canny", "--steps", "1", "--size", "64x64"];
        afterimage_in(folder.path(), words.into_iter().chain(control).chain(rest))
    };
    let flat = run("dark.png");
    assert_eq!(flat.code, Some(0), "{}", flat.shown());
    let warning = "warning: `--control-canny` found no edge in dark.png between its thresholds 100 and 200\nhint: ";
    assert!(flat.stderr.contains(warning), "{}", flat.stderr);
    let bright = |x, y| (20..44).contains(&x) && (20..44).contains(&y);
    let square = Picture::from_fn(64, 64, |x, y| [255 * u8::from(bright(x, y)); 3]);
    let path = folder.path().join("square.png");
    square.save(&path, &[]).expect("a file");
    let square = run("square.png");
    assert!(!square.stderr.contains("no edge"), "{}", square.stderr);
}

#[test]
fn plans_count_nets_and_strength() {
    let plan = |more: &[&str]| {
        let fixed = ["plan", "--steps", "50", "--sampler", "ddim", "--json"];
        told(&afterimage(fixed.iter().chain(more)))
    };
    let rule = ["--cache", "encoder-propagation:keys=50ls"];
    let net = [
        "--model",
        "stable-diffusion-v1-5",
        "--control-model",
        "control_v11p_sd15_canny",
    ];
    let controlled = plan(&[&net[..], &rule].concat());
    let speedup = controlled["work"]["predicted_speedup"]
        .as_f64()
        .expect("a number");
    assert!((speedup - 1.70).abs() < 0.005, "{speedup}");
    let filling = [
        "--model",
        "stable-diffusion-v1-5-inpainting",
        "--strength",
        "0.3",
    ];
    assert_eq!(plan(&filling)["evaluations"], 15);
}

/// `bench` asks for no picture, counts a net as `plan` does, and runs what it counts.
#[test]
fn nets_are_timed_as_they_are_planned() {
    let net = format!("{NET}/controlnet");
    let rule = "encoder-propagation:every=2";
    let run = |command: &str, more: &[&str]| {
        let fixed = ["--model", NET, "--steps", "4", "--sampler", "ddim"];
        let cached = ["--size", "64x64", "--cache", rule, "--json"];
        let words = [&[command][..], &fixed, &cached, more].concat();
        told(&afterimage(words))
    };
    let steer = [
        "--control-model",
        &net,
        "--control-scale",
        "0.5",
        "--control-window",
        "0-0.5",
    ];
    let timing = ["--device", "cpu", "--repeat", "1"];
    let timed = run("bench", &[&timing[..], &steer].concat());
    let result = &timed["results"][1];
    assert_eq!(result["cells_run"], result["cells_forecast"]);
    let forecast = &result["denoising_speedup_forecast"];
    let planned = |more: &[&str]| run("plan", more)["work"]["predicted_speedup"].clone();
    assert_eq!(*forecast, planned(&steer));
    assert_ne!(*forecast, planned(&[]), "the net costs nothing");
    let source =
        json!({"model": net, "image": "a blank picture", "scale": 0.5, "window": [0.0, 0.5]});
    assert_eq!(timed["controls"], json!([source]));
}

#[test]
fn mistakes_with_nets_that_are_timed_name_the_reason() {
    let net = format!("{NET}/controlnet");
    let steer = ["--control-model", &net];
    let twice = ["--control-scale", "1", "--control-scale", "1"];
    let scenes = ["--size", "64x64"];
    let mistakes: &[(&[&str], i32, &str)] = &[
        (&twice[..2], 2, "is given without a ControlNet"),
        (
            &["--model", NET, "--control-model", "nowhere"],
            1,
            "there is no folder or file `nowhere`",
        ),
        (
            &[&["--model", NET][..], &steer, &twice].concat(),
            2,
            "`--control-scale` is given 2 times for 1 ControlNets",
        ),
        (
            &[&scenes[..], &steer].concat(),
            1,
            "this ControlNet is for another model family",
        ),
    ];
    for (arguments, code, words) in mistakes {
        let fixed = ["bench", "--device", "cpu", "--cache", "faster-diffusion"];
        afterimage(fixed.iter().chain(*arguments)).refused(*code, &[words]);
    }
}

/// One row a mistake: the arguments, the code, and the words that the message must hold.
#[test]
fn mistakes_with_pictures_name_the_file_and_the_reason() {
    let mistakes: &[(&[&str], i32, &[&str])] = &[
        (
            &["--strength", "0.5"],
            2,
            &["without a picture to start from", "`--init-image`"],
        ),
        (
            &["--mask", "mask.png"],
            2,
            &["without a picture to start from", "`--init-image`"],
        ),
        (&["--control-window", "0.8-0.2"], 2, &["as in 0.2-0.8"]),
        (
            &["--init-image", "photo.png", "--strength", "0"],
            2,
            &["`strength` is 0"],
        ),
        (
            &["--init-image", "photo.png", "--strength", "1.5"],
            2,
            &["`strength` is 1.5", "at most 1"],
        ),
        (
            &["--init-image", "torn.png"],
            1,
            &["cannot read the picture", "file: torn.png"],
        ),
        (
            &["--init-image", "none.png"],
            1,
            &["cannot read the picture", "file: none.png"],
        ),
        (
            &["--init-image", "photo.png", "--mask", "dark.png"],
            1,
            &[
                "the mask is dark all over",
                "its lightest grey is 20, of 255, and from 128 on",
                "file: dark.png",
            ],
        ),
        (
            &["--init-image", "https://example.com/a.png"],
            1,
            &["hint: files are read, and nothing is fetched"],
        ),
    ];
    let folder = folder();
    let before = names(folder.path());
    for (arguments, code, words) in mistakes {
        let ending = generate(folder.path(), &[&["--steps", "2"], *arguments].concat());
        ending.refused(*code, words);
    }
    assert_eq!(names(folder.path()), before, "something was written");
}

/// Masks of other programs are in the transparency, which the mask of a run is not.
#[test]
fn the_transparency_of_a_mask_is_told_as_a_mask() {
    let folder = folder();
    let mask = image::RgbaImage::from_fn(64, 64, |x, y| {
        image::Rgba([255, 255, 255, if x > y { 255 } else { 0 }])
    });
    mask.save(folder.path().join("clear.png")).expect("a file");
    let words = ["--init-image", "photo.png", "--mask", "clear.png"];
    let ending = generate(folder.path(), &[&words[..], &["--steps", "1"]].concat());
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let words = "warning: the mask's transparency is not read: what is light is painted";
    assert!(ending.stderr.contains(words), "{}", ending.stderr);
}

/// The same for pictures that are followed.
#[test]
fn mistakes_with_controls_name_the_file_and_the_reason() {
    let net = format!("{NET}/controlnet");
    let steer = ["--control-model", &net, "--control-image"];
    let missing = ["--control-model", "nowhere", "--control-image", "photo.png"];
    let mistakes: &[(&[&str], i32, &[&str])] = &[
        (
            &[&steer[..], &["wide.png", "--size", "64x64"]].concat(),
            2,
            &["the control image has 128x64 pixels", "file: wide.png"],
        ),
        (
            &[&steer[..], &["torn.png"]].concat(),
            1,
            &["file: torn.png"],
        ),
        (&steer[..2], 2, &["0 control images for 1 ControlNets"]),
        (&missing, 1, &["there is no folder or file `nowhere`"]),
    ];
    let folder = folder();
    let before = names(folder.path());
    for (arguments, code, words) in mistakes {
        let fixed = ["generate", "a cat", "--device", "cpu", "--model", NET];
        afterimage_in(folder.path(), fixed.iter().chain(*arguments)).refused(*code, words);
    }
    assert_eq!(names(folder.path()), before, "something was written");
    let foreign = generate(folder.path(), &[&steer[..], &["photo.png"]].concat());
    foreign.refused(1, &["this ControlNet is for another model family"]);
}

//! Upscalers on the command line: alone on a picture, behind another model, and refused.

use std::{fs, path::Path};

use afterimage::image_io::Picture;

use crate::cli::{Ending, afterimage_in, texts};
use crate::fixture::Fixture;

struct Models {
    pixels: Fixture,
    latents: Fixture,
}

fn models() -> Models {
    Models {
        pixels: Fixture::best("if-stage2"),
        latents: Fixture::best("sd-x4-upscaler"),
    }
}

fn run(folder: &Path, options: &[&str]) -> Ending {
    let fixed = ["generate", "--device", "cpu"];
    afterimage_in(folder, fixed.iter().chain(options))
}

fn sides(path: &Path) -> (usize, usize) {
    let picture = Picture::read(path).unwrap();
    (picture.width(), picture.height())
}

/// Makes `name` by options, then again by its recipe; the two files are the same.
#[track_caller]
fn made_twice(folder: &Path, name: &str, options: &[&str]) {
    let ending = run(folder, &[options, &["--output", name]].concat());
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let ending = run(folder, &["--replay", name, "--output", "again.png"]);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let [before, after] = [name, "again.png"].map(|file| fs::read(folder.join(file)).unwrap());
    assert!(before == after, "{name} and its replay differ");
}

#[test]
fn pictures_are_made_larger_alone_and_in_a_chain() {
    let Models { pixels, latents } = models();
    let folder = tempfile::tempdir().unwrap();
    let path = |fixture: &Fixture| fixture.model().to_str().unwrap().to_owned();
    let image = |fixture: &Fixture| fixture.file("image.png").to_str().unwrap().to_owned();
    let (first, last) = (path(&pixels), path(&latents));
    let (small, smaller) = (image(&pixels), image(&latents));
    let asked = ["a photo of a red fox", "--steps", "2", "--seed", "3"];
    let alone = [
        "--model",
        &last,
        "--init-image",
        &smaller,
        "--noise-level",
        "30",
    ];
    made_twice(folder.path(), "alone.png", &[&asked[..], &alone].concat());
    let (width, height) = sides(Path::new(&smaller));
    assert_eq!(
        sides(&folder.path().join("alone.png")),
        (4 * width, 4 * height)
    );
    let chain = [
        "--model",
        &first,
        "--init-image",
        &small,
        "--upscaler",
        &last,
        "--noise-level",
        "40",
    ];
    made_twice(folder.path(), "chain.png", &[&asked[..], &chain].concat());
    let made = folder.path().join("chain.png");
    assert_eq!(sides(&made), (128, 128), "32 pixels a side, four times");
    assert!(!texts(&made)["upscalers"].is_empty());
}

/// The second stage without its encoder; a long prompt, which both stages read the start of.
#[test]
fn stages_of_if_share_their_texts_and_the_picture_to_start_from() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["if-stage1", "if-stage2"].map(|name| Fixture::committed(name).model());
    let bare = folder.path().join("second");
    for part in ["unet", "scheduler", "image_noising_scheduler"] {
        fs::create_dir_all(bare.join(part)).unwrap();
        for entry in fs::read_dir(second.join(part)).unwrap() {
            let file = entry.unwrap();
            fs::copy(file.path(), bare.join(part).join(file.file_name())).unwrap();
        }
    }
    fs::copy(
        second.join("model_index.json"),
        bare.join("model_index.json"),
    )
    .unwrap();
    let (first, bare) = (first.to_str().unwrap(), bare.to_str().unwrap());
    let words = "a fox and a hen ".repeat(75);
    let asked = [words.trim(), "--steps", "2", "--seed", "3"];
    let models = ["--model", first, "--upscaler", bare];
    let output = ["--output", "tower.png"];
    let ending = run(folder.path(), &[&asked[..], &models, &output].concat());
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let cut = "the model reads 77 tokens of a prompt; cut off was";
    assert_eq!(ending.stderr.matches(cut).count(), 1, "{}", ending.shown());
    assert_eq!(sides(&folder.path().join("tower.png")), (32, 32));
    let small = Picture::filled(40, 20, [90, 20, 160]);
    small.save(&folder.path().join("small.png"), &[]).unwrap();
    let start = ["--init-image", "small.png", "--strength", "0.6"];
    made_twice(
        folder.path(),
        "from.png",
        &[&["a fox", "--steps", "4"][..], &models, &start].concat(),
    );
    assert_eq!(sides(&folder.path().join("from.png")), (64, 32));
    let refused = run(
        folder.path(),
        &["--model", bare, "--init-image", "small.png"],
    );
    refused.refused(2, &["no text encoder of its own", "hint: "]);
    let light = Picture::filled(40, 20, [255; 3]);
    light.save(&folder.path().join("light.png"), &[]).unwrap();
    let mask = ["--mask", "light.png"];
    let masked = [&["a fox"][..], &models, &start, &mask].concat();
    run(folder.path(), &masked).refused(2, &["`mask` is given"]);
}

#[test]
fn films_are_not_made_larger() {
    let folder = tempfile::tempdir().unwrap();
    let film = crate::fixture::shipped("scenes-film");
    let last = models().latents.model();
    let options = [
        "--model",
        film.to_str().unwrap(),
        "--upscaler",
        last.to_str().unwrap(),
    ];
    run(folder.path(), &options).refused(2, &["`upscaler` has no place in a film"]);
}

#[test]
fn chains_that_do_not_fit_are_refused() {
    let Models { pixels, latents } = models();
    let folder = tempfile::tempdir().unwrap();
    let path = |fixture: &Fixture| fixture.model().to_str().unwrap().to_owned();
    let (first, last) = (path(&pixels), path(&latents));
    let plain = crate::cli::model();
    let plain = plain.to_str().unwrap();
    for (options, words) in [
        (
            &["--model", &last][..],
            "makes a picture larger, and there is none",
        ),
        (
            &["--upscaler", plain, "--model", plain],
            "takes no small picture",
        ),
        (
            &["--model", plain, "--noise-level", "3"],
            "`noise_level` is given",
        ),
        (
            &[
                "--model",
                plain,
                "--upscaler",
                &last,
                "--noise-level",
                "3",
                "--noise-level",
                "4",
            ],
            "2 noise levels for 1 upscalers",
        ),
        (
            &[
                "--model",
                plain,
                "--upscaler",
                &first,
                "--noise-level",
                "1000",
            ],
            "levels of 0 to 999",
        ),
    ] {
        let ending = run(folder.path(), options);
        ending.refused(2, &[words]);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

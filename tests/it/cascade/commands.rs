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

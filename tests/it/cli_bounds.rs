//! What is beyond all bounds is refused with a word, before memory or patience end.

use std::fs::{self, File};

use serde_json::json;

use crate::cli::{afterimage_in, program};
use crate::folders::{copied, edited};

#[test]
fn a_plan_makes_no_picture_larger_than_a_run_does() {
    let model = copied("sd15");
    edited(
        model.path(),
        "unet/config.json",
        json!({"sample_size": 16384}),
    );
    let name = model.path().to_str().expect("a path");
    for further in [&[][..], &["--strength", "0.5"]] {
        let fixed = ["plan", "--model", name];
        afterimage_in(model.path(), fixed.iter().chain(further))
            .refused(1, &["`sample_size` is `", "are more than 67108864 pixels"]);
    }
}

#[test]
fn a_file_that_is_long_and_empty_is_not_read() {
    let model = copied("sd15");
    let file = model.path().join("model_index.json");
    let long = File::create(&file).expect("a file");
    long.set_len((64 << 20) + 1).expect("a sparse file");
    let name = model.path().to_str().expect("a path");
    afterimage_in(model.path(), ["plan", "--model", name])
        .refused(1, &["it is longer than 64.0 MiB, the most that is read"]);
}

#[test]
fn a_broken_configuration_is_named_with_its_folder() {
    let model = copied("sd15");
    let file = model.path().join("scheduler/scheduler_config.json");
    fs::write(&file, "{").expect("a file");
    let name = model.path().to_str().expect("a path");
    let named = format!("file: {}", file.display());
    afterimage_in(model.path(), ["plan", "--model", name]).refused(1, &[&named]);
}

#[test]
fn numbers_are_said_in_few_digits() {
    let folder = tempfile::tempdir().expect("a folder");
    for (option, value, said) in [
        ("--eta", "1e308", "`eta` is 1e308, "),
        ("--text-length", "100000000000", "10000 is the most"),
        ("--guidance-channels", "100000000000", "10000 is the most"),
        ("--cache", "auto:psnr=-1e308", "`psnr` is `-1e308`"),
        ("--cache", "auto:speedup=1e308", "`speedup=1e308`"),
    ] {
        let fixed = ["generate", "a cat", "--device", "cpu"];
        let ending = afterimage_in(folder.path(), fixed.iter().chain(&[option, value]));
        assert_eq!(ending.code, Some(2), "{}", ending.shown());
        let told = &ending.stderr;
        assert!(
            told.contains(said) && !told.contains("00000000000000000000"),
            "{told}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_no_recipe_keeps_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;

    let folder = tempfile::tempdir().expect("a folder");
    let name = std::ffi::OsStr::from_bytes(b"i\xff.png");
    fs::write(folder.path().join(name), "").expect("a file");
    let fixed = ["generate", "a cat", "--init-image"].map(std::ffi::OsStr::new);
    let ending = afterimage_in(folder.path(), fixed.into_iter().chain([name]));
    ending.refused(2, &["--init-image <FILE>", "names of files in UTF-8"]);
}

#[cfg(feature = "cpu")]
#[test]
fn no_number_of_threads_is_taken_in_silence() {
    for (asked, words) in [
        ("4000000", "`RAYON_NUM_THREADS` is 4000000, "),
        ("two", "`RAYON_NUM_THREADS` is `two`, which is no number"),
    ] {
        let mut command = program();
        command.args(["plan", "--steps", "2"]);
        let output = command.env("RAYON_NUM_THREADS", asked).output();
        let output = output.expect("the program starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        assert!(told.contains(words), "{told}");
    }
}

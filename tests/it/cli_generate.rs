//! `generate` and `decode` as users meet them: what is written, and what never is.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use safetensors::SafeTensors;

use crate::cli::{afterimage, afterimage_in, generate, model, names, program, texts};

#[test]
fn a_picture_is_written_with_its_account() {
    let folder = tempfile::tempdir().expect("a folder");
    let rule = "deepcache:branch=0,interval=2";
    let ending = generate(
        folder.path(),
        &["--steps", "4", "--seed", "9", "--cache", rule],
    );
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert!(
        ending.stdout.ends_with("afterimage-9.png\n"),
        "{}",
        ending.stdout
    );
    assert!(
        ending.stdout.contains("2 of 4 steps in full"),
        "{}",
        ending.stdout
    );
    assert_eq!(names(folder.path()), ["afterimage-9.png"]);
    let texts = texts(&folder.path().join("afterimage-9.png"));
    let expected = [
        ("prompt", "a cat"),
        ("seed", "9"),
        ("sampler", "ddim"),
        ("steps", "4"),
        ("cache", rule),
    ];
    for (key, text) in expected {
        assert_eq!(texts.get(key).map(String::as_str), Some(text), "{key}");
    }
    assert_eq!(texts["weights"].len(), 16);
}

#[test]
fn json_is_one_object_and_the_seed_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let ending = generate(folder.path(), &["--steps", "1", "--batch", "2", "--json"]);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let told: serde_json::Value = serde_json::from_str(&ending.stdout).expect("JSON");
    let seed = &told["seed"];
    let files = [0, 1].map(|item| format!("afterimage-{seed}-{item}.png"));
    assert_eq!(told["files"], serde_json::json!(files));
    assert_eq!(names(folder.path()), files);
}

#[test]
fn a_trace_starts_another_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let ending = generate(
        folder.path(),
        &[
            "--steps",
            "2",
            "--output",
            "a.png",
            "--trace",
            "a.safetensors",
        ],
    );
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let bytes = std::fs::read(folder.path().join("a.safetensors")).expect("a trace");
    let trace = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut names = trace.names();
    names.sort_unstable();
    let expected = [
        "image",
        "initial_latents",
        "latents.0",
        "latents.1",
        "prediction.0",
        "prediction.1",
        "prompt_embeds",
        "timesteps",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        trace.tensor("image").expect("a tensor").shape(),
        [1, 3, 128, 128]
    );

    let latents = trace.tensor("initial_latents").expect("a tensor");
    let again = safetensors::serialize([("latents", latents)], None).expect("bytes");
    std::fs::write(folder.path().join("start.safetensors"), again).expect("a file");
    let start = [
        "--steps",
        "2",
        "--output",
        "b.png",
        "--initial-latents",
        "start.safetensors",
    ];
    let ending = generate(folder.path(), &start);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let pixels = |name: &str| image::open(folder.path().join(name)).expect("a picture");
    assert_eq!(pixels("a.png"), pixels("b.png"));
}

#[test]
fn requests_that_cannot_be_met_write_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let requests: &[(&[&str], i32, &[&str])] = &[
        (&["--steps", "0"], 2, &["`steps` is 0", "hint: "]),
        (
            &["--size", "100x64"],
            2,
            &["size 100x64 is not a multiple of 8", "hint: try 104x64"],
        ),
        (
            &["--batch", "10000", "--size", "2048x2048"],
            2,
            &[
                "10000 pictures of 2048x2048 are more than",
                "hint: make them smaller",
            ],
        ),
        (
            &["--cache", "deepcache:branch=99"],
            2,
            &["branch 99 does not exist", "branches are 0 to 11"],
        ),
        (
            &["--output", "no/such/a.png"],
            1,
            &["cannot write the picture", "hint: ", "no/such/a.png"],
        ),
        (
            &["--output", "a.bmp"],
            2,
            &["is of no format that is written here", ".webp", ".gif"],
        ),
        (
            &["--trace", "no/such/t.safetensors"],
            1,
            &["cannot write the trace"],
        ),
        (
            &["--initial-latents", "none"],
            1,
            &["cannot read the latents"],
        ),
    ];
    for (arguments, code, words) in requests {
        generate(folder.path(), arguments).refused(*code, words);
        assert!(names(folder.path()).is_empty(), "{arguments:?}");
    }
}

/// What is written beside the pictures replaces neither them nor what the run reads.
#[test]
fn every_file_of_a_run_is_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let photo = image::RgbImage::from_pixel(64, 64, image::Rgb([9, 99, 200]));
    photo.save(folder.path().join("photo.png")).expect("a file");
    let refused = |arguments: &[&str], words: &str| {
        generate(folder.path(), arguments).refused(2, &[words, "hint: "]);
    };
    let same = "`--preview` and `--output` name the same file";
    let preview = ["--preview", "./keep.png", "--output"];
    refused(&[&preview[..], &["keep.png"]].concat(), same);
    let numbered = ["--preview", "n-0.png", "--output", "n.png", "--batch", "2"];
    refused(&numbered, same);
    std::fs::create_dir(folder.path().join("frames")).expect("a folder");
    let frame = ["--preview", "frames/frame-0001.png", "--output", "frames/"];
    let film = ["--frames", "2", "--steps", "4", "--size", "64x64"];
    refused(&[&frame[..], &film].concat(), same);
    let trace = ["--trace", "a.latents.safetensors", "--output", "a.png"];
    let kept = "`--trace` and the file of the latents that are kept name the same file";
    refused(&trace, kept);
    let start = ["--init-image", "photo.png", "--preview", "photo.png"];
    let reads = "`--preview` names a file that the run reads, by `--init-image`";
    refused(&start, reads);
    assert_eq!(names(folder.path()), ["frames", "photo.png"]);
    // A picture may take the place of what it began from.
    let over = ["--init-image", "photo.png", "--output", "photo.png"];
    let ending = generate(folder.path(), &[&over[..], &["--steps", "2"]].concat());
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
}

#[test]
fn names_say_what_is_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |arguments: &[&str], words: &[&str]| {
        afterimage_in(folder.path(), arguments).refused(2, words);
    };
    let rule = ["--cache", "deepcache", "--curve", "--plot", "p.png"];
    refused(
        &[&["bench"][..], &rule].concat(),
        &["'p.png'", "it is a drawing in SVG: end its name in .svg"],
    );
    refused(&["eval", "--plot", "x.png"], &["end its name in .svg"]);
    refused(
        &["eval", "report", "e", "--output", "x.html"],
        &["a page in Markdown: end its name in .md"],
    );
    refused(
        &["generate", "a", "--trace", "t.png"],
        &["a file of tensors: end its name in .safetensors"],
    );
    refused(
        &["calibrate", "--output", "q.json"],
        &["the output `q.json` is a router, whose name ends in .safetensors\nhint: "],
    );
    let plan = ["calibrate", "--cache", "deepcache:branch=0", "--output"];
    refused(
        &[&plan[..], &["plan.txt"]].concat(),
        &["the output `plan.txt` is a plan, whose name ends in .json\nhint: "],
    );
    assert!(names(folder.path()).is_empty());
}

/// What a long run with previews says and leaves where `signal` reaches it, begun through `sh` with `prelude`.
#[cfg(unix)]
fn signalled(signal: &str, prelude: &str) -> (Output, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{prelude} \"$@\""), "sh"]);
    command.arg(program().get_program());
    let run = ["generate", "--steps", "999", "--sampler", "ddim"];
    let previews = ["--preview", "shown.png", "--preview-every", "1"];
    let machine = ["--device", "cpu", "--model"];
    command.args(run).args(previews).args(machine);
    command.arg(model()).current_dir(folder.path());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("the program starts");
    let shown = folder.path().join("shown.png");
    while !shown.exists() {
        assert!(child.try_wait().expect("a child").is_none(), "it ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
    let output = child.wait_with_output().expect("the program ends");
    (output, names(folder.path()))
}

#[cfg(unix)]
#[test]
fn interrupting_leaves_no_file() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let (output, left) = signalled(signal, "exec");
        assert_eq!(output.status.code(), Some(code), "{signal}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.ends_with("cancelled\n"), "{said}");
        assert_eq!(left, ["shown.png"], "{signal}");
    }
}

/// A terminal that is closed ends a run too. `env` undoes what the tests themselves may have been begun with.
#[cfg(target_os = "linux")]
#[test]
fn closing_a_terminal_leaves_no_file() {
    let (output, left) = signalled("-HUP", "exec env --default-signal=HUP");
    assert_eq!(output.status.code(), Some(129));
    assert_eq!(left, ["shown.png"]);
}

/// Latents as a run keeps them, from those of a trace.
fn keep_latents(trace: &Path, kept: &Path) {
    let bytes = std::fs::read(trace).expect("the trace");
    let trace = SafeTensors::deserialize(&bytes).expect("tensors");
    let last = trace.tensor("latents.1").expect("the last latents");
    let kept_bytes = safetensors::serialize([("latents", last)], None).expect("bytes");
    std::fs::write(kept, kept_bytes).expect("a file");
}

#[test]
fn latents_that_were_kept_become_the_same_picture() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = std::path::absolute(model()).expect("a path");
    let model = model.to_str().expect("UTF-8");
    let machine = ["--device", "cpu", "--model", model];
    let run = ["--steps", "2", "--sampler", "ddim", "--seed", "1"];
    let files = ["--output", "fox.png", "--trace", "trace.safetensors"];
    let arguments = ["generate"]
        .iter()
        .chain(&machine)
        .chain(&run)
        .chain(&files);
    let made = afterimage_in(folder.path(), arguments);
    assert_eq!(made.code, Some(0), "{}", made.shown());
    let at = |name: &str| folder.path().join(name);
    assert!(!at("fox.latents.safetensors").exists(), "nothing failed");
    keep_latents(&at("trace.safetensors"), &at("again.latents.safetensors"));
    let arguments = ["decode", "again.latents.safetensors"];
    let decoded = afterimage_in(folder.path(), arguments.iter().chain(&machine));
    assert_eq!(decoded.code, Some(0), "{}", decoded.shown());
    assert_eq!(decoded.stdout, "again.png\n");
    let pixels = |name: &str| image::open(at(name)).expect("a picture").to_rgb8();
    assert!(pixels("fox.png") == pixels("again.png"));
    let replay = ["generate", "--replay", "again.png"];
    afterimage_in(folder.path(), replay).refused(2, &["decoded it from latents without one"]);
}

/// A model that denoises pictures themselves leaves these.
#[cfg(target_os = "linux")]
#[test]
fn what_has_no_autoencoder_is_kept_and_decoded_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = crate::fixture::fixture("ddpm/model").display().to_string();
    let run = ["generate", "--steps", "2", "--seed", "3", "--device", "cpu"];
    let made = |output: &str| {
        let rest = ["--model", &model, "--output", output];
        afterimage_in(folder.path(), run.iter().chain(&rest))
    };
    let done = |ending: crate::cli::Ending| assert_eq!(ending.code, Some(0), "{}", ending.shown());
    made("/dev/full").refused(1, &["cannot write the picture", "`afterimage decode`"]);
    done(made("a.png"));
    let kept = "afterimage-3.latents.safetensors";
    done(afterimage_in(
        folder.path(),
        ["decode", kept, "--device", "cpu"],
    ));
    let read = |name: &str| std::fs::read(folder.path().join(name)).expect("a picture");
    assert!(read("afterimage-3.png") == read("a.png"));
}

#[test]
fn latents_of_another_model_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let one =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1, 1, 1, 1], &[0; 4]);
    let bytes = safetensors::serialize([("latents", one.expect("a tensor"))], None).expect("bytes");
    std::fs::write(folder.path().join("a.latents.safetensors"), bytes).expect("a file");
    let arguments = ["decode", "a.latents.safetensors", "--device", "cpu"];
    afterimage_in(folder.path(), arguments).refused(2, &["[1, 1, 1, 1]", "[1, 4, 1, 1]"]);
}

/// A model without text, in every command.
#[test]
fn pictures_out_of_noise_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = crate::fixture::fixture("ddpm/model").display().to_string();
    let on = |command: &str, rest: &[&str]| {
        let start = [command, "--model", &model, "--steps", "2"];
        afterimage_in(folder.path(), start.iter().chain(rest))
    };
    let rest = ["--batch", "2", "--seed", "3", "--device", "cpu", "--json"];
    let ending = on("generate", &rest);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let told: serde_json::Value = serde_json::from_str(&ending.stdout).expect("JSON");
    assert_eq!((&told["prompt"], &told["width"]), (&"".into(), &16.into()));
    assert_eq!(
        names(folder.path()),
        ["afterimage-3-0.png", "afterimage-3-1.png"]
    );
    let cached = [
        "--cache",
        "deepcache:interval=2,branch=1",
        "--device",
        "cpu",
    ];
    let ending = on("bench", &[&cached[..], &["--repeat", "1"]].concat());
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    on("generate", &["a red fox"]).refused(2, &["`prompt` is given", "hint: leave it out"]);
    let ending = afterimage(["inspect", &model]);
    assert!(ending.stdout.contains("DDPMPipeline"), "{}", ending.shown());
    assert!(ending.stdout.contains("25 cells"), "{}", ending.shown());
}

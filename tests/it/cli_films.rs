//! Films as users meet them: what `--output` makes of them, and what is refused before a weight is read.

use std::{fs, path::Path, process::Stdio};

use crate::cli::{afterimage_in, generate, model, names, program, texts};

/// A film of three small frames by Text2Video-Zero.
const FILM: [&str; 8] = [
    "--frames", "3", "--steps", "4", "--size", "64x64", "--seed", "5",
];

fn made(folder: &Path, rest: &[&str]) -> Vec<u8> {
    let ending = generate(folder, &[&FILM[..], &["--output"], rest].concat());
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let file = folder.join(rest[0]);
    fs::read(file).unwrap_or_default()
}

#[test]
fn films_are_written_as_their_names_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let gif = made(folder.path(), &["a.gif", "--fps", "10"]);
    assert!(gif.starts_with(b"GIF89a"));
    let said = String::from_utf8_lossy(&gif);
    assert!(said.contains("prompt: a cat\n"), "the settings are in it");
    made(folder.path(), &["a.png"]);
    let png = fs::File::open(folder.path().join("a.png")).expect("a file");
    let png = png::Decoder::new(std::io::BufReader::new(png));
    let png = png.read_info().expect("a PNG");
    let animation = png.info().animation_control.expect("an animation");
    assert_eq!(animation.num_frames, 3);
    let delay = png.info().frame_control.expect("a first frame");
    assert_eq!((delay.delay_num, delay.delay_den), (1, 7));
    assert_eq!(texts(&folder.path().join("a.png"))["seed"], "5");
    let y4m = made(folder.path(), &["a.y4m"]);
    assert!(y4m.starts_with(b"YUV4MPEG2 W64 H64 F7:1"));
    assert_eq!(
        y4m.len() % (64 * 64 * 3 + 6),
        56,
        "a line, and three frames"
    );
    made(folder.path(), &["frames/"]);
    let frames = ["frame-0000.png", "frame-0001.png", "frame-0002.png"];
    for frame in frames {
        let path = folder.path().join("frames").join(frame);
        assert_eq!(texts(&path)["seed"], "5", "{frame}");
    }
    assert_eq!(names(folder.path()), ["a.gif", "a.png", "a.y4m", "frames"]);
}

#[test]
fn a_film_goes_to_a_pipe_as_plain_frames() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = program();
    command.args(["generate", "a cat", "--device", "cpu", "--sampler", "ddim"]);
    command.args(FILM).arg("--model").arg(model());
    command.args(["--output", "-"]).current_dir(folder.path());
    command.stdin(Stdio::null());
    let output = command.output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(output.stdout.starts_with(b"YUV4MPEG2 W64 H64 F7:1"));
    assert!(
        said.contains("3 frames"),
        "the account goes to stderr: {said}"
    );
}

#[test]
fn several_films_are_numbered() {
    let folder = tempfile::tempdir().expect("a folder");
    made(folder.path(), &["a.gif", "--batch", "2"]);
    assert_eq!(names(folder.path()), ["a-0.gif", "a-1.gif"]);
}

#[test]
fn names_that_do_not_fit_are_refused_before_weights_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    // A card has no weights: whoever looks for them says so.
    let refused = |arguments: &[&str], words: &[&str]| {
        let run = ["generate", "a cat", "--device", "cpu", "--model"];
        let card = ["stable-diffusion-v1-5"];
        let ending = afterimage_in(folder.path(), [&run[..], &card, arguments].concat());
        ending.refused(2, words);
        assert!(names(folder.path()).is_empty(), "{arguments:?}");
    };
    let film = ["--frames", "3"];
    let of_film = |rest: &[&'static str]| [&film[..], rest].concat();
    refused(
        &of_film(&["--output", "a.jpg"]),
        &["`a.jpg` is of no format that films are written in", ".gif"],
    );
    refused(
        &of_film(&["--output", "a.avi"]),
        &[
            "`a.avi` is of no format that is written here",
            ".gif",
            ".webp",
        ],
    );
    refused(
        &of_film(&["--output", "a.gif", "--fps", "0"]),
        &["`fps` is 0"],
    );
    refused(
        &of_film(&["--output", "-", "--batch", "2"]),
        &["2 films for `-`, which takes one"],
    );
    refused(
        &["--output", "a.gif"],
        &["`a.gif` is a film's, and this run makes pictures", ".png"],
    );
    if cfg!(not(feature = "video")) {
        for given in [&film[..], &[]] {
            refused(
                &[given, &["--output", "a.mp4"]].concat(),
                &["an MP4, which this program was built without", "`video`"],
            );
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_film_that_finds_no_room_leaves_its_latents_and_they_become_a_film() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let full = [&FILM[..], &["--output", "/dev/full"]].concat();
    generate(folder.path(), &full)
        .refused(1, &["cannot write the film: ", "hint: make room there"]);
    let kept = "afterimage-5.latents.safetensors";
    assert_eq!(names(folder.path()), [kept]);
    let decode = ["decode", kept, "--device", "cpu"];
    let ending = afterimage_in(
        folder.path(),
        [&decode[..], &["--output", "a.gif"]].concat(),
    );
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert_eq!(names(folder.path()), ["a.gif", kept]);
    let uneven = afterimage_in(folder.path(), [&decode[..], &["--frames", "2"]].concat());
    uneven.refused(
        2,
        &["no films of 2", "hint: give `--frames` a divisor of 3"],
    );
}

/// Kept latents say by themselves what is to be made of them: the file of the run, byte for byte, which is replayed as that is.
#[cfg(target_os = "linux")]
#[test]
fn kept_latents_become_the_file_that_could_not_be_written() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let tiny = crate::fixture::fixture("few-step-tiny-vae/vae");
    let tiny = tiny.to_str().expect("UTF-8");
    let film = [&FILM[..], &["--fps", "12", "--tiny-vae", tiny]].concat();
    let picture = ["--steps", "2", "--seed", "5", "--dtype", "bf16"];
    let kept = "afterimage-5.latents.safetensors";
    for (arguments, name) in [(&film[..], "a.gif"), (&picture[..], "a.png")] {
        let full = [arguments, &["--output", "/dev/full"]].concat();
        let words = ["`afterimage decode` with this file makes of them what was asked for"];
        generate(folder.path(), &full).refused(1, &words);
        let made = generate(folder.path(), &[arguments, &["--output", name]].concat());
        assert_eq!(made.code, Some(0), "{}", made.shown());
        let (again, decoded) = (format!("again-{name}"), format!("decoded-{name}"));
        let run = |words: &[&str]| {
            let words = [words, &["--device", "cpu"]].concat();
            let ending = afterimage_in(folder.path(), words);
            assert_eq!(ending.code, Some(0), "{}", ending.shown());
        };
        run(&["decode", kept, "--output", &decoded]);
        run(&["generate", "--replay", &decoded, "--output", &again]);
        let read = |name: &str| fs::read(folder.path().join(name)).expect("a file");
        assert!(read(&decoded) == read(name), "{decoded}");
        assert!(read(&again) == read(name), "{again}");
        if name == "a.gif" {
            let words = [
                "decode",
                kept,
                "--frames",
                "1",
                "--output",
                "pieces.png",
                "--device",
                "cpu",
            ];
            let pieces = afterimage_in(folder.path(), words);
            let told = "these are pieces of 1 frames of a run of 3, so that its recipe is not kept";
            assert!(
                pieces.code == Some(0) && pieces.stderr.contains(told),
                "{}",
                pieces.shown()
            );
        }
        fs::remove_file(folder.path().join(kept)).expect("a file");
    }
}

#[test]
fn a_rate_that_a_gif_does_not_show_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = |name: &str| {
        let rest = ["--fps", "60", "--output", name];
        let ending = generate(folder.path(), &[&FILM[..], &rest].concat());
        assert_eq!(ending.code, Some(0), "{}", ending.shown());
        ending.stderr
    };
    let gif = told("a.gif");
    let words = "warning: `a.gif` shows 50 frames a second, not 60: ";
    assert!(
        gif.contains(words) && gif.contains("hint: ask for `--fps 50`"),
        "{gif}"
    );
    assert!(!told("a.png").contains("frames a second"));
}

/// What the run seems to become, of a film its middle frame, every so many calls of the model.
#[test]
fn previews_show_a_frame_while_a_run_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let preview = ["--preview", "now.png", "--preview-every", "3"];
    let arguments = [&FILM[..], &preview, &["--output", "a.y4m"]].concat();
    let ending = generate(folder.path(), &arguments);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert_eq!(names(folder.path()), ["a.y4m", "now.png"]);
    let frame = image::open(folder.path().join("now.png")).expect("a picture");
    assert_eq!((frame.width(), frame.height()), (64, 64));
    let without = made(folder.path(), &["b.y4m"]);
    let with = fs::read(folder.path().join("a.y4m")).expect("a film");
    assert!(with == without, "a preview changes nothing");
    let decoded = [
        &FILM[..],
        &preview,
        &["--preview-decoded", "--output", "d.y4m"],
    ]
    .concat();
    let ending = generate(folder.path(), &decoded);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let exact = image::open(folder.path().join("now.png")).expect("a picture");
    assert_eq!(exact.width(), frame.width());
    assert!(exact != frame, "decoded, and by a map");
    let never = ["--preview", "late.png", "--preview-every", "100"];
    let ending = generate(
        folder.path(),
        &[&FILM[..], &never, &["--output", "c.y4m"]].concat(),
    );
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert!(!folder.path().join("late.png").exists());
}

/// What later runs find of a map: red wherever the file says so, found anew where it is no map or another's.
#[test]
fn the_map_of_previews_is_kept_for_later_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let shown = || {
        let mut command = program();
        command.args(["generate", "a cat", "--device", "cpu", "--sampler", "ddim"]);
        command.args(FILM).arg("--model").arg(model());
        command.args(["--preview", "now.png", "--preview-every", "3"]);
        command.env("XDG_CACHE_HOME", folder.path().join("cache"));
        let output = command.current_dir(folder.path()).output();
        let output = output.expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let now = image::open(folder.path().join("now.png")).expect("a picture");
        (now.to_rgb8(), said)
    };
    let (first, said) = shown();
    let kept = folder.path().join("cache/afterimage/previews");
    let [file] = &names(&kept)[..] else {
        panic!("{:?}\n{said}", names(&kept));
    };
    let file = kept.join(file);
    let own = fs::read_to_string(&file).expect("a map");
    let mut map: serde_json::Value = serde_json::from_str(&own).expect("JSON");
    let shares = map["map"]["weights"].as_array_mut().expect("shares");
    shares.fill(serde_json::json!([0.0, 0.0, 0.0]));
    map["map"]["offset"] = serde_json::json!([1.0, 0.0, 0.0]);
    fs::write(&file, map.to_string()).expect("a file");
    let (red, said) = shown();
    let is_red = red.pixels().all(|pixel| pixel.0 == [255, 0, 0]);
    assert!(is_red && !said.contains("previews"), "{said}");
    map["of"] = "another decoder".into();
    let useless = [map.to_string(), own[..own.len() / 2].to_owned()];
    for (text, warns) in useless.iter().zip([false, true]) {
        fs::write(&file, text).expect("a file");
        let (again, said) = shown();
        assert!(again == first, "{text}");
        let warned = said.contains("the map of previews is of no use, and found anew: ");
        assert_eq!(warned, warns, "{said}");
        assert_eq!(fs::read_to_string(&file).expect("a map"), own);
    }
}

#[test]
fn previews_that_could_not_be_shown_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused: &[(&[&str], &str)] = &[
        (&["--preview", "a.gif"], "`a.gif` is a film's"),
        (&["--preview", "a"], "`a` does not end in .png"),
        (&["--preview-every", "3"], "hint: name one with `--preview`"),
        (&["--preview-decoded"], "hint: name one with `--preview`"),
    ];
    for (arguments, words) in refused {
        generate(folder.path(), arguments).refused(2, &[words]);
    }
    generate(folder.path(), &["--preview", "no/folder/a.png"]).refused(1, &["the preview"]);
    assert!(names(folder.path()).is_empty());
}

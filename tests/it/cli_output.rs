//! Where pictures and data go, and what happens when they cannot.
#![cfg(unix)]

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::cli::{generate, model, names, program, texts};

/// The commands that print data, with the arguments they need to be quick.
fn printing() -> Vec<Vec<String>> {
    let model = model().display().to_string();
    let lines = [
        "--help".to_owned(),
        "--version".to_owned(),
        "eval merge --help".to_owned(),
        "devices".to_owned(),
        format!("inspect {model}"),
        format!("plan --model {model} --steps 4"),
        format!("plan --model {model} --steps 4 --json"),
    ];
    let words = |line: &String| line.split(' ').map(str::to_owned).collect();
    lines.iter().map(words).collect()
}

fn ended(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
        .wait_with_output()
        .expect("the program ends")
}

#[cfg(target_os = "linux")]
#[test]
fn a_standard_output_that_takes_nothing_is_a_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = [
        "generate", "a", "--steps", "1", "--device", "cpu", "--model",
    ];
    let made = made.map(str::to_owned).into_iter();
    let made = made.chain([model().display().to_string()]);
    let json = made.clone().chain(["--json".to_owned()]);
    let picture = made.clone().chain(["--output", "-"].map(str::to_owned));
    let mut commands = printing();
    commands.extend([made.collect(), json.collect(), picture.collect()]);
    for arguments in commands {
        let full = File::options().write(true).open("/dev/full");
        let mut command = program();
        command.args(&arguments).current_dir(folder.path());
        command.env_remove("RUST_LOG");
        let output = ended(command.stdout(full.expect("a full device")));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        let told = "error: cannot write to the standard output: No space left on device";
        assert!(said.contains(told), "{arguments:?}: {said}");
        assert!(said.contains("hint: make room"), "{arguments:?}: {said}");
    }
}

/// As of programs that `SIGPIPE` ends.
#[test]
fn a_reader_that_goes_away_ends_the_program_in_silence() {
    for arguments in printing() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = ended(program().args(&arguments).stdout(writer));
        assert_eq!(output.status.code(), Some(141), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}

/// `generate` in `folder` with a standard output of its own.
fn generate_to(folder: &Path, stdout: impl Into<Stdio>, arguments: &[&str]) -> Output {
    let mut command = program();
    command.args(["generate", "a cat", "--device", "cpu", "--steps", "1"]);
    command.args(["--seed", "5", "--model"]).arg(model());
    command.args(arguments).current_dir(folder);
    ended(command.stdout(stdout))
}

#[track_caller]
fn is_picture(bytes: &[u8]) {
    let format = image::ImageFormat::Png;
    let picture = image::load_from_memory_with_format(bytes, format).expect("a PNG");
    assert_eq!((picture.width(), picture.height()), (128, 128));
}

#[test]
fn a_picture_goes_to_the_standard_output_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["-", "/dev/stdout"] {
        let output = generate_to(folder.path(), Stdio::piped(), &["--output", name]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{name}: {said}");
        is_picture(&output.stdout);
        assert!(
            said.contains("seed    5"),
            "the account goes to stderr: {said}"
        );
        // So does a file that the standard output is sent to.
        let file = File::create(folder.path().join("redirected")).expect("a file");
        let output = generate_to(folder.path(), file, &["--output", name]);
        assert_eq!(output.status.code(), Some(0), "{name}");
        is_picture(&fs::read(folder.path().join("redirected")).expect("the file"));
    }
    assert_eq!(names(folder.path()), ["redirected"]);
}

#[test]
fn two_things_do_not_go_into_one_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |arguments: &[&str], words: &str| {
        generate(folder.path(), arguments).refused(2, &[words, "hint: "]);
    };
    refused(
        &["--output", "-", "--json"],
        "would both go to the standard output",
    );
    refused(
        &["--output", "-", "--batch", "2"],
        "2 pictures for `-`, which takes one",
    );
    refused(
        &["--output", "/dev/null", "--batch", "2"],
        "2 pictures for `/dev/null`, which takes one",
    );
    generate(folder.path(), &["--trace", "-"]).refused(2, &["--trace", "is ./-"]);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn pipes_stay_pipes_and_take_the_picture() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    let reader = {
        let pipe = pipe.clone();
        std::thread::spawn(move || fs::read(pipe).expect("what was written"))
    };
    let output = generate_to(folder.path(), Stdio::piped(), &["--output", "pipe"]);
    assert_eq!(output.status.code(), Some(0));
    is_picture(&reader.join().expect("the reader ends"));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("\npipe\n"));
    assert_eq!(names(folder.path()), ["pipe"]);
    assert!(!pipe.is_file());
}

#[test]
fn links_stay_and_permissions_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("kept")).expect("a folder");
    fs::write(at("kept/target.png"), "before").expect("a file");
    fs::set_permissions(at("kept/target.png"), fs::Permissions::from_mode(0o600)).expect("ours");
    symlink("kept/target.png", at("link.png")).expect("a link");
    let ending = generate(folder.path(), &["--steps", "1", "--output", "link.png"]);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert!(at("link.png").is_symlink());
    is_picture(&fs::read(at("kept/target.png")).expect("the target"));
    let mode = fs::metadata(at("kept/target.png")).expect("the target");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    assert_eq!(names(&at("kept")), ["target.png"]);
}

#[cfg(target_os = "linux")]
#[test]
fn devices_say_when_they_are_full() {
    let folder = tempfile::tempdir().expect("a folder");
    let ending = generate(folder.path(), &["--steps", "1", "--output", "/dev/full"]);
    let words = [
        "cannot write the picture: No space left",
        "hint: make room",
        "/dev/full",
    ];
    ending.refused(1, &words);
    let [kept] = &names(folder.path())[..] else {
        panic!("{:?}", names(folder.path()));
    };
    assert!(
        kept.ends_with(".latents.safetensors") && ending.stderr.contains(kept),
        "{}",
        ending.shown()
    );
    let ending = generate(folder.path(), &["--steps", "1", "--output", "/dev/null"]);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert_eq!(names(folder.path()).len(), 1);
}

#[test]
fn places_that_take_no_picture_are_refused_before_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("folder.png")).expect("a folder");
    fs::write(folder.path().join("file"), "").expect("a file");
    let before = names(folder.path());
    let long = format!("{}.png", "x".repeat(300));
    let places = [
        ("folder.png", "this is a folder"),
        ("new.png/", "this is a folder"),
        ("no/such/a.png", "make the folder first"),
        ("file/a.png", "a part of the path is a file"),
        (&long, "a shorter name"),
    ];
    for (place, hint) in places {
        let ending = generate(folder.path(), &["--steps", "900", "--output", place]);
        ending.refused(1, &["cannot write the picture: ", hint]);
    }
    assert_eq!(names(folder.path()), before);
}

#[test]
fn a_random_seed_is_told_and_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let seeds: Vec<String> = [&["--seed", "-1"][..], &[]]
        .iter()
        .map(|seed| {
            let rest = ["--steps", "1", "--output", "a.png"];
            let ending = generate(folder.path(), &[*seed, &rest].concat());
            assert_eq!(ending.code, Some(0), "{}", ending.shown());
            let seed = texts(&folder.path().join("a.png"))["seed"].clone();
            assert!(
                ending.stdout.contains(&format!("seed    {seed}\n")),
                "{}",
                ending.stdout
            );
            seed
        })
        .collect();
    assert_ne!(seeds[0], seeds[1]);
}

/// A picture for a standard output that is closed goes nowhere, which is said before it is made. It may be meant so.
#[cfg(target_os = "linux")]
#[test]
fn a_closed_standard_output_takes_no_picture() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = |line: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", line, env!("CARGO_BIN_EXE_afterimage")]);
        let model = std::path::absolute(model()).expect("a path");
        shell.arg(model).current_dir(folder.path());
        ended(shell.stdout(Stdio::piped()))
    };
    let run = r#""$0" generate a --device cpu --steps 1 --model "$1" --output -"#;
    let closed = told(&format!("{run} >&-"));
    let said = String::from_utf8_lossy(&closed.stderr);
    assert_eq!(closed.status.code(), Some(0), "{said}");
    let words = "warning: the standard output is closed, or keeps nothing";
    assert!(said.contains(words), "{said}");
    let thrown_away = told(&format!("{run} >/dev/null"));
    let said = String::from_utf8_lossy(&thrown_away.stderr);
    assert!(
        thrown_away.status.success() && !said.contains(words),
        "{said}"
    );
}

/// A file beyond `ulimit -f` is an error with a hint, and ends no process without a word.
#[cfg(target_os = "linux")]
#[test]
fn files_beyond_the_limit_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut shell = Command::new("sh");
    let line =
        "ulimit -f 1; exec \"$0\" generate a --device cpu --steps 1 --model \"$1\" --output a.png";
    shell.args(["-c", line, env!("CARGO_BIN_EXE_afterimage")]);
    let model = std::path::absolute(model()).expect("a path");
    shell.arg(model).current_dir(folder.path());
    let output = ended(shell.stdout(Stdio::piped()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("`ulimit -f` allows"), "{said}");
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

/// What a run writes goes through an open descriptor.
#[cfg(target_os = "linux")]
#[test]
fn descriptors_are_written_through() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut shell = Command::new("sh");
    let line =
        "exec 3> third; \"$0\" generate a --device cpu --steps 1 --model \"$1\" --output /dev/fd/3";
    shell.args(["-c", line, env!("CARGO_BIN_EXE_afterimage")]);
    let model = std::path::absolute(model()).expect("a path");
    shell.arg(model).current_dir(folder.path());
    let output = ended(shell.stdout(Stdio::piped()));
    assert!(output.status.success(), "{output:?}");
    let mut bytes = Vec::new();
    let mut third = File::open(folder.path().join("third")).expect("the file");
    third.read_to_end(&mut bytes).expect("its bytes");
    is_picture(&bytes);
}

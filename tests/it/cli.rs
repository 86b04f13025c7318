//! The program as its users meet it: what it prints, and how it ends.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
};

/// How a run of the program ended.
struct Ending {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ending {
    /// All of it in one text, for snapshots.
    fn shown(&self) -> String {
        let Self {
            code,
            stdout,
            stderr,
        } = self;
        let code = code.expect("the program was not killed");
        format!("exit code {code}\n--- stdout\n{stdout}--- stderr\n{stderr}")
    }

    /// Refused: said why on stderr in a few lines, without a backtrace, and wrote no data.
    #[track_caller]
    fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.shown());
        assert_eq!(self.stdout, "");
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}` in {}", self.stderr);
        }
        for noise in ["panicked", "RUST_BACKTRACE", "should not"] {
            assert!(!self.stderr.contains(noise), "{}", self.stderr);
        }
    }
}

fn afterimage<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ending {
    afterimage_in(Path::new("."), arguments)
}

fn afterimage_in<A: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = A>) -> Ending {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afterimage"));
    command.args(arguments).current_dir(folder);
    for variable in ["COLUMNS", "RUST_LOG", "NO_COLOR"] {
        command.env_remove(variable);
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ending {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

#[test]
fn help_is_worth_reading() {
    insta::assert_snapshot!("help", afterimage(["--help"]).shown());
    for command in ["generate", "plan", "bench", "devices", "inspect"] {
        let name = format!("help_{command}");
        insta::assert_snapshot!(name, afterimage([command, "--help"]).shown());
    }
}

#[test]
fn the_version_goes_to_stdout() {
    let ending = afterimage(["--version"]);
    assert_eq!(ending.code, Some(0));
    assert_eq!(
        ending.stdout,
        concat!("afterimage ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

/// One row a mistake: the arguments and the words that the message must hold.
#[test]
fn mistakes_in_the_arguments_are_usage_errors_with_a_hint() {
    let mistakes: &[(&[&str], &[&str])] = &[
        (&["paint"], &["unrecognized subcommand 'paint'"]),
        (
            &["generate", "--device", "gpu"],
            &["`gpu` is not a device", "hint: use auto, cpu"],
        ),
        (
            &["generate", "--device", "cpu:0"],
            &["`cpu:0` is not a device"],
        ),
        (
            &["generate", "--dtype", "int8"],
            &["`int8` is not a data type", "f32, f16 or bf16"],
        ),
        (
            &["generate", "--size", "512"],
            &["'512' for '--size <WxH>'", "as in 512x512"],
        ),
        (
            &["generate", "--size", "999999x8"],
            &["a side has 1 to 16384 pixels"],
        ),
        (&["generate", "--batch", "0"], &["at least 1 is needed"]),
        (
            &["generate", "--steps", "ten"],
            &["'ten' for '--steps <N>'"],
        ),
        (
            &["generate", "--guidance-scale", "nan"],
            &["a number is needed"],
        ),
        (&["generate", "--seed", "-1"], &["unexpected argument '-1'"]),
        (&["bench"], &["--cache <RULE>"]),
    ];
    for (arguments, words) in mistakes {
        afterimage(*arguments).refused(2, words);
    }
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_utf8_are_refused() {
    use std::os::unix::ffi::OsStrExt;

    let broken = OsStr::from_bytes(b"a \xff b");
    afterimage([OsStr::new("generate"), broken]).refused(2, &["invalid UTF-8"]);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_backend_that_is_not_built_names_its_feature() {
    let ending = afterimage(["generate", "--device", "cuda:1"]);
    ending.refused(
        1,
        &[
            "backend `cuda` is not part of this build",
            "`--features cuda`",
        ],
    );
}

#[test]
fn devices_are_listed_with_what_auto_takes() {
    let ending = afterimage(["devices"]);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let head = ending.stdout.lines().next().unwrap_or_default();
    let columns: Vec<_> = head.split_whitespace().collect();
    assert_eq!(columns[..4], ["DEVICE", "NAME", "KIND", "RUNTIME"]);
    assert!(ending.stdout.contains("\nauto: "));
    if cfg!(feature = "cpu") {
        assert!(ending.stdout.contains("\ncpu "), "{}", ending.stdout);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_defect() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afterimage"));
    let mut child = command
        .arg("devices")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the program ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

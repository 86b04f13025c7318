//! The program as its users meet it: what it prints, and how it ends.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// How a run of the program ended.
pub(crate) struct Ending {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ending {
    /// All of it in one text, for snapshots.
    pub(crate) fn shown(&self) -> String {
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
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
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

pub(crate) fn afterimage<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ending {
    afterimage_in(Path::new("."), arguments)
}

/// The program, with a runtime directory: without one, Mesa's Vulkan layer writes to the standard error.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afterimage"));
    command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    command
}

pub(crate) fn afterimage_in<A: AsRef<OsStr>>(
    folder: &Path,
    arguments: impl IntoIterator<Item = A>,
) -> Ending {
    let mut command = program();
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
    // Without the feature `serve`, there is a command less.
    if cfg!(feature = "serve") {
        insta::assert_snapshot!("help", afterimage(["--help"]).shown());
    }
    for command in [
        "generate",
        "decode",
        "plan",
        "bench",
        "calibrate",
        "doctor",
        "devices",
        "eval",
        "inspect",
    ] {
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
type Mistakes<'a> = &'a [(&'a [&'a str], &'a [&'a str])];

fn are_usage_errors(mistakes: Mistakes<'_>) {
    for (arguments, words) in mistakes {
        afterimage(*arguments).refused(2, words);
    }
}

#[test]
fn names_that_are_not_known_are_usage_errors_with_a_hint() {
    are_usage_errors(&[
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
            &["generate", "--weights", "q3"],
            &[
                "`q3` is not a format of weights",
                "hint: use file, q8 or q4",
            ],
        ),
    ]);
}

#[test]
fn words_of_other_programs_are_answered_with_ours() {
    are_usage_errors(&[
        (
            &["generate", "--sampler", "DPM++ 2M Karras"],
            &["hint: it is `dpmsolver++-karras` here"],
        ),
        (
            &["generate", "--steps", "2.5"],
            &["'2.5' for '--steps <N>'", "a whole number from 0 on"],
        ),
        (
            &["generate", "--prompt", "a cat"],
            &["unexpected argument '--prompt'", "the prompt stands alone"],
        ),
    ]);
}

#[test]
fn values_that_make_no_sense_are_usage_errors_with_a_hint() {
    are_usage_errors(&[
        (
            &["generate", "--size", "512"],
            &["'512' for '--size <WxH>'", "as in 512x512"],
        ),
        (
            &["generate", "--size", "999999x8"],
            &["a side has 1 to 8192 pixels"],
        ),
        (
            &["generate", "--sampler", "foo"],
            &["there is no sampler `foo`", "hint: choose one of ddim"],
        ),
        (
            &["generate", "--cache", "deepcache:branches=2"],
            &["`deepcache` has no option `branches`", "hint: "],
        ),
        (
            &["plan", "--cache", "fast"],
            &[
                "unknown cache rule `fast`",
                "hint: there are none, deepcache",
            ],
        ),
        (&["generate", "--batch", "0"], &["at least 1 is needed"]),
        (
            &["decode", "a.latents.safetensors", "--prediction", "v"],
            &["`--prediction` says what a denoiser predicts"],
        ),
        (
            &["generate", "--steps", "ten"],
            &["'ten' for '--steps <N>'"],
        ),
        (
            &["generate", "--guidance-scale", "nan"],
            &["a number is needed"],
        ),
        (
            &["generate", "--seed", "-2"],
            &["'-2' for '--seed <N>'", "or -1 for a random one"],
        ),
        (
            &["eval", "--seed", "-1"],
            &["'-1' for '--seed <N>'", "must be made again alike"],
        ),
        (&["bench"], &["--cache <RULE>"]),
    ]);
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
    let model = model();
    let model = model.to_str().expect("UTF-8");
    let ending = afterimage(["generate", "--device", "cuda:1", "--model", model]);
    let words = [
        "backend `cuda` is not part of this build",
        "`--features cuda`",
    ];
    ending.refused(1, &words);
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

/// The small random model of the golden tests.
pub(crate) fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sd15/model")
}

/// `generate` on the small model: a few steps of DDIM in `folder`.
pub(crate) fn generate(folder: &Path, arguments: &[&str]) -> Ending {
    let model = model();
    let model = model.to_str().expect("UTF-8");
    let fixed = [
        "generate",
        "a cat",
        "--device",
        "cpu",
        "--sampler",
        "ddim",
        "--model",
        model,
    ];
    afterimage_in(folder, fixed.iter().chain(arguments))
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().display().to_string())
        .collect();
    names.sort();
    names
}

pub(crate) fn texts(picture: &Path) -> BTreeMap<String, String> {
    let file = BufReader::new(File::open(picture).expect("a picture"));
    let reader = png::Decoder::new(file).read_info().expect("a PNG");
    let chunks = reader.info().utf8_text.iter();
    chunks
        .map(|chunk| (chunk.keyword.clone(), chunk.get_text().expect("text")))
        .collect()
}

#[test]
fn a_model_that_is_none_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["no-such-model", "."] {
        let ending = afterimage_in(folder.path(), ["generate", "--model", name]);
        let code = ending.code;
        assert!(matches!(code, Some(1 | 2)), "{}", ending.shown());
        ending.refused(code.unwrap_or(0), &["hint: ", name]);
    }
}

#[test]
fn plans_are_made_from_a_card_alone() {
    let arguments = [
        "plan",
        "--model",
        "stable-diffusion-v1-5",
        "--steps",
        "50",
        "--json",
    ];
    let rule = [
        "--sampler",
        "ddim",
        "--cache",
        "deepcache:interval=5,branch=0",
    ];
    let ending = afterimage(arguments.iter().chain(&rule));
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let plan: serde_json::Value = serde_json::from_str(&ending.stdout).expect("JSON");
    assert_eq!(plan["work"]["full_evaluations"], 10);
    assert_eq!(
        plan["spans"][1]["cells"],
        serde_json::json!([[0, 1], [24, 25]])
    );
    let gmacs = plan["spans"][0]["gmacs"].as_f64().expect("a number");
    assert!(
        (gmacs / 2.0 - 401.6).abs() < 0.1,
        "{gmacs} against the published 401.6"
    );
    let memory = &plan["memory"];
    let weights = memory["weights"].as_array().expect("parts");
    let parameters = weights.iter().map(|part| part["parameters"].as_u64());
    let parameters: Vec<_> = parameters
        .map(|count| count.expect("a number") / 100_000)
        .collect();
    assert_eq!(
        parameters,
        [1230, 8595, 836],
        "the published 123, 860 and 84 million"
    );
    let said = memory["assumption"].as_str().expect("a text");
    assert!(said.contains("none are here"), "{said}");
    assert_eq!(memory["phase"], "decoding");
}

#[test]
fn bench_runs_what_it_forecasts() {
    let model = model();
    let model = model.to_str().expect("UTF-8");
    let fixed = [
        "bench",
        "--model",
        model,
        "--steps",
        "4",
        "--sampler",
        "ddim",
        "--device",
        "cpu",
    ];
    let rule = [
        "--repeat",
        "1",
        "--json",
        "--cache",
        "deepcache:interval=2,branch=0",
    ];
    let ending = afterimage(fixed.iter().chain(&rule));
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let bench: serde_json::Value = serde_json::from_str(&ending.stdout).expect("JSON");
    for (index, cells) in [(0, 100), (1, 54)] {
        let result = &bench["results"][index];
        assert_eq!(result["cells_run"], cells);
        assert_eq!(result["cells_forecast"], cells);
    }
}

/// The processor records nothing, and says so.
#[test]
fn recorded_steps_are_timed_beside_the_others() {
    let model = model();
    let model = model.to_str().expect("UTF-8");
    let bench = "bench --steps 8 --sampler ddim --device cpu --repeat 1 --json --step-graphs";
    let fixed = bench
        .split(' ')
        .chain(["--cache", "deepcache:interval=2,branch=0"]);
    let ending = afterimage(fixed.chain(["--model", model]));
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let bench: serde_json::Value = serde_json::from_str(&ending.stdout).expect("JSON");
    let results = bench["results"].as_array().expect("a list");
    assert_eq!(results.len(), 4);
    assert_eq!(results[1]["rule"], "none");
    assert_eq!(results[1]["evaluations_played"], 0);
    assert!(results[2]["evaluations_played"].is_null());
    let folder = tempfile::tempdir().expect("a folder");
    let ending = generate(folder.path(), &["--step-graphs"]);
    assert!(
        ending.stdout.contains("evaluations played"),
        "{}",
        ending.shown()
    );
}

#[test]
fn inspect_names_parts_and_defaults() {
    let ending = afterimage([OsStr::new("inspect"), model().as_os_str()]);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    for word in [
        "unet",
        "vae",
        "text_encoder",
        "AutoencoderKL",
        "f16",
        "128x128",
        "pndm",
    ] {
        assert!(
            ending.stdout.contains(word),
            "no `{word}` in {}",
            ending.stdout
        );
    }
}

/// `DeepCache`'s table of CIFAR-10 (arXiv 2312.00858): 4.15 G at interval 2.
#[test]
fn plan_counts_as_the_papers_do() {
    let rule = "deepcache:interval=2,branch=2";
    let start = [
        "plan",
        "--model",
        "google/ddpm-cifar10-32",
        "--steps",
        "100",
    ];
    let rest = ["--sampler", "ddim-quad", "--cache", rule, "--json"];
    let ending = afterimage(start.iter().chain(&rest));
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let told: serde_json::Value = serde_json::from_str(&ending.stdout).expect("JSON");
    let published = |key: &str| told["published"][key].as_f64().expect("a number");
    assert!((published("gmacs") / 4.15 - 1.0).abs() < 0.01, "{told}");
    assert!(
        (published("gmacs_without_cache") / 6.1 - 1.0).abs() < 0.01,
        "{told}"
    );
}

//! The program as its users meet it: what it prints, and how it ends.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use safetensors::SafeTensors;

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
    insta::assert_snapshot!("help", afterimage(["--help"]).shown());
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
            &["generate", "--weights", "q4"],
            &["`q4` is not a format of weights", "hint: use file or q8"],
        ),
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

#[test]
fn a_reader_that_goes_away_is_no_defect() {
    let mut command = program();
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

/// The small random model of the golden tests.
fn model() -> PathBuf {
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
        (&["--output", "a.jpg"], 2, &["does not end in .png"]),
        (&["--trace", "no/such/t"], 1, &["cannot write the trace"]),
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

#[cfg(unix)]
#[test]
fn interrupting_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = program();
    command.args([
        "generate",
        "--steps",
        "999",
        "--sampler",
        "ddim",
        "--device",
        "cpu",
        "--model",
    ]);
    command.arg(model()).current_dir(folder.path());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = child.spawn().expect("the program starts");
    std::thread::sleep(Duration::from_secs(2));
    let signal = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(signal.expect("kill runs").success());
    let output = child.wait_with_output().expect("the program ends");
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.ends_with("cancelled\n"), "{said}");
    assert!(names(folder.path()).is_empty());
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
    assert!((gmacs / 2.0 - 401.6).abs() < 0.1, "METHODS 1.5: {gmacs}");
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

/// `generate` with the class-conditional model of the golden tests.
fn generate_class(folder: &Path, arguments: &[&str]) -> Ending {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dit/model");
    let model = model.to_str().expect("UTF-8");
    let fixed = [
        "generate", "--device", "cpu", "--steps", "4", "--model", model,
    ];
    afterimage_in(folder, fixed.iter().chain(arguments))
}

#[test]
fn pictures_of_classes_are_written_with_their_account() {
    let folder = tempfile::tempdir().expect("a folder");
    let rule = "dit-propagation:every=2";
    let arguments = ["--class-label", "207,3", "--seed", "1", "--cache", rule];
    let ending = generate_class(folder.path(), &arguments);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert!(
        ending.stdout.contains("16 of 24 cells"),
        "{}",
        ending.stdout
    );
    let files = ["afterimage-1-0.png", "afterimage-1-1.png"];
    assert_eq!(names(folder.path()), files);
    let texts = texts(&folder.path().join(files[1]));
    assert_eq!(texts["class"], "207, 3");
    assert!(!texts.contains_key("prompt"));
    for (arguments, words) in [
        (&["--class-label", "1000"][..], "there is no class 1000"),
        (&[], "no class is named"),
        (&["a cat", "--class-label", "1"], "reads no text"),
    ] {
        generate_class(folder.path(), arguments).refused(2, &[words]);
    }
}

#[test]
fn a_router_is_calibrated_and_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dit/model");
    let model = model.to_str().expect("UTF-8");
    let fixed = [
        "calibrate",
        "--device",
        "cpu",
        "--steps",
        "4",
        "--model",
        model,
    ];
    let rest = [
        "--class-label",
        "3",
        "--seeds",
        "1,2",
        "--output",
        "router.safetensors",
    ];
    let ending = afterimage_in(folder.path(), fixed.iter().chain(&rest));
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert_eq!(ending.stdout, "router.safetensors: 12 branches, 4 steps\n");
    let rule = "l2c:router=router.safetensors,threshold=0.5";
    let ending = generate_class(folder.path(), &["--class-label", "3", "--cache", rule]);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert!(ending.stdout.contains("branches"), "{}", ending.stdout);
}

#[test]
fn class_models_are_planned_timed_and_inspected() {
    let plan = [
        "plan",
        "--model",
        "DiT-XL-2-256x256",
        "--cache",
        "dit-propagation:keys=A",
        "--json",
    ];
    let ending = afterimage(plan);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let plan: serde_json::Value = serde_json::from_str(&ending.stdout).expect("JSON");
    assert_eq!(plan["work"]["full_evaluations"], 113);
    let gmacs = plan["spans"][0]["gmacs"].as_f64().expect("a number");
    assert!((gmacs / 2.0 - 118.6).abs() < 0.1, "{gmacs}");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dit/model");
    let model = model.to_str().expect("UTF-8");
    let bench = [
        "bench",
        "--model",
        model,
        "--steps",
        "4",
        "--device",
        "cpu",
        "--repeat",
        "1",
        "--cache",
        "dit-propagation:every=2",
    ];
    let ending = afterimage(bench);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert!(
        ending.stdout.contains("dit-propagation:every=2"),
        "{}",
        ending.stdout
    );
    let ending = afterimage(["inspect", model]);
    for words in [
        "transformer",
        "1000, labels 0 to 999",
        "6 cells, cut at 1 to 5",
        "64x64",
    ] {
        assert!(
            ending.stdout.contains(words),
            "no `{words}` in {}",
            ending.stdout
        );
    }
}

/// LDM-4-G: the card alone plans what `DeepCache`'s table reports (METHODS 2.10); a small model is made, timed and inspected.
#[test]
fn class_conditional_latent_diffusion_is_planned_and_run() {
    let rule = "deepcache:interval=5";
    let ending = afterimage(["plan", "--model", "ldm-4-g", "--cache", rule, "--json"]);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let plan: serde_json::Value = serde_json::from_str(&ending.stdout).expect("JSON");
    assert_eq!(plan["work"]["full_evaluations"], 50);
    for (key, published) in [("gmacs", 23.50), ("gmacs_without_cache", 99.82)] {
        let found = plan["published"][key].as_f64().expect("a number");
        assert!(
            (found / published - 1.0).abs() < 0.01,
            "{found}, published {published}"
        );
    }
    let (model, folder) = (
        crate::ldm::assembled(),
        tempfile::tempdir().expect("a folder"),
    );
    let model = model.path().to_str().expect("UTF-8");
    let rule = "faster-diffusion-ldm:keys=0+1+2+5";
    let fixed = ["--model", model, "--steps", "8", "--device", "cpu"];
    let of = |words: &[&'static str]| -> Vec<&str> {
        words
            .iter()
            .copied()
            .chain(fixed)
            .chain(["--cache", rule])
            .collect()
    };
    let ending = afterimage_in(
        folder.path(),
        of(&["generate", "--class-label", "3,7", "--seed", "1"]),
    );
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert_eq!(
        names(folder.path()),
        ["afterimage-1-0.png", "afterimage-1-1.png"]
    );
    let ending = afterimage(of(&["bench", "--repeat", "1"]));
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let ending = afterimage(["inspect", model]);
    for words in ["class_embedder", "10, labels 0 to 9", "64x64"] {
        assert!(ending.stdout.contains(words), "{}", ending.shown());
    }
}

/// `eval` of the bundled model in few pictures and steps, into `folder`.
fn evaluation(folder: &Path, further: &[&str]) -> Command {
    let mut command = program();
    command
        .args([
            "eval",
            "--device",
            "cpu",
            "--steps",
            "4",
            "--samples",
            "3",
            "--judge",
            "shapes",
        ])
        .args(["--cache", "deepcache:interval=2,branch=0", "--output"])
        .arg(folder)
        .args(further)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn ended(mut command: Command) -> Ending {
    let output = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ending {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

fn batches(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let names = entries.map(|entry| entry.expect("an entry").file_name().display().to_string());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("batch-")).collect();
    names.sort();
    names
}

/// The numbers of an evaluation that do not depend on the clock.
fn quality(results: &str) -> Vec<serde_json::Value> {
    let results: serde_json::Value = serde_json::from_str(results).expect("JSON");
    let outcomes = results["outcomes"].as_array().expect("outcomes").iter();
    outcomes
        .map(|outcome| {
            serde_json::json!([
                outcome["rule"],
                outcome["steps"],
                outcome["mean_squared_error"],
                outcome["ssim"],
                outcome["judged"],
                outcome["cells_run"]
            ])
        })
        .collect()
}

#[cfg(feature = "bundled")]
#[test]
fn a_killed_evaluation_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let [killed, whole] = ["killed", "whole"].map(|name| folder.path().join(name));
    let mut child = evaluation(&killed, &[])
        .spawn()
        .expect("the program starts");
    while batches(&killed).is_empty() && child.try_wait().expect("a status").is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("it is killed");
    child.wait().expect("it has ended");
    let kept = batches(&killed);
    assert!(kept.contains(&"batch-000000.safetensors".to_owned()));
    let before = std::fs::metadata(killed.join(&kept[0]))
        .and_then(|file| file.modified())
        .expect("a time");

    let resumed = ended(evaluation(&killed, &["--json"]));
    assert_eq!(resumed.code, Some(0), "{}", resumed.shown());
    let after = std::fs::metadata(killed.join(&kept[0]))
        .and_then(|file| file.modified())
        .expect("a time");
    assert_eq!(before, after, "what was there is not made again");
    assert_eq!(batches(&killed).len(), 3);

    let shards = ["1/2", "2/2"].map(|shard| folder.path().join(shard.replace('/', "-")));
    for (folder, shard) in shards.iter().zip(["1/2", "2/2"]) {
        let ending = ended(evaluation(folder, &["--shard", shard]));
        assert_eq!(ending.code, Some(0), "{}", ending.shown());
        assert!(
            ending
                .stdout
                .contains("join all shards with `afterimage eval merge"),
            "{}",
            ending.stdout
        );
    }
    let merge = |folders: &[&PathBuf], further: &[&str]| {
        let folders = folders.iter().map(|folder| folder.as_os_str());
        let arguments = ["eval", "merge", "--device", "cpu"]
            .map(OsStr::new)
            .into_iter();
        afterimage(
            arguments
                .chain(folders)
                .chain(further.iter().map(OsStr::new)),
        )
    };
    merge(&[&shards[0]], &[]).refused(
        1,
        &[
            "1 of 3 batches are missing: 1",
            "hint: run their shards again",
        ],
    );
    merge(&[&shards[0], &killed], &[]).refused(1, &["batch 0 is there twice"]);
    let whole = whole.display().to_string();
    let npz = folder.path().join("npz").display().to_string();
    let further = [
        "--judge", "shapes", "--json", "--output", &whole, "--npz", &npz,
    ];
    let joined = merge(&[&shards[0], &shards[1]], &further);
    assert_eq!(joined.code, Some(0), "{}", joined.shown());
    assert_eq!(
        quality(&joined.stdout),
        quality(&resumed.stdout),
        "shards make the same pictures"
    );
    for name in ["4-steps", "2-steps", "deepcache-branch-0-interval-2"] {
        assert!(
            Path::new(&npz).join(name).with_extension("npz").is_file(),
            "{name}"
        );
    }

    let page = folder.path().join("quality.md");
    let report = afterimage([
        OsStr::new("eval"),
        OsStr::new("report"),
        killed.as_os_str(),
        OsStr::new("--output"),
        page.as_os_str(),
    ]);
    assert_eq!(report.code, Some(0), "{}", report.shown());
    let text = std::fs::read_to_string(&page).expect("a page");
    assert!(
        text.contains("## scenes") && text.contains("](quality-0.svg)"),
        "{text}"
    );
    assert!(folder.path().join("quality-0.svg").is_file());

    ended(evaluation(&killed, &["--seed", "5"])).refused(
        1,
        &["`seed` is 0 there and 5 here", "hint: name another folder"],
    );
}

#[test]
fn evaluations_that_make_no_sense_are_refused_at_once() {
    let mistakes: &[(&[&str], &[&str])] = &[
        (
            &["eval", "--shard", "5/4"],
            &["`5/4` is not a shard", "as in 1/4 to 4/4"],
        ),
        (&["eval", "--data", "x"], &["--lpips <FILE>"]),
        (&["eval", "--samples", "0"], &["at least 1 is needed"]),
        (&["eval", "merge"], &["<DIR>..."]),
    ];
    for (arguments, words) in mistakes {
        afterimage(*arguments).refused(2, words);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let merge = afterimage([
        OsStr::new("eval"),
        OsStr::new("merge"),
        folder.path().as_os_str(),
    ]);
    merge.refused(
        1,
        &[
            "there is no evaluation in this folder",
            "hint: name folders",
        ],
    );
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

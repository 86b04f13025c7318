//! The commands that write, and what they write when nothing disturbs them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use tempfile::TempDir;

use super::{
    all, copy, files,
    shim::{Broken, Call, Fault, Shimmed},
};

/// What lies where a command is to write.
const EARLIER: &[u8] = b"earlier\n";

/// The file that a run keeps while memory is short.
pub(super) const KEPT: &str = "kept.latents.safetensors";

/// A command that writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) arguments: &'static str,
    /// Files that are there before, with something else in them.
    pub(super) over: &'static [&'static str],
    /// What it writes, it may also go without.
    pub(super) is_cache: bool,
    /// Memory is short.
    pub(super) is_short: bool,
}

const fn case(name: &'static str, arguments: &'static str, over: &'static [&'static str]) -> Case {
    Case {
        name,
        arguments,
        over,
        is_cache: false,
        is_short: false,
    }
}

pub(super) const PICTURE: Case = case(
    "a picture",
    "generate --device cpu --steps 1 --seed 7 --output a.png",
    &["a.png"],
);

pub(super) const KEEPING: Case = Case {
    is_short: true,
    ..case(
        "a picture, its latents kept",
        "generate --device cpu --steps 1 --seed 7 --output kept.png",
        &["kept.png"],
    )
};

pub(super) const EVALUATION: Case = case(
    "an evaluation",
    "eval --device cpu --steps 2 --samples 2 --batch 1 --judge shapes --cache deepcache:interval=2,branch=0 --plot p.svg --npz npz \
     --output e --json",
    &["p.svg", "npz/2-steps.npz"],
);

pub(super) const DOCTOR: Case = Case {
    is_cache: true,
    ..case("the doctor's record", "doctor --device cpu", &[])
};

/// Every command, or those that write in a way of their own; of them those that `AFTERIMAGE_FAULTS_INTO="a film;a report"` names, if it is set.
pub(super) fn cases() -> Vec<Case> {
    let named = std::env::var("AFTERIMAGE_FAULTS_INTO");
    let is_named = |case: &Case| match &named {
        Ok(named) => named.split(';').any(|one| one == case.name),
        Err(_) => true,
    };
    let differ = |case: &Case| case.name == ROUTER || case.is_short || case.name == EVALUATION.name;
    let tried = |case: &Case| is_named(case) && (all() || differ(case));
    CASES.into_iter().filter(tried).collect()
}

const ROUTER: &str = "a router";

pub(super) const CASES: [Case; 12] = [
    PICTURE,
    case(
        "pictures",
        "generate --device cpu --steps 1 --seed 7 --batch 2 --output b.png",
        &["b-0.png", "b-1.png"],
    ),
    case(
        "a trace",
        "generate --device cpu --steps 2 --seed 7 --trace t.safetensors --output t.png",
        &["t.safetensors", "t.png"],
    ),
    KEEPING,
    case(
        "a film",
        "generate --device cpu --steps 3 --seed 7 --size 16x16 --frames 2 --output f.gif",
        &["f.gif"],
    ),
    case(
        "a film in plain frames",
        "generate --device cpu --steps 3 --seed 7 --size 16x16 --frames 2 --output f.y4m",
        &["f.y4m"],
    ),
    case(
        "a folder of frames",
        "generate --device cpu --steps 3 --seed 7 --size 16x16 --frames 2 --output frames/",
        &[],
    ),
    case(
        "a decoded picture",
        "decode made.latents.safetensors --device cpu --output d.png",
        &["d.png"],
    ),
    case(
        ROUTER,
        "calibrate --device cpu --model scenes-dit --class-label 0 --steps 2 --seeds 0 --output r.safetensors",
        &["r.safetensors"],
    ),
    EVALUATION,
    case(
        "a joined evaluation",
        "eval merge made --device cpu --judge shapes --plot j.svg --output j",
        &["j.svg", "j/results.json"],
    ),
    case(
        "a report",
        "eval report made --output page.md",
        &["page.md", "page-0.svg"],
    ),
];

impl Case {
    /// The command line, word by word.
    pub(super) fn words(&self) -> Vec<String> {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/scenes-dit");
        let model = model.display().to_string();
        let words = self.arguments.split_whitespace();
        words
            .map(|word| word.replace("scenes-dit", &model))
            .collect()
    }

    /// The command in `folder`, where everything is that it needs; `None` where no fault can be injected.
    pub(super) fn command(&self, folder: &Path) -> Option<Shimmed> {
        let shimmed = Shimmed::new(folder, self.words())?;
        if !self.is_short {
            return Some(shimmed);
        }
        let table = folder.join("meminfo");
        fs::write(&table, "MemTotal: 8000000 kB\nMemAvailable: 16 kB\n").expect("a file");
        let swap = format!("/proc/meminfo={}", table.display());
        Some(shimmed.env("FAULT_SWAP", swap))
    }

    /// A folder with all that the command needs, and something else where it is to write.
    pub(super) fn folder(&self) -> TempDir {
        let folder = copy(made());
        for name in self.over {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, EARLIER).expect("a file");
        }
        folder
    }

    /// What the command does when nothing disturbs it.
    pub(super) fn undisturbed(&self) -> Option<Undisturbed> {
        let folder = self.folder();
        let before = files(folder.path());
        let run = self
            .command(folder.path())?
            .fault(Fault::all("count"))
            .run();
        run.is_done();
        let is_output = |path: &PathBuf| {
            let is_new = !before.contains(path) && !path.ends_with("meminfo");
            is_new || self.over.iter().any(|name| path.ends_with(name))
        };
        let written = files(folder.path()).into_iter().filter(is_output);
        let below = |path: PathBuf| {
            let bytes = fs::read(&path).expect("a file");
            let name = path.strip_prefix(folder.path()).expect("below").into();
            (name, bytes)
        };
        let calls = run.fired.iter().filter(|call| call.number > 0);
        Some(Undisturbed {
            files: written.map(below).collect(),
            calls: calls.cloned().collect(),
            run,
        })
    }
}

/// What a command leaves, and by which calls.
pub(super) struct Undisturbed {
    pub(super) files: BTreeMap<PathBuf, Vec<u8>>,
    pub(super) calls: Vec<Call>,
    pub(super) run: Broken,
}

impl Undisturbed {
    /// Every file of the command in `folder` is whole, or as it was before.
    #[track_caller]
    pub(super) fn are_whole_or_earlier(&self, case: &Case, folder: &Path, said: &str) {
        for (name, whole) in &self.files {
            let Ok(found) = fs::read(folder.join(name)) else {
                let was_there = case.over.iter().any(|earlier| name.ends_with(earlier));
                assert!(!was_there, "`{}` is gone\n{said}", name.display());
                continue;
            };
            let fine = found == EARLIER || is_whole(name, &found, whole);
            assert!(fine, "`{}` is half-written\n{said}", name.display());
        }
    }

    /// Every file of the command is in `folder`, and as it should be.
    #[track_caller]
    pub(super) fn are_there(&self, folder: &Path, said: &str) {
        for (name, whole) in &self.files {
            let found = fs::read(folder.join(name)).unwrap_or_default();
            let fine = is_whole(name, &found, whole);
            assert!(fine, "`{}` is not right\n{said}", name.display());
        }
    }
}

/// Whether `found` is all of the file: the same bytes as in an undisturbed run, where they do not tell of the time that was taken.
fn is_whole(name: &Path, found: &[u8], undisturbed: &[u8]) -> bool {
    let kind = name.extension().unwrap_or_default();
    let text = String::from_utf8_lossy(found);
    let lines = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().count();
    match kind.to_str() {
        Some("json") => serde_json::from_slice::<serde_json::Value>(found).is_ok(),
        Some("svg") => text.trim_end().ends_with("</svg>"),
        Some("md") => lines(found) == lines(undisturbed),
        Some("safetensors") if name.display().to_string().contains("batch-") => {
            pictures(found).is_some_and(|found| Some(found) == pictures(undisturbed))
        }
        _ => found == undisturbed,
    }
}

/// The tensors of a batch, without what is said of the time that they took.
pub(super) fn pictures(batch: &[u8]) -> Option<BTreeMap<String, Vec<u8>>> {
    let file = safetensors::SafeTensors::deserialize(batch).ok()?;
    let tensors = file.iter();
    Some(
        tensors
            .map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec()))
            .collect(),
    )
}

/// A folder with latents and an evaluation, made once.
fn made() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().expect("a folder");
        let run = |arguments: &str| {
            let ending = crate::cli::afterimage_in(folder.path(), arguments.split(' '));
            assert_eq!(ending.code, Some(0), "{}", ending.shown());
        };
        run("generate --device cpu --steps 1 --trace trace.safetensors --output trace.png");
        run("eval --device cpu --steps 2 --samples 2 --batch 1 --judge shapes --output made");
        let bytes = fs::read(folder.path().join("trace.safetensors")).expect("a trace");
        let trace = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
        let last = trace
            .names()
            .into_iter()
            .filter(|name| name.starts_with("latents."));
        let last = trace.tensor(last.max().expect("latents")).expect("latents");
        let kept = safetensors::serialize([("latents", last)], None).expect("a file");
        fs::write(folder.path().join("made.latents.safetensors"), kept).expect("a file");
        for name in ["trace.safetensors", "trace.png"] {
            fs::remove_file(folder.path().join(name)).expect("a file");
        }
        folder
    };
    MADE.get_or_init(make).path()
}

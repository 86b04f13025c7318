//! Caches whose place is nowhere, no folder, or not to be written to: the work is done all the same, and said.

use std::{fs, path::Path};

use super::{
    files,
    shim::{Broken, Fault, Shimmed},
    tell,
};

const GENERATE: [&str; 7] = [
    "generate", "--device", "cpu", "--steps", "1", "--output", "a.png",
];
const DOCTOR_WORDS: [&str; 3] = ["doctor", "--device", "cpu"];
const WARNING: &str = "warning: kernels will be checked again: ";

/// What a place is, the variables that name it, and the folder in which nothing can be written.
type Place = (
    &'static str,
    fn(Shimmed, &Path) -> Shimmed,
    Option<&'static str>,
);

const PLACES: [Place; 6] = [
    (
        "HOME is not writable",
        |run, at| run.without("XDG_CACHE_HOME").env("HOME", at.join("home")),
        Some("home"),
    ),
    (
        "HOME is not there",
        |run, at| {
            run.without("XDG_CACHE_HOME")
                .env("HOME", at.join("nowhere"))
        },
        Some("nowhere"),
    ),
    (
        "HOME is a file",
        |run, at| run.without("XDG_CACHE_HOME").env("HOME", at.join("file")),
        None,
    ),
    (
        "XDG_CACHE_HOME is not writable",
        |run, at| run.env("XDG_CACHE_HOME", at.join("home")),
        Some("home"),
    ),
    (
        "XDG_CACHE_HOME is a file",
        |run, at| run.env("XDG_CACHE_HOME", at.join("file")),
        None,
    ),
    // The home that the system knows of is not the test's to write to.
    (
        "HOME is not set",
        |run, _| run.without("XDG_CACHE_HOME").without("HOME"),
        Some("/root:/home"),
    ),
];

/// Runs the program in every place, and shows each ending to `judge`.
fn in_every_place(arguments: &[&str], judge: impl Fn(&str, bool, &Broken)) {
    for (what, placed, fails) in PLACES {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        fs::create_dir(at.join("home")).expect("a folder");
        fs::write(at.join("file"), "").expect("a file");
        let Some(run) = Shimmed::new(at, arguments) else {
            return;
        };
        let mut run = placed(run, at);
        if let Some(below) = fails {
            run = run
                .env("FAULT_UNDER", at.join(below))
                .fault(Fault::all("erofs"));
        }
        let run = run.run();
        run.is_done();
        judge(what, fails.is_some(), &run);
        assert_eq!(files(&at.join("home")).len(), 0, "{what}");
        tell(arguments[0], what, 1, 1);
    }
}

#[test]
fn a_run_needs_no_cache() {
    in_every_place(&GENERATE, |what, _, run| {
        assert_eq!(run.ending.stderr, "", "{what}");
    });
}

#[test]
#[ignore = "the doctor takes its time: scripts/faults.sh runs it"]
fn the_doctor_says_that_it_has_no_place() {
    in_every_place(&DOCTOR_WORDS, |what, fails, run| {
        assert!(
            run.ending.stderr.contains(WARNING),
            "{what}: {}",
            run.shown()
        );
        assert_eq!(fails, !run.fired.is_empty(), "{what}: {}", run.shown());
    });
}

/// A relative path in `XDG_CACHE_HOME` is to be ignored, says the XDG Base Directory Specification.
#[test]
#[ignore = "the doctor takes its time: scripts/faults.sh runs it"]
fn a_relative_cache_directory_is_not_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let Some(run) = Shimmed::new(at, DOCTOR_WORDS) else {
        return;
    };
    run.env("XDG_CACHE_HOME", "cache").run().is_done();
    assert!(!at.join("cache").exists());
    let written = files(&at.join(".cache/afterimage/doctor"));
    assert_eq!(written.len(), 1, "{written:?}");
}

/// A model of the Hub, where no cache can be: refused before anything is tried.
#[cfg(feature = "hub")]
#[test]
fn a_model_of_the_hub_without_a_home_is_refused_in_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = ["generate", "--device", "cpu", "--model", "nobody/nothing"];
    for (name, value) in [
        ("HF_HUB_OFFLINE", "1"),
        ("HF_ENDPOINT", "http://127.0.0.1:9"),
    ] {
        let Some(run) = Shimmed::new(folder.path(), arguments) else {
            return;
        };
        let run = run.without("HOME").without("XDG_CACHE_HOME");
        let run = run.env(name, value).run();
        run.is_orderly();
        run.ending.refused(1, &["`nobody/nothing`", "hint: "]);
    }
}

//! `eval` as users meet it, stopped and taken up again.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::cli::{Ending, afterimage, program};

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
                outcome["float_psnr"],
                outcome["ssim"],
                outcome["judged"],
                outcome["cells_run"]
            ])
        })
        .collect()
}

/// Kills an evaluation as soon as its first batch is there; gives the batches that are.
#[cfg(feature = "bundled")]
fn killed_midway(folder: &Path) -> Vec<String> {
    let mut child = evaluation(folder, &[]).spawn().expect("the program starts");
    while batches(folder).is_empty() && child.try_wait().expect("a status").is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("it is killed");
    child.wait().expect("it has ended");
    batches(folder)
}

/// Makes an evaluation in two shards.
#[cfg(feature = "bundled")]
fn in_shards(folder: &Path) -> [PathBuf; 2] {
    let shards = ["1/2", "2/2"].map(|shard| folder.join(shard.replace('/', "-")));
    for (folder, shard) in shards.iter().zip(["1/2", "2/2"]) {
        let ending = ended(evaluation(folder, &["--shard", shard]));
        assert_eq!(ending.code, Some(0), "{}", ending.shown());
        let next = "join all shards with `afterimage eval merge";
        assert!(ending.stdout.contains(next), "{}", ending.stdout);
    }
    shards
}

#[cfg(feature = "bundled")]
fn merged(folders: &[&PathBuf], further: &[&str]) -> Ending {
    let folders = folders.iter().map(|folder| folder.as_os_str());
    let command = ["eval", "merge", "--device", "cpu"].map(OsStr::new);
    let further = further.iter().map(OsStr::new);
    afterimage(command.into_iter().chain(folders).chain(further))
}

#[cfg(feature = "bundled")]
#[test]
fn a_killed_evaluation_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let [killed, whole] = ["killed", "whole"].map(|name| folder.path().join(name));
    let kept = killed_midway(&killed);
    assert!(kept.contains(&"batch-000000.safetensors".to_owned()));
    let written = || {
        let file = std::fs::metadata(killed.join(&kept[0]));
        file.and_then(|file| file.modified()).expect("a time")
    };
    let before = written();
    let resumed = ended(evaluation(&killed, &["--json"]));
    assert_eq!(resumed.code, Some(0), "{}", resumed.shown());
    assert_eq!(before, written(), "what was there is not made again");
    assert_eq!(batches(&killed).len(), 3);

    let shards = in_shards(folder.path());
    let holes = [
        "1 of 3 batches are missing: 1",
        "hint: run their shards again",
    ];
    merged(&[&shards[0]], &[]).refused(1, &holes);
    merged(&[&shards[0], &killed], &[]).refused(1, &["batch 0 is there twice"]);
    let whole = whole.display().to_string();
    let npz = folder.path().join("npz").display().to_string();
    let further = [
        "--judge", "shapes", "--json", "--output", &whole, "--npz", &npz,
    ];
    let joined = merged(&[&shards[0], &shards[1]], &further);
    assert_eq!(joined.code, Some(0), "{}", joined.shown());
    let (joined, resumed) = (quality(&joined.stdout), quality(&resumed.stdout));
    assert_eq!(joined, resumed, "shards make the same pictures");
    for name in ["4-steps", "2-steps", "deepcache-branch-0-interval-2"] {
        let archive = Path::new(&npz).join(name).with_extension("npz");
        assert!(archive.is_file(), "{name}");
    }

    becomes_a_page(&killed, folder.path());
    let other = ["`seed` is 0 there and 5 here", "hint: name another folder"];
    ended(evaluation(&killed, &["--seed", "5"])).refused(1, &other);
}

#[cfg(feature = "bundled")]
fn becomes_a_page(evaluation: &Path, folder: &Path) {
    let page = folder.join("quality.md");
    let words = ["eval", "report", "--output"].map(OsStr::new);
    let places = [page.as_os_str(), evaluation.as_os_str()];
    let report = afterimage(words.into_iter().chain(places));
    assert_eq!(report.code, Some(0), "{}", report.shown());
    let text = std::fs::read_to_string(&page).expect("a page");
    let named = text.contains("## scenes") && text.contains("](quality-0.svg)");
    assert!(named, "{text}");
    assert!(folder.join("quality-0.svg").is_file());
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

/// Peers of another sampler and a converged run are part of an evaluation; what cannot be one is refused before pictures are made.
#[cfg(feature = "bundled")]
#[test]
fn peers_and_a_converged_run_are_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole");
    let further = [
        "--peers",
        "dpmsolver++",
        "ddim",
        "--converged",
        "16",
        "--json",
    ];
    let ending = ended(evaluation(&whole, &further));
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let results: serde_json::Value = serde_json::from_str(&ending.stdout).expect("JSON");
    let outcomes = results["outcomes"].as_array().expect("outcomes");
    let ways: Vec<_> = outcomes
        .iter()
        .map(|outcome| (outcome["steps"].as_u64(), outcome["sampler"].as_str()))
        .collect();
    let (own, other) = (None, Some("dpmsolver++"));
    let expected = [(4, own), (4, own), (2, own), (2, other), (16, own)];
    assert_eq!(
        ways,
        expected.map(|(steps, sampler)| (Some(steps), sampler))
    );
    let to_converged =
        |index: usize| outcomes[index]["to_converged"]["float_psnr"]["mean"].as_f64();
    assert_eq!(to_converged(4), Some(70.0));
    assert!(
        to_converged(0) > to_converged(2),
        "4 steps are nearer than 2"
    );

    for (further, words) in [
        (
            vec!["--converged", "3"],
            ["3 steps are no more than the 4", "--converged 250"],
        ),
        (
            vec!["--converged", "--sampler", "euler-a"],
            ["`euler-a` draws noise", "--sampler ddim"],
        ),
    ] {
        let other = folder.path().join("refused");
        ended(evaluation(&other, &further)).refused(1, &words);
        assert!(batches(&other).is_empty());
    }
}

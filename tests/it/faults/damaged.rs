//! Files of ours that are damaged: made anew, with a word.

use std::{
    fs,
    path::{Path, PathBuf},
};

use afterimage::{
    device::{self, DeviceChoice},
    doctor::{self, Records},
};
use burn::tensor::FloatDType;

use super::{
    commands::{Case, DOCTOR, EVALUATION},
    files, tell,
};

/// Ways of a file to be damaged, with their names.
fn damages(whole: &[u8]) -> [(&'static str, Vec<u8>); 5] {
    let mut flipped = whole.to_vec();
    flipped[whole.len() / 3] ^= 0xff;
    [
        ("empty", Vec::new()),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("zeroed", vec![0; whole.len()]),
        ("garbage", b"\xff\xfe\x00garbage".repeat(7)),
        ("flipped", flipped),
    ]
}

/// A record that finds nothing wrong, and where it lies below `folder`.
fn record(folder: &Path) -> (PathBuf, Vec<u8>) {
    let device = device::open(DeviceChoice::Cpu).expect("the processor");
    let records = Records::at(folder.join("cache/afterimage/doctor"));
    let examination = doctor::examine(&device, &[FloatDType::F32], &[], |_| {});
    let written = records.write(&device, &examination.record(&device));
    written.expect("a record");
    let path = records.path(&device);
    let bytes = fs::read(&path).expect("a record");
    (path, bytes)
}

const GENERATE: Case = Case {
    arguments: "generate --device cpu --steps 1 --output a.png",
    ..DOCTOR
};

/// Writes every damaged record, has `case` run `times` times, and sees that it says so the first time.
fn is_told_of(case: &Case, times: usize) -> Option<usize> {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, whole) = record(folder.path());
    let damages = damages(&whole);
    let word = "the list of kernels is of no use, and made anew by the next check: ";
    for (damage, bytes) in &damages {
        fs::write(&path, bytes).expect("a file");
        for time in 0..times {
            let run = case.command(folder.path())?.run();
            run.is_done();
            let says = run.ending.stderr.contains(word);
            assert_eq!(says, time == 0, "{damage}: {}", run.shown());
        }
    }
    Some(damages.len())
}

#[test]
fn a_damaged_record_of_the_doctor_is_told_of_once() {
    if let Some(count) = is_told_of(&GENERATE, 2) {
        tell("the doctor's record", "damaged, a run", count, count);
    }
}

#[test]
#[ignore = "takes minutes: scripts/faults.sh runs it"]
fn a_damaged_record_of_the_doctor_is_made_anew() {
    if let Some(count) = is_told_of(&DOCTOR, 2) {
        tell("the doctor's record", "damaged, the doctor", count, count);
    }
}

/// A folder is not ours to remove.
#[test]
fn what_stands_in_the_place_of_a_record_is_said_and_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, _) = record(folder.path());
    fs::remove_file(&path).expect("a record");
    fs::create_dir_all(path.join("in the way")).expect("a folder");
    let Some(generate) = GENERATE.command(folder.path()) else {
        return;
    };
    let run = generate.run();
    run.is_done();
    let said = &run.ending.stderr;
    assert!(
        said.contains("the list of kernels cannot be read: "),
        "{said}"
    );
    assert!(path.join("in the way").exists());
}

/// Batches of an evaluation that a disk has lost are found before they are counted on, and made anew.
#[test]
fn damaged_batches_are_told_of_and_made_anew() {
    let Some(undisturbed) = EVALUATION.undisturbed() else {
        return;
    };
    let batch = Path::new("e/batch-000001.safetensors");
    let damages = damages(&undisturbed.files[batch]);
    let folder = EVALUATION.folder();
    let run = || {
        EVALUATION
            .command(folder.path())
            .expect("it worked before")
            .run()
    };
    run().is_done();
    // Nothing in a file tells that a pixel is another.
    let told = damages.iter().filter(|(damage, _)| *damage != "flipped");
    for (damage, bytes) in told.clone() {
        fs::write(folder.path().join(batch), bytes).expect("a file");
        let again = run();
        again.is_done();
        assert!(
            again
                .ending
                .stderr
                .contains("a batch is damaged, and made anew: "),
            "{damage}: {}",
            again.shown()
        );
        undisturbed.are_there(folder.path(), &again.shown());
    }
    let told = told.count();
    tell("a batch of an evaluation", "damaged", told, told);
}

/// A manifest says what all the pictures are; without it they are nothing, and nobody guesses.
#[test]
fn a_damaged_manifest_is_refused_with_what_to_do() {
    let Some(undisturbed) = EVALUATION.undisturbed() else {
        return;
    };
    let manifest = Path::new("e/manifest.json");
    let damages = damages(&undisturbed.files[manifest]);
    for (damage, bytes) in damages.iter().filter(|(damage, _)| *damage != "flipped") {
        let folder = EVALUATION.folder();
        let path = folder.path().join(manifest);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, bytes).expect("a file");
        let run = EVALUATION
            .command(folder.path())
            .expect("it worked before")
            .run();
        run.ending.refused(1, &["the manifest", "hint: "]);
        assert_eq!(fs::read(path).expect("a file"), *bytes, "{damage}");
        assert_eq!(files(&folder.path().join("e")).len(), 1);
    }
}

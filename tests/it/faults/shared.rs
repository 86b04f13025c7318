//! Two processes over one folder: right, or refused.

use std::fs;

use afterimage::{
    device::{self, DeviceChoice},
    doctor::{Records, dtypes},
};
use burn::tensor::FloatDType;

use super::{
    commands::{Case, DOCTOR, EVALUATION},
    shim::Fault,
    tell, temporaries,
};

#[test]
fn two_evaluations_in_one_folder_make_the_same_as_one() {
    let Some(undisturbed) = EVALUATION.undisturbed() else {
        return;
    };
    let folder = EVALUATION.folder();
    let start = || {
        EVALUATION
            .command(folder.path())
            .map(|command| command.fault(Fault::all("count")).start())
    };
    let both = [start(), start()];
    for run in both.into_iter().flatten() {
        let run = run.ended();
        run.is_done();
        undisturbed.are_there(folder.path(), &run.shown());
    }
    assert!(temporaries(folder.path()).is_empty());
    tell("an evaluation", "another beside it", 1, 1);
}

/// One is about to name its manifest when another one, of other pictures, takes the folder.
#[test]
fn two_different_evaluations_do_not_mix() {
    let Some(undisturbed) = EVALUATION.undisturbed() else {
        return;
    };
    let mut calls = undisturbed.calls.iter();
    let named = calls
        .find(|call| call.name == "rename")
        .expect("a manifest")
        .number;
    let folder = EVALUATION.folder();
    let gate = folder.path().join("gate");
    let late = EVALUATION.command(folder.path()).expect("it worked before");
    let late = late
        .env("FAULT_GATE", &gate)
        .fault(Fault::once("pause", named))
        .start();
    late.fired();
    let other = Case {
        arguments: "eval --device cpu --steps 2 --samples 2 --batch 1 --cache deepcache:interval=2,branch=0 --seed 5 --output e",
        ..EVALUATION
    };
    let run = || {
        other
            .command(folder.path())
            .expect("it worked before")
            .run()
    };
    run().is_done();
    fs::write(gate, "").expect("a file");
    let late = late.ended();
    late.ending.refused(
        1,
        &[
            "this folder holds another evaluation",
            "`seed` is 5 there and 0 here",
        ],
    );
    assert!(temporaries(folder.path()).is_empty());
    run().is_done();
    tell("an evaluation", "another one's folder", 1, 1);
}

/// Findings about different data types, made at the same time, are all kept.
#[test]
#[ignore = "the doctor takes its time: scripts/faults.sh runs it"]
fn two_doctors_keep_what_both_found() {
    let Some(undisturbed) = DOCTOR.undisturbed() else {
        return;
    };
    let mut calls = undisturbed.calls.iter();
    let named = calls
        .find(|call| call.name == "rename")
        .expect("a record")
        .number;
    let folder = DOCTOR.folder();
    let gate = folder.path().join("gate");
    let command = |arguments| {
        let case = Case {
            arguments,
            ..DOCTOR
        };
        case.command(folder.path()).expect("it worked before")
    };
    let first = command("doctor --device cpu --dtype f16");
    let first = first
        .env("FAULT_GATE", &gate)
        .fault(Fault::once("pause", named))
        .start();
    first.fired();
    let second = command("doctor --device cpu --dtype bf16")
        .fault(Fault::all("count"))
        .start();
    second.fired();
    std::thread::sleep(std::time::Duration::from_millis(300));
    fs::write(gate, "").expect("a file");
    for run in [first, second] {
        run.ended().is_done();
    }
    let device = device::open(DeviceChoice::Cpu).expect("the processor");
    let records = Records::at(folder.path().join("cache/afterimage/doctor"));
    let record = records.read(&device).expect("a record");
    for dtype in [FloatDType::F16, FloatDType::BF16] {
        assert!(record.covers(&dtypes(dtype)), "{dtype:?} is forgotten");
    }
    assert!(temporaries(folder.path()).is_empty());
    tell("the doctor's record", "another beside it", 1, 1);
}

//! Processes that are killed: what they had finished stays, what they were at is made again, and nothing is wrong afterwards.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use super::{
    Numbers, all,
    commands::{self, Case, DOCTOR, EVALUATION, KEEPING, KEPT, Undisturbed},
    files,
    shim::Fault,
    tell, temporaries,
    writes::chosen,
};
use crate::cli::{afterimage_in, program};

const SIGKILL: i32 = 9;

/// Makes what killed processes left look as if an hour had passed.
fn age(folder: &Path) {
    let earlier = SystemTime::now() - Duration::from_hours(1);
    for path in temporaries(folder) {
        let file = File::options().write(true).open(path).expect("a file");
        file.set_modified(earlier).expect("a time");
    }
}

/// The same command once more: done, all there, and nothing left over by the one before.
fn completes(case: &Case, undisturbed: &Undisturbed, folder: &Path) {
    age(folder);
    let again = case.command(folder).expect("it worked before").run();
    again.is_done();
    undisturbed.are_there(folder, &again.shown());
    assert!(temporaries(folder).is_empty(), "{:?}", files(folder));
}

/// Latents that are there are whole, and make the picture.
fn latents_are_whole(undisturbed: &Undisturbed, folder: &Path) -> bool {
    if !folder.join(KEPT).exists() {
        return false;
    }
    let arguments = ["decode", KEPT, "--device", "cpu", "--output", "decoded.png"];
    let ending = afterimage_in(folder, arguments);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let pixels = |bytes: &[u8]| image::load_from_memory(bytes).expect("a picture").to_rgb8();
    let decoded = fs::read(folder.join("decoded.png")).expect("a picture");
    let whole = &undisturbed.files[Path::new("kept.png")];
    assert_eq!(pixels(&decoded), pixels(whole));
    true
}

#[test]
fn what_is_killed_at_a_write_can_be_run_again() {
    let mut cases = vec![KEEPING, EVALUATION];
    if all() {
        cases = commands::cases();
        cases.push(DOCTOR);
    }
    for case in &cases {
        let Some(undisturbed) = case.undisturbed() else {
            return;
        };
        let (mut killed, mut kept) = (0, 0);
        let numbers = chosen(&undisturbed.calls);
        for &number in &numbers {
            let folder = case.folder();
            let command = case.command(folder.path()).expect("it worked before");
            let broken = command.fault(Fault::once("kill", number)).run();
            assert_eq!(broken.signal, Some(SIGKILL), "{}", broken.shown());
            killed += usize::from(broken.fired.iter().any(|call| call.number == number));
            undisturbed.are_whole_or_earlier(case, folder.path(), &broken.shown());
            kept += usize::from(case.is_short && latents_are_whole(&undisturbed, folder.path()));
            completes(case, &undisturbed, folder.path());
        }
        assert_eq!(killed, numbers.len(), "{}", case.name);
        assert_eq!(kept > 0, case.is_short, "{}", case.name);
        tell(case.name, "kill", numbers.len(), killed);
    }
}

/// Runs the command for some part of the time that it takes, and kills it; whether it was not done before.
fn kill(mut command: Command, after: Duration) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = quiet.stderr(Stdio::null()).spawn().expect("it starts");
    std::thread::sleep(after);
    child.kill().expect("a process");
    child.wait().expect("it ends").signal() == Some(SIGKILL)
}

/// The program without a shim.
fn bare(case: &Case, folder: &Path) -> Command {
    let mut command = program();
    command.args(case.words()).current_dir(folder);
    command.env("XDG_CACHE_HOME", folder.join("cache"));
    command
}

/// As a scheduler kills jobs: at any moment, again and again, in one folder.
#[test]
fn an_evaluation_that_is_killed_again_and_again_ends_as_if_it_was_not() {
    let case = Case {
        arguments: "eval --device cpu --steps 2 --samples 5 --batch 1 --judge shapes --cache deepcache:interval=2,branch=0 --output k",
        over: &[],
        ..EVALUATION
    };
    let begun = Instant::now();
    let Some(undisturbed) = case.undisturbed() else {
        return;
    };
    let whole = begun.elapsed();
    let mut numbers = Numbers(13);
    let rounds = if all() { 240 } else { 5 };
    let (mut folder, mut killed) = (case.folder(), 0);
    for round in 0..rounds {
        let micros = u64::try_from(whole.as_micros()).expect("hours") * 3 / 4;
        let after = Duration::from_micros(numbers.next(micros));
        let was_killed = kill(bare(&case, folder.path()), after);
        killed += usize::from(was_killed);
        let said = format!("round {round}, after {after:?}");
        undisturbed.are_whole_or_earlier(&case, folder.path(), &said);
        if !was_killed || round + 1 == rounds {
            completes(&case, &undisturbed, folder.path());
            folder = case.folder();
        }
    }
    assert!(killed > rounds / 4, "{killed} of {rounds}");
    tell("an evaluation", "SIGKILL at random", rounds, killed);
}

#[test]
fn a_run_whose_latents_are_kept_loses_no_more_than_it_was_at() {
    let case = KEEPING;
    let begun = Instant::now();
    let Some(undisturbed) = case.undisturbed() else {
        return;
    };
    let whole = begun.elapsed();
    let mut numbers = Numbers(14);
    let rounds = if all() { 200 } else { 4 };
    let mut killed = 0;
    for round in 0..rounds {
        let folder = case.folder();
        let micros = u64::try_from(whole.as_micros()).expect("hours");
        let after = Duration::from_micros(numbers.next(micros));
        let mut running = case
            .command(folder.path())
            .expect("it worked before")
            .start();
        std::thread::sleep(after);
        running.child.kill().expect("a process");
        let broken = running.ended();
        killed += usize::from(broken.signal == Some(SIGKILL));
        let said = format!("round {round}, after {after:?}\n{}", broken.shown());
        undisturbed.are_whole_or_earlier(&case, folder.path(), &said);
        latents_are_whole(&undisturbed, folder.path());
        completes(&case, &undisturbed, folder.path());
    }
    assert!(killed > rounds / 4, "{killed} of {rounds}");
    tell(case.name, "SIGKILL at random", rounds, killed);
}

/// What another process is writing at this moment is no leftover, however long it takes.
#[test]
fn what_is_being_written_is_left_alone() {
    let case = EVALUATION;
    let Some(undisturbed) = case.undisturbed() else {
        return;
    };
    let folder = case.folder();
    let is_batch = |path: &Path| path.parent().is_some_and(|parent| parent.ends_with("e"));
    let mut renames = undisturbed
        .calls
        .iter()
        .filter(|call| call.name == "rename");
    let last = renames
        .rfind(|call| is_batch(&call.path))
        .expect("a batch")
        .number;
    let gate = folder.path().join("gate");
    let slow = case.command(folder.path()).expect("it worked before");
    let slow = slow
        .env("FAULT_GATE", &gate)
        .fault(Fault::once("pause", last))
        .start();
    slow.fired();
    assert_eq!(temporaries(folder.path()).len(), 1);
    age(folder.path());
    let other = case.command(folder.path()).expect("it worked before").run();
    other.is_done();
    assert_eq!(temporaries(folder.path()).len(), 1);
    fs::write(gate, "").expect("a file");
    slow.ended().is_done();
    undisturbed.are_there(folder.path(), &other.shown());
    assert!(temporaries(folder.path()).is_empty());
}

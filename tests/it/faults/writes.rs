//! A disk that is full or broken at any call that writes: nothing half-written, nothing left over, and said with a hint.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    all,
    commands::{Case, DOCTOR, Undisturbed, cases},
    files,
    shim::{Broken, Call, Fault, Shimmed},
    tell, temporaries,
};

/// The calls to disturb: all, or the first and the last of each kind.
pub(super) fn chosen(calls: &[Call]) -> Vec<usize> {
    if all() {
        return calls.iter().map(|call| call.number).collect();
    }
    let mut numbers = BTreeSet::new();
    for calls in [
        calls.iter().collect::<Vec<_>>(),
        calls.iter().rev().collect(),
    ] {
        let mut seen = BTreeSet::new();
        let first = calls.into_iter().filter(|call| seen.insert(&call.name));
        numbers.extend(first.map(|call| call.number));
    }
    numbers.into_iter().collect()
}

/// Disturbs `case` once at every call that is chosen, and shows each ending to `judge`.
fn disturb(
    case: &Case,
    fault: impl Fn(usize) -> Fault,
    judge: impl Fn(&Undisturbed, &Path, &Broken),
) {
    let Some(undisturbed) = case.undisturbed() else {
        return;
    };
    assert!(!undisturbed.calls.is_empty(), "{}", undisturbed.run.shown());
    let (mut injected, mut fired) = (0, 0);
    for number in chosen(&undisturbed.calls) {
        let folder = case.folder();
        let command = case.command(folder.path()).expect("it worked before");
        let broken = command.fault(fault(number)).run();
        injected += 1;
        fired += usize::from(broken.fired.iter().any(|call| call.number == number));
        judge(&undisturbed, folder.path(), &broken);
    }
    assert_eq!(injected, fired, "every fault fires: {}", case.name);
    tell(case.name, fault(0).kind, injected, fired);
}

/// Refused in words that fit; where it was a mere cache, done with a warning.
#[track_caller]
fn is_answered(case: &Case, folder: &Path, broken: &Broken, words: &str) {
    broken.is_orderly();
    let said = broken.shown();
    let stderr = &broken.ending.stderr;
    assert_eq!(temporaries(folder), Vec::<PathBuf>::new(), "{said}");
    assert!(stderr.contains(words), "{said}");
    let may_go_on = case.is_cache || case.is_short;
    match broken.ending.code {
        Some(0) if may_go_on => assert!(stderr.contains("warning: "), "{said}"),
        Some(1) if !case.is_cache => {
            assert!(stderr.contains("error: cannot write "), "{said}");
            assert!(stderr.contains("\nhint: "), "{said}");
        }
        _ => panic!("{said}"),
    }
}

fn is_full_or_broken(case: &Case) {
    type Numbered = fn(usize) -> Fault;
    let faults: [(Numbered, &str); 2] = [
        (
            |number| Fault::from("enospc", number),
            "No space left on device",
        ),
        (|number| Fault::once("eio", number), "Input/output error"),
    ];
    for (fault, words) in faults {
        disturb(case, fault, |undisturbed, folder, broken| {
            is_answered(case, folder, broken, words);
            undisturbed.are_whole_or_earlier(case, folder, &broken.shown());
            if broken.ending.code == Some(0) && !case.is_cache {
                undisturbed.are_there(folder, &broken.shown());
            }
            if all() {
                let again = case.command(folder).expect("it worked before").run();
                again.is_done();
                undisturbed.are_there(folder, &again.shown());
            }
        });
    }
}

#[test]
fn a_disk_that_fails_is_answered_by_every_command() {
    for case in &cases() {
        is_full_or_broken(case);
    }
}

#[test]
fn the_doctor_goes_on_without_its_record() {
    let folder = DOCTOR.folder();
    let Some(doctor) = DOCTOR.command(folder.path()) else {
        return;
    };
    let broken = doctor.fault(Fault::all("enospc")).run();
    assert!(!broken.fired.is_empty());
    is_answered(&DOCTOR, folder.path(), &broken, "No space left on device");
    tell(DOCTOR.name, "enospc", 1, 1);
}

#[test]
#[ignore = "takes minutes: scripts/faults.sh runs it"]
fn the_doctor_goes_on_without_its_record_whatever_fails() {
    is_full_or_broken(&DOCTOR);
}

/// Calls that are cut short or interrupted are taken up again.
#[test]
fn short_and_interrupted_calls_change_nothing() {
    for case in &cases() {
        let Some(undisturbed) = case.undisturbed() else {
            return;
        };
        for kind in ["short", "eintr"] {
            let folder = case.folder();
            let command = case.command(folder.path()).expect("it worked before");
            let broken = command.fault(Fault::all(kind)).run();
            broken.is_done();
            let fired = broken.fired.iter().filter(|call| call.number > 0).count();
            assert!(fired > 0, "{}", broken.shown());
            undisturbed.are_there(folder.path(), &broken.shown());
            assert!(temporaries(folder.path()).is_empty());
            tell(case.name, kind, fired, fired);
        }
    }
}

/// What only tells writes no file anywhere.
#[test]
fn commands_that_only_tell_write_nothing() {
    let rule = "--cache deepcache:interval=2,branch=0";
    // A GPU that is opened has its driver's cache and the database of tuned kernels made.
    let devices = (!cfg!(any(feature = "wgpu", feature = "cuda"))).then(|| "devices".to_owned());
    let others = [
        "inspect".to_owned(),
        format!("plan --steps 4 {rule} --json"),
        format!("bench --device cpu --steps 1 --repeat 1 {rule}"),
        "generate --steps none".to_owned(),
    ];
    for arguments in devices.into_iter().chain(others) {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(shimmed) = Shimmed::new(folder.path(), arguments.split(' ')) else {
            return;
        };
        let run = shimmed
            .env("FAULT_UNDER", "/")
            .fault(Fault::all("count"))
            .run();
        run.is_orderly();
        let is_file =
            |call: &&Call| !call.path.starts_with("/dev") && !call.path.starts_with("/proc");
        assert_eq!(
            run.fired.iter().find(is_file),
            None,
            "{arguments}\n{}",
            run.shown()
        );
    }
}

/// A small file system of its own, taken away when dropped.
struct Small(tempfile::TempDir);

impl Small {
    /// `None` where this user may not mount one.
    fn of(kibibytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kibibytes}k"), "tmpfs"]);
        let mounted = mount.arg(folder.path()).output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).output();
        assert!(unmounted.is_ok_and(|output| output.status.success()));
    }
}

/// The same on a disk that is full in truth.
#[test]
fn a_small_disk_is_filled_up() {
    let Some(small) = Small::of(16) else {
        eprintln!("skipped: this user may not mount a file system");
        return;
    };
    let at = |name: &str| small.0.path().join(name);
    let full = std::fs::write(at("test"), vec![1; 20_000]).expect_err("too much");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    std::fs::remove_file(at("test")).expect("a file");
    std::fs::write(at("a.png"), "earlier").expect("a file");
    let generate = [
        "generate", "--device", "cpu", "--steps", "1", "--output", "a.png",
    ];
    let run = crate::cli::afterimage_in(small.0.path(), generate);
    run.refused(
        1,
        &[
            "cannot write the picture: No space left on device",
            "\nhint: ",
        ],
    );
    assert_eq!(std::fs::read(at("a.png")).expect("a file"), b"earlier");
    // What still had room are the latents, which the message names.
    let left = files(small.0.path()).into_iter();
    let named = |path: &PathBuf| {
        let name = path.file_name().expect("a name").display().to_string();
        name == "a.png" || (name.ends_with(".latents.safetensors") && run.stderr.contains(&name))
    };
    let strange: Vec<_> = left.filter(|path| !named(path)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    tell("a picture", "a full tmpfs", 1, 1);
}

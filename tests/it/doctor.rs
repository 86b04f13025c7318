//! The doctor finds a wrong kernel, remembers it and has it replaced; what is right it leaves alone.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use afterimage::device::{self, DeviceChoice, OpenDevice};
use afterimage::doctor::{
    Check, Examination, Fallback, Kernel, Models, Operands, Quarantine, Records, Verdict, checks,
    dtypes, examine,
};
use afterimage::ops::quarantine::{self, is_quarantined};
use burn::tensor::{DType, FloatDType, Tensor};

/// What is quarantined on the processor belongs to the whole process.
static PROCESSOR: Mutex<()> = Mutex::new(());

fn processor() -> OpenDevice {
    device::open(DeviceChoice::Cpu).unwrap()
}

/// A product with a single column, in bf16, which nothing else here computes in. `itself` spoils what the kernel itself gives,
/// `instead` what its fallbacks give.
fn column(
    itself: impl Fn(Tensor<1>) -> Tensor<1> + Send + Sync + 'static,
    instead: impl Fn(Tensor<1>) -> Tensor<1> + Send + Sync + 'static,
) -> Check {
    Check::new(Kernel::Column, "spoilt", move |operands: &mut Operands| {
        let values = operands.normal([64], 1.0);
        let (device, dtype) = (operands.device(), operands.dtype());
        match (dtype, is_quarantined(device, dtype, Kernel::Column)) {
            (DType::BF16, false) => itself(values),
            (DType::BF16, true) => instead(values),
            _ => values,
        }
    })
}

fn right(values: Tensor<1>) -> Tensor<1> {
    values
}

fn wrong(values: Tensor<1>) -> Tensor<1> {
    values * 2.0
}

fn examined(check: Check) -> Examination {
    let checks = [check, sound()];
    examine(&processor(), &[FloatDType::BF16], &checks, |_| {})
}

fn sound() -> Check {
    Check::new(Kernel::Geglu, "sound", |operands: &mut Operands| {
        operands.normal([8], 1.0)
    })
}

fn fallback() -> Option<Fallback> {
    quarantine::fallback(processor().device(), DType::BF16, Kernel::Column)
}

#[test]
fn a_wrong_kernel_is_found_kept_and_replaced() {
    let _alone = PROCESSOR.lock().unwrap_or_else(PoisonError::into_inner);
    let (folder, device) = (tempfile::tempdir().unwrap(), processor());
    let records = Records::at(folder.path().join("made/when/needed"));
    assert!(records.read(&device).is_none());

    let examination = examined(column(wrong, right));
    let [spoilt, sound] = &examination.findings[..] else {
        panic!("{examination:?}")
    };
    assert!(!spoilt.is_right() && spoilt.verdict == Verdict::Replaced(Fallback::Composed));
    assert!(sound.is_right() && sound.verdict == Verdict::Right);
    assert_eq!(fallback(), Some(Fallback::Composed), "honoured at once");
    records
        .write(&device, &examination.record(&device))
        .unwrap();

    quarantine::set(device.device(), Quarantine::default());
    assert_eq!(fallback(), None);
    let record = records.read(&device).unwrap();
    assert_eq!(record, examination.record(&device));
    assert!(record.covers(&[FloatDType::BF16]) && !record.covers(&dtypes(FloatDType::F16)));
    assert_eq!(record.wrong().count(), 0);
    record.honour(&device);
    assert_eq!(
        fallback(),
        Some(Fallback::Composed),
        "honoured by a later process"
    );
    quarantine::set(device.device(), Quarantine::default());
}

#[test]
fn where_composed_operations_are_wrong_f32_takes_the_place() {
    let _alone = PROCESSOR.lock().unwrap_or_else(PoisonError::into_inner);
    let device = processor();
    let attempts = Arc::new(Mutex::new(0));
    let counted = attempts.clone();
    let check = column(wrong, move |values| {
        let mut attempts = counted.lock().unwrap();
        *attempts += 1;
        if *attempts == 1 {
            wrong(values)
        } else {
            values
        }
    });
    let examination = examined(check);
    quarantine::set(device.device(), Quarantine::default());
    let entries = examination.quarantine.entries();
    assert_eq!(entries, [(Kernel::Column, DType::BF16, Fallback::Widened)]);
    assert_eq!(*attempts.lock().unwrap(), 2);
}

#[test]
fn what_cannot_be_replaced_is_named() {
    let _alone = PROCESSOR.lock().unwrap_or_else(PoisonError::into_inner);
    for spoil in [
        wrong,
        |_| panic!("the driver fell over"),
        |values| values * f32::NAN,
    ] {
        let examination = examined(column(spoil, spoil));
        assert!(examination.quarantine.is_empty());
        assert_eq!(examination.wrong, [(Kernel::Column, DType::BF16)]);
        assert_eq!(examination.findings[0].verdict, Verdict::Wrong);
        let record = examination.record(&processor());
        let wrong: Vec<_> = record.wrong().collect();
        assert_eq!(wrong, [(Kernel::Column, "bf16")]);
    }
    let failed = examined(column(|_| panic!("the driver fell over"), right));
    let failure = failed.findings[0].failure.as_deref();
    assert_eq!(failure, Some("the driver fell over"));
    quarantine::set(processor().device(), Quarantine::default());
}

#[test]
fn files_that_say_nothing_of_this_device_are_ignored_and_written_anew() {
    let _alone = PROCESSOR.lock().unwrap_or_else(PoisonError::into_inner);
    let (folder, device) = (tempfile::tempdir().unwrap(), processor());
    let records = Records::at(folder.path());
    let record = examined(column(wrong, right)).record(&device);
    quarantine::set(device.device(), Quarantine::default());
    records.write(&device, &record).unwrap();
    let path = records.path(&device);
    let text = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        (text.as_str(), "{"),
        ("\"kernels\": ", "\"kernels\": 9"),
        ("\"runtime\": \"flex\"", "\"runtime\": \"cuda\""),
        ("\"dtype\": \"bf16\"", "\"dtype\": \"f7\""),
        ("\"column\"", "\"pillar\""),
    ] {
        let broken = text.replace(from, to);
        assert_ne!(broken, text, "{from}");
        fs::write(&path, broken).unwrap();
        assert!(records.read(&device).is_none(), "{to}");
    }
    records.write(&device, &record).unwrap();
    assert_eq!(records.read(&device), Some(record));
    let files = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 1, "nothing half-written is left");
}

#[test]
fn types_that_were_not_checked_again_keep_what_was_found() {
    let _alone = PROCESSOR.lock().unwrap_or_else(PoisonError::into_inner);
    let device = processor();
    let earlier = examined(column(wrong, right)).record(&device);
    let checks = [sound()];
    let later = examine(&device, &dtypes(FloatDType::F32), &checks, |_| {}).record(&device);
    quarantine::set(device.device(), Quarantine::default());
    let joined = later.clone().with(Some(earlier.clone()));
    assert!(joined.covers(&dtypes(FloatDType::BF16)));
    assert_eq!(joined.quarantine(), earlier.quarantine());
    // What was checked again is known better now.
    let cured = examined(sound()).record(&device);
    let joined = cured.clone().with(Some(earlier));
    assert_eq!(joined, cured);
}

#[test]
fn a_folder_that_takes_no_file_is_an_error() {
    let _alone = PROCESSOR.lock().unwrap_or_else(PoisonError::into_inner);
    let device = processor();
    let record = examined(sound()).record(&device);
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Records::at(file.path())
        .write(&device, &record)
        .unwrap_err();
    assert!(error.is_file(), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("cannot write the list of kernels: ")
    );
    assert!(Records::at(Path::new("/nowhere")).read(&device).is_none());
}

/// The CPU's own kernels over the shapes of every family of models.
#[test]
fn the_processor_is_healthy() {
    let _alone = PROCESSOR.lock().unwrap_or_else(PoisonError::into_inner);
    let device = processor();
    let checks = checks(&device, &[]);
    let examination = examine(&device, &dtypes(FloatDType::F32), &checks, |_| {});
    assert_eq!(examination.findings.len(), checks.len());
    for finding in &examination.findings {
        assert!(finding.is_right(), "{finding:?}");
    }
    // Attention is compared with something else than itself.
    let mut findings = examination.findings.iter();
    assert!(
        findings.any(|finding| finding.kernel == Kernel::FusedAttention && finding.error > 0.0)
    );
    assert!(examination.quarantine.is_empty());
}

/// Half precision goes through the CPU's kernels too, and large values through its norms.
#[test]
fn the_processor_is_healthy_in_halves() {
    let _alone = PROCESSOR.lock().unwrap_or_else(PoisonError::into_inner);
    let device = processor();
    let checks = checks(&device, &[Models::KnownDefects]);
    let halves = [FloatDType::F16, FloatDType::BF16];
    let examination = examine(&device, &halves, &checks, |_| {});
    assert_eq!(examination.findings.len(), 2 * checks.len());
    for finding in &examination.findings {
        assert!(finding.is_right(), "{finding:?}");
    }
}

/// The program reads what is kept about its device, and says what it cannot use.
#[cfg(all(unix, feature = "cli", feature = "bundled"))]
#[test]
fn the_program_heeds_what_is_kept() {
    let _alone = PROCESSOR.lock().unwrap_or_else(PoisonError::into_inner);
    let (folder, device) = (tempfile::tempdir().unwrap(), processor());
    let records = Records::at(folder.path().join("afterimage/doctor"));
    let generate = || {
        let mut program = crate::cli::program();
        program.args(["generate", "--device", "cpu", "--steps", "1", "--output"]);
        program.arg(folder.path().join("a.png"));
        let output = program
            .env("XDG_CACHE_HOME", folder.path())
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(
        generate(),
        "",
        "nothing is kept, and the processor is not checked"
    );
    assert!(records.read(&device).is_none());

    let record = examined(column(wrong, wrong)).record(&device);
    records.write(&device, &record).unwrap();
    let said = generate();
    assert!(
        said.contains("warning: linear to one in bf16 computed wrongly on cpu"),
        "{said}"
    );

    fs::write(records.path(&device), "{}").unwrap();
    let said = generate();
    assert!(
        said.contains("the list of kernels is of no use, and made anew"),
        "{said}"
    );
}

#[test]
fn models_choose_their_checks() {
    let device = processor();
    let count = |models: &[Models]| checks(&device, models).len();
    let each = [
        Models::StableDiffusion,
        Models::Xl,
        Models::Dit,
        Models::Vae,
        Models::KnownDefects,
    ];
    let sum: usize = each.iter().map(|&models| count(&[models])).sum();
    assert_eq!(sum, count(&[]));
    assert!(each.iter().all(|&models| count(&[models]) > 0));
}

/// Two processes that find something about different data types at the same moment.
#[test]
fn whose_turn_it_is_forgets_nothing_of_another() {
    let _alone = PROCESSOR.lock().unwrap_or_else(PoisonError::into_inner);
    let (folder, device) = (tempfile::tempdir().unwrap(), processor());
    let records = Records::at(folder.path().join("made/when/needed"));
    let found = [FloatDType::BF16, FloatDType::F16].map(|dtype| {
        let examination = examine(&device, &[dtype], &[sound()], |_| {});
        examination.record(&device)
    });
    std::thread::scope(|scope| {
        for record in found {
            scope.spawn(|| {
                let _turn = records.turn();
                let joined = record.with(records.read(&device));
                // The other one would read now.
                std::thread::sleep(std::time::Duration::from_millis(50));
                records.write(&device, &joined).unwrap();
            });
        }
    });
    let record = records.read(&device).unwrap();
    assert!(record.covers(&[FloatDType::BF16, FloatDType::F16]));
}

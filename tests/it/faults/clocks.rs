//! Clocks that stand still, run back, or are set to another century: the work is the same, and its times are times.

use super::{
    all,
    commands::{CASES, Case, DOCTOR, EVALUATION, PICTURE},
    shim::Shimmed,
    tell,
};

const CLOCKS: [&str; 5] = ["back", "future", "past", "still", "ahead"];

/// All clocks, or one that runs back and one of another century.
fn clocks() -> &'static [&'static str] {
    if all() { &CLOCKS } else { &CLOCKS[..2] }
}

/// No number of the JSON text is missing, negative or endless.
#[track_caller]
fn times_are_times(value: &serde_json::Value, of: &str) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                let is_time = key.contains("second") || key.contains("speedup");
                assert!(!(is_time && value.is_null()), "{of}: `{key}` is null");
                times_are_times(value, of);
            }
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| times_are_times(value, of))
        }
        _ => {}
    }
}

#[test]
fn a_clock_that_jumps_changes_no_picture_and_no_evaluation() {
    let trace = CASES
        .into_iter()
        .find(|case| case.name == "a trace")
        .expect("a trace");
    let mut cases = vec![PICTURE, trace, EVALUATION];
    cases.extend(all().then_some(DOCTOR));
    for case in cases {
        let Some(undisturbed) = case.undisturbed() else {
            return;
        };
        for clock in clocks() {
            let folder = case.folder();
            let command = case.command(folder.path()).expect("it worked before");
            let run = command.env("FAULT_CLOCK", clock).run();
            run.is_done();
            assert!(
                run.fired.iter().any(|call| call.name == "clock"),
                "{}",
                run.shown()
            );
            undisturbed.are_there(folder.path(), &run.shown());
            for word in ["inf", "NaN", " -"] {
                let said = &run.ending.stdout;
                let own = undisturbed.run.ending.stdout.contains(word);
                assert!(
                    own || !said.contains(word),
                    "{clock}: `{word}` in {}",
                    run.shown()
                );
            }
            if let Ok(value) = serde_json::from_str(&run.ending.stdout) {
                times_are_times(&value, clock);
                let report = Case {
                    arguments: "eval report e --output page.md",
                    ..EVALUATION
                };
                report
                    .command(folder.path())
                    .expect("it worked before")
                    .run()
                    .is_done();
            }
            tell(case.name, clock, 1, 1);
        }
    }
}

/// The progress bar counts steps a second; it is drawn on a terminal alone.
#[test]
fn a_clock_that_jumps_does_not_stop_the_progress_bar() {
    for clock in clocks() {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(shimmed) = Shimmed::new(folder.path(), [""; 0]) else {
            return;
        };
        let program = env!("CARGO_BIN_EXE_afterimage");
        let line = format!("'{program}' generate --device cpu --steps 4 --seed 7 --output a.png");
        let Some(run) = shimmed
            .env("FAULT_CLOCK", clock)
            .env("TERM", "xterm")
            .on_a_terminal(&line)
        else {
            eprintln!("skipped: there is no `script` to make a terminal");
            return;
        };
        let said = format!("{}{}", run.ending.stdout, run.ending.stderr);
        assert_eq!(run.ending.code, Some(0), "{clock}: {said}");
        assert!(run.fired.iter().any(|call| call.name == "clock"));
        assert!(
            !said.contains("should not") && !said.contains("panicked"),
            "{clock}: {said}"
        );
        assert!(folder.path().join("a.png").exists());
        tell("a progress bar", clock, 1, 1);
    }
}

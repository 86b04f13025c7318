//! A model on its way into the cache: what breaks off is gone on with, and a disk that is full is said to be.

use std::{collections::BTreeMap, fs, path::Path};

use super::{
    files,
    shim::{Broken, Call, Fault, Shimmed},
    tell,
    writes::chosen,
};
use crate::hub::{ID, Server};

/// The small model of the golden tests, as the Hub has it.
fn server() -> Server {
    let model = crate::cli::model();
    let files = files(&model).into_iter().map(|path| {
        let name = path.strip_prefix(&model).expect("below");
        let name: &str = name.display().to_string().leak();
        (name, fs::read(&path).expect("a file"))
    });
    Server::start(files.collect::<BTreeMap<_, _>>())
}

/// A run with the model of `server`, everything that is fetched in `folder`.
fn run(folder: &Path, server: &Server) -> Option<Shimmed> {
    let arguments = "generate --device cpu --steps 1 --seed 7 --size 32x32 --output ../a.png";
    fs::create_dir_all(folder.join("hub")).expect("a folder");
    let words = arguments.split(' ').chain(["--model", ID]);
    let run = Shimmed::new(&folder.join("hub"), words)?;
    let run = run
        .env("HF_HOME", folder.join("hub"))
        .env("HF_ENDPOINT", &server.address);
    Some(
        run.without("HF_HUB_CACHE")
            .without("HF_HUB_OFFLINE")
            .without("HF_TOKEN"),
    )
}

fn picture(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("a.png")).unwrap_or_default()
}

/// Runs under each fault that is chosen, shows the ending to `judge`, and runs once more: the same picture then.
fn fetch(fault: fn(usize) -> Fault, judge: fn(&Broken)) -> Option<()> {
    let server = server();
    let folder = tempfile::tempdir().expect("a folder");
    let (mut tried, mut missed) = (0, 0);
    let whole = run(folder.path(), &server)?
        .fault(Fault::all("count"))
        .run();
    whole.is_done();
    let expected = picture(folder.path());
    let calls: Vec<Call> = whole.fired;
    for number in chosen(&calls) {
        let folder = tempfile::tempdir().expect("a folder");
        let broken = run(folder.path(), &server)?.fault(fault(number)).run();
        if broken.fired.iter().all(|call| call.number != number) {
            // On a busy machine a connection comes in fewer pieces, which are written in fewer calls.
            broken.is_done();
            missed += 1;
            continue;
        }
        judge(&broken);
        let again = run(folder.path(), &server)?
            .fault(Fault::from("count", 1))
            .run();
        assert_eq!(
            again.ending.code,
            Some(0),
            "after {}\n{}",
            broken.shown(),
            again.shown()
        );
        assert!(
            picture(folder.path()) == expected,
            "after {}",
            broken.shown()
        );
        tried += 1;
    }
    assert!(tried > 3, "{tried} fired, {missed} not");
    tell(
        "a model that is fetched",
        fault(1).kind,
        tried + missed,
        tried,
    );
    Some(())
}

#[test]
fn a_full_disk_is_no_matter_of_the_connection() {
    fetch(
        |number| Fault::from("enospc", number),
        |broken| {
            broken
                .ending
                .refused(1, &["No space left on device", "\nhint: "]);
            let said = broken.shown();
            assert!(!said.contains("check the connection"), "{said}");
        },
    );
}

#[test]
fn a_process_that_is_killed_while_it_fetches_goes_on_where_it_was() {
    fetch(
        |number| Fault::once("kill", number),
        |broken| assert_eq!(broken.signal, Some(9), "{}", broken.shown()),
    );
}

/// What fails once may succeed at the second attempt, and is no worse if it does not.
#[test]
fn a_disk_that_fails_once_leaves_nothing_wrong() {
    fetch(
        |number| Fault::once("eio", number),
        |broken| {
            broken.is_orderly();
            let code = broken.ending.code;
            assert!(matches!(code, Some(0 | 1)), "{}", broken.shown());
        },
    );
}

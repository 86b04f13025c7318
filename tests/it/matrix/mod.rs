//! Every way to make a picture under every caching method: each pair is tested, or refused with a reason.
//!
//! The list is `rows` × `columns`; the table of `docs/matrix.md` is made of the same list. To add a row: its few lines in `rows.rs`, then
//! `AFTERIMAGE_UPDATE_MATRIX=1 cargo test --release matrix`.

mod columns;
mod models;
mod rows;
mod table;

use std::sync::Mutex;
use std::thread;

use afterimage::Error;
use afterimage::cache::CacheRule;
use afterimage::pipeline::Request;
use afterimage::samplers::SamplerKind;

use self::columns::{Column, Reuse};
use self::models::{Made, Subject};
use self::rows::{ROWS, Row};
use crate::tolerance::F32_CPU;

/// Solver steps of every run.
const STEPS: usize = 6;

/// A row under one of its samplers.
struct Case<'a> {
    row: &'a Row,
    sampler: Option<SamplerKind>,
    subject: &'a Subject,
}

impl Case<'_> {
    fn request(&self, cache: CacheRule) -> Request {
        let mut request = Request {
            steps: Some(STEPS),
            sampler: self.sampler,
            cache,
            ..self.row.model.request()
        };
        (self.row.ask)(&mut request);
        request
    }

    fn plain(&self) -> Made {
        let made = self.subject.run(&self.request(CacheRule::none()));
        made.unwrap_or_else(|error| panic!("{}, uncached: {error}", self.row.name))
    }

    fn run(&self, column: Column, reuse: Reuse) -> Result<Made, Error> {
        let request = self.request(CacheRule::none());
        let rule = column.rule(reuse, self.subject, &request)?;
        self.subject.run(&self.request(rule))
    }

    /// What is wrong with a cell.
    fn faults(&self, column: Column, plain: &Made) -> Vec<String> {
        let outcome = self.run(column, Reuse::Some);
        match (outcome, self.row.refusal(column)) {
            (Ok(made), None) => self.faults_of_a_run(column, plain, &made),
            (Err(error), Some(reason)) if first_line(&error) == reason => Vec::new(),
            (Err(error), _) => vec![format!("refused: {error}")],
            (Ok(_), Some(reason)) => vec![format!("not refused; listed is: {reason}")],
        }
    }

    fn faults_of_a_run(&self, column: Column, plain: &Made, made: &Made) -> Vec<String> {
        let again = self.run(column, Reuse::Some).unwrap();
        let neutral = self.run(column, Reuse::Nothing).unwrap();
        let checks = [
            ("a value is not finite", made.is_finite()),
            ("a second run differs from the first", again.equals(made)),
            (
                "the neutral form differs from the uncached run",
                neutral.equals(plain),
            ),
            (
                "the cache is not used",
                column == Column::Plain || !made.equals(plain),
            ),
            ("the forecast is not what was run", made.is_as_forecast()),
        ];
        let mut faults: Vec<String> = checks
            .into_iter()
            .filter(|(_, holds)| !holds)
            .map(|(fault, _)| fault.to_owned())
            .collect();
        if column == Column::Batched {
            let sequential = self.run(Column::Sequential, Reuse::Some).unwrap();
            faults.extend(sequential.compare(made, F32_CPU).err());
        }
        faults
    }
}

/// The reason; hints stand on lines of their own.
fn first_line(error: &Error) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

impl Row {
    /// What is wrong with its cells.
    fn faults(&self) -> Vec<String> {
        let subject = &self.model.load();
        let mut faults = Vec::new();
        for sampler in self.samplers() {
            let case = Case {
                row: self,
                sampler,
                subject,
            };
            let plain = case.plain();
            for column in Column::ALL {
                let found = case.faults(column, &plain);
                let name = sampler.map(|kind| format!(" ({kind})")).unwrap_or_default();
                let place = format!("{}{name} × {}", self.name, column.title());
                faults.extend(found.iter().map(|fault| format!("{place}: {fault}")));
            }
        }
        faults
    }
}

#[test]
fn every_cell_is_tested_or_refused() {
    let rows = Mutex::new(ROWS.iter());
    let next = || rows.lock().unwrap().next();
    let work = || -> Vec<String> { std::iter::from_fn(next).flat_map(Row::faults).collect() };
    let faults: Vec<String> = thread::scope(|scope| {
        let workers = [scope.spawn(work), scope.spawn(work)];
        let found = workers.into_iter().map(|worker| worker.join().unwrap());
        found.flatten().collect()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// No sampler is left out, and no row of pictures lists one twice; other sigmas stand for all samplers over sigmas.
#[test]
fn every_sampler_has_a_row() {
    let apart = ["other sigmas", "films by Text2Video-Zero"];
    let usual = ROWS.iter().filter(|row| !apart.contains(&row.name));
    let mut listed: Vec<&str> = usual.flat_map(|row| row.samplers).copied().collect();
    let mut known: Vec<&str> = SamplerKind::all().map(SamplerKind::name).collect();
    listed.sort_unstable();
    known.sort_unstable();
    assert_eq!(listed, known);
}

/// With `AFTERIMAGE_UPDATE_MATRIX` set, writes the table instead.
#[test]
fn the_page_shows_the_list() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/matrix.md");
    let page = crate::fixture::text(path);
    let expected = table::placed(&page).expect("the page has a place for the table");
    if std::env::var_os("AFTERIMAGE_UPDATE_MATRIX").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    assert!(
        crate::fixture::text(path) == expected,
        "docs/matrix.md is out of date: AFTERIMAGE_UPDATE_MATRIX=1 cargo test --release matrix"
    );
}

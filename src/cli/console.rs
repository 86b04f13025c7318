//! What the program says: data on stdout, the rest on stderr.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use anstream::{AutoStream, ColorChoice};
use serde::Serialize;

pub(super) use crate::error::bytes;
use crate::error::{Error, FileError};

/// Writes a line, or several, of data to stdout.
///
/// # Errors
///
/// If stdout does not take all of it.
pub(super) fn data(text: &str) -> Result<(), Error> {
    let text = harmless(text);
    written(writeln!(io::stdout().lock(), "{text}"))
}

/// Writes one JSON object to stdout.
///
/// # Errors
///
/// As [`data`].
pub(super) fn json(value: &impl Serialize) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    let text = serde_json::to_writer_pretty(&mut stdout, value).map_err(io::Error::from);
    written(text.and_then(|()| writeln!(stdout)))
}

/// What came of writing to stdout, its buffer included.
///
/// # Errors
///
/// If stdout does not take all of it.
pub(super) fn written(outcome: io::Result<()>) -> Result<(), Error> {
    let outcome = outcome.and_then(|()| io::stdout().flush());
    outcome.map_err(|source| FileError::Stdout { source }.into())
}

/// Says something on stderr that is neither a warning nor an error.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", harmless(text));
}

/// A warning on stderr.
pub(super) fn warning(text: &str) {
    labelled("warning", YELLOW, text);
}

/// An error on stderr; its hint lines keep their own label.
pub(super) fn error(text: &str) {
    labelled("error", RED, text);
}

const RED: u8 = 31;
const YELLOW: u8 = 33;

fn labelled(label: &str, colour: u8, text: &str) {
    let text = harmless(text);
    let mut stderr = io::stderr().lock();
    let _ = if has_colours() {
        writeln!(stderr, "\u{1b}[1;{colour}m{label}:\u{1b}[0m {text}")
    } else {
        writeln!(stderr, "{label}: {text}")
    };
}

/// The text without what terminals obey: prompts and names come from files of anybody's.
fn harmless(text: &str) -> Cow<'_, str> {
    let obeyed = |letter: char| match letter {
        '\n' | '\t' => false,
        // What turns the direction of writing hides what stands there.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        other => other.is_control(),
    };
    if !text.contains(obeyed) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if obeyed(letter) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown.into()
}

/// Whether stderr shows colours, as for the help: a file would keep their codes, a dumb terminal show them, and whoever wants none sets
/// `NO_COLOR` to anything but nothing.
fn has_colours() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// What is logged where `RUST_LOG` does not ask: warnings, and of the libraries below errors alone. While tuning, cubecl tries kernels
/// that a device does not compile, warns of each, and logs each failure as an error with its source: none of it is the user's affair.
const QUIET: &str = "warn,burn=error,cubecl=error,cubek=error,naga=error,wgpu=error,\
    cubecl_runtime::tune=off,cubecl_wgpu=off";

/// The crate's log on stderr, as `RUST_LOG` asks; warnings if it does not ask.
pub(super) fn start_logging() {
    use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt};

    let filter = if std::env::var_os(EnvFilter::DEFAULT_ENV).is_some() {
        let unnamed = LevelFilter::WARN.into();
        EnvFilter::builder()
            .with_default_directive(unnamed)
            .from_env_lossy()
    } else {
        EnvFilter::new(QUIET)
    };
    let log = fmt().with_env_filter(filter).with_writer(io::stderr);
    let log = log.with_ansi(has_colours());
    // A program that embeds the command line may have a log of its own.
    let _ = log.without_time().with_target(false).try_init();
}

/// Columns with two spaces between them; the first line is the head. Columns named in `right` are aligned to the right.
pub(super) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            // A width of the formatter has 16 bits, and a prompt may have more characters.
            let gap = " ".repeat(widths[column] - cell.chars().count());
            if right.contains(&column) {
                gap + cell
            } else {
                cell.clone() + &gap
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Lines of a name and a value, the values under one another.
pub(super) fn pairs(lines: &[(&str, String)]) -> String {
    let rows = lines
        .iter()
        .map(|(name, value)| vec![(*name).into(), value.clone()]);
    table(&rows.collect::<Vec<_>>(), &[])
}

/// Ascending numbers, those that follow each other by their ends: `0, 2, 5-9`.
pub(super) fn numbers(numbers: &[usize]) -> String {
    let stretches = numbers.chunk_by(|a, b| a + 1 == *b);
    let texts = stretches.map(|stretch| match stretch {
        [first, .., last] if last - first > 1 => format!("{first}-{last}"),
        few => few
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// Thousands, millions and billions by their letters: `860 M`, `3.1 M`, `742`.
pub(super) fn count(number: u64) -> String {
    let scales = [(1e9, " G"), (1e6, " M"), (1e3, " k")];
    let amount = number as f64;
    let fitting = scales.into_iter().find(|(scale, _)| amount >= *scale);
    let Some((scale, letter)) = fitting else {
        return number.to_string();
    };
    let decimals = usize::from(amount / scale < 100.0);
    format!("{:.decimals$}{letter}", amount / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a", "bb", "c"], ["long", "1", ""]].map(|row| row.map(String::from).into());
        assert_eq!(table(&rows, &[1]), "a     bb  c\nlong   1");
    }

    #[test]
    fn columns_may_be_wider_than_any_screen() {
        let long = "a fox ".repeat(20_000);
        let lines = [("prompt", long.clone()), ("seed", "7".to_owned())];
        assert_eq!(
            pairs(&lines),
            format!("prompt  {}\nseed    7", long.trim_end())
        );
    }

    #[test]
    fn terminals_are_told_nothing_by_texts() {
        assert_eq!(harmless("a fox,\n\tnaïve ❤"), "a fox,\n\tnaïve ❤");
        assert_eq!(harmless("\u{1b}]0;x\u{7}\r"), "\\u{1b}]0;x\\u{7}\\r");
        assert_eq!(harmless("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn neighbours_share_a_dash() {
        assert_eq!(numbers(&[0, 2, 5, 6, 7, 9, 10]), "0, 2, 5-7, 9, 10");
        assert_eq!(numbers(&[]), "");
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(count(999), "999");
        assert_eq!(count(3_140_000), "3.1 M");
        assert_eq!(count(859_520_964), "860 M");
    }
}

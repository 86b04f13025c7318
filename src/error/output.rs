//! Files that cannot be written as they are asked for, known before a run.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    #[cfg(feature = "cli")]
    #[error(
        "the standard output is a terminal, which shows no picture\nhint: send it on, as in `--output - > fox.png`, or name a file"
    )]
    Terminal,
    #[cfg(feature = "cli")]
    #[error(
        "`--json` and the picture would both go to the standard output\nhint: name a file as `--output`"
    )]
    TwoOutputs,
    #[cfg(feature = "cli")]
    #[error(
        "{first} and {second} name the same file\nhint: one would replace the other: name two\nfile: {}",
        path.display()
    )]
    SameFile {
        first: String,
        second: String,
        path: PathBuf,
    },
    #[cfg(feature = "cli")]
    #[error(
        "{written} names a file that the run reads, by `{read}`\nhint: it would be replaced: name another\nfile: {}",
        path.display()
    )]
    ReadFile {
        written: String,
        read: &'static str,
        path: PathBuf,
    },
    #[cfg(feature = "cli")]
    #[error("the output `{given}` is {what}, whose name ends in {ending}\nhint: end it so")]
    Ending {
        given: String,
        what: &'static str,
        ending: &'static str,
    },
    #[error(
        "{format} has sides of {least} to {most} pixels, these are of {width}x{height}\nhint: ask for another size, or name a file of another format\nfile: {}",
        path.display()
    )]
    Sides {
        format: &'static str,
        least: usize,
        most: usize,
        width: usize,
        height: usize,
        path: PathBuf,
    },
}

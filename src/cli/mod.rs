//! The command line.
//!
//! Data goes to stdout; progress, warnings and errors go to stderr. Exit codes: 0 done, 1 failed, 2 asked for something that makes
//! no sense, 130 stopped by Ctrl-C (143 by SIGTERM, 129 by SIGHUP), 141 nobody reads the standard output any more.

mod account;
mod adapters;
mod args;
mod bench;
mod calibrate;
mod cancel;
mod console;
mod curve;
mod decode;
mod devices;
mod doctor;
mod eval;
mod eval_text;
mod facts;
mod fault;
mod generate;
mod inspect;
mod job;
mod memory;
mod output;
mod pictures;
mod places;
mod plan;
mod preview;
mod progress;
mod recipe;
#[cfg(feature = "serve")]
mod serve;
mod tensors;

use std::{panic::catch_unwind, process::ExitCode};

use args::Command;

use crate::error::Error;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
/// What shells report for a program whose reader has gone away: 128 and the number of `SIGPIPE`.
const UNREAD: u8 = 141;

/// The whole program: reads the arguments, runs the command, reports what went wrong.
pub fn main() -> ExitCode {
    fault::install();
    #[cfg(unix)]
    crate::signals::leave_out_larger_files();
    let arguments = match args::read() {
        Ok(arguments) => arguments,
        Err(answer) => return usage(&answer),
    };
    match arguments.command {
        #[cfg(feature = "serve")]
        Command::Serve(ref arguments) => arguments.start_logging(),
        _ => console::start_logging(),
    }
    #[cfg(feature = "cpu")]
    if let Some(said) = crate::device::bound_threads() {
        console::warning(&said);
    }
    match catch_unwind(|| run(arguments.command)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => report(&error),
        Err(_) => {
            fault::report();
            ExitCode::from(FAILED)
        }
    }
}

fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Devices => devices::run(),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Decode(arguments) => decode::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Calibrate(arguments) => calibrate::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        #[cfg(feature = "serve")]
        Command::Serve(arguments) => serve::run(*arguments),
    }
}

/// Help, version, and arguments that do not parse.
fn usage(answer: &clap::Error) -> ExitCode {
    let printed = answer.print();
    if answer.use_stderr() {
        // Nobody is left to tell if the terminal is gone.
        return ExitCode::from(USAGE);
    }
    match console::written(printed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn report(error: &Error) -> ExitCode {
    if error.is_cancelled() {
        console::note("cancelled");
        return ExitCode::from(cancel::exit_code());
    }
    if error.is_closed_pipe() {
        return ExitCode::from(UNREAD);
    }
    console::error(&error.to_string());
    let is_usage = error.is_request() || error.is_plan();
    ExitCode::from(if is_usage { USAGE } else { FAILED })
}

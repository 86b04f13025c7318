//! What the examples share: their arguments, and how they end.

use std::{fmt::Display, path::PathBuf, process::ExitCode};

use afterimage::{
    device::DeviceChoice,
    pipeline::{Request, Seeds},
};

/// Which picture, of which model, on which device.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// What the picture shows
    #[arg(default_value = "a red circle above a blue square")]
    prompt: String,
    /// Folder, checkpoint file or Hub id
    #[arg(long, value_name = "DIR|ID", default_value = "bundled")]
    pub(crate) model: String,
    /// Seed of the noise
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Denoising steps [default: the model's]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// auto, cpu, wgpu, vulkan, metal or cuda; a number picks one of several, as in cuda:1
    #[arg(long, value_name = "D", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// File to write
    #[arg(long, value_name = "FILE.png", default_value = concat!(env!("CARGO_CRATE_NAME"), ".png"))]
    pub(crate) output: PathBuf,
}

impl Common {
    /// The request they describe; everything else as the model would have it.
    pub(crate) fn request(&self) -> Request {
        Request {
            seeds: Seeds::One(self.seed),
            steps: self.steps,
            ..Request::new(&self.prompt)
        }
    }
}

/// Tells people what went wrong: an error's message, not its structure, which returning it from `main` would print.
#[expect(clippy::print_stderr, reason = "examples talk to the terminal")]
pub(crate) fn exit<E: Display>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

//! A picture, and what another prompt makes of it: the start, the result, the result with caching.
//!
//! ```text
//! cargo run --release --example image_to_image -- "a red circle above a blue square" --then "a purple circle above a blue square"
//! ```

mod common;
#[path = "common/pair.rs"]
mod pair;

use std::{path::PathBuf, process::ExitCode};

use afterimage::pipeline::{Edit, Pipeline, Request, Subject};
use afterimage::{Error, catalog::ModelFolder, device, image_io::Picture, image_io::contact_sheet};
use clap::Parser;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: common::Common,
    /// What the picture becomes
    #[arg(
        long,
        value_name = "PROMPT",
        default_value = "a purple circle above a blue square"
    )]
    then: String,
    /// Picture to start from [default: one of the first prompt]
    #[arg(long, value_name = "FILE")]
    init_image: Option<PathBuf>,
    /// How much of it gives way to noise
    #[arg(long, value_name = "S", default_value_t = 0.7)]
    strength: f64,
}

fn main() -> ExitCode {
    common::exit(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    let device = device::open(arguments.common.device)?;
    let folder = ModelFolder::open(&arguments.common.model)?;
    let model = Pipeline::load(&folder, device.device(), device.dtype(None)?)?;

    let first = arguments.common.request();
    let start = match &arguments.init_image {
        Some(path) => Picture::read(path)?,
        None => pair::picture(&model, &first)?,
    };
    let request = Request {
        subject: Subject::Prompts(vec![arguments.then.clone()]),
        edit: Some(Edit::new(start.clone()).with_strength(arguments.strength)),
        ..first
    };
    let [plain, cached] = pair::pair(&model, request)?;
    contact_sheet(&[start, plain, cached], 3, 4).save(&arguments.common.output, &[])
}

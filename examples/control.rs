//! The outlines of one picture in another: the start, its outlines, the result, the result with caching.
//!
//! ```text
//! cargo run --release --example control -- "a black star above a black square on a white background" \
//!     --then "a yellow star above a green square"
//! ```

mod common;
#[path = "common/pair.rs"]
mod pair;

use std::{path::PathBuf, process::ExitCode};

use afterimage::catalog::{ModelFolder, ModelPart};
use afterimage::image_io::{CannyThresholds, Picture, contact_sheet};
use afterimage::pipeline::{Control, Pipeline, Request, Subject};
use afterimage::{Error, device};
use clap::{CommandFactory, FromArgMatches, Parser};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: common::Common,
    /// What is drawn along the outlines
    #[arg(
        long,
        value_name = "PROMPT",
        default_value = "a yellow circle above a green square"
    )]
    then: String,
    /// Folder of a `ControlNet` that was trained on Canny's edges
    #[arg(long, value_name = "DIR", default_value = "models/scenes-control")]
    net: String,
    /// Picture whose outlines are followed [default: one of the first prompt]
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

fn main() -> ExitCode {
    // Outlines come from brightness, so the shapes are black on white.
    let command = Arguments::command().mut_arg("prompt", |arg| {
        arg.default_value("a black circle above a black square on a white background")
    });
    match Arguments::from_arg_matches(&command.get_matches()) {
        Ok(arguments) => common::exit(run(&arguments)),
        Err(error) => error.exit(),
    }
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    let device = device::open(arguments.common.device)?;
    let folder = ModelFolder::open(&arguments.common.model)?;
    let mut model = Pipeline::load(&folder, device.device(), device.dtype(None)?)?;
    let net = model.add_control(&ModelPart::open(&arguments.net)?)?;

    let first = arguments.common.request();
    let start = match &arguments.image {
        Some(path) => Picture::read(path)?,
        None => pair::picture(&model, &first)?,
    };
    let outlines = start.canny(CannyThresholds::default());
    let request = Request {
        subject: Subject::Prompts(vec![arguments.then.clone()]),
        controls: vec![Control::new(net, outlines.clone())],
        ..first
    };
    let [plain, cached] = pair::pair(&model, request)?;
    contact_sheet(&[start, outlines, plain, cached], 4, 4).save(&arguments.common.output, &[])
}

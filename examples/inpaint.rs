//! Another thing in one part of a picture: the start, the mask, the result, the result with caching.
//!
//! ```text
//! cargo run --release --example inpaint -- "a red circle above a blue square" --then "a green star above a blue square"
//! ```

mod common;
#[path = "common/pair.rs"]
mod pair;

use std::{path::PathBuf, process::ExitCode};

use afterimage::image_io::{Mask, Picture, contact_sheet};
use afterimage::pipeline::{Edit, Pipeline, Request, Subject};
use afterimage::{Error, catalog::ModelFolder, device};
use clap::Parser;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: common::Common,
    /// What the whole picture shows afterwards
    #[arg(
        long,
        value_name = "PROMPT",
        default_value = "a green star above a blue square"
    )]
    then: String,
    /// Picture whose light part is painted anew [default: the upper half]
    #[arg(long, value_name = "FILE")]
    mask: Option<PathBuf>,
}

fn main() -> ExitCode {
    common::exit(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    let device = device::open(arguments.common.device)?;
    let folder = ModelFolder::open(&arguments.common.model)?;
    let model = Pipeline::load(&folder, device.device(), device.dtype(None)?)?;

    let first = arguments.common.request();
    let start = pair::picture(&model, &first)?;
    let mask = match &arguments.mask {
        Some(path) => Picture::read(path)?,
        None => upper_half(&start),
    };
    let request = Request {
        subject: Subject::Prompts(vec![arguments.then.clone()]),
        edit: Some(Edit::new(start.clone()).with_mask(Mask::new(mask.clone())?)),
        ..first
    };
    let [plain, cached] = pair::pair(&model, request)?;
    contact_sheet(&[start, mask, plain, cached], 4, 4).save(&arguments.common.output, &[])
}

fn upper_half(picture: &Picture) -> Picture {
    let (width, height) = (picture.width(), picture.height());
    Picture::from_fn(width, height, |_, y| [255 * u8::from(y < height / 2); 3])
}

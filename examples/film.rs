//! A film: eight frames of a text, by a model of pictures (Text2Video-Zero) or by one of films, as an animated GIF.
//!
//! ```text
//! cargo run --release --example film -- "a red circle" --frames 8 --cache deepcache:interval=3 --output circle.gif
//! ```

mod common;

use std::num::NonZeroU16;
use std::process::ExitCode;

use afterimage::cache::CacheRule;
use afterimage::image_io::Film;
use afterimage::pipeline::{Output, Pipeline};
use afterimage::{Error, catalog::ModelFolder, device};
use clap::Parser;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: common::Common,
    /// Frames of the film; models of films have a number of their own.
    #[arg(long, default_value_t = 8)]
    frames: usize,
    /// Frames a second.
    #[arg(long, default_value = "7")]
    fps: NonZeroU16,
    /// What to reuse between steps: none, `deepcache:interval=3`, …
    #[arg(long, value_name = "RULE", default_value = "none")]
    cache: CacheRule,
}

fn main() -> ExitCode {
    common::exit(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    let device = device::open(arguments.common.device)?;
    let folder = ModelFolder::open(&arguments.common.model)?;
    let model = Pipeline::load(&folder, device.device(), device.dtype(None)?)?;

    let mut request = arguments.common.request();
    request.film.frames = Some(arguments.frames);
    request.cache = arguments.cache.clone();
    let generated = model.generate(&request, &mut ())?;

    if let Output::Frames(films) = generated.output()? {
        for frames in films {
            Film::new(frames, arguments.fps).save(&arguments.common.output, &[])?;
        }
    }
    Ok(())
}

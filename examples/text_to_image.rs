//! A prompt in, a PNG out: the smallest complete use of the library.
//!
//! ```text
//! cargo run --release --example text_to_image -- "a red circle above a blue square" --cache deepcache:interval=3
//! ```

mod common;

use std::process::ExitCode;

use afterimage::{Error, cache::CacheRule, catalog::ModelFolder, device, pipeline::Pipeline};
use clap::Parser;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: common::Common,
    /// What to reuse between steps: none, `deepcache:interval=3`, `encoder-propagation:keys=50ls`, …
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
    request.cache = arguments.cache.clone();
    // `()` watches nothing; the example `embed` shows progress, previews and cancelling.
    let generated = model.generate(&request, &mut ())?;

    for picture in generated.pictures()? {
        picture.save(&arguments.common.output, &[])?;
    }
    Ok(())
}

//! The same picture under several cache rules, and with fewer steps at the cost of one of them: a contact sheet and a table.
//!
//! ```text
//! cargo run --release --example compare_caches -- "a red circle above a blue square" --seed 7 --steps 50
//! ```

#[path = "common/caption.rs"]
mod caption;
mod common;

use std::process::ExitCode;

use afterimage::cache::{CacheRule, KeyList};
use afterimage::image_io::{Picture, contact_sheet};
use afterimage::metrics::{mean_squared_error, psnr};
use afterimage::pipeline::{ModelConfig, Pipeline, Report, Request};
use afterimage::{Error, catalog::ModelFolder, device};
use caption::captioned;
use clap::Parser;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: common::Common,
}

/// One way to make the picture, done.
struct Run {
    request: Request,
    report: Report,
    picture: Picture,
}

fn main() -> ExitCode {
    common::exit(run(&Arguments::parse()))
}

#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
fn run(arguments: &Arguments) -> Result<(), Error> {
    let device = device::open(arguments.common.device)?;
    let folder = ModelFolder::open(&arguments.common.model)?;
    let model = Pipeline::load(&folder, device.device(), device.dtype(None)?)?;

    let requests = variants(&arguments.common.request(), model.config())?;
    model.generate(&requests[0], &mut ())?; // kernels are compiled and tuned before the clock runs
    let runs = requests.into_iter().map(|request| make(&model, request));
    let runs = runs.collect::<Result<Vec<_>, _>>()?;

    let mut tiles = Vec::new();
    for run in &runs {
        let [rule, time, speed] = caption(run, &runs[0]);
        println!("{rule:<32} {time:<32} {speed}");
        tiles.push(captioned(&run.picture, &[&rule, &time, &speed]));
    }
    contact_sheet(&tiles, 3, 12).save(&arguments.common.output, &[])
}

fn make(model: &Pipeline, request: Request) -> Result<Run, Error> {
    let generated = model.generate(&request, &mut ())?;
    Ok(Run {
        picture: generated.pictures()?.swap_remove(0),
        report: generated.report,
        request,
    })
}

/// The plain run first, then every rule, then as few plain steps as `deepcache:interval=3` costs.
fn variants(plain: &Request, model: &ModelConfig) -> Result<Vec<Request>, Error> {
    let steps = plain.resolve(model)?.steps;
    let with = |steps, cache| Request {
        steps: Some(steps),
        cache,
        ..plain.clone()
    };
    let keys = KeyList::all().find(|list| list.made_for() == steps);
    let rules = [
        CacheRule::none(),
        CacheRule::deepcache(2, 0),
        CacheRule::deepcache(3, 0),
        CacheRule::deepcache(5, 0),
        CacheRule::encoder_propagation(keys.unwrap_or(KeyList::STABLE_DIFFUSION)),
    ];
    let mut variants = rules.map(|rule| with(steps, rule)).to_vec();
    let fewer = variants[2].resolve(model)?.forecast(4).plain_steps(steps);
    variants.push(with(fewer, CacheRule::none()));
    Ok(variants)
}

/// The rule; what the denoising loop took and how far the picture is from the plain one; the speed-up.
fn caption(run: &Run, plain: &Run) -> [String; 3] {
    let steps = run.request.steps.unwrap_or_default();
    let seconds = |run: &Run| run.report.denoising.as_secs_f64();
    let macs = |run: &Run| run.report.forecast.total_macs() as f64;
    let (predicted, measured) = (macs(plain) / macs(run), seconds(plain) / seconds(run));
    let distance = match psnr(mean_squared_error(&run.picture, &plain.picture)) {
        Some(decibels) => format!("{decibels:.1} dB"),
        None => "the same".into(),
    };
    [
        run.request.cache.to_string(),
        format!("{steps} steps, {:.2} s, {distance}", seconds(run)),
        format!("{predicted:.2}x predicted, {measured:.2}x measured"),
    ]
}

//! What the executor costs: a run's denoising loop against the sum of the times of the cells that it runs, each timed alone.
//!
//! `cargo bench --bench executor -- [MODEL [WIDTHxHEIGHT [STEPS [RULE…]]]]`; without a model the bundled one. In every round the run and the
//! cells take their turn; printed are the medians of the rounds' ratios and their extremes.
#![allow(
    clippy::print_stdout,
    reason = "a program that reports what it measured"
)]

use std::{error::Error, time::Instant};

use afterimage::cache::{CacheRule, Refresh};
use afterimage::catalog::ModelFolder;
use afterimage::conditioning::Conditioning;
use afterimage::denoiser::{Evaluation, StagedDenoiser};
use afterimage::evaluation::Spread;
use afterimage::models::unet::UNet;
use afterimage::pipeline::{Pipeline, Request};
use afterimage::recall::Recall;
use burn::tensor::{DType, Device, Distribution, Tensor};

const ROUNDS: usize = 7;

/// Seconds of one pass in pieces: each cell, and what surrounds them. What is made once a run is not in it.
struct Pass {
    cells: Vec<f64>,
    around: f64,
}

fn seconds<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let value = run();
    (value, start.elapsed().as_secs_f64())
}

/// A guided pass of one picture, cell by cell.
fn pass(unet: &UNet, [width, height]: [usize; 2]) -> Pass {
    let device = Device::flex();
    let random = |shape: [usize; 4]| -> Tensor<4> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device)
    };
    let context = random([1, 2, 77, unet.config().context_width]).squeeze_dim(0);
    let condition = Conditioning::of_context(context);
    let evaluations = [Evaluation {
        index: 0,
        timestep: 500.0,
    }];
    let run = unet.start(&condition, &evaluations);
    let sample = random([2, unet.config().in_channels, height, width]);
    let ((prepared, carry), entering) = seconds(|| {
        let prepared = unet.prepare(&run, &evaluations);
        let carry = unet.enter(sample, &prepared);
        (prepared, carry)
    });
    let (mut carry, mut cells) = (carry, Vec::new());
    for cell in 0..unet.cells() {
        let time;
        (carry, time) =
            seconds(|| unet.advance(carry, cell..cell + 1, &prepared, &mut Recall::none()));
        cells.push(time);
    }
    let (_, leaving) = seconds(|| unet.leave(carry, &prepared));
    Pass {
        cells,
        around: entering + leaving,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let folder = match words.next() {
        Some(name) => ModelFolder::open(&name),
        None => ModelFolder::bundled(),
    };
    let model = Pipeline::load(&folder?, &Device::flex(), DType::F32)?;
    let size = match words.next() {
        Some(size) => {
            let (width, height) = size.split_once('x').ok_or("a size is WIDTHxHEIGHT")?;
            Some((width.parse()?, height.parse()?))
        }
        None => None,
    };
    let steps = words.next().map_or(Ok(30), |steps| steps.parse())?;
    let mut rules = words
        .map(|rule| rule.parse())
        .collect::<Result<Vec<CacheRule>, _>>()?;
    if rules.is_empty() {
        rules = vec![
            CacheRule::none(),
            CacheRule::deepcache(3, 0),
            CacheRule::encoder_propagation(Refresh::every(3)),
        ];
    }
    for rule in rules {
        let request = Request {
            steps: Some(steps),
            size,
            sampler: Some("ddim".parse()?),
            cache: rule.clone(),
            ..Request::new("a red circle")
        };
        let resolved = request.resolve(model.config())?;
        let [_, _, height, width] = resolved.latent_shape;
        let mut runs = Vec::new();
        let mut sums = Vec::new();
        for _ in 0..ROUNDS {
            let report = model.generate(&request, &mut ())?.report;
            let unet = model.trunk_as::<UNet>().expect("a text-to-image model");
            let pass = pass(unet, [width, height]);
            let evaluations = report.account.refreshes + report.account.reuses;
            let cells = pass.cells.iter().zip(&report.account.cells);
            let cells: f64 = cells.map(|(time, count)| time * *count as f64).sum();
            sums.push(cells + pass.around * evaluations as f64);
            runs.push(report.denoising.as_secs_f64());
        }
        let ratio = Spread::of_ratios(&runs, &sums);
        println!(
            "{rule}: {steps} steps, {:.3} s, {:.3} ({:.3} to {:.3}) of the cells' time",
            Spread::of(runs.iter().copied()).median,
            ratio.median,
            ratio.least,
            ratio.most
        );
    }
    Ok(())
}

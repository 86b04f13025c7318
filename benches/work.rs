//! Counts the multiply-accumulates that the kernels execute in a step of a model, by type: what a share of the processor's peak is a share of.
//!
//! `cargo bench --bench work -- MODEL [size=512] [dtype=bf16] [weights=q8] [activations=q8]` runs two guided steps on the CPU and prints
//! JSON: of the second step, both rows of guidance, the multiply-accumulates in f32, bf16, 16 and 8 bits (Winograd's products where a convolution
//! is made of them), and those of the plain sums that a plan counts. `benches/peers/processor.py` divides them by the time of a step.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that reports what it measured"
)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use afterimage::catalog::ModelFolder;
use afterimage::denoise::{Observer, Progress};
use afterimage::ops::{self, ExecutedMacs};
use afterimage::pipeline::{Pipeline, Request};
use afterimage::weights::Format;
use burn::tensor::{DType, Device};

/// What had been executed after every evaluation.
#[derive(Default)]
struct Counts(Vec<ExecutedMacs>);

impl Observer for Counts {
    /// Stops behind the second: the pictures are of no interest.
    fn progress(&mut self, _progress: &Progress<'_>) -> ControlFlow<()> {
        self.0.push(ops::executed_macs());
        match self.0.len() {
            2 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn format(options: &BTreeMap<String, String>) -> Format {
    let dtype = match options.get("dtype").map(String::as_str) {
        None | Some("f32") => DType::F32,
        Some("f16") => DType::F16,
        Some("bf16") => DType::BF16,
        Some(other) => panic!("no dtype `{other}`"),
    };
    let mut format = Format::from(dtype);
    if let Some(weights) = options.get("weights") {
        format.weights = weights.parse().unwrap();
    }
    if let Some(activations) = options.get("activations") {
        format.activations = activations.parse().unwrap();
    }
    format
}

fn main() {
    let words = std::env::args().skip(1);
    let words: Vec<_> = words.filter(|word| !word.starts_with("--")).collect();
    let (options, models): (Vec<_>, Vec<_>) = words.iter().partition(|word| word.contains('='));
    let [model] = models[..] else {
        panic!("one model folder, then options such as `dtype=bf16`");
    };
    let pairs = options.iter().filter_map(|word| word.split_once('='));
    let options = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = options.collect::<BTreeMap<_, _>>();
    let side: usize = options
        .get("size")
        .map_or(512, |side| side.parse().unwrap());
    let folder = ModelFolder::open(model).unwrap();
    let pipeline = Pipeline::load(&folder, &Device::flex(), format(&options)).unwrap();
    let request = Request {
        steps: Some(2),
        guidance_scale: Some(7.5),
        size: Some((side, side)),
        sampler: Some("ddim".parse().unwrap()),
        ..Request::new("a lighthouse")
    };
    let mut counts = Counts::default();
    // Cancelled by the observer, which is an error to a caller who wants pictures.
    let stopped = pipeline.generate(&request, &mut counts);
    let [first, second] = counts.0[..] else {
        panic!("{:?}", stopped.err());
    };
    let factor = pipeline.config().canvas().factor;
    let plain = 2 * pipeline.config().blueprint([side / factor; 2]).full_macs();
    println!(
        "{}",
        serde_json::json!({
            "f32": second.f32 - first.f32,
            "bf16": second.bf16 - first.bf16,
            "i16": second.i16 - first.i16,
            "i8": second.i8 - first.i8,
            "plain": plain,
        })
    );
}

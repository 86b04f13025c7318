//! How an application embeds the engine: it owns the loaded model, a worker thread makes the pictures, progress and previews come
//! back through a channel, and letting go of the channel cancels.
//!
//! ```text
//! cargo run --release --example embed -- "a green ring" --cancel-after 12
//! ```
#![expect(clippy::print_stdout, reason = "the terminal is the window")]

mod common;

use std::sync::{Arc, mpsc};
use std::{error, io, ops::ControlFlow, path::Path, process::ExitCode, thread};

use afterimage::burn::tensor::{Tensor, s};
use afterimage::denoise::{Observer, Progress};
use afterimage::pipeline::{Pipeline, Request};
use afterimage::{Error, catalog::ModelFolder, device, image_io::Picture, models::vae::Tiling};
use clap::Parser;

/// Model calls from one preview to the next.
const PREVIEW_EVERY: usize = 5;

/// What the application owns; any number of runs share the model.
struct Engine(Arc<Pipeline>);

type Worker = thread::JoinHandle<Result<Vec<Picture>, Error>>;

enum Event {
    /// So many model calls of so many are done.
    Step(usize, usize),
    Preview(Result<Vec<Picture>, Error>),
    Warning(String),
}

impl Engine {
    /// Begins a run and returns at once. Whoever holds the receiver cancels the run by dropping it.
    fn start(&self, request: Request) -> io::Result<(mpsc::Receiver<Event>, Worker)> {
        let (sender, events) = mpsc::channel();
        let model = Arc::clone(&self.0);
        let worker = thread::Builder::new().spawn(move || {
            let mut watcher = Watcher {
                model: &model,
                events: sender,
            };
            model.generate(&request, &mut watcher)?.pictures()
        })?;
        Ok((events, worker))
    }
}

/// What the engine sees of the application.
struct Watcher<'a> {
    model: &'a Pipeline,
    events: mpsc::Sender<Event>,
}

impl Watcher<'_> {
    /// Every other latent of every other row: a quarter of the work, half the size, and right for any model.
    fn small(&self, latents: Tensor<4>) -> Result<Vec<Picture>, Error> {
        let latents = latents.slice(s![.., .., 0..;2, 0..;2]);
        Picture::from_batch(self.model.decode(latents, Tiling::default())?)
    }
}

impl Observer for Watcher<'_> {
    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        let done = progress.evaluation.index + 1;
        if done.is_multiple_of(PREVIEW_EVERY) {
            let preview = self.small(progress.clean());
            let _ = self.events.send(Event::Preview(preview));
        }
        let heard = self.events.send(Event::Step(done, progress.total));
        heard.map_or(ControlFlow::Break(()), ControlFlow::Continue)
    }

    fn warn(&mut self, message: &str) {
        let _ = self.events.send(Event::Warning(message.into()));
    }
}

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: common::Common,
    /// Cancel after this many model calls, as a user's click would
    #[arg(long, value_name = "N")]
    cancel_after: Option<usize>,
}

fn main() -> ExitCode {
    common::exit(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn error::Error>> {
    let device = device::open(arguments.common.device)?;
    let folder = ModelFolder::open(&arguments.common.model)?;
    let model = Pipeline::load(&folder, device.device(), device.dtype(None)?)?;
    let (events, worker) = Engine(Arc::new(model)).start(arguments.common.request())?;
    for event in events {
        match event {
            Event::Step(done, _) if arguments.cancel_after == Some(done) => break, // drops `events`
            Event::Step(done, total) => println!("step {done} of {total}"),
            Event::Preview(pictures) => show(&pictures?, &arguments.common.output)?,
            Event::Warning(message) => println!("warning: {message}"),
        }
    }
    match worker.join() {
        Ok(Ok(pictures)) => show(&pictures, &arguments.common.output)?,
        Ok(Err(error)) if error.is_cancelled() => println!("cancelled; the last preview stays"),
        Ok(Err(error)) if error.is_device() => Err(format!("{error}; try a smaller picture"))?,
        Ok(Err(error)) => Err(error)?,
        Err(_) => Err("the run failed where it should not; the engine is still whole")?,
    }
    Ok(())
}

/// A file stands in for the window: previews first, the picture in the end.
fn show(pictures: &[Picture], output: &Path) -> Result<(), Error> {
    pictures.iter().try_for_each(|one| one.save(output, &[]))
}

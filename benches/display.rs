//! What a preview as a texture costs beside a step, on a device that a host shares: the bundled model at its own size, on the first adapter
//! of wgpu's OpenGL backend (Mesa's rasteriser where there is no GPU).
//!
//! `CUBECL_AUTOTUNE_LEVEL=minimal cargo bench --bench display` prints the median seconds of a step and of a preview, both waited for to
//! their ends, their ratio, and the largest value that was read back from the device while the steps ran.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that reports what it measured"
)]

use std::ops::ControlFlow;
use std::time::Instant;

use afterimage::denoise::{Observer, Progress};
use afterimage::device::{self, Host, wgpu};
use afterimage::display::{LinearMap, Painter, Sampled};
use afterimage::engine::{Cancel, Engine, EngineOptions};
use afterimage::pipeline::Recipe;

/// The first evaluations compile shaders.
const WARM: usize = 3;

const RECIPE: &str = r#"{"version": 1, "prompts": ["a red circle to the left of a blue star"], "seed": 7, "steps": 12}"#;

struct Watch<'a> {
    host: &'a Host,
    painter: Painter,
    map: LinearMap,
    since: Instant,
    steps: Vec<f64>,
    previews: Vec<f64>,
    /// The largest value that was read back at the last step.
    read: u64,
}

impl Watch<'_> {
    /// Seconds until the device has done everything, counted from what was taken last.
    fn lap(&mut self) -> f64 {
        let device = self.host.device();
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let seconds = self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        seconds
    }
}

impl Observer for Watch<'_> {
    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        let device = progress.latents.device();
        device.sync().unwrap();
        let step = self.lap();
        let clean = progress.clean();
        self.painter.preview(clean, 0, &self.map).unwrap();
        let preview = self.lap();
        if progress.evaluation.index >= WARM {
            self.steps.push(step);
            self.previews.push(preview);
        }
        self.read = device::largest_read_back(&device);
        ControlFlow::Continue(())
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::GL,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::GL));
    let Some(adapter) = adapters.into_iter().next() else {
        println!("no adapter of OpenGL");
        return;
    };
    let host = Host::request(instance, adapter).unwrap();
    let options = EngineOptions {
        opened: Some(device::from_wgpu(&host).unwrap()),
        unchecked: true,
        ..EngineOptions::default()
    };
    let engine = Engine::open(&options, &mut ()).unwrap();
    let mut watch = Watch {
        host: &host,
        painter: Painter::new(&host, Sampled::Encoded),
        map: engine.linear_map().unwrap(),
        since: Instant::now(),
        steps: Vec::new(),
        previews: Vec::new(),
        read: 0,
    };
    let recipe = Recipe::from_json(RECIPE).unwrap();
    engine.run(&recipe, &Cancel::default(), &mut watch).unwrap();
    let [step, preview] = [watch.steps, watch.previews].map(median);
    println!(
        "step {step:.4} s, preview {preview:.4} s, {:.2} %",
        100.0 * preview / step
    );
    println!("read back: {} bytes at most", watch.read);
}

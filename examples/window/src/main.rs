//! A window onto a run: prompt, model and rule beside the picture while it comes about, what the cache spares below it.
//!
//! The program draws with egui on a GPU device that it shares with the engine: previews, pictures and frames of films are textures that never
//! leave the GPU. Where the only GPU is a rasteriser in software, the engine computes on the processor, and what it makes is copied to the
//! device for display.
//!
//! ```text
//! cargo run --release -p afterimage-window
//! ```

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::float_cmp,
        reason = "tests panic, and compare what was not computed"
    )
)]

mod controls;
mod look;
mod plan;
mod shared;
mod show;
mod stage;
mod strip;
mod watch;
mod window;
mod wishes;
mod worker;

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;
use eframe::egui_wgpu::{WgpuSetup, WgpuSetupExisting};
use eframe::{CreationContext, NativeOptions, UserEvent, egui};
use winit::event_loop::EventLoop;

use afterimage::device::Host;
use shared::{Computes, Place};
use window::Window;

/// A window onto Afterimage's runs.
#[derive(Debug, Parser)]
struct Arguments {
    /// A picture or film of Afterimage's, or a recipe: made again at once
    recipe: Option<PathBuf>,
    /// The model: a folder, a file, a Hub id; the bundled one if left out
    #[arg(long, default_value = "")]
    model: String,
    /// Where the engine computes: `shared` with the window, or as `--device` of the program says [default: shared if that is a GPU, else cpu]
    #[arg(long)]
    device: Option<Computes>,
    /// Run everything a second time with all of it computed, and compare
    #[arg(long)]
    compare: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let events = EventLoop::<UserEvent>::with_user_event().build()?;
    let host = shared::host(&events)?;
    let computes = arguments.device.unwrap_or_else(|| Computes::best(&host));
    let place = Place::open(computes, &host)?;
    let options = options(&host);
    let app = move |context: &CreationContext<'_>| {
        let window = Window::new(context, &host, place, arguments)?;
        Ok(Box::new(window) as Box<dyn eframe::App>)
    };
    let mut program = eframe::create_native("Afterimage", options, Box::new(app), &events);
    events.run_app(&mut program)?;
    Ok(())
}

/// A window on the device of `host`.
fn options(host: &Host) -> NativeOptions {
    let viewport = egui::ViewportBuilder::default()
        .with_inner_size([1180.0, 760.0])
        .with_min_inner_size([820.0, 560.0])
        .with_drag_and_drop(true);
    let mut options = NativeOptions {
        viewport,
        ..NativeOptions::default()
    };
    options.wgpu_options.wgpu_setup = WgpuSetup::Existing(WgpuSetupExisting {
        instance: host.instance().clone(),
        adapter: host.adapter().clone(),
        device: host.device().clone(),
        queue: host.queue().clone(),
    });
    options
}

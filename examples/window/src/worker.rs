//! The thread that has the engine.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use afterimage::Error;
use afterimage::device;
use afterimage::display::{LinearMap, Painter, Painting};
use afterimage::engine::{Cancel, Engine, EngineOptions, Finished};
use afterimage::image_io::save_item;
use afterimage::pipeline::{Recipe, RecipeModel};
use eframe::egui;

use crate::shared::Place;
use crate::watch::{Step, Watch};

/// What the window asks for.
pub(crate) enum Order {
    /// To run a recipe; of a film, previews show the middle one of so many frames.
    Run {
        recipe: Box<Recipe>,
        frames: usize,
        /// Whether what it makes is what can be saved then.
        is_kept: bool,
        cancel: Cancel,
    },
    /// To write the last that is kept.
    Save(PathBuf),
}

/// What the window is told.
#[derive(Debug)]
pub(crate) enum News {
    /// Something begins that takes a while.
    Busy(String),
    Warned(String),
    Step(Step),
    Made(Box<Made>),
    Saved(PathBuf),
    Cancelled,
    Failed(String),
}

impl News {
    /// Every run ends with one of these.
    pub(crate) fn ends_a_run(&self) -> bool {
        matches!(self, Self::Made(_) | Self::Cancelled | Self::Failed(_))
    }
}

/// What a run has made, on the window's device.
#[derive(Debug)]
pub(crate) struct Made {
    /// One an item, each its frames; a picture has one.
    pub(crate) items: Vec<Vec<Painting>>,
    pub(crate) frames_a_second: usize,
    /// With everything that was picked.
    pub(crate) recipe: Recipe,
    /// From texts to pictures; reading weights is no part of it.
    pub(crate) seconds: f64,
    pub(crate) cells: usize,
    /// That everything at every step would have been.
    pub(crate) cells_in_full: usize,
    /// The largest value that came back from the window's device so far, in bytes, where the engine shares it.
    pub(crate) read_back: Option<u64>,
}

/// The window's end of the thread.
pub(crate) struct Worker {
    orders: Option<Sender<Order>>,
    pub(crate) news: Receiver<News>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Engines compute on `place`; `painter` is on the window's device.
    pub(crate) fn new(place: Place, painter: Painter, context: egui::Context) -> Self {
        let (orders, asked) = channel();
        let (told, news) = channel();
        let mut workshop = Workshop {
            place,
            painter,
            context,
            news: told,
            open: None,
            last: None,
        };
        let thread = thread::spawn(move || {
            for order in asked {
                workshop.follow(order);
            }
        });
        Self {
            orders: Some(orders),
            news,
            thread: Some(thread),
        }
    }

    /// Whether the thread is there to follow it.
    pub(crate) fn order(&self, order: Order) -> bool {
        let orders = self.orders.as_ref();
        orders.is_some_and(|orders| orders.send(order).is_ok())
    }
}

impl Drop for Worker {
    /// Waits for what is under way, so that the device outlives it; the window cancels first.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Workshop {
    place: Place,
    painter: Painter,
    context: egui::Context,
    news: Sender<News>,
    open: Option<Open>,
    last: Option<Finished>,
}

/// A model that is open.
struct Open {
    asked: RecipeModel,
    engine: Engine,
    map: Option<LinearMap>,
}

impl Workshop {
    fn follow(&mut self, order: Order) {
        let news = match order {
            Order::Run {
                recipe,
                frames,
                is_kept,
                cancel,
            } => match self.run(&recipe, frames, is_kept, &cancel) {
                Ok(made) => News::Made(Box::new(made)),
                Err(error) if error.is_cancelled() => News::Cancelled,
                Err(error) => News::Failed(error.to_string()),
            },
            Order::Save(path) => match self.save(&path) {
                Ok(()) => News::Saved(path),
                Err(error) => News::Warned(error.to_string()),
            },
        };
        // A window that is closed hears nothing.
        let _ = self.news.send(news);
        self.context.request_repaint();
    }

    fn run(
        &mut self,
        recipe: &Recipe,
        frames: usize,
        is_kept: bool,
        cancel: &Cancel,
    ) -> Result<Made, Error> {
        self.open(recipe)?;
        let Self {
            place,
            painter,
            context,
            news,
            open,
            last,
        } = self;
        let open = open.as_ref().expect("it was opened just now");
        let mut watch = Watch {
            news,
            context,
            painter,
            map: open.map.as_ref(),
            frames,
        };
        let finished = open.engine.run(recipe, cancel, &mut watch)?;
        let made = Made::of(&finished, painter, place)?;
        if is_kept {
            *last = Some(finished);
        }
        Ok(made)
    }

    /// Has the model of `recipe` open.
    fn open(&mut self, recipe: &Recipe) -> Result<(), Error> {
        let asked = &recipe.model;
        let serves = |open: &Open| open.asked == *asked || open.asked.name == asked.name;
        if self.open.as_ref().is_some_and(serves) {
            return Ok(());
        }
        // Before the next: memory has place for one.
        (self.open, self.last) = (None, None);
        let _ = self.news.send(News::Busy("reading the model".into()));
        self.context.request_repaint();
        let mut watch = Watch {
            news: &self.news,
            context: &self.context,
            painter: &self.painter,
            map: None,
            frames: 1,
        };
        let options = EngineOptions {
            recipe: recipe.clone(),
            device: self.place.device,
            opened: self.place.opened.clone(),
            ..EngineOptions::default()
        };
        let engine = Engine::open(&options, &mut watch)?;
        // A run without previews is a run all the same.
        let map = engine.linear_map().ok();
        self.open = Some(Open {
            asked: asked.clone(),
            engine,
            map,
        });
        Ok(())
    }

    /// Writes the first item of what is kept; the window asks for it only behind that.
    fn save(&self, path: &Path) -> Result<(), Error> {
        let Some(last) = &self.last else {
            return Ok(());
        };
        let pictures = last.generated.pictures()?;
        let frames = &pictures[..last.generated.frames.max(1)];
        save_item(frames, last.fps, path, &last.texts)
    }
}

impl Made {
    fn of(finished: &Finished, painter: &Painter, place: &Place) -> Result<Self, Error> {
        let generated = &finished.generated;
        let rows = generated.images.dims()[0];
        let pictures = (0..rows).map(|row| painter.picture(generated.images.clone(), row));
        let pictures = pictures.collect::<Result<Vec<_>, Error>>()?;
        let items = pictures.chunks(generated.frames.max(1));
        let account = &finished.account;
        let took = |report: &afterimage::pipeline::Report| {
            (report.text + report.denoising + report.decoding).as_secs_f64()
        };
        let shared = place.opened.as_ref();
        Ok(Self {
            items: items.map(<[Painting]>::to_vec).collect(),
            frames_a_second: finished.fps,
            recipe: finished.recipe.clone(),
            seconds: finished.reports.iter().map(took).sum(),
            cells: account.cells.iter().sum(),
            cells_in_full: account.cells.len() * (account.refreshes + account.reuses),
            read_back: shared.map(|open| device::largest_read_back(open.device())),
        })
    }
}

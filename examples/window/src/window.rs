//! The program's state, and what changes it.

use std::error::Error;
use std::path::{Path, PathBuf};

use afterimage::device::Host;
use afterimage::display::{Painter, Sampled};
use afterimage::engine::Cancel;
use afterimage::pipeline::{Recipe, Seeds};
use eframe::egui::{CentralPanel, Context, Panel, RichText, Spinner, Ui, ViewportCommand};
use eframe::wgpu::FilterMode;
use eframe::{App, CreationContext, Frame};

use crate::Arguments;
use crate::controls::{self, Around, Pressed};
use crate::look;
use crate::plan::{Plan, Planner};
use crate::shared::Place;
use crate::show::Textures;
use crate::stage::Stage;
use crate::strip;
use crate::watch::Step;
use crate::wishes::Wishes;
use crate::worker::{Made, News, Order, Worker};

/// A run under way.
struct Run {
    cancel: Cancel,
    /// The evaluations that were made: whether each computed everything.
    ran: Vec<bool>,
    /// It computes everything, to be put beside the one before.
    is_plain: bool,
}

pub(crate) struct Window {
    wishes: Wishes,
    compares: bool,
    /// What was planned last, for what.
    planned: Option<Wishes>,
    plan: Option<Plan>,
    /// What is wrong with the wishes.
    wrong: Option<String>,
    run: Option<Run>,
    /// Runs that were cancelled for another, whose ends are still to be heard.
    left: usize,
    /// The evaluations of the last run.
    ran: Vec<bool>,
    /// What is said below the picture.
    said: String,
    is_failure: bool,
    stage: Stage,
    place: String,
    textures: Textures,
    painter: Painter,
    planner: Planner,
    worker: Worker,
}

impl Window {
    pub(crate) fn new(
        context: &CreationContext<'_>,
        host: &Host,
        place: Place,
        arguments: Arguments,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        look::dress(&context.egui_ctx);
        let renderer = context.wgpu_render_state.clone();
        let textures = Textures::new(renderer.ok_or("the window is drawn without wgpu")?);
        let painter = || Painter::new(host, Sampled::Encoded);
        let name = match &place.opened {
            Some(open) => format!("Computes on the window's device, {}.", open.info().name),
            None => format!(
                "Computes on {}; shown by {}.",
                place.device,
                host.adapter().get_info().name
            ),
        };
        let mut window = Self {
            wishes: Wishes::new(arguments.model),
            compares: arguments.compare,
            planned: None,
            plan: None,
            wrong: None,
            run: None,
            left: 0,
            ran: Vec::new(),
            said: String::new(),
            is_failure: false,
            stage: Stage::default(),
            place: name,
            textures,
            painter: painter(),
            planner: Planner::new(context.egui_ctx.clone()),
            worker: Worker::new(place, painter(), context.egui_ctx.clone()),
        };
        if let Some(path) = arguments.recipe {
            window.open(&path, &context.egui_ctx);
        }
        Ok(window)
    }

    /// Makes what `path` says again, or opens it as a model.
    fn open(&mut self, path: &Path, context: &Context) {
        let is_model = path.is_dir() && path.join("model_index.json").exists()
            || path
                .extension()
                .is_some_and(|ending| ending == "safetensors" || ending == "gguf");
        if is_model {
            self.wishes = Wishes::new(path.display().to_string());
            return;
        }
        match Recipe::read(path) {
            Ok(recipe) => {
                self.wishes = Wishes::of(recipe);
                self.begin(context);
            }
            Err(error) => self.say(&error.to_string(), true),
        }
    }

    fn say(&mut self, text: &str, is_failure: bool) {
        text.clone_into(&mut self.said);
        self.is_failure = is_failure;
    }

    /// Begins the run that is asked for.
    fn begin(&mut self, context: &Context) {
        match self.wishes.recipe() {
            Ok(recipe) => {
                self.stage.begin();
                self.order(recipe, false, context);
            }
            Err(wrong) => self.say(&wrong, true),
        }
    }

    fn order(&mut self, recipe: Recipe, is_plain: bool, context: &Context) {
        self.cancel();
        self.left += usize::from(self.run.take().is_some());
        let cancel = Cancel::default();
        let frames = self.plan.as_ref().and_then(|plan| plan.frames);
        let order = Order::Run {
            recipe: Box::new(recipe),
            frames: frames.unwrap_or(1),
            is_kept: !is_plain,
            cancel: cancel.clone(),
        };
        if !self.worker.order(order) {
            self.end(
                "the engine's thread has ended; please start the program again",
                true,
                context,
            );
            return;
        }
        self.run = Some(Run {
            cancel,
            ran: Vec::new(),
            is_plain,
        });
        self.say(
            if is_plain {
                "everything at every step"
            } else {
                "begins"
            },
            false,
        );
        title(context, "at work");
    }

    fn cancel(&self) {
        if let Some(run) = &self.run {
            run.cancel.now();
        }
    }

    /// A run has ended.
    fn end(&mut self, text: &str, is_failure: bool, context: &Context) {
        if let Some(run) = self.run.take().filter(|run| !run.is_plain) {
            self.ran = run.ran;
        }
        self.say(text, is_failure);
        let first = text.lines().next().unwrap_or_default();
        title(context, first);
    }

    fn hear(&mut self, news: News, context: &Context) {
        if self.left > 0 {
            self.left -= usize::from(news.ends_a_run());
            return;
        }
        match news {
            News::Busy(text) | News::Warned(text) => self.say(&text, false),
            News::Step(step) => self.step(step, context),
            News::Made(made) => self.made(*made, context),
            News::Saved(path) => self.say(&format!("saved as {}", path.display()), false),
            News::Cancelled => self.end("cancelled", false, context),
            News::Failed(text) => self.end(&text, true, context),
        }
    }

    fn step(&mut self, step: Step, context: &Context) {
        let Some(run) = &mut self.run else {
            return;
        };
        run.ran.push(step.refresh);
        let kind = if run.is_plain { "plain: " } else { "" };
        let text = format!("{kind}step {} of {}", step.number, step.of);
        if let Some(preview) = step.preview {
            self.stage.preview = Some(self.textures.show(preview, FilterMode::Linear));
        }
        title(context, &text);
        self.say(&text, false);
    }

    fn made(&mut self, made: Made, context: &Context) {
        let is_plain = self.run.as_ref().is_some_and(|run| run.is_plain);
        let recipe = made.recipe.clone();
        let text = account(&made);
        let now = context.input(|input| input.time);
        self.end(&text, false, context);
        if is_plain {
            let spared = self.stage.made.as_ref().map(|cached| &cached.made);
            let beside = spared.map(|cached| beside(cached, &made));
            self.stage.set_plain(made, &self.textures);
            self.end(&beside.unwrap_or_default(), false, context);
            return;
        }
        let reuses = recipe.cache.is_some();
        self.stage.set(made, &self.textures, now);
        if self.compares && reuses {
            let mut plain = recipe;
            plain.reuse(None);
            self.order(plain, true, context);
        }
    }

    /// Asks for the plan of what is asked for, if that has changed.
    fn replan(&mut self) {
        if let Some(answer) = self.planner.answer() {
            match answer {
                Ok(plan) => (self.plan, self.wrong) = (Some(plan), None),
                Err(wrong) => self.wrong = Some(wrong),
            }
        }
        if self.planned.as_ref() == Some(&self.wishes) {
            return;
        }
        self.planned = Some(self.wishes.clone());
        match self.wishes.recipe() {
            Ok(recipe) => {
                self.wrong = None;
                self.planner.ask(recipe);
            }
            Err(wrong) => self.wrong = Some(wrong),
        }
    }

    fn follow(&mut self, pressed: Pressed, context: &Context) {
        match pressed {
            Pressed::Run => self.begin(context),
            Pressed::Cancel => self.cancel(),
            Pressed::Save => {
                let path = self.path();
                if !self.worker.order(Order::Save(path)) {
                    self.say("the engine's thread has ended", true);
                }
            }
        }
    }

    /// A name for what was made, that nothing has yet.
    fn path(&self) -> PathBuf {
        let made = self.stage.made.as_ref().map(|result| &result.made);
        let seed = made.and_then(|made| made.recipe.seed.as_ref());
        let seed = seed.map_or(0, Seeds::first);
        let is_film = made.is_some_and(|made| made.items.first().is_some_and(|one| one.len() > 1));
        let ending = if is_film { "gif" } else { "png" };
        let named = |name: String| PathBuf::from(format!("{name}.{ending}"));
        let plain = named(format!("afterimage-{seed}"));
        let numbered = (2..).map(|number| named(format!("afterimage-{seed}-{number}")));
        let mut all = std::iter::once(plain).chain(numbered);
        all.find(|name| !name.exists()).unwrap_or_default()
    }

    /// Below the picture: the plan, and what is said.
    fn footer(&self, ui: &mut Ui) {
        if let Some(plan) = &self.plan {
            let run = self.run.as_ref().filter(|run| !run.is_plain);
            let ran = run.map_or(&self.ran, |run| &run.ran);
            let ran = if run.is_none() && self.stage.made.is_none() {
                &[]
            } else {
                &ran[..]
            };
            strip::show(ui, plan, ran, run.is_some());
            ui.horizontal(|ui| {
                strip::legend(ui, plan);
                let size = format!(
                    "{} · {} · {} by {}",
                    plan.model, plan.sampler, plan.width, plan.height
                );
                ui.label(look::name(&size));
            });
        }
        ui.horizontal(|ui| {
            if self.run.is_some() {
                ui.add(Spinner::new().size(16.0));
            }
            let colour = if self.is_failure {
                look::WRONG
            } else {
                look::TEXT
            };
            ui.label(RichText::new(&self.said).color(colour));
        });
    }
}

impl App for Window {
    fn logic(&mut self, context: &Context, _frame: &mut Frame) {
        let news: Vec<News> = self.worker.news.try_iter().collect();
        for news in news {
            self.hear(news, context);
        }
        self.replan();
        let dropped = context.input(|input| input.raw.dropped_files.first().cloned());
        if let Some(file) = dropped {
            self.open(file.path(), context);
        }
        self.stage.prepare(&self.painter, &self.textures);
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut Frame) {
        let around = Around {
            plan: self.plan.as_ref(),
            wrong: self.wrong.as_deref(),
            is_running: self.run.is_some(),
            is_made: self.stage.made.is_some(),
            place: &self.place,
        };
        let panel = Panel::left("controls")
            .exact_size(340.0)
            .resizable(false)
            .frame(look::panel(look::PANEL));
        let shown = panel.show(ui, |ui| {
            controls::show(ui, &mut self.wishes, &mut self.compares, &around)
        });
        let footer = Panel::bottom("plan")
            .exact_size(138.0)
            .resizable(false)
            .show_separator_line(false)
            .frame(look::panel(look::GROUND));
        footer.show(ui, |ui| self.footer(ui));
        let stage = CentralPanel::default().frame(look::panel(look::GROUND));
        stage.show(ui, |ui| {
            let empty = "Say what it shall show, and press Enter.";
            let at_work = "The first step is under way …";
            let text = if self.run.is_some() { at_work } else { empty };
            self.stage.show(ui, text);
        });
        if let Some(pressed) = shown.inner {
            self.follow(pressed, &ui.ctx().clone());
        }
    }

    fn on_exit(&mut self) {
        self.cancel();
    }
}

/// What a run took.
fn account(made: &Made) -> String {
    let cells = format!("{} of {} cells", made.cells, made.cells_in_full);
    let read = made
        .read_back
        .map(|bytes| format!(" · nothing larger than {bytes} bytes was read back from the device"));
    format!(
        "{:.1} s · {cells}{}",
        made.seconds,
        read.unwrap_or_default()
    )
}

/// What the cached run spared beside the plain one.
fn beside(cached: &Made, plain: &Made) -> String {
    format!(
        "{:.1} s in place of {:.1} s, {:.2} times as fast · {} of {} cells",
        cached.seconds,
        plain.seconds,
        plain.seconds / cached.seconds,
        cached.cells,
        cached.cells_in_full
    )
}

/// Says how far things are where the window is but a name.
fn title(context: &Context, text: &str) {
    context.send_viewport_cmd(ViewportCommand::Title(format!("Afterimage: {text}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_told_beside_each_other() {
        let made = |seconds, cells| Made {
            items: Vec::new(),
            frames_a_second: 7,
            recipe: Recipe::default(),
            seconds,
            cells,
            cells_in_full: 40,
            read_back: Some(4),
        };
        let (cached, plain) = (made(1.0, 16), made(2.5, 40));
        assert_eq!(
            beside(&cached, &plain),
            "1.0 s in place of 2.5 s, 2.50 times as fast · 16 of 40 cells"
        );
        assert_eq!(
            account(&cached),
            "1.0 s · 16 of 40 cells · nothing larger than 4 bytes was read back from the device"
        );
    }
}

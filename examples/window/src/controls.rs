//! What is asked for: the panel at the left.

use eframe::egui::{
    self, Align, ComboBox, Key, KeyboardShortcut, Layout, Modifiers, Response, RichText, TextEdit,
    Ui,
};

use crate::look;
use crate::plan::Plan;
use crate::wishes::{RULES, Wishes};

/// What was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressed {
    Run,
    Cancel,
    Save,
}

/// What the panel shows beside the wishes.
pub(crate) struct Around<'a> {
    /// What the model would take where the wishes are silent.
    pub(crate) plan: Option<&'a Plan>,
    /// What is wrong with the wishes.
    pub(crate) wrong: Option<&'a str>,
    pub(crate) is_running: bool,
    /// Whether there is something to save.
    pub(crate) is_made: bool,
    /// Where the engine computes.
    pub(crate) place: &'a str,
}

/// Shows the controls of `wishes`, and `compares`, whether a run is followed by the plain one.
pub(crate) fn show(
    ui: &mut Ui,
    wishes: &mut Wishes,
    compares: &mut bool,
    around: &Around<'_>,
) -> Option<Pressed> {
    ui.label(RichText::new("Afterimage").heading().strong());
    ui.add_space(6.0);
    let mut pressed = prompts(ui, wishes).then_some(Pressed::Run);
    model(ui, wishes);
    rule(ui, wishes);
    numbers(ui, wishes, around.plan);
    ui.checkbox(compares, "Compare with plain").on_hover_text(
        "Runs the same once more with everything computed at every step, and puts a slider between the two",
    );
    ui.add_space(4.0);
    pressed = pressed.or(buttons(ui, around));
    if let Some(wrong) = around.wrong {
        ui.label(RichText::new(wrong).color(look::WRONG));
    }
    ui.with_layout(Layout::bottom_up(Align::Min), |ui| {
        ui.label(look::name(around.place));
        ui.label(look::name(
            "Drop a picture or film of Afterimage's here to make it again, or a model to open it.",
        ));
    });
    let is_allowed = around.wrong.is_none() && !around.is_running;
    pressed.filter(|pressed| *pressed != Pressed::Run || is_allowed)
}

/// Whether Enter was pressed in one of them.
fn prompts(ui: &mut Ui, wishes: &mut Wishes) -> bool {
    ui.label(look::name("Prompt"));
    let prompt = text(
        ui,
        &mut wishes.prompt,
        "a red circle to the left of a blue star",
        3,
    );
    if ui.memory(|memory| memory.focused().is_none()) {
        prompt.request_focus();
    }
    ui.label(look::name("Without"));
    let negative = text(ui, &mut wishes.negative, "nothing", 1);
    let is_in = prompt.has_focus() || negative.has_focus();
    is_in && ui.input(|input| input.key_pressed(Key::Enter) && !input.modifiers.shift)
}

/// Lines of text, which Shift and Enter add to.
fn text(ui: &mut Ui, text: &mut String, hint: &'static str, rows: usize) -> Response {
    let edit = TextEdit::multiline(text)
        .hint_text(hint)
        .desired_rows(rows)
        .desired_width(f32::INFINITY)
        .margin(egui::Margin::symmetric(10, 8))
        .return_key(KeyboardShortcut::new(Modifiers::SHIFT, Key::Enter));
    ui.add(edit)
}

fn line<'a>(text: &'a mut String, hint: &str) -> TextEdit<'a> {
    TextEdit::singleline(text)
        .hint_text(hint.to_owned())
        .desired_width(f32::INFINITY)
        .margin(egui::Margin::symmetric(10, 6))
}

fn model(ui: &mut Ui, wishes: &mut Wishes) {
    ui.label(look::name("Model: a folder, a file, a Hub id"));
    ui.add(line(&mut wishes.model, "the bundled one, of shapes"));
}

fn rule(ui: &mut Ui, wishes: &mut Wishes) {
    ui.label(look::name("What is used again from step to step"));
    let known = RULES.iter().find(|(_, rule)| *rule == wishes.rule);
    let width = ui.available_width();
    ComboBox::from_id_salt("rules")
        .width(width)
        .selected_text(known.map_or("As written below", |(name, _)| name))
        .show_ui(ui, |ui| {
            for (name, rule) in RULES {
                let is_taken = wishes.rule == rule;
                if ui.selectable_label(is_taken, name).clicked() {
                    rule.clone_into(&mut wishes.rule);
                }
            }
        });
    let written = line(&mut wishes.rule, "none").font(egui::TextStyle::Monospace);
    ui.add(written);
}

/// Four numbers beside each other; frames are of films.
fn numbers(ui: &mut Ui, wishes: &mut Wishes, plan: Option<&Plan>) {
    let of_plan = |text: fn(&Plan) -> String| plan.map(text).unwrap_or_default();
    let frames = plan.and_then(|plan| plan.frames);
    let mut fields = vec![
        ("Seed", &mut wishes.seed, "any".to_owned()),
        (
            "Steps",
            &mut wishes.steps,
            of_plan(|plan| plan.steps.to_string()),
        ),
        (
            "Guidance",
            &mut wishes.guidance,
            of_plan(|plan| plan.guidance_scale.to_string()),
        ),
    ];
    if frames.is_some() || !wishes.frames.is_empty() {
        let own = frames.map(|frames| frames.to_string());
        fields.push(("Frames", &mut wishes.frames, own.unwrap_or_default()));
    }
    ui.columns(fields.len(), |columns| {
        for (ui, (name, text, hint)) in columns.iter_mut().zip(fields) {
            ui.label(look::name(name));
            ui.add(line(text, &hint));
        }
    });
}

fn buttons(ui: &mut Ui, around: &Around<'_>) -> Option<Pressed> {
    ui.vertical_centered_justified(|ui| {
        if around.is_running {
            let cancel = look::button("Cancel", look::WRONG);
            let is_escape = ui.input(|input| input.key_pressed(Key::Escape));
            return (ui.add(cancel).clicked() || is_escape).then_some(Pressed::Cancel);
        }
        let run = look::button("Make it", look::ACCENT);
        if ui.add_enabled(around.wrong.is_none(), run).clicked() {
            return Some(Pressed::Run);
        }
        let is_control =
            |input: &mut egui::InputState| input.consume_key(Modifiers::COMMAND, Key::S);
        let save = ui.add_enabled(around.is_made, egui::Button::new("Save"));
        let is_saved = save.clicked() || ui.input_mut(is_control);
        (is_saved && around.is_made).then_some(Pressed::Save)
    })
    .inner
}

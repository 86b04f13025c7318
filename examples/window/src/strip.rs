//! The plan: a bar for each evaluation, as high as what it computes.

use eframe::egui::{Align2, Color32, FontId, Rect, Sense, Ui, pos2, vec2};

use crate::look;
use crate::plan::{Plan, Planned};

const HEIGHT: f32 = 46.0;

/// No bar is lower: a step that computes nearly nothing is a step all the same.
const LOWEST: f32 = 4.0;

/// Shows `plan`, whose evaluations have run as far as `ran` says: for each whether it computed everything.
pub(crate) fn show(ui: &mut Ui, plan: &Plan, ran: &[bool], is_running: bool) {
    let (place, response) =
        ui.allocate_exact_size(vec2(ui.available_width(), HEIGHT), Sense::hover());
    let evaluations = plan.evaluations();
    let width = place.width() / evaluations.len().max(1) as f32;
    let gap = (width * 0.25).min(3.0);
    for (index, planned) in evaluations.iter().enumerate() {
        let left = place.left() + index as f32 * width;
        let height = (place.height() * planned.share).max(LOWEST);
        let bar = Rect::from_min_max(
            pos2(left, place.bottom() - height),
            pos2(left + width - gap, place.bottom()),
        );
        let refresh = ran.get(index).copied().unwrap_or(planned.refresh);
        let is_bright = !is_running || index < ran.len();
        let colour = colour(refresh).gamma_multiply(if is_bright { 1.0 } else { 0.3 });
        ui.painter().rect_filled(bar, 2, colour);
    }
    if let Some(at) = response.hover_pos() {
        let index = ((at.x - place.left()) / width) as usize;
        if let Some(planned) = evaluations.get(index) {
            response.on_hover_text_at_pointer(said(index, evaluations.len(), *planned));
        }
    }
}

fn colour(refresh: bool) -> Color32 {
    if refresh { look::ACCENT } else { look::REUSED }
}

fn said(index: usize, of: usize, planned: Planned) -> String {
    let does = if planned.refresh {
        "computes everything".to_owned()
    } else {
        format!(
            "computes {:.0} % and uses the rest again",
            100.0 * planned.share
        )
    };
    format!("Evaluation {} of {of} {does}", index + 1)
}

/// What the colours mean, and what `plan` spares.
pub(crate) fn legend(ui: &mut Ui, plan: &Plan) {
    let work = &plan.work;
    key(
        ui,
        look::ACCENT,
        &format!("{} in full", work.full_evaluations),
    );
    let reused = plan.evaluations - work.full_evaluations;
    key(ui, look::REUSED, &format!("{reused} reused"));
    let most = if work.decided_in_the_run {
        "up to "
    } else {
        ""
    };
    let spares = format!(
        "{} of {} cells, {most}{:.2} times less work",
        work.cells_run, work.cells_total, work.predicted_speedup
    );
    ui.label(look::name(&spares));
}

fn key(ui: &mut Ui, colour: Color32, text: &str) {
    let (place, _) = ui.allocate_exact_size(vec2(10.0, 10.0), Sense::hover());
    ui.painter().rect_filled(place, 2, colour);
    ui.label(look::name(text));
}

/// A word on a dark ground, in a corner of a picture.
pub(crate) fn tag(ui: &Ui, at: eframe::egui::Pos2, align: Align2, text: &str) {
    let font = FontId::proportional(13.0);
    let galley = ui
        .painter()
        .layout_no_wrap(text.to_owned(), font, look::TEXT);
    let place = align.anchor_size(at, galley.size() + vec2(16.0, 8.0));
    ui.painter()
        .rect_filled(place, look::ROUND, look::GROUND.gamma_multiply(0.8));
    ui.painter()
        .galley(place.min + vec2(8.0, 4.0), galley, look::TEXT);
}

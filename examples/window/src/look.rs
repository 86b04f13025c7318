//! How the window looks: one palette, one measure.

use eframe::egui::{
    self, Color32, CornerRadius, FontFamily, FontId, Frame, Margin, RichText, Stroke, TextStyle,
    Theme, Visuals, vec2,
};

pub(crate) const GROUND: Color32 = Color32::from_rgb(17, 18, 23);
pub(crate) const PANEL: Color32 = Color32::from_rgb(24, 26, 33);
pub(crate) const FIELD: Color32 = Color32::from_rgb(34, 37, 46);
pub(crate) const LINE: Color32 = Color32::from_rgb(48, 52, 64);
pub(crate) const FAINT: Color32 = Color32::from_rgb(132, 139, 158);
pub(crate) const TEXT: Color32 = Color32::from_rgb(222, 225, 234);
/// What computes in full, and what is to be pressed.
pub(crate) const ACCENT: Color32 = Color32::from_rgb(255, 176, 84);
/// What is used again.
pub(crate) const REUSED: Color32 = Color32::from_rgb(94, 163, 255);
pub(crate) const WRONG: Color32 = Color32::from_rgb(255, 122, 112);

pub(crate) const ROUND: CornerRadius = CornerRadius::same(8);

/// Gives `context` the look.
pub(crate) fn dress(context: &egui::Context) {
    context.set_theme(Theme::Dark);
    context.set_visuals_of(Theme::Dark, visuals());
    context.all_styles_mut(|style| {
        let proportional = |size| FontId::new(size, FontFamily::Proportional);
        style.text_styles = [
            (TextStyle::Small, proportional(11.5)),
            (TextStyle::Body, proportional(14.0)),
            (TextStyle::Button, proportional(14.0)),
            (TextStyle::Heading, proportional(20.0)),
            (
                TextStyle::Monospace,
                FontId::new(12.5, FontFamily::Monospace),
            ),
        ]
        .into();
        style.spacing.item_spacing = vec2(8.0, 7.0);
        style.spacing.button_padding = vec2(12.0, 7.0);
        style.spacing.interact_size = vec2(36.0, 30.0);
        style.spacing.combo_height = 320.0;
    });
}

fn visuals() -> Visuals {
    let mut visuals = Visuals::dark();
    visuals.override_text_color = Some(TEXT);
    visuals.panel_fill = PANEL;
    visuals.window_fill = FIELD;
    visuals.window_stroke = Stroke::new(1.0, LINE);
    visuals.extreme_bg_color = FIELD;
    visuals.text_edit_bg_color = Some(FIELD);
    visuals.selection.bg_fill = REUSED.gamma_multiply(0.35);
    visuals.selection.stroke = Stroke::new(1.0, REUSED);
    visuals.weak_text_color = Some(FAINT);
    let widgets = &mut visuals.widgets;
    for widget in [
        &mut widgets.noninteractive,
        &mut widgets.inactive,
        &mut widgets.hovered,
        &mut widgets.active,
        &mut widgets.open,
    ] {
        widget.corner_radius = ROUND;
        widget.bg_fill = FIELD;
        widget.weak_bg_fill = FIELD;
        widget.bg_stroke = Stroke::new(1.0, LINE);
        widget.expansion = 0.0;
    }
    widgets.hovered.bg_stroke = Stroke::new(1.0, FAINT);
    widgets.active.bg_stroke = Stroke::new(1.0, ACCENT);
    visuals
}

/// A panel's frame.
pub(crate) fn panel(fill: Color32) -> Frame {
    Frame::new().fill(fill).inner_margin(Margin::same(18))
}

/// The name above a control.
pub(crate) fn name(text: &str) -> RichText {
    RichText::new(text).small().color(FAINT)
}

/// The one button that matters.
pub(crate) fn button(text: &str, fill: Color32) -> egui::Button<'static> {
    let text = RichText::new(text).strong().color(GROUND);
    egui::Button::new(text)
        .fill(fill)
        .stroke(Stroke::NONE)
        .corner_radius(ROUND)
        .min_size(vec2(0.0, 38.0))
}

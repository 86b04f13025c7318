//! The picture: while it comes about, when it is made, beside the plain one, as a film.

use std::time::Duration;

use afterimage::display::{Painter, Painting};
use eframe::egui::{
    Align2, Color32, CornerRadius, CursorIcon, Image, Label, Pos2, Rect, RichText, Sense, Slider,
    Stroke, Ui, Vec2, load::SizedTexture, vec2,
};
use eframe::wgpu::FilterMode;

use crate::look;
use crate::show::{Shown, Textures};
use crate::strip::tag;
use crate::worker::Made;

/// What was made, ready to be shown.
pub(crate) struct Picture {
    pub(crate) made: Made,
    /// Each item's frames.
    items: Vec<Vec<Shown>>,
}

/// The cached and the plain one behind a slider.
struct Slid {
    /// Item and frame that are in it, and where the slider was.
    of: (usize, usize, f32),
    shown: Shown,
}

/// What is shown, and how.
#[derive(Default)]
pub(crate) struct Stage {
    /// What the run seems to become.
    pub(crate) preview: Option<Shown>,
    pub(crate) made: Option<Picture>,
    /// The same run with everything computed.
    pub(crate) plain: Option<Picture>,
    slid: Option<Slid>,
    /// Share of the width that shows the cached one.
    slider: Option<f32>,
    item: usize,
    frame: usize,
    /// The time, in seconds, at which a film's first frame was shown; `None` while it stands.
    plays_since: Option<f64>,
}

impl Picture {
    pub(crate) fn new(made: Made, textures: &Textures) -> Self {
        let shown = |painting: &Painting| textures.show(painting.clone(), FilterMode::Nearest);
        let items = made
            .items
            .iter()
            .map(|item| item.iter().map(shown).collect());
        Self {
            items: items.collect(),
            made,
        }
    }

    fn shown(&self, item: usize, frame: usize) -> Option<&Shown> {
        self.items.get(item)?.get(frame)
    }
}

impl Stage {
    /// Has what was made before out of the way, for a run that begins.
    pub(crate) fn begin(&mut self) {
        *self = Self {
            slider: self.slider,
            ..Self::default()
        };
    }

    /// Shows what was made.
    pub(crate) fn set(&mut self, made: Made, textures: &Textures, now: f64) {
        self.preview = None;
        self.plays_since = Some(now);
        self.made = Some(Picture::new(made, textures));
    }

    /// Puts what was made with everything computed beside it.
    pub(crate) fn set_plain(&mut self, made: Made, textures: &Textures) {
        self.preview = None;
        self.plain = Some(Picture::new(made, textures));
    }

    /// Paints what the slider shows, before anything is drawn.
    pub(crate) fn prepare(&mut self, painter: &Painter, textures: &Textures) {
        let (item, frame) = (self.item, self.frame);
        let at = self.slider.unwrap_or(0.5);
        let of = (item, frame, at);
        let pair = self.pair().map(|pair| pair.map(|one| one.painting.clone()));
        let Some([cached, plain]) = pair else {
            self.slid = None;
            return;
        };
        if self.slid.as_ref().is_some_and(|slid| slid.of == of) {
            return;
        }
        let slid = self.slid.take().map(|slid| slid.shown);
        let fits = slid.filter(|shown| shown.painting.size() == cached.size());
        let size = cached.size().map(|side| side as usize);
        let new = || {
            painter
                .blank(size)
                .ok()
                .map(|blank| textures.show(blank, FilterMode::Nearest))
        };
        let Some(shown) = fits.or_else(new) else {
            return;
        };
        painter.compare(&cached, &plain, at, &shown.painting);
        self.slid = Some(Slid { of, shown });
    }

    /// The cached and the plain one, where both are there and of one size.
    fn pair(&self) -> Option<[&Shown; 2]> {
        let [made, plain] = [self.made.as_ref()?, self.plain.as_ref()?];
        let pair = [made, plain].map(|result| result.shown(self.item, self.frame));
        let [Some(cached), Some(plain)] = pair else {
            return None;
        };
        (cached.painting.size() == plain.painting.size()).then_some([cached, plain])
    }

    /// Shows it in what is left of `ui`; `empty` is said where there is nothing.
    pub(crate) fn show(&mut self, ui: &mut Ui, empty: &str) {
        self.play(ui);
        let has_films = self.frames() > 1;
        let bar = if has_films || self.items() > 1 {
            44.0
        } else {
            0.0
        };
        let place = ui.available_rect_before_wrap();
        let canvas = place.with_max_y(place.bottom() - bar);
        if let Some(made) = &self.made {
            let shown = self.slid.as_ref().map(|slid| &slid.shown);
            let Some(shown) = shown.or_else(|| made.shown(self.item, self.frame)) else {
                return;
            };
            let picture = fitted(canvas, shown.size());
            draw(ui, shown, picture);
            if self.slid.is_some() {
                self.slide(ui, picture);
            }
        } else if let Some(preview) = &self.preview {
            let picture = fitted(canvas, 8.0 * preview.size());
            draw(ui, preview, picture);
            tag(
                ui,
                picture.left_bottom() + vec2(10.0, -10.0),
                Align2::LEFT_BOTTOM,
                "preview",
            );
        } else {
            let text = RichText::new(empty).color(look::FAINT).size(16.0);
            ui.put(canvas, Label::new(text));
        }
        ui.advance_cursor_after_rect(canvas);
        ui.horizontal(|ui| self.bar(ui));
    }

    /// The handle on `picture`, and what is on either side of it.
    fn slide(&mut self, ui: &mut Ui, picture: Rect) {
        let response = ui.interact(
            picture,
            ui.scope_id().with("slider"),
            Sense::click_and_drag(),
        );
        let response = response.on_hover_and_drag_cursor(CursorIcon::ResizeHorizontal);
        if let Some(at) = response.interact_pointer_pos() {
            self.slider = Some(((at.x - picture.left()) / picture.width()).clamp(0.0, 1.0));
        }
        let at = picture.left() + picture.width() * self.slider.unwrap_or(0.5);
        let handle = Pos2::new(at, picture.center().y);
        ui.painter().circle_filled(handle, 11.0, Color32::WHITE);
        for side in [-1.0, 1.0] {
            let corner = |x: f32, y: f32| handle + vec2(side * x, y);
            let arrow = [corner(3.0, -4.0), corner(7.0, 0.0), corner(3.0, 4.0)];
            let stroke = Stroke::new(1.5, look::GROUND);
            ui.painter().line(arrow.to_vec(), stroke);
        }
        let said = |result: &Option<Picture>, name: &str| {
            let seconds = result.as_ref().map_or(0.0, |result| result.made.seconds);
            format!("{name}, {seconds:.1} s")
        };
        let left = picture.left_top() + vec2(10.0, 10.0);
        tag(ui, left, Align2::LEFT_TOP, &said(&self.made, "cached"));
        let right = picture.right_top() + vec2(-10.0, 10.0);
        tag(ui, right, Align2::RIGHT_TOP, &said(&self.plain, "plain"));
    }

    fn items(&self) -> usize {
        self.made.as_ref().map_or(0, |made| made.items.len())
    }

    fn frames(&self) -> usize {
        let made = self.made.as_ref();
        made.and_then(|made| made.items.get(self.item))
            .map_or(0, Vec::len)
    }

    /// Brings a film that plays to the frame of now.
    fn play(&mut self, ui: &Ui) {
        let (Some(since), Some(made)) = (self.plays_since, &self.made) else {
            return;
        };
        let (rate, frames) = (made.made.frames_a_second.max(1), self.frames());
        if frames < 2 {
            return;
        }
        let passed = ui.input(|input| input.time) - since;
        self.frame = (passed * rate as f64) as usize % frames;
        let next = Duration::from_secs_f64(1.0 / rate as f64);
        ui.ctx().request_repaint_after(next);
    }

    /// Items of a batch, and a film's button and frames.
    fn bar(&mut self, ui: &mut Ui) {
        if self.items() > 1 {
            for item in 0..self.items() {
                let number = (item + 1).to_string();
                ui.selectable_value(&mut self.item, item, number);
            }
        }
        let frames = self.frames();
        if frames < 2 {
            self.frame = 0;
            return;
        }
        let now = ui.input(|input| input.time);
        let text = if self.plays_since.is_some() {
            "Pause"
        } else {
            "Play"
        };
        if ui.button(text).clicked() {
            self.plays_since = self.plays_since.is_none().then_some(now);
        }
        ui.spacing_mut().slider_width = ui.available_width() - 80.0;
        let mut number = self.frame + 1;
        let slider = Slider::new(&mut number, 1..=frames).suffix(format!(" of {frames}"));
        if ui.add(slider).changed() {
            self.plays_since = None;
            self.frame = number - 1;
        }
    }
}

/// Where a picture of `size` goes in `canvas`: in its middle, as large as it can be; where there is place for twice the size, by a whole number.
fn fitted(canvas: Rect, size: Vec2) -> Rect {
    let scale = (canvas.size() / size).min_elem();
    let scale = if scale >= 2.0 { scale.floor() } else { scale };
    let place = Rect::from_center_size(canvas.center(), size * scale.max(0.0));
    place.translate(place.min.round() - place.min)
}

fn draw(ui: &Ui, shown: &Shown, place: Rect) {
    let texture = SizedTexture::new(shown.id, shown.size());
    Image::from_texture(texture)
        .corner_radius(CornerRadius::same(6))
        .paint_at(ui, place);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_enlarged_by_whole_numbers() {
        let canvas = Rect::from_min_size(Pos2::new(10.0, 20.0), vec2(700.0, 500.0));
        let small = fitted(canvas, vec2(128.0, 128.0));
        assert_eq!(small.size(), vec2(384.0, 384.0));
        let large = fitted(canvas, vec2(1024.0, 1024.0));
        assert_eq!(large.size(), vec2(500.0, 500.0));
        assert_eq!(large.min.round(), large.min);
    }
}

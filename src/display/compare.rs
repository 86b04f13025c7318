//! Two pictures behind a slider.

use crate::image_io::Picture;

/// Columns of the line between two pictures of `width`: a sixty-fourth of it.
pub(super) fn line(width: usize) -> usize {
    (width / 64).max(1)
}

/// The first column of a picture of `width` that shows the right one, where the slider is at `at`, 0 to 1.
pub(super) fn split(width: usize, at: f32) -> usize {
    (width as f32 * at.clamp(0.0, 1.0)).round() as usize
}

/// `left` to the left of the slider at `at`, 0 to 1 of the width, `right` to the right of it, and a white line in between: what
/// `Painter::compare` paints, on the processor.
///
/// # Panics
///
/// If the pictures are of two sizes.
pub fn compared(left: &Picture, right: &Picture, at: f32) -> Picture {
    let size = |picture: &Picture| (picture.width(), picture.height());
    assert_eq!(size(left), size(right), "two pictures of one size");
    let (width, height) = size(left);
    let split = split(width, at);
    let line = split.saturating_sub(line(width))..split;
    let is_inside = (1..width).contains(&split);
    Picture::from_fn(width, height, |x, y| {
        if is_inside && line.contains(&x) {
            return [255; 3];
        }
        let shown = if x < split { left } else { right };
        shown.pixel(x, y).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slider_divides_two_pictures() {
        let [left, right] = [[200, 0, 0], [0, 0, 200]].map(|colour| Picture::filled(4, 1, colour));
        let reds = |at| {
            let picture = compared(&left, &right, at);
            [0, 1, 2, 3].map(|x| picture.pixel(x, 0).unwrap()[0])
        };
        assert_eq!(reds(0.5), [200, 255, 0, 0], "a line in front of the middle");
        assert_eq!(reds(1.0), [200; 4], "at the ends there is no line");
        assert_eq!(reds(-3.0), [0; 4]);
        assert_eq!(reds(0.25), [255, 0, 0, 0]);
    }
}

//! Finds the coloured shapes of a picture: what the bundled `scenes` models draw.
//!
//! 1. every pixel gets the nearest colour of the palette;
//! 2. colours with flat areas (3 x 3 of one label) are present, the background is the most common of them on the frame; pixels are
//!    labelled again with present colours only;
//! 3. 4-connected components of the other colours, small ones dropped;
//! 4. each silhouette is compared (intersection over union) with the shapes drawn into its bounding box.
//!
//! Twin of `models/scenes/train/checker.py`, which counts for the models' cards.

mod templates;

use std::cmp::Reverse;

use crate::image_io::Picture;
use templates::best_template;

/// Names of the shapes, in the order of the templates.
pub const SHAPES: [&str; 6] = ["circle", "square", "triangle", "star", "ring", "cross"];

/// The colours; the first [`COLOURS`] are those of shapes, the others occur as backgrounds only.
pub const PALETTE: [(&str, [i64; 3]); 11] = [
    ("red", [225, 35, 35]),
    ("orange", [250, 140, 20]),
    ("yellow", [250, 220, 40]),
    ("green", [30, 160, 60]),
    ("blue", [40, 80, 225]),
    ("purple", [150, 50, 190]),
    ("white", [250, 250, 250]),
    ("black", [15, 15, 15]),
    ("light grey", [200, 200, 200]),
    ("grey", [140, 140, 140]),
    ("dark grey", [80, 80, 80]),
];

/// How many of [`PALETTE`] are colours of shapes.
pub const COLOURS: usize = 8;

/// A shape found with a lower `iou` is no clear shape.
pub const MIN_IOU: f64 = 0.65;

const MIN_FLAT: usize = 24;
const FRAME: usize = 4;

/// One shape of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// One of [`SHAPES`].
    pub shape: &'static str,
    /// One of the first [`COLOURS`] names of [`PALETTE`].
    pub colour: &'static str,
    /// Overlap with the best template, 0 to 1.
    pub iou: f64,
    /// Centre of the bounding box in pixels.
    pub x: f64,
    /// Centre of the bounding box in pixels, downwards.
    pub y: f64,
    /// Width of the bounding box.
    pub width: usize,
    /// Height of the bounding box.
    pub height: usize,
}

/// The clear shapes of a picture, largest first.
pub fn find_shapes(picture: &Picture) -> Vec<Found> {
    let mut found = find_scene(picture).0;
    found.retain(|shape| shape.iou >= MIN_IOU);
    found
}

/// All shapes of a picture, largest first and clear or not, and the name of the background colour (`None` if nothing is flat).
pub fn find_scene(picture: &Picture) -> (Vec<Found>, Option<&'static str>) {
    let all: Vec<usize> = (0..PALETTE.len()).collect();
    let present = Labels::nearest(picture, &all).present();
    if present.is_empty() {
        return (Vec::new(), None);
    }
    let labels = Labels::nearest(picture, &present);
    let background = labels.background();
    let colours = present
        .into_iter()
        .filter(|&colour| colour != background && colour < COLOURS);
    let mut parts: Vec<Part> = colours.flat_map(|colour| labels.parts(colour)).collect();
    parts.sort_by_key(|part| Reverse(count(&part.mask)));
    let mut seen_through = Vec::new();
    let found = parts
        .iter()
        .filter_map(|part| labels.name(part, &mut seen_through))
        .collect();
    (found, Some(PALETTE[background].0))
}

/// A connected area of one colour.
#[derive(Debug)]
struct Part {
    colour: usize,
    mask: Vec<bool>,
}

/// The palette's nearest colour at every pixel.
struct Labels {
    width: usize,
    height: usize,
    label: Vec<usize>,
}

impl Labels {
    fn nearest(picture: &Picture, allowed: &[usize]) -> Self {
        let pixels = picture.pixels().chunks_exact(3);
        Self {
            width: picture.width(),
            height: picture.height(),
            label: pixels.map(|pixel| nearest(pixel, allowed)).collect(),
        }
    }

    /// Colours with flat areas.
    fn present(&self) -> Vec<usize> {
        let mut counts = [0; PALETTE.len()];
        for (label, flat) in self.label.iter().zip(self.flat()) {
            counts[*label] += usize::from(flat);
        }
        (0..PALETTE.len())
            .filter(|&colour| counts[colour] >= MIN_FLAT)
            .collect()
    }

    /// The most common colour of the frame.
    fn background(&self) -> usize {
        let core = |x: usize, side: usize| x >= FRAME && x + FRAME < side;
        let on_frame = |index: &usize| {
            !core(index % self.width, self.width) || !core(index / self.width, self.height)
        };
        let frame = (0..self.label.len()).filter(on_frame);
        most_common(frame.map(|index| self.label[index])).unwrap_or(0)
    }

    /// True where the 3 x 3 neighbourhood (inside the picture) has one label.
    fn flat(&self) -> Vec<bool> {
        let Self {
            width,
            height,
            label,
        } = self;
        let mut flat = vec![false; label.len()];
        for y in 1..height.saturating_sub(1) {
            for x in 1..width.saturating_sub(1) {
                let middle = label[y * width + x];
                flat[y * width + x] =
                    (y - 1..y + 2).all(|y| (x - 1..x + 2).all(|x| label[y * width + x] == middle));
            }
        }
        flat
    }

    /// The connected areas of a colour that are not only edges.
    fn parts(&self, colour: usize) -> Vec<Part> {
        let mask: Vec<bool> = self.label.iter().map(|&label| label == colour).collect();
        let level = self.flat();
        let mut parts = self.components(&mask);
        parts.retain(|part| {
            part.iter()
                .zip(&level)
                .filter(|(own, flat)| **own && **flat)
                .count()
                >= MIN_FLAT
        });
        parts
            .into_iter()
            .map(|mask| Part { colour, mask })
            .collect()
    }

    /// 4-connected components, in order of their first pixel.
    fn components(&self, mask: &[bool]) -> Vec<Vec<bool>> {
        let mut free = mask.to_vec();
        let mut components = Vec::new();
        while let Some(start) = free.iter().position(|&free| free) {
            components.push(self.flood(start, &mut free));
        }
        components
    }

    /// The component of `start`, taken out of `free`.
    fn flood(&self, start: usize, free: &mut [bool]) -> Vec<bool> {
        let mut component = vec![false; free.len()];
        let mut stack = vec![start];
        while let Some(at) = stack.pop() {
            if std::mem::take(&mut free[at]) {
                component[at] = true;
                let (x, y) = (at % self.width, at / self.width);
                stack.extend((y > 0).then(|| at - self.width));
                stack.extend((y + 1 < self.height).then(|| at + self.width));
                stack.extend((x > 0).then(|| at - 1));
                stack.extend((x + 1 < self.width).then(|| at + 1));
            }
        }
        component
    }

    /// The holes of a mask: 4-connected areas that do not touch the picture's edge.
    fn holes(&self, mask: &[bool]) -> Vec<Vec<bool>> {
        let outside: Vec<bool> = mask.iter().map(|own| !own).collect();
        let mut holes = self.components(&outside);
        holes.retain(|hole| !self.touches_edge(hole));
        holes
    }

    fn touches_edge(&self, mask: &[bool]) -> bool {
        let edge = |x: usize, side: usize| x == 0 || x + 1 == side;
        (0..mask.len()).any(|index| {
            mask[index]
                && (edge(index % self.width, self.width) || edge(index / self.width, self.height))
        })
    }

    /// The most common label within 3 pixels (square) outside of a silhouette.
    fn around(&self, filled: &[bool]) -> Option<usize> {
        let Self {
            width,
            height,
            label,
        } = self;
        let mut near = vec![false; filled.len()];
        for index in (0..filled.len()).filter(|&index| filled[index]) {
            let (x, y) = (index % width, index / width);
            for y in y.saturating_sub(3)..(y + 4).min(*height) {
                near[y * width + x.saturating_sub(3)..y * width + (x + 4).min(*width)].fill(true);
            }
        }
        let outside = (0..filled.len()).filter(|&index| near[index] && !filled[index]);
        most_common(outside.map(|index| label[index]))
    }

    /// What a part shows, or nothing if it is only what one sees of an outer shape through a ring. Holes that show the outer shape
    /// are added to `seen_through`; others are filled.
    fn name(&self, part: &Part, seen_through: &mut Vec<Part>) -> Option<Found> {
        if seen_through.iter().any(|hole| hole.hides(part)) {
            return None;
        }
        let holes = self.holes(&part.mask);
        let filled = holes
            .iter()
            .fold(part.mask.clone(), |mask, hole| union(&mask, hole));
        let outer = self.around(&filled);
        let mut silhouette = part.mask.clone();
        for mask in holes {
            match outer.filter(|&colour| self.shows(&mask, colour)) {
                Some(colour) => seen_through.push(Part { colour, mask }),
                None => silhouette = union(&silhouette, &mask),
            }
        }
        let bounds = Bounds::of(&part.mask, self.width);
        let (shape, iou) = best_template(
            &bounds.cut(&silhouette, self.width),
            [bounds.width(), bounds.height()],
        );
        Some(bounds.found(shape, part.colour, iou))
    }

    /// Whether at least three tenths of an area have this colour.
    fn shows(&self, area: &[bool], colour: usize) -> bool {
        let same = area
            .iter()
            .zip(&self.label)
            .filter(|(own, label)| **own && **label == colour);
        10 * same.count() >= 3 * count(area)
    }
}

impl Part {
    fn hides(&self, other: &Self) -> bool {
        let inside = |(other, own): (&bool, &bool)| !other || *own;
        self.colour == other.colour && other.mask.iter().zip(&self.mask).all(inside)
    }
}

/// A bounding box, half-open.
struct Bounds {
    left: usize,
    right: usize,
    top: usize,
    bottom: usize,
}

impl Bounds {
    fn of(mask: &[bool], width: usize) -> Self {
        let empty = Self {
            left: usize::MAX,
            right: 0,
            top: usize::MAX,
            bottom: 0,
        };
        let inside = (0..mask.len()).filter(|&index| mask[index]);
        inside.fold(empty, |bounds, index| {
            let (x, y) = (index % width, index / width);
            Self {
                left: bounds.left.min(x),
                right: bounds.right.max(x + 1),
                top: bounds.top.min(y),
                bottom: bounds.bottom.max(y + 1),
            }
        })
    }

    fn width(&self) -> usize {
        self.right - self.left
    }

    fn height(&self) -> usize {
        self.bottom - self.top
    }

    /// The part of a mask within.
    fn cut(&self, mask: &[bool], width: usize) -> Vec<bool> {
        let rows = self.top..self.bottom;
        rows.flat_map(|y| {
            mask[y * width + self.left..y * width + self.right]
                .iter()
                .copied()
        })
        .collect()
    }

    fn found(&self, shape: usize, colour: usize, iou: f64) -> Found {
        Found {
            shape: SHAPES[shape],
            colour: PALETTE[colour].0,
            iou,
            x: (self.left + self.right) as f64 / 2.0,
            y: (self.top + self.bottom) as f64 / 2.0,
            width: self.width(),
            height: self.height(),
        }
    }
}

fn count(mask: &[bool]) -> usize {
    mask.iter().filter(|own| **own).count()
}

fn union(a: &[bool], b: &[bool]) -> Vec<bool> {
    a.iter().zip(b).map(|(a, b)| *a || *b).collect()
}

/// The most common label, the first of equals; `None` of nothing.
fn most_common(labels: impl Iterator<Item = usize>) -> Option<usize> {
    let mut counts = [0_usize; PALETTE.len()];
    labels.for_each(|label| counts[label] += 1);
    let best = (0..counts.len()).min_by_key(|&label| Reverse(counts[label]))?;
    (counts[best] > 0).then_some(best)
}

fn nearest(pixel: &[u8], allowed: &[usize]) -> usize {
    let distance = |colour: &usize| -> i64 {
        let pairs = pixel.iter().zip(PALETTE[*colour].1);
        pairs.map(|(a, b)| (i64::from(*a) - b).pow(2)).sum()
    };
    allowed.iter().copied().min_by_key(distance).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{templates::inside, *};

    /// A picture of 64 x 64 on light grey, with shapes drawn by the templates into boxes (left, top, side).
    fn drawn(shapes: &[(usize, usize, [usize; 3])]) -> Picture {
        Picture::from_fn(64, 64, |x, y| {
            let mut colour = 8;
            for &(template, ink, [left, top, side]) in shapes {
                let at = |place: usize, start: usize| {
                    (place as f64 + 0.5 - start as f64) / side as f64 * 2.0 - 1.0
                };
                let (u, v) = (at(x, left), at(y, top));
                if u.abs() <= 1.0 && v.abs() <= 1.0 && inside(template, u, v) {
                    colour = ink;
                }
            }
            PALETTE[colour].1.map(|value| value as u8)
        })
    }

    /// What `checker.py` finds in the same pictures.
    const OVERLAPS: [f64; 6] = [
        0.977_923_338_185_346_9,
        1.0,
        0.964_265_129_682_997_2,
        0.881_818_181_818_181_8,
        0.944_721_825_962_910_1,
        0.938_722_294_654_498_1,
    ];

    #[test]
    fn every_shape_is_told_from_the_others_as_in_python() {
        for ((template, shape), iou) in SHAPES.iter().enumerate().zip(OVERLAPS) {
            let picture = drawn(&[(template, 4, [12, 14, 36])]);
            let (found, background) = find_scene(&picture);
            assert_eq!(found.len(), 1, "{shape}");
            assert_eq!((found[0].shape, found[0].colour), (*shape, "blue"));
            assert!(
                (found[0].iou - iou).abs() < 1e-12,
                "{shape}: {}",
                found[0].iou
            );
            assert_eq!(background, Some("light grey"));
        }
    }

    #[test]
    fn a_shape_inside_another_is_two_shapes_and_a_ring_shows_what_is_behind_it() {
        let inside = find_shapes(&drawn(&[(1, 0, [8, 8, 48]), (0, 2, [20, 20, 22])]));
        let names: Vec<_> = inside
            .iter()
            .map(|found| (found.colour, found.shape))
            .collect();
        assert_eq!(names, [("red", "square"), ("yellow", "circle")]);
        let ring = find_shapes(&drawn(&[(1, 0, [6, 6, 52]), (4, 3, [16, 16, 32])]));
        let names: Vec<_> = ring
            .iter()
            .map(|found| (found.colour, found.shape))
            .collect();
        assert_eq!(names, [("red", "square"), ("green", "ring")]);
    }

    #[test]
    fn noise_shows_nothing() {
        let picture = Picture::from_fn(32, 32, |x, y| {
            [
                (x * 97 + y * 31) as u8,
                (x * 13 + y * 71) as u8,
                (x * y * 7) as u8,
            ]
        });
        assert_eq!(find_scene(&picture), (Vec::new(), None));
    }
}

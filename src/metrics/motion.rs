//! Films against the text that asked for them: what moves, and which way.
//!
//! Twin of `models/scenes-film/train/evaluate_film.py`, which counts for that model's card.

use super::{
    named::objects,
    pixels::{mean_squared_error, psnr},
    shapes::{Found, find_scene},
};
use crate::image_io::Picture;

/// The share of the frames that must show a shape, or a colour, for the film to count as showing it.
const MOST: f64 = 0.75;

/// Pixels from the first place to the last below which nothing has moved.
const LEAST: f64 = 16.0;

/// Which way something goes across the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the right.
    Right,
    /// To the left.
    Left,
    /// To the bottom.
    Down,
    /// To the top.
    Up,
}

impl Direction {
    /// Where a text says that something goes: the last word that names a way or a side, as in "from left to right".
    pub fn named(text: &str) -> Option<Self> {
        let words = text.split(|letter: char| !letter.is_alphanumeric());
        let way = |word: &str| match word.to_lowercase().as_str() {
            "right" => Some(Self::Right),
            "left" => Some(Self::Left),
            "down" | "downwards" | "bottom" => Some(Self::Down),
            "up" | "upwards" | "top" => Some(Self::Up),
            _ => None,
        };
        words.filter_map(way).next_back()
    }

    /// Whether a way of `right` and `down` pixels leads there: far enough, and twice as far as across.
    fn leads(self, right: f64, down: f64) -> bool {
        let (along, across) = match self {
            Self::Right => (right, down),
            Self::Left => (-right, down),
            Self::Down => (down, right),
            Self::Up => (-down, right),
        };
        along > LEAST && along > 2.0 * across.abs()
    }
}

/// What is right about a film of one moving thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilmVerdict {
    /// Three quarters of the frames show the shape named, as the largest thing there.
    pub shape: bool,
    /// The same for the colour named.
    pub colour: bool,
    /// From the first frame that shows something to the last, it goes the way named.
    pub direction: bool,
}

impl FilmVerdict {
    /// Compares frames with a text that names one thing and a way; `None` if it names none.
    pub fn of(frames: &[Picture], text: &str) -> Option<Self> {
        let (colour, shape) = objects(text).into_iter().next()?;
        let direction = Direction::named(text)?;
        let largest: Vec<Option<Found>> = frames
            .iter()
            .map(|frame| find_scene(frame).0.into_iter().next())
            .collect();
        let most = |right: &dyn Fn(&Found) -> bool| {
            let count = largest
                .iter()
                .flatten()
                .filter(|found| right(found))
                .count();
            count as f64 >= MOST * frames.len() as f64
        };
        let mut shown = largest.iter().flatten();
        let ends = shown.next().zip(shown.next_back());
        Some(Self {
            shape: most(&|found| found.shape == shape),
            colour: most(&|found| found.colour == colour),
            direction: ends
                .is_some_and(|(first, last)| direction.leads(last.x - first.x, last.y - first.y)),
        })
    }

    /// Whether all of it is right.
    pub fn all(self) -> bool {
        self.shape && self.colour && self.direction
    }
}

/// How alike neighbouring frames are: the PSNR in dB of their mean squared difference, which flicker lowers. Films of one motion can be
/// compared by it. `None` where nothing changes.
///
/// # Panics
///
/// If the frames are of several sizes.
pub fn steadiness(frames: &[Picture]) -> Option<f64> {
    let pairs = frames.windows(2);
    let count = pairs.len().max(1) as f64;
    let sum: f64 = pairs
        .map(|pair| mean_squared_error(&pair[0], &pair[1]))
        .sum();
    psnr(sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A red square of 24 pixels whose left upper corner is at these places, one a frame.
    fn film(places: &[(usize, usize)]) -> Vec<Picture> {
        let frame = |&(left, top): &(usize, usize)| {
            Picture::from_fn(96, 64, |x, y| {
                let inside = (left..left + 24).contains(&x) && (top..top + 24).contains(&y);
                if inside { [225, 35, 35] } else { [200; 3] }
            })
        };
        places.iter().map(frame).collect()
    }

    fn verdict(places: &[(usize, usize)], text: &str) -> [bool; 3] {
        let verdict = FilmVerdict::of(&film(places), text).expect("a thing and a way");
        [verdict.shape, verdict.colour, verdict.direction]
    }

    #[test]
    fn a_square_that_moves_right_does_that_and_nothing_else() {
        let right = [(8, 20), (24, 21), (40, 22), (56, 20)];
        assert_eq!(
            verdict(&right, "a red square moves to the right"),
            [true; 3]
        );
        assert_eq!(
            verdict(&right, "a red square moves from left to right"),
            [true; 3]
        );
        assert_eq!(
            verdict(&right, "a red square moves from right to left"),
            [true, true, false]
        );
        assert_eq!(verdict(&right, "a blue ring moves up"), [false; 3]);
        let slanted = [(8, 8), (28, 28)];
        assert!(!verdict(&slanted, "a red square moves to the right")[2]);
        assert!(
            !verdict(&[(8, 8), (16, 8)], "a red square moves right")[2],
            "hardly moved"
        );
        assert!(
            !verdict(&[(8, 8)], "a red square moves right")[2],
            "one frame"
        );
        assert_eq!(
            verdict(&[(30, 38), (30, 8)], "a red square moving up"),
            [true; 3]
        );
    }

    #[test]
    fn texts_without_a_thing_or_a_way_have_no_verdict() {
        let frames = film(&[(8, 8), (40, 8)]);
        assert_eq!(FilmVerdict::of(&frames, "a red square"), None);
        assert_eq!(
            FilmVerdict::of(&frames, "something moves to the right"),
            None
        );
    }

    #[test]
    fn flicker_makes_a_film_less_steady() {
        let of = |places: &[(usize, usize)]| steadiness(&film(places));
        assert_eq!(of(&[(8, 8), (8, 8), (8, 8)]), None);
        assert_eq!(of(&[(8, 8)]), None);
        let (moving, jumping) = (
            of(&[(8, 8), (10, 8), (12, 8)]),
            of(&[(8, 8), (60, 8), (12, 8)]),
        );
        let better = moving
            .zip(jumping)
            .map(|(moving, jumping)| moving - jumping);
        // 2 columns of 24 pixels leave a side and 2 enter the other, against 24 and 24.
        let columns = 10.0 * 12f64.log10();
        assert!(
            (better.expect("both change") - columns).abs() < 0.01,
            "{better:?}"
        );
    }
}

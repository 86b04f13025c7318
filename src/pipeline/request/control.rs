//! Steering by `ControlNets`: which net follows which picture, how strongly, and when.

use std::ops::Range;

use crate::error::RequestError;
use crate::image_io::Picture;

/// A picture that a `ControlNet` follows.
#[derive(Debug, Clone)]
pub struct Control {
    /// The net's number among those put beside the model. The same net may follow several pictures.
    pub net: usize,
    /// What it follows: outlines, depth, poses, as the net was trained. One picture; or one a frame of a film, all of one size.
    pub pictures: Vec<Picture>,
    /// What messages call the picture: the file it was read from.
    pub name: String,
    /// How strongly it steers.
    pub scale: f64,
    /// Which part of the run it steers, from 0, the start, to 1, the end.
    pub window: Range<f64>,
    /// Steers only the conditioned half of guidance, and the inner skips more than the outer ones: for empty prompts.
    pub guess: bool,
}

/// The nets that `models` names, each once in the order in which it comes first; and the number of each of `models` among them.
pub(crate) fn numbered<'a>(models: impl Iterator<Item = &'a str>) -> (Vec<&'a str>, Vec<usize>) {
    let mut nets = Vec::new();
    let numbers = models.map(|model| {
        let known = nets.iter().position(|net| *net == model);
        known.unwrap_or_else(|| {
            nets.push(model);
            nets.len() - 1
        })
    });
    let numbers = numbers.collect();
    (nets, numbers)
}

impl Control {
    /// Has net `net` follow `picture` during the whole run, at full strength.
    pub fn new(net: usize, picture: Picture) -> Self {
        Self::of_frames(net, vec![picture])
    }

    /// Has net `net` follow a picture a frame, likewise.
    pub fn of_frames(net: usize, pictures: Vec<Picture>) -> Self {
        Self {
            net,
            pictures,
            name: "a picture in memory".into(),
            scale: 1.0,
            window: 0.0..1.0,
            guess: false,
        }
    }

    /// The first picture, and what it is called.
    pub(super) fn first(&self) -> Option<(&Picture, &str)> {
        Some((self.pictures.first()?, &self.name))
    }

    /// Refuses pictures that are not of `size`, width and height, rounded down to multiples.
    fn check_size(&self, size: (usize, usize), multiple: usize) -> Result<(), RequestError> {
        let down = |side: usize| side / multiple * multiple;
        let other = |one: &&Picture| (down(one.width()), down(one.height())) != size;
        match self.pictures.iter().find(other) {
            Some(other) => Err(RequestError::ControlSize {
                name: self.name.clone(),
                found: (other.width(), other.height()),
                expected: size,
            }),
            None => Ok(()),
        }
    }

    /// The evaluations, of `count`, that lie inside the window with their whole length, as in diffusers.
    pub(super) fn evaluations(&self, count: usize) -> Range<usize> {
        let total = count as f64;
        let inside = |&index: &usize| {
            let (starts, ends) = (index as f64 / total, (index + 1) as f64 / total);
            starts >= self.window.start && ends <= self.window.end
        };
        let first = (0..count).find(inside);
        first.map_or(0..0, |first| {
            first..first + (first..count).filter(inside).count()
        })
    }

    /// Checks it for pictures of `size`, width and height, or films of so many frames of it.
    pub(super) fn check(
        &self,
        size: (usize, usize),
        frames: usize,
        multiple: usize,
    ) -> Result<(), RequestError> {
        let found = self.pictures.len();
        if found != 1 && (found != frames || found == 0) {
            return Err(RequestError::ControlFrames { found, frames });
        }
        let Range { start, end } = self.window;
        if !(0.0 <= start && start < end && end <= 1.0) {
            return Err(RequestError::ControlWindow {
                from: start,
                until: end,
            });
        }
        if !self.scale.is_finite() {
            return Err(RequestError::Range {
                name: "control_scale",
                value: self.scale,
                range: "a finite number",
            });
        }
        self.check_size(size, multiple)
    }
}

/// The evaluations at which a control goes on or off.
pub(super) fn switches(windows: &[Range<usize>]) -> Vec<usize> {
    let ends = windows.iter().filter(|window| !window.is_empty());
    ends.flat_map(|window| [window.start, window.end]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluations(window: Range<f64>, count: usize) -> Range<usize> {
        let picture = Picture::filled(8, 8, [0; 3]);
        let control = Control {
            window,
            ..Control::new(0, picture)
        };
        control.evaluations(count)
    }

    /// `controlnet_keep` of diffusers.
    #[test]
    fn windows_are_those_of_diffusers() {
        assert_eq!(evaluations(0.0..1.0, 7), 0..7);
        assert_eq!(evaluations(0.2..0.7, 6), 2..4);
        assert_eq!(evaluations(0.5..1.0, 50), 25..50);
        assert_eq!(evaluations(0.1..0.15, 6), 0..0);
        assert_eq!(switches(&[2..4, 0..0, 0..6]), [2, 4, 0, 6]);
    }
}

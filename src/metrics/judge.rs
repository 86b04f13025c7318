//! Pictures against what was asked for.

use std::fmt::Debug;

use super::motion::FilmVerdict;
use super::named::objects;
use super::shapes::find_shapes;
use crate::error::Error;
use crate::image_io::Picture;

/// What a picture was to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    /// A text.
    Text(&'a str),
    /// A class and its name, which may be empty.
    Class(usize, &'a str),
    /// Nothing in particular.
    Nothing,
}

/// How many of the things asked for are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// Things found.
    pub right: usize,
    /// Things asked for; 0 where the judge has nothing to say.
    pub asked: usize,
}

/// Tells whether pictures show what was asked for: a checker, or a classifier.
pub trait Judge: Debug {
    /// What it counts, in a few words for the head of a table: `shapes`, `classes`.
    fn name(&self) -> &str;

    /// One verdict a picture.
    ///
    /// # Errors
    ///
    /// If the device fails.
    fn judge(&self, pictures: &[Picture], asked: &[Asked<'_>]) -> Result<Vec<Judgement>, Error>;

    /// One verdict a film, each of so many `frames`: what is found in all of them, unless the judge looks at films as such.
    ///
    /// # Errors
    ///
    /// If the device fails.
    fn judge_films(
        &self,
        pictures: &[Picture],
        frames: usize,
        asked: &[Asked<'_>],
    ) -> Result<Vec<Judgement>, Error> {
        let films = pictures.chunks(frames).zip(asked);
        let judge = |(film, asked): (&[Picture], &Asked<'_>)| {
            let verdicts = self.judge(film, &vec![*asked; film.len()])?;
            let sum = |count: fn(&Judgement) -> usize| verdicts.iter().map(count).sum();
            Ok(Judgement {
                right: sum(|verdict| verdict.right),
                asked: sum(|verdict| verdict.asked),
            })
        };
        films.map(judge).collect()
    }
}

/// Looks for the coloured shapes that a text names, in films for the way they go: the judge of the `scenes` models.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShapeJudge;

impl Judge for ShapeJudge {
    fn name(&self) -> &'static str {
        "shapes"
    }

    fn judge(&self, pictures: &[Picture], asked: &[Asked<'_>]) -> Result<Vec<Judgement>, Error> {
        let pairs = pictures.iter().zip(asked);
        Ok(pairs
            .map(|(picture, asked)| match asked {
                Asked::Text(text) | Asked::Class(_, text) => Self::compare(picture, text),
                Asked::Nothing => Judgement { right: 0, asked: 0 },
            })
            .collect())
    }

    /// Shape, colour and way of the one thing that a text has move.
    fn judge_films(
        &self,
        pictures: &[Picture],
        frames: usize,
        asked: &[Asked<'_>],
    ) -> Result<Vec<Judgement>, Error> {
        let judge = |(film, asked): (&[Picture], &Asked<'_>)| {
            let verdict = match asked {
                Asked::Text(text) => FilmVerdict::of(film, text),
                Asked::Class(..) | Asked::Nothing => None,
            };
            verdict.map_or(Judgement { right: 0, asked: 0 }, |verdict| {
                let all = [verdict.shape, verdict.colour, verdict.direction];
                Judgement {
                    right: all.iter().filter(|right| **right).count(),
                    asked: all.len(),
                }
            })
        };
        Ok(pictures.chunks(frames).zip(asked).map(judge).collect())
    }
}

impl ShapeJudge {
    fn compare(picture: &Picture, text: &str) -> Judgement {
        let mut found = find_shapes(picture);
        let objects = objects(text);
        let asked = objects.len();
        let shown = objects.into_iter().filter(|&(colour, shape)| {
            let same = found
                .iter()
                .position(|found| (found.colour, found.shape) == (colour, shape));
            same.map(|index| found.swap_remove(index)).is_some()
        });
        Judgement {
            right: shown.count(),
            asked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_counts_once() {
        let picture = Picture::from_fn(40, 40, |x, y| {
            let inside = (8..32).contains(&x) && (8..32).contains(&y);
            if inside { [225, 35, 35] } else { [200; 3] }
        });
        let asked = [
            "a red square",
            "a red square above a red square",
            "a blue ring",
        ]
        .map(Asked::Text);
        let pictures = vec![picture; 3];
        let verdicts = ShapeJudge.judge(&pictures, &asked).unwrap();
        let pairs: Vec<_> = verdicts
            .iter()
            .map(|verdict| (verdict.right, verdict.asked))
            .collect();
        assert_eq!(pairs, [(1, 1), (1, 2), (0, 1)]);
    }
}

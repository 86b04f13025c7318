//! Values of options: what words mean, and what is said of those that mean nothing.

use std::ops::Range;

/// A part of the run, 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) struct Window(pub(in crate::cli) Range<f64>);

pub(super) fn window(text: &str) -> Result<Window, String> {
    let ends = text.split_once('-');
    let read = |text: &str| finite(text).ok();
    match ends.and_then(|(from, until)| read(from).zip(read(until))) {
        Some((from, until)) if 0.0 <= from && from < until && until <= 1.0 => {
            Ok(Window(from..until))
        }
        _ => Err("write start and end of the run's part, 0 to 1, as in 0.2-0.8".into()),
    }
}

/// Pixels a side beyond which no model and no machine of today follows.
const LARGEST_SIDE: usize = 8192;

/// Pictures or rounds beyond which a number is a slip of the hand.
const LARGEST_COUNT: usize = 10_000;

/// The same of samples of an evaluation.
const LARGEST_STUDY: usize = 10_000_000;

pub(super) fn size(text: &str) -> Result<(usize, usize), String> {
    let sides = text.split_once(['x', 'X']);
    let parsed =
        sides.and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    match parsed {
        Some((width, height))
            if (1..=LARGEST_SIDE).contains(&width) && (1..=LARGEST_SIDE).contains(&height) =>
        {
            Ok((width, height))
        }
        Some(_) => Err(format!("a side has 1 to {LARGEST_SIDE} pixels")),
        None => Err("write width and height as in 512x512".into()),
    }
}

/// A number of things that are made, so at least one.
pub(super) fn count(text: &str) -> Result<usize, String> {
    count_to(text, LARGEST_COUNT)
}

/// Samples of an evaluation.
pub(super) fn samples(text: &str) -> Result<usize, String> {
    count_to(text, LARGEST_STUDY)
}

fn count_to(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".into()),
        Ok(number) if number > most => Err(format!("at most {most} are made")),
        Ok(number) => Ok(number),
        Err(_) => Err("a whole number is needed".into()),
    }
}

pub(super) fn finite(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| "a number is needed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("512x768"), Ok((512, 768)));
        for wrong in [
            "",
            "512",
            "512x",
            "x512",
            "-8x8",
            "0x8",
            "99999999999x8",
            "8x8x8",
            "8*8",
        ] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn windows_are_read() {
        assert_eq!(window("0.2-0.8"), Ok(Window(0.2..0.8)));
        assert_eq!(window("0-1"), Ok(Window(0.0..1.0)));
        for wrong in ["", "0.5", "0.8-0.2", "0-2", "-0.1-0.5", "nan-1", "a-b"] {
            assert!(window(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_read() {
        assert_eq!(count("3"), Ok(3));
        assert!(count("0").is_err() && count("-1").is_err());
        assert_eq!(finite("7.5"), Ok(7.5));
        assert!(finite("nan").is_err() && finite("inf").is_err() && finite("x").is_err());
    }
}

//! Values of options: what words mean, and what is said of those that mean nothing.

use std::ops::Range;

use crate::{cache::CacheRule, error::Error, image_io::CannyThresholds};

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

/// A number of things that are made or counted, so at least one.
pub(super) fn count(text: &str) -> Result<usize, String> {
    count_to(text, LARGEST_COUNT)
}

/// A number that may be none at all; what is wrong with it is said where it is used.
pub(super) fn whole(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| "a whole number from 0 on is needed".into())
}

/// Bytes, in units of 1024 where one is named: `8GiB`, `512 MiB`, `1000`.
#[cfg(feature = "serve")]
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32); 8] = [
        ("KiB", 10),
        ("MiB", 20),
        ("GiB", 30),
        ("TiB", 40),
        ("K", 10),
        ("M", 20),
        ("G", 30),
        ("", 0),
    ];
    let wrong = || "write bytes, as in 8GiB, 512MiB or 1000000".to_owned();
    let unit = UNITS
        .iter()
        .find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, *bits)));
    let (number, bits) = unit.ok_or_else(wrong)?;
    let number: u64 = number.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << bits).ok_or_else(wrong)
}

/// The most of something that there is room for: none at all would leave nothing to be done.
#[cfg(feature = "serve")]
pub(super) fn limit(text: &str) -> Result<usize, String> {
    count_to(text, usize::MAX)
}

/// A site as browsers name it, which ends without a slash; or `*` for all.
#[cfg(feature = "serve")]
pub(super) fn origin(text: &str) -> Result<String, String> {
    let origin = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
    let site = origin.split_once("://").map(|(_, site)| site);
    let named = site.is_some_and(|site| !site.is_empty() && !site.contains(['/', '*', ' ']));
    if named || origin == "*" {
        return Ok(origin);
    }
    Err("write * for all, or a site's scheme and name, as in https://example.org".into())
}

/// Samples of an evaluation.
pub(super) fn samples(text: &str) -> Result<usize, String> {
    count_to(text, LARGEST_STUDY)
}

fn count_to(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".into()),
        Ok(number) if number > most => Err(format!("{most} is the most")),
        Ok(number) => Ok(number),
        Err(_) => Err("a whole number is needed".into()),
    }
}

/// What a calibration finds out.
#[derive(Debug, Clone)]
pub(in crate::cli) enum Calibrated {
    /// Which branches change little.
    Router,
    /// When a rule had best refresh.
    Rule(Box<CacheRule>),
}

/// Reads `l2c`, or a rule.
pub(super) fn calibrated(text: &str) -> Result<Calibrated, Error> {
    match text {
        "l2c" => Ok(Calibrated::Router),
        _ => Ok(Calibrated::Rule(Box::new(text.parse()?))),
    }
}

/// Reads `2x`, or `2`.
pub(super) fn faster(text: &str) -> Result<f64, String> {
    finite(text.strip_suffix('x').unwrap_or(text))
        .map_err(|_| "write how many times faster, as in 2x".into())
}

/// Reads `100,200`.
pub(super) fn canny(text: &str) -> Result<CannyThresholds, String> {
    let read = |text: &str| text.trim().parse::<f32>().ok().filter(|one| *one >= 0.0);
    match pair(text, read) {
        Some((low, high)) if low <= high => Ok(CannyThresholds { low, high }),
        _ => Err("write the lower and the upper threshold as in 100,200".into()),
    }
}

/// A place in a picture, in pixels from its upper left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Corner {
    pub(in crate::cli) x: usize,
    pub(in crate::cli) y: usize,
}

/// Reads `0,64`.
pub(super) fn corner(text: &str) -> Result<Corner, String> {
    let read = |text: &str| {
        text.trim()
            .parse()
            .ok()
            .filter(|side| *side <= LARGEST_SIDE)
    };
    let corner = pair(text, read).map(|(x, y)| Corner { x, y });
    corner.ok_or_else(|| {
        format!("write the pixels cut off on the left and above, 0 to {LARGEST_SIDE}, as in 0,64")
    })
}

fn pair<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<(T, T)> {
    let (first, second) = text.split_once(',')?;
    read(first).zip(read(second))
}

/// Where the noise starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Seed {
    /// Another one each time.
    Random,
    Given(u64),
}

/// Reads a seed; -1 is a random one, as in other programs.
pub(super) fn seed(text: &str) -> Result<Seed, String> {
    if text == "-1" {
        return Ok(Seed::Random);
    }
    let wrong = |_| {
        format!(
            "a whole number from 0 to {} is needed, or -1 for a random one",
            u64::MAX
        )
    };
    text.parse().map(Seed::Given).map_err(wrong)
}

/// Reads the seed of something that is repeated.
pub(super) fn fixed_seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| {
        let most = u64::MAX;
        format!(
            "a whole number from 0 to {most} is needed: what is measured must be made again alike"
        )
    })
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
    fn whole_numbers_are_read() {
        assert_eq!((whole("0"), whole("20")), (Ok(0), Ok(20)));
        for wrong in [
            "",
            "-1",
            "2.5",
            "1e3",
            "0x10",
            "twenty",
            "99999999999999999999",
        ] {
            let said = whole(wrong).unwrap_err();
            assert_eq!(said, "a whole number from 0 on is needed", "{wrong}");
        }
    }

    #[test]
    fn speed_ups_are_read() {
        assert_eq!((faster("2x"), faster("1.5")), (Ok(2.0), Ok(1.5)));
        assert!(faster("x").is_err() && faster("fast").is_err());
    }

    #[cfg(feature = "serve")]
    #[test]
    fn sites_are_read_as_browsers_name_them() {
        assert_eq!(
            origin("https://Example.org/"),
            Ok("https://example.org".into())
        );
        for right in ["*", "http://localhost:3000", "https://example.org"] {
            assert_eq!(origin(right).as_deref(), Ok(right));
        }
        for wrong in [
            "",
            "example.org",
            "https://",
            "https://example.org/page",
            "https://*.org",
        ] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
        assert!(limit("0").is_err() && limit("-1").is_err() && limit("8388608") == Ok(8 << 20));
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
    fn thresholds_and_corners_are_read() {
        let (low, high) = (100.0, 200.0);
        assert_eq!(canny("100,200"), Ok(CannyThresholds { low, high }));
        for wrong in ["", "100", "200,100", "-1,5", "a,b", "nan,3"] {
            assert!(canny(wrong).is_err(), "{wrong}");
        }
        assert_eq!(corner("0, 64"), Ok(Corner { x: 0, y: 64 }));
        for wrong in ["", "1", "-1,0", "1,2,3", "1x2", "0,99999"] {
            assert!(corner(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn seeds_are_read() {
        assert_eq!(seed("-1"), Ok(Seed::Random));
        assert_eq!(seed("18446744073709551615"), Ok(Seed::Given(u64::MAX)));
        for wrong in ["", "-2", "1.5", "18446744073709551616", "x"] {
            assert!(
                seed(wrong).is_err_and(|said| said.contains("random")),
                "{wrong}"
            );
        }
        assert!(fixed_seed("7") == Ok(7) && fixed_seed("-1").is_err());
    }

    #[test]
    fn numbers_are_read() {
        assert_eq!(count("3"), Ok(3));
        assert!(count("0").is_err() && count("-1").is_err());
        assert_eq!(finite("7.5"), Ok(7.5));
        assert!(finite("nan").is_err() && finite("inf").is_err() && finite("x").is_err());
    }
}

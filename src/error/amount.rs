//! Amounts as messages show them.

/// Bytes in the unit that leaves one to four digits: `812 B`, `1.5 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    let mut amount = count as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = larger;
    }
    let decimals = usize::from(unit != "B" && amount < 100.0);
    format!("{amount:.decimals$} {unit}")
}

/// A number in as few digits as tell it: `7.5`, but `1e308` rather than three hundred zeros.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() || (1e-5..1e16).contains(&size) {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}

/// The least strength in hundredths that leaves a step of `steps` to run.
pub(crate) fn least_strength(steps: usize) -> f64 {
    (100.0 / steps as f64).ceil() / 100.0
}

#[cfg(test)]
mod tests {
    use super::{bytes, least_strength, number};

    /// As image to image counts them, to the whole step below.
    #[test]
    fn the_least_strength_leaves_a_step() {
        for steps in 1..=1000 {
            let least = least_strength(steps);
            let executed = (steps as f64 * least).floor();
            assert!(executed >= 1.0 && least <= 1.0, "{steps}: {least}");
        }
        assert_eq!([3, 7, 50].map(least_strength), [0.34, 0.15, 0.02]);
    }

    #[test]
    fn numbers_are_short() {
        let shown = [7.5, -0.1, 0.0, 1e-5, 1e308, -1e308, 1e-320, f64::INFINITY].map(number);
        assert_eq!(
            shown,
            [
                "7.5", "-0.1", "0", "0.00001", "1e308", "-1e308", "1e-320", "inf"
            ]
        );
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
        assert_eq!(bytes(200 << 20), "200 MiB");
    }
}

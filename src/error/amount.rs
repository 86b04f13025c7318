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

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn amounts_are_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
        assert_eq!(bytes(200 << 20), "200 MiB");
    }
}

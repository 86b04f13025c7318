//! Names that nobody guesses.

/// 128 random bits that nobody guesses, in hexadecimal digits.
pub(super) fn random_key() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    format!("{:032x}", u128::from_be_bytes(bytes))
}

/// Whether a name is one of ours.
pub(super) fn is_id(name: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.len() == 32 && name.bytes().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_no_paths() {
        assert!(is_id(&random_key()));
        for name in [
            "",
            "..",
            "../../../../../../../../etc/passwd",
            "ABCDEF0123456789ABCDEF0123456789",
        ] {
            assert!(!is_id(name), "{name}");
        }
    }
}

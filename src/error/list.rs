//! Lists of names within a message.

/// Names that a message lists before it counts the rest.
pub(super) const LISTED: usize = 10;

/// The first ten names in backticks and a count of the others.
pub(crate) fn listed(names: &[String]) -> String {
    let quoted = names.iter().take(LISTED).map(|name| format!("`{name}`"));
    let text = quoted.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_ten_names_and_counts_the_rest() {
        let names: Vec<_> = (0..12).map(|index| format!("t{index}")).collect();
        let text = listed(&names);
        assert!(text.starts_with("`t0`, `t1`") && text.ends_with("`t9` and 2 more"));
    }
}

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

/// Characters of a text that a message repeats.
const REPEATED: usize = 160;

/// A text with `…` for its middle, where it is longer than a message has room for.
pub(crate) fn shortened(text: &str) -> String {
    let count = text.chars().count();
    if count <= REPEATED {
        return text.to_owned();
    }
    let half = REPEATED / 2;
    let first: String = text.chars().take(half).collect();
    let last: String = text.chars().skip(count - half).collect();
    format!("{} … {}", first.trim_end(), last.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(shortened("a fox"), "a fox");
        let text = shortened(&format!("first {}last", "naïve ".repeat(1000)));
        assert!(text.starts_with("first naïve") && text.ends_with("naïve last"));
        assert!(text.contains(" … ") && text.chars().count() <= REPEATED + 3);
    }

    #[test]
    fn lists_ten_names_and_counts_the_rest() {
        let names: Vec<_> = (0..12).map(|index| format!("t{index}")).collect();
        let text = listed(&names);
        assert!(text.starts_with("`t0`, `t1`") && text.ends_with("`t9` and 2 more"));
    }
}

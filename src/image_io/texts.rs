//! A run's settings where a file has one place for all of them.

/// A line per key, `key: text`, without those that have no text.
pub(super) fn lines(texts: &[(String, String)]) -> String {
    let given = texts.iter().filter(|(_, text)| !text.is_empty());
    let lines: Vec<String> = given.map(|(key, text)| format!("{key}: {text}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_without_a_text_are_left_out() {
        let pair = |key: &str, text: &str| (key.to_owned(), text.to_owned());
        let texts = [pair("prompt", "a fox"), pair("mask", ""), pair("seed", "7")];
        assert_eq!(lines(&texts), "prompt: a fox\nseed: 7");
    }
}

//! A run's settings where a file has one place for all of them.

/// A line per key, `key: text`, without those that have no text.
pub(super) fn lines(texts: &[(String, String)]) -> String {
    let given = texts.iter().filter(|(_, text)| !text.is_empty());
    let lines: Vec<String> = given.map(|(key, text)| format!("{key}: {text}")).collect();
    lines.join("\n")
}

/// [`lines`] read back. A text may have several lines: one that begins with no known kind of key belongs to the text before it.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match line.split_once(": ").filter(|(key, _)| is_key(key)) {
            Some((key, text)) => pairs.push((key.to_owned(), text.to_owned())),
            None => match pairs.last_mut() {
                Some((_, text)) => {
                    text.push('\n');
                    text.push_str(line);
                }
                None => pairs.push((String::new(), line.to_owned())),
            },
        }
    }
    pairs
}

/// A few letters, digits and spaces, as keys have.
fn is_key(text: &str) -> bool {
    const LONGEST: usize = 32;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b' ';
    text.len() <= LONGEST && text.bytes().all(plain)
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
    #[test]
    fn lines_are_read_back() {
        let pair = |key: &str, text: &str| (key.to_owned(), text.to_owned());
        let texts = [pair("prompt", "a fox\nand \"a: dog\""), pair("seed", "7")];
        assert_eq!(pairs(&lines(&texts)), texts);
        assert_eq!(pairs("no key at all"), [pair("", "no key at all")]);
    }
}

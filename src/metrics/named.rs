//! What a text names, in the words that the `scenes` models know.

use super::shapes::{COLOURS, PALETTE, SHAPES};

/// Colour and shape of everything a text names: a shape's word right after a colour's.
pub(super) fn objects(text: &str) -> Vec<(&'static str, &'static str)> {
    let words: Vec<&str> = text
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let object = |pair: &[&str]| {
        let colours = PALETTE[..COLOURS].iter().map(|colour| colour.0);
        Some((known(colours, pair[0])?, known(SHAPES, pair[1])?))
    };
    words.windows(2).filter_map(object).collect()
}

fn known(names: impl IntoIterator<Item = &'static str>, word: &str) -> Option<&'static str> {
    names
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_read_from_prompts_and_class_names() {
        let text = "a big orange circle around a yellow ring, dark grey background";
        assert_eq!(objects(text), [("orange", "circle"), ("yellow", "ring")]);
        assert_eq!(objects("Red_Square"), [("red", "square")]);
        assert_eq!(objects("a grey circle"), []);
    }
}

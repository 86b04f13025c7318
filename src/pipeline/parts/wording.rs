//! What a prompt says that a model does not read as it was meant: words it never saw, learned words that stand nowhere, and the marks of
//! programs that read more than text.

use serde::Deserialize;

use crate::catalog::ModelFolder;
use crate::error::{Error, listed, shortened};
use crate::pipeline::config::json;
use crate::text::Embedding;

/// A model's own file, as far as it is about words.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Vocabulary {
    /// All words that the model was trained on; none where they are too many to name.
    #[serde(default)]
    words: Vec<String>,
}

impl Vocabulary {
    /// Reads what a folder says.
    ///
    /// # Errors
    ///
    /// If its file is malformed.
    pub(super) fn read(folder: &ModelFolder) -> Result<Self, Error> {
        const FILE: &str = "afterimage.json";

        if folder.has(FILE) {
            json(folder, FILE, FILE)
        } else {
            Ok(Self::default())
        }
    }

    /// The words of `texts` that it lacks and that no embedding teaches.
    fn unknown(&self, texts: &[&str], embeddings: &[Embedding]) -> Vec<String> {
        let mut unknown = Vec::new();
        for text in texts {
            let mut text = text.to_lowercase();
            for embedding in embeddings {
                text = text.replace(&embedding.token().to_lowercase(), " ");
            }
            let words = text.split(|letter: char| !letter.is_alphanumeric());
            for word in words.filter(|word| !word.is_empty()) {
                let known = self.words.iter().any(|one| one == word);
                if !known && !unknown.iter().any(|one| one == word) {
                    unknown.push(word.to_owned());
                }
            }
        }
        unknown
    }
}

/// A warning for each thing in `texts`, the prompts of a run of every kind, that will not do what it was meant to.
pub(super) fn warnings(
    texts: &[&str],
    embeddings: &[Embedding],
    vocabulary: &Vocabulary,
) -> Vec<String> {
    let mut warnings = Vec::new();
    // Those that a LoRA brings are its own affair.
    for embedding in embeddings.iter().filter(|one| !one.is_bundled()) {
        let token = embedding.token();
        let lower = token.to_lowercase();
        if !texts
            .iter()
            .any(|text| text.to_lowercase().contains(&lower))
        {
            warnings.push(format!(
                "the embedding `{token}` does nothing: its word is in no prompt\nhint: write `{token}` into the prompt or the negative prompt"
            ));
        }
    }
    let taught = texts.iter().map(|text| untaught(text, embeddings));
    let texts_alone: Vec<String> = taught.collect();
    let marks: Vec<Mark<'_>> = texts_alone.iter().flat_map(|text| marks(text)).collect();
    // One of a kind says it of all.
    for (index, mark) in marks.iter().enumerate() {
        let kind = std::mem::discriminant(mark);
        if marks[..index]
            .iter()
            .all(|one| std::mem::discriminant(one) != kind)
        {
            warnings.push(mark.told());
        }
    }
    if !vocabulary.words.is_empty() {
        let unknown = vocabulary.unknown(texts, embeddings);
        if !unknown.is_empty() {
            warnings.push(format!(
                "the model does not know {}\nhint: it knows {}",
                listed(&unknown),
                vocabulary.words.join(", ")
            ));
        }
    }
    warnings
}

/// A text without the words that embeddings teach, whatever they are made of.
fn untaught(text: &str, embeddings: &[Embedding]) -> String {
    let tokens = embeddings.iter().map(Embedding::token);
    tokens.fold(text.to_owned(), |text, token| text.replace(token, " "))
}

/// A mark of the web interfaces.
#[derive(Debug, PartialEq, Eq)]
enum Mark<'a> {
    /// `(fox:1.3)`, `((fox))` and `[fox]`. A word in one pair of parentheses has a weight there too, and is ordinary text everywhere else.
    Weight(&'a str),
    /// `[fox|dog]` and `[fox:dog:0.5]`, which change the prompt on the way.
    Change(&'a str),
    /// `<lora:style:0.8>`
    Adapter(&'a str),
}

impl Mark<'_> {
    fn told(&self) -> String {
        let (part, why, hint) = match self {
            Self::Weight(part) => (
                part,
                "weights in prompts are not read",
                "leave out the brackets and the number",
            ),
            Self::Change(part) => (
                part,
                "prompts do not change on the way",
                "leave out the brackets, and write one of the words",
            ),
            Self::Adapter(part) => (
                part,
                "prompts name no adapters",
                "use `--lora FILE=SCALE` or `--embedding FILE`",
            ),
        };
        let part = shortened(part);
        format!("`{part}` is read as it stands: {why}\nhint: {hint}")
    }
}

/// The marks of a prompt, in order; of those within each other, the outermost.
fn marks(text: &str) -> Vec<Mark<'_>> {
    let mut marks = Vec::new();
    let mut rest = text;
    while let Some(start) = opened(rest) {
        let part = closed(&rest[start..]);
        match part.and_then(mark) {
            Some(mark) => {
                marks.push(mark);
                rest = &rest[start + part.map_or(1, str::len)..];
            }
            None => rest = &rest[start + 1..],
        }
    }
    marks
}

/// Where the first bracket opens that no backslash takes its meaning from.
fn opened(text: &str) -> Option<usize> {
    let mut places = text.match_indices(['(', '[', '<']).map(|(place, _)| place);
    places.find(|&place| !is_escaped(text, place))
}

fn is_escaped(text: &str, place: usize) -> bool {
    let before = text[..place].bytes().rev();
    before.take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// What the bracket at the beginning of `text` encloses, both brackets with it.
fn closed(text: &str) -> Option<&str> {
    let [open, close] = match text.as_bytes().first()? {
        b'(' => ['(', ')'],
        b'[' => ['[', ']'],
        _ => ['<', '>'],
    };
    let mut depth = 0_usize;
    for (place, bracket) in text.match_indices([open, close]) {
        if is_escaped(text, place) {
            continue;
        }
        depth = if bracket.starts_with(open) {
            depth + 1
        } else {
            depth - 1
        };
        if depth == 0 {
            return Some(&text[..=place]);
        }
    }
    None
}

/// The mark that a part in brackets is.
fn mark(part: &str) -> Option<Mark<'_>> {
    let inner = part[1..part.len() - 1].trim();
    let numbered = inner.rsplit_once(':');
    let is_weight = numbered.is_some_and(|(_, number)| number.trim().parse::<f64>().is_ok());
    match part.as_bytes()[0] {
        b'(' => {
            let doubled = inner.starts_with('(') && closed(inner) == Some(inner);
            (is_weight || doubled).then_some(Mark::Weight(part))
        }
        b'[' if inner.contains('|') || is_weight => Some(Mark::Change(part)),
        b'[' => (!inner.is_empty()).then_some(Mark::Weight(part)),
        _ => {
            let kind = inner.split(':').next()?;
            let known = ["lora", "lyco", "hypernet"].contains(&kind);
            (known && numbered.is_some()).then_some(Mark::Adapter(part))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_and_plain_brackets_are_not() {
        let weight = |text| vec![Mark::Weight(text)];
        assert_eq!(marks("a (red fox:1.3) runs"), weight("(red fox:1.3)"));
        assert_eq!(marks("((red)) circle"), weight("((red))"));
        assert_eq!(marks("( (( red )) ) circle"), weight("( (( red )) )"));
        assert_eq!(marks("[a red circle]"), weight("[a red circle]"));
        assert_eq!(marks("a (fox (red:1.3)) runs"), weight("(red:1.3)"));
        let change = |text| vec![Mark::Change(text)];
        assert_eq!(marks("a [cat:dog: 0.5]"), change("[cat:dog: 0.5]"));
        assert_eq!(marks("a red [circle|square]"), change("[circle|square]"));
        let adapter = vec![Mark::Adapter("<lora:ink:0.8>")];
        assert_eq!(marks("ü (plain) <lora:ink:0.8>"), adapter);
        let several = [Mark::Weight("[ü]"), Mark::Weight("(b:2)")];
        assert_eq!(marks("[ü] and (b:2)"), several);
        for plain in [
            "",
            "a (red) fox",
            "a cat (sitting (on a chair)) sleeps",
            r"a \[red\] \((fox\)) and \(b:2\)",
            "at 10:30 (noon: lunch)",
            "<fox>",
            "(:",
            "a <b:c>",
            ":)",
            "((( [",
            "))]",
        ] {
            assert_eq!(marks(plain), [], "{plain}");
        }
    }

    #[test]
    fn a_kind_of_mark_is_told_once() {
        let told = |texts: &[&str]| warnings(texts, &[], &Vocabulary::default());
        let twice = told(&["(red:1.3) ((fox))", "[blurred], (dark:2)"]);
        assert_eq!(twice.len(), 1, "{twice:?}");
        let long = format!("[{}]", "a red fox ".repeat(1000));
        let [long] = &told(&[&long])[..] else {
            panic!("one mark");
        };
        assert!(long.len() < 400, "{long}");
    }

    #[test]
    fn words_are_unknown_once() {
        let vocabulary = Vocabulary {
            words: ["a", "red", "circle"].map(String::from).into(),
        };
        let warned = warnings(&["A red cat, a CAT and a circle", ""], &[], &vocabulary);
        let [told] = &warned[..] else {
            panic!("{warned:?}");
        };
        assert!(
            told.contains("`cat`, `and`\nhint: it knows a, red, circle"),
            "{told}"
        );
        assert!(warnings(&["a circle"], &[], &vocabulary).is_empty());
        assert!(warnings(&["anything"], &[], &Vocabulary::default()).is_empty());
    }
}

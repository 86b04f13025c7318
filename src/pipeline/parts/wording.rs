//! What a prompt says that a model does not read as it was meant: words it never saw, learned words that stand nowhere, and the marks of
//! programs that read more than text.

use std::collections::BTreeMap;

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
    /// `(fox:1.3)`
    Weight(&'a str),
    /// `((fox))` and `[fox]`, which weigh by how many there are. A word in one pair of parentheses has a weight there too, and is ordinary text
    /// everywhere else.
    Brackets(&'a str),
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
            Self::Brackets(part) => (
                part,
                "weights in prompts are not read",
                "leave out the brackets",
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
    let pairs = pairs(text);
    let mut marks = Vec::new();
    let mut behind = 0;
    for (&start, &end) in &pairs {
        if start < behind {
            continue;
        }
        if let Some(mark) = mark(text, [start, end], &pairs) {
            marks.push(mark);
            behind = end;
        }
    }
    marks
}

/// Where brackets open that are closed again, and where: each kind by itself, without those that a backslash takes the meaning from.
fn pairs(text: &str) -> BTreeMap<usize, usize> {
    const KINDS: [[&str; 2]; 3] = [["(", ")"], ["[", "]"], ["<", ">"]];
    let mut open: [Vec<usize>; 3] = Default::default();
    let mut pairs = BTreeMap::new();
    for (place, bracket) in text.match_indices(['(', ')', '[', ']', '<', '>']) {
        if is_escaped(text, place) {
            continue;
        }
        for ([opens, closes], open) in KINDS.iter().zip(&mut open) {
            if bracket == *opens {
                open.push(place);
            } else if bracket == *closes
                && let Some(start) = open.pop()
            {
                pairs.insert(start, place);
            }
        }
    }
    pairs
}

fn is_escaped(text: &str, place: usize) -> bool {
    let before = text[..place].bytes().rev();
    before.take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// The mark that a part in brackets is.
fn mark<'a>(
    text: &'a str,
    [start, end]: [usize; 2],
    pairs: &BTreeMap<usize, usize>,
) -> Option<Mark<'a>> {
    let (part, within) = (&text[start..=end], &text[start + 1..end]);
    let inner = within.trim();
    let is_weight = is_numbered(inner);
    match part.as_bytes()[0] {
        b'(' if is_weight => Some(Mark::Weight(part)),
        b'(' => {
            let first = start + 1 + (within.len() - within.trim_start().len());
            let last = first + inner.len().saturating_sub(1);
            let doubled = inner.starts_with('(') && pairs.get(&first) == Some(&last);
            doubled.then_some(Mark::Brackets(part))
        }
        b'[' if inner.contains('|') || is_weight => Some(Mark::Change(part)),
        b'[' => {
            // An index, a note's number, and what editors put there.
            let joined = text[..start].ends_with(char::is_alphanumeric);
            let number = inner.bytes().all(|byte| byte.is_ascii_digit());
            let ordinary = joined || number || inner == "sic";
            (!ordinary).then_some(Mark::Brackets(part))
        }
        _ => {
            let known = ["lora:", "lyco:", "hypernet:"];
            let adapter = known.iter().any(|kind| inner.starts_with(kind));
            adapter.then_some(Mark::Adapter(part))
        }
    }
}

/// Whether a text ends in a colon and a number. Where a number stands before it too, it is a ratio or a time.
fn is_numbered(inner: &str) -> bool {
    /// Bytes of the longest number that anybody writes.
    const LONGEST: usize = 32;

    let tail = &inner[inner.floor_char_boundary(inner.len().saturating_sub(LONGEST))..];
    let Some((before, number)) = tail.rsplit_once(':') else {
        return false;
    };
    let is_number = |text: &str| text.trim().parse::<f64>().is_ok();
    is_number(number) && !(tail.len() == inner.len() && is_number(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_and_plain_brackets_are_not() {
        let weight = |text| vec![Mark::Weight(text)];
        assert_eq!(marks("a (red fox:1.3) runs"), weight("(red fox:1.3)"));
        let brackets = |text| vec![Mark::Brackets(text)];
        assert_eq!(marks("((red)) circle"), brackets("((red))"));
        assert_eq!(marks("( (( red )) ) circle"), brackets("( (( red )) )"));
        assert_eq!(marks("[a red circle]"), brackets("[a red circle]"));
        assert_eq!(marks("a (fox (red:1.3)) runs"), weight("(red:1.3)"));
        let change = |text| vec![Mark::Change(text)];
        assert_eq!(marks("a [cat:dog: 0.5]"), change("[cat:dog: 0.5]"));
        assert_eq!(marks("a red [circle|square]"), change("[circle|square]"));
        let adapter = vec![Mark::Adapter("<lora:ink:0.8>")];
        assert_eq!(marks("ü (plain) <lora:ink:0.8>"), adapter);
        let several = [Mark::Brackets("[ü]"), Mark::Weight("(b:2)")];
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
            "a film (16:9), note [1] of array[index] [sic]",
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
        assert_eq!(twice.len(), 2, "{twice:?}");
        assert!(twice[0].ends_with("hint: leave out the brackets and the number"));
        assert!(twice[1].ends_with("hint: leave out the brackets"));
        let long = format!("[{}]", "a red fox ".repeat(1000));
        let [long] = &told(&[&long])[..] else {
            panic!("one mark");
        };
        assert!(long.len() < 400, "{long}");
    }

    /// A client may send 64 KiB of them.
    #[test]
    fn many_brackets_are_looked_at_once() {
        for piece in ["(", "[", "<", "(a ", "([<", r"\("] {
            let text = piece.repeat((64 << 10) / piece.len());
            assert_eq!(marks(&text), [], "{piece}");
        }
        let nested = ["(a ".repeat(10_000), ")".repeat(10_000)].concat();
        assert_eq!(marks(&nested), []);
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

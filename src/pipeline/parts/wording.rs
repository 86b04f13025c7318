//! What a prompt says that a model does not read as it was meant: words it never saw, learned words that stand nowhere, and the marks of
//! programs that read more than text.

use serde::Deserialize;

use crate::catalog::ModelFolder;
use crate::error::Error;
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
    for mark in texts.iter().filter_map(|text| mark(text)) {
        warnings.push(match mark {
            Mark::Weight(part) => format!(
                "`{part}` is read as it stands: weights in prompts are not read\nhint: leave out the brackets and the number"
            ),
            Mark::Adapter(part) => format!(
                "`{part}` is read as it stands: prompts name no adapters\nhint: use `--lora FILE=SCALE` or `--embedding FILE`"
            ),
        });
    }
    if !vocabulary.words.is_empty() {
        let unknown = vocabulary.unknown(texts, embeddings);
        if !unknown.is_empty() {
            warnings.push(format!(
                "the model does not know `{}`\nhint: it knows {}",
                unknown.join("`, `"),
                vocabulary.words.join(", ")
            ));
        }
    }
    warnings
}

/// A mark of the web interfaces.
#[derive(Debug, PartialEq, Eq)]
enum Mark<'a> {
    /// `(fox:1.3)`, and `[fox:dog:0.5]`, which changes the prompt on the way.
    Weight(&'a str),
    /// `<lora:style:0.8>`
    Adapter(&'a str),
}

/// The first mark of a prompt.
fn mark(text: &str) -> Option<Mark<'_>> {
    let mut opened = text.match_indices(['(', '[', '<']);
    opened.find_map(|(start, bracket)| {
        let rest = &text[start..];
        let end = rest.find(closing(bracket))?;
        let part = &rest[..=end];
        let (name, number) = part[1..end].rsplit_once(':')?;
        if bracket != "<" {
            let is_weight = number.trim().parse::<f64>().is_ok();
            return is_weight.then_some(Mark::Weight(part));
        }
        let kinds = ["lora", "lyco", "hypernet"];
        let kind = name.split(':').next().unwrap_or(name);
        kinds.contains(&kind).then_some(Mark::Adapter(part))
    })
}

fn closing(bracket: &str) -> char {
    match bracket {
        "(" => ')',
        "[" => ']',
        _ => '>',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_and_plain_brackets_are_not() {
        let weight = |text| Some(Mark::Weight(text));
        assert_eq!(mark("a (red fox:1.3) runs"), weight("(red fox:1.3)"));
        assert_eq!(mark("a [cat:dog: 0.5]"), weight("[cat:dog: 0.5]"));
        let adapter = Some(Mark::Adapter("<lora:ink:0.8>"));
        assert_eq!(mark("ü (plain) <lora:ink:0.8>"), adapter);
        for plain in [
            "",
            "a (red) fox",
            "at 10:30 (noon: lunch)",
            "<fox>",
            "(:",
            "a <b:c>",
            ":)",
        ] {
            assert_eq!(mark(plain), None, "{plain}");
        }
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

//! What a prompt says that a model does not read as it was meant: words it never saw, learned words that stand nowhere, and the marks of
//! programs that read more than text (`marks`).

use serde::Deserialize;

use super::marks::{Mark, marks};
use crate::catalog::ModelFolder;
use crate::error::{Error, listed};
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
    let found = texts
        .iter()
        .flat_map(|text| marks(text, &masked(text, embeddings)));
    let marks: Vec<Mark<'_>> = found.collect();
    // One of a kind says it of all.
    for (index, mark) in marks.iter().enumerate() {
        if marks[..index].iter().all(|one| one.kind != mark.kind) {
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

/// A text with letters for the words that embeddings teach, whatever they are made of: of the same length, so that places are the same.
fn masked(text: &str, embeddings: &[Embedding]) -> String {
    let tokens = embeddings.iter().map(Embedding::token);
    tokens.fold(text.to_owned(), |text, token| {
        text.replace(token, &"x".repeat(token.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

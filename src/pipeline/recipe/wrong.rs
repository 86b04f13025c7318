//! What is wrong with a recipe's JSON, in words: at which key, what stands there, and what belongs there.

use serde_path_to_error::{Path, Segment};

use crate::error::RecipeError;

/// What types of ours are to people.
const WANTED: [(&str, &str); 8] = [
    ("struct ", "an object"),
    ("usize", "a whole number of at least 0"),
    ("u64", "a whole number of at least 0"),
    ("u32", "a whole number of at least 0"),
    ("f64", "a number"),
    ("f32", "a number"),
    ("a string", "a text"),
    ("a boolean", "true or false"),
];

/// The error about a value at its key.
pub(super) fn at_its_key(error: &serde_path_to_error::Error<serde_json::Error>) -> RecipeError {
    let cause = error.inner();
    let (text, place) = placed(cause);
    let key = key(error.path(), &text);
    let said = match told(&text) {
        _ if key.is_empty() => return whole(cause),
        Some((found, wanted)) => format!("`{key}` is {found}, and {wanted} belongs there{place}"),
        None => in_place(&format!("in `{key}`, {text}"), &place),
    };
    RecipeError::Json { said }
}

/// The error about a recipe as a whole.
pub(super) fn whole(error: &serde_json::Error) -> RecipeError {
    let (text, place) = placed(error);
    let said = in_place(&text, &place);
    RecipeError::Json { said }
}

/// The error and its place, which a value that was no text has not.
fn placed(error: &serde_json::Error) -> (String, String) {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(said) => (said.to_owned(), place),
        None => (text, String::new()),
    }
}

/// The place beside the cause, where a hint stands after it.
fn in_place(text: &str, place: &str) -> String {
    match text.split_once('\n') {
        Some((cause, hints)) => format!("{cause}{place}\n{hints}"),
        None => format!("{text}{place}"),
    }
}

/// `upscalers[1].name`; of a key that is not known, which the error itself names, what it stands in.
fn key(path: &Path, error: &str) -> String {
    let known = |segment: &&Segment| match segment {
        Segment::Unknown => false,
        Segment::Map { key } => !error.starts_with(&format!("unknown field `{key}`")),
        _ => true,
    };
    let mut key = String::new();
    for segment in path.iter().filter(known) {
        let dot = if key.is_empty() || matches!(segment, Segment::Seq { .. }) {
            ""
        } else {
            "."
        };
        key = format!("{key}{dot}{segment}");
    }
    key
}

/// What stands somewhere and what belongs there, of serde's `invalid type: string "2", expected usize`.
fn told(text: &str) -> Option<(String, String)> {
    let kinds = ["invalid type: ", "invalid value: ", "invalid "];
    let both = kinds.iter().find_map(|kind| text.strip_prefix(kind))?;
    let (found, wanted) = both.rsplit_once(", expected ")?;
    let found = match found.split_once(' ') {
        Some(("length", length)) => format!("a list of {length}"),
        Some(("string", text)) => text.to_owned(),
        Some(("integer" | "boolean", value)) => value.trim_matches('`').to_owned(),
        Some(("floating", number)) => number
            .trim_start_matches("point ")
            .trim_matches('`')
            .to_owned(),
        _ if found == "map" => "an object".to_owned(),
        _ if found == "sequence" => "a list".to_owned(),
        _ => found.to_owned(),
    };
    let length = wanted.strip_prefix("an array of length ");
    let wanted = match length {
        Some(length) => format!("a list of {length}"),
        None if wanted == "a sequence" => "a list".to_owned(),
        None if wanted == "fewer elements in array" => "a shorter one".to_owned(),
        None => {
            let known = WANTED.iter().find(|(theirs, _)| wanted.starts_with(theirs));
            known.map_or(wanted, |(_, ours)| ours).to_owned()
        }
    };
    Some((found, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_words_of_people() {
        for (text, found, wanted) in [
            (
                "string \"a, expected b\", expected f64",
                "\"a, expected b\"",
                "a number",
            ),
            (
                "integer `-1`, expected usize",
                "-1",
                "a whole number of at least 0",
            ),
            (
                "floating point `0.5`, expected u32",
                "0.5",
                "a whole number of at least 0",
            ),
            ("map, expected a sequence", "an object", "a list"),
            ("null, expected a string", "null", "a text"),
            (
                "sequence, expected struct RecipeModel",
                "a list",
                "an object",
            ),
            (
                "boolean `true`, expected an array of length 2",
                "true",
                "a list of 2",
            ),
            (
                "string \"x\", expected one of these",
                "\"x\"",
                "one of these",
            ),
        ] {
            let said = told(&format!("invalid type: {text}"));
            assert_eq!(said, Some((found.to_owned(), wanted.to_owned())));
        }
        let said = told("invalid length 3, expected an array of length 2");
        assert_eq!(
            said,
            Some(("a list of 3".to_owned(), "a list of 2".to_owned()))
        );
        assert_eq!(told("missing field `path`"), None);
    }
}

//! What diffusers' `clean_caption` takes out of a text before T5 reads it, and what stays in here: a prompt is written for the model, not
//! collected from the web, and nothing of it is dropped in silence.

/// Endings of words that are files.
const FILES: [&str; 9] = [
    ".png", ".jpg", ".jpeg", ".bmp", ".webp", ".eps", ".pdf", ".apk", ".mp4",
];

/// Domains of the links that are known without `http`.
const DOMAINS: [&str; 8] = [".com", ".co", ".ru", ".net", ".org", ".edu", ".gov", ".it"];

/// Said of a `text` that has such things, by their names.
pub(super) fn uncleaned(text: &str) -> Option<String> {
    let text = text.to_lowercase();
    let any = |is: fn(&str) -> bool| text.split_whitespace().any(is);
    let kinds = [
        ("links", any(is_link)),
        ("markup", any(is_markup)),
        ("names behind `@`", any(is_name)),
        ("Chinese characters", text.chars().any(is_chinese)),
        ("names of files", any(is_file)),
        ("words of letters and digits", any(is_code)),
        ("plus signs", text.contains('+')),
    ];
    let kinds = kinds.into_iter().filter(|(_, there)| *there);
    let kinds: Vec<_> = kinds.map(|(kind, _)| kind).collect();
    (!kinds.is_empty()).then(|| {
        let kinds = kinds.join(", ");
        format!(
            "T5 reads the prompt as it stands: diffusers' `clean_caption` would take out {kinds}"
        )
    })
}

/// A word without the marks around it.
fn bare(word: &str) -> &str {
    word.trim_matches(|letter: char| !letter.is_alphanumeric())
}

fn is_link(word: &str) -> bool {
    let host = bare(word).split('/').next().unwrap_or_default();
    let named = DOMAINS.iter().any(|domain| {
        host.strip_suffix(domain)
            .is_some_and(|name| !name.is_empty())
    });
    named || word.contains("http:") || word.contains("https:")
}

/// A tag, or a character by its name.
fn is_markup(word: &str) -> bool {
    let opens = |mark: char| {
        let rest = word.split_once(mark).map(|(_, rest)| rest);
        rest.is_some_and(|rest| {
            rest.starts_with(|letter: char| letter.is_alphabetic() || letter == '/')
        })
    };
    opens('<') || (opens('&') && word.contains(';'))
}

fn is_name(word: &str) -> bool {
    let behind = word.split_once('@').map(|(_, name)| name);
    behind.is_some_and(|name| name.starts_with(char::is_alphanumeric))
}

/// Strokes, enclosed letters and ideographs.
fn is_chinese(letter: char) -> bool {
    ('\u{31c0}'..='\u{9fff}').contains(&letter)
}

fn is_file(word: &str) -> bool {
    let word = bare(word);
    FILES.iter().any(|ending| word.ends_with(ending))
}

/// Letters and digits in turn at least twice, or a few letters in front of many digits.
fn is_code(word: &str) -> bool {
    let parts = word.split(|letter: char| !letter.is_ascii_alphanumeric());
    parts.into_iter().any(|part| {
        let letters: Vec<u8> = part.bytes().collect();
        let runs = letters.chunk_by(|one, next| one.is_ascii_digit() == next.is_ascii_digit());
        match &runs.collect::<Vec<_>>()[..] {
            [name, number] => name[0].is_ascii_alphabetic() && name.len() <= 3 && number.len() >= 3,
            runs => runs.len() >= 3,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_go_is_named() {
        for (text, kind) in [
            ("a fox, see https://example.org/fox", "links"),
            ("a fox (example.com/fox)", "links"),
            ("a <b>red</b> fox", "markup"),
            ("cats &amp; dogs", "markup"),
            ("a fox by @somebody", "names behind `@`"),
            ("狐狸 in the snow", "Chinese characters"),
            ("a fox, fox.jpg", "names of files"),
            ("model jc6640", "words of letters and digits"),
            ("640x480", "words of letters and digits"),
            ("red+fox", "plus signs"),
        ] {
            let said = uncleaned(text).unwrap_or_default();
            assert!(
                said.ends_with(&format!("take out {kind}")),
                "{text}: {said}"
            );
        }
        let both = uncleaned("fox.png from fox.com").expect("two kinds");
        assert!(both.ends_with("links, names of files"), "{both}");
    }

    #[test]
    fn plain_prompts_pass() {
        for text in [
            "A photo of a red fox in the snow, 8k, 3D render, f/1.8 at 50mm",
            "a cat, a dog & 2 birds! 1 < 2",
            "ひらがな, a.b, no. 5, R&B",
            "",
        ] {
            assert_eq!(uncleaned(text), None, "{text}");
        }
    }
}

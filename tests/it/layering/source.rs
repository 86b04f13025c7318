//! The repository's files, as far as these tests read Rust: code without comments and strings, and the paths it names.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of `src` or `tests`.
pub(super) struct Source {
    /// Below the repository's root.
    pub(super) path: String,
    pub(super) lines: usize,
    /// What is left without comments, strings and character literals: blanks in their place, every line where it was.
    pub(super) code: String,
}

impl Source {
    fn read(root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let relative = path.strip_prefix(root).unwrap();
        Self {
            path: relative.to_str().unwrap().replace('\\', "/"),
            lines: text.lines().count(),
            code: code(&text),
        }
    }

    /// The code without modules of tests.
    pub(super) fn shipped(&self) -> String {
        let mut left = self.code.clone();
        while let Some(start) = left.find("#[cfg(test)]\nmod tests {") {
            let block = start + left[start..].find('{').unwrap_or(0);
            let end = block + inside(&left[block..]).len() + 2;
            left.replace_range(start..end.min(left.len()), "");
        }
        left
    }

    /// The module that the file is: `["cache", "methods"]` for `src/cache/methods/mod.rs`.
    pub(super) fn module(&self) -> Vec<String> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let names = path.split('/').map(str::to_owned);
        names
            .filter(|name| !matches!(name.as_str(), "mod" | "lib" | "main"))
            .collect()
    }
}

/// Every Rust file below these folders, in order; `fixtures` are data.
pub(super) fn sources(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in folders {
        collect(&root.join(folder), &mut paths);
    }
    paths.sort();
    paths.iter().map(|path| Source::read(root, path)).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("fixtures") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Blanks out comments, strings and character literals.
pub(super) fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let skipped = literal(rest, code.chars().next_back()).unwrap_or(0);
        let blank = |letter: char| if letter == '\n' { '\n' } else { ' ' };
        if skipped == 0 {
            code.push(letter);
            rest = &rest[letter.len_utf8()..];
        } else {
            code.extend(rest[..skipped].chars().map(blank));
            rest = &rest[skipped..];
        }
    }
    code
}

/// The length of the comment, string or character literal that `text` begins with.
fn literal(text: &str, before: Option<char>) -> Option<usize> {
    let in_word = before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    match text.as_bytes() {
        [b'/', b'/', ..] => Some(text.find('\n').unwrap_or(text.len())),
        [b'/', b'*', ..] => Some(text.find("*/").map_or(text.len(), |end| end + 2)),
        [b'"', ..] => Some(quoted(text)),
        [b'r', b'"' | b'#', ..] if !in_word => raw(text),
        [b'\'', ..] => character(text),
        _ => None,
    }
}

/// A string with escapes.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// `r#"…"#`; nothing for an identifier like `r#type`.
fn raw(text: &str) -> Option<usize> {
    let marks = text[1..].bytes().take_while(|&byte| byte == b'#').count();
    let start = 1 + marks;
    if text.as_bytes().get(start) != Some(&b'"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(marks));
    let found = text[start + 1..].find(&end);
    Some(found.map_or(text.len(), |at| start + 1 + at + end.len()))
}

/// `'x'`, `'\n'`, `'\u{e9}'`; nothing for a lifetime.
fn character(text: &str) -> Option<usize> {
    let mut letters = text.char_indices().skip(1);
    let (_, first) = letters.next()?;
    if first == '\\' {
        return text[2..].find('\'').map(|end| (3 + end).max(4));
    }
    let (end, quote) = letters.next()?;
    (quote == '\'').then_some(end + 1)
}

/// What stands between the brace that `text` begins with and the one that closes it.
pub(super) fn inside(text: &str) -> &str {
    let mut depth = 0;
    for (index, byte) in text.bytes().enumerate() {
        depth += i32::from(byte == b'{') - i32::from(byte == b'}');
        if depth == 0 {
            return &text[1..index.max(1)];
        }
    }
    &text[1..]
}

/// The paths that begin with `root` in `code`, without it: `use crate::{nn::{a, b}, rng}` has `nn::a`, `nn::b` and `rng` after `crate`.
pub(super) fn paths(code: &str, root: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let start = format!("{root}::");
    for (index, _) in code.match_indices(&start) {
        let before = code[..index].chars().next_back();
        if !before.is_some_and(|letter| letter.is_alphanumeric() || "_:".contains(letter)) {
            grow(&code[index + start.len()..], &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Every path of the tree that `text` begins with, each below `stem`.
pub(super) fn grow(text: &str, stem: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let text = text.trim_start();
    if text.starts_with('{') {
        for branch in branches(inside(text)) {
            grow(branch, &mut stem.clone(), found);
        }
        return;
    }
    let word = word(text);
    if word.is_empty() {
        return;
    }
    stem.push(word.to_owned());
    match text[word.len()..].strip_prefix("::") {
        Some(rest) if rest.starts_with(|next: char| next == '{' || next.is_alphabetic()) => {
            grow(rest, stem, found);
        }
        _ => found.push(stem.clone()),
    }
}

/// The parts between commas that stand in no group.
fn branches(list: &str) -> Vec<&str> {
    let mut depth = 0;
    let comma = |letter: char| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    };
    list.split(comma).collect()
}

/// The identifier that `text` begins with.
pub(super) fn word(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    &text[..end.unwrap_or(text.len())]
}

#[test]
fn comments_and_literals_are_no_code() {
    let text = "a // \"b\n/* c */ \"d \\\" e\" r#\"f \" g\"# '\\'' 'h' &'i str";
    let letters: String = code(text).split_whitespace().collect();
    assert_eq!(letters, "a&'istr");
    assert_eq!(code(text).lines().count(), 2);
}

#[test]
fn nested_imports_are_seen() {
    let text = "use crate::{nn::{a, b}, rng, Error};\nlet c = crate::cache::X::new();";
    let found: Vec<String> = paths(text, "crate")
        .iter()
        .map(|path| path.join("::"))
        .collect();
    assert_eq!(found, ["nn::a", "nn::b", "rng", "Error", "cache::X::new"]);
}

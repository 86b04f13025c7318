//! How long files and functions may be.

use super::source::{Source, inside, sources, word};

/// Lines of a file, its tests included.
const FILE: usize = 450;

/// Lines of a function, from its name to its last brace.
const FUNCTION: usize = 60;

/// Files over the limit that still wait to be split. The list only ever becomes shorter.
const LONG_FILES: &[&str] = &[];

/// Functions over the limit that still wait to be divided. The list only ever becomes shorter.
const LONG_FUNCTIONS: &[&str] = &[];

/// Both lists must say what is so: a place that they do not name is a fault, and so is one that is no longer too long.
#[track_caller]
fn assert_known(found: &[(String, usize)], known: &[&str], limit: usize) {
    let over = found.iter().filter(|(_, lines)| *lines > limit);
    let (old, new): (Vec<_>, Vec<_>) = over.partition(|(name, _)| known.contains(&name.as_str()));
    assert!(new.is_empty(), "more than {limit} lines: {new:#?}");
    let mended = |name: &&&str| !old.iter().any(|(long, _)| long == **name);
    let mended: Vec<_> = known.iter().filter(mended).collect();
    assert!(
        mended.is_empty(),
        "short now, take out of the list: {mended:#?}"
    );
}

#[test]
fn files_are_short() {
    let sources = sources(&["src", "tests"]).into_iter();
    let found: Vec<_> = sources
        .map(|Source { path, lines, .. }| (path, lines))
        .collect();
    assert_known(&found, LONG_FILES, FILE);
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    for source in sources(&["src", "tests"]) {
        let named = |(name, lines)| (format!("{}: {name}", source.path), lines);
        found.extend(functions(&source.code).into_iter().map(named));
    }
    assert_known(&found, LONG_FUNCTIONS, FUNCTION);
}

/// The functions with a body, and their lines.
fn functions(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (index, _) in code.match_indices("fn ") {
        let is_word =
            code[..index].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        let name = word(&code[index + 3..]);
        if is_word || name.is_empty() {
            continue;
        }
        if let Some(open) = body(&code[index..]) {
            let end = index + open + inside(&code[index + open..]).len() + 2;
            let lines = code[index..end.min(code.len())].lines().count();
            found.push((name.to_owned(), lines));
        }
    }
    found
}

/// Where a function's body opens; nothing for a declaration.
fn body(code: &str) -> Option<usize> {
    let mut depth = 0;
    for (index, byte) in code.bytes().enumerate() {
        depth += i32::from(b"([".contains(&byte)) - i32::from(b")]".contains(&byte));
        match byte {
            b'{' if depth == 0 => return Some(index),
            b';' | b'}' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[test]
fn functions_are_counted_from_name_to_brace() {
    let code = "fn a() {\n    if b {\n    }\n}\ntrait C {\n    fn d(e: [u8; 4]);\n}\nfn f<G>(h: fn(u8))\nwhere\n    G: I,\n{\n}\n";
    let found = functions(code);
    let expected = [("a".to_owned(), 4), ("f".to_owned(), 5)];
    assert_eq!(found, expected);
}

//! Marks in prompts that other programs read, and that are words here.

use std::collections::BTreeMap;

use crate::error::shortened;

/// A mark of the web interfaces, nodes and libraries, as it was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark<'a> {
    pub(super) kind: Kind,
    part: &'a str,
}

/// What a mark means elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `(fox:1.3)`
    Weight,
    /// `((fox))` and `[fox]`, which weigh by how many there are. A word in one pair of parentheses has a weight there too, and is ordinary text
    /// everywhere else.
    Brackets,
    /// `[fox|dog]` and `[fox:dog:0.5]`, which change the prompt on the way.
    Change,
    /// `<lora:style:0.8>`
    Adapter,
    /// `embedding:style`, as node programs name a learned word.
    Embedding,
    /// `fox++`, `(a fox)0.5` and `fox::2`
    Signs,
    /// `BREAK` and `AND`, which take a prompt apart
    Apart,
    /// `("a fox", "a dog").blend(0.5, 0.5)`
    Blend,
    /// `{red|blue}` and `__colour__`, of which one is drawn
    Choice,
    /// `--ar 16:9`
    Command,
    /// `\(fox\)`, whose brackets are meant as such
    Backslash,
}

impl Mark<'_> {
    pub(super) fn told(&self) -> String {
        let (why, hint) = self.kind.told();
        let part = shortened(self.part);
        format!("`{part}` is read as it stands: {why}\nhint: {hint}")
    }
}

impl Kind {
    /// Why it is not read, and what to do.
    fn told(self) -> (&'static str, &'static str) {
        let weights = "weights in prompts are not read";
        match self {
            Self::Weight => (weights, "leave out the brackets and the number"),
            Self::Brackets => (weights, "leave out the brackets"),
            Self::Signs => (weights, "leave out the signs and the number"),
            Self::Change => (
                "prompts do not change on the way",
                "leave out the brackets, and write one of the words",
            ),
            Self::Adapter => (
                "prompts name no adapters",
                "use `--lora FILE=SCALE` or `--embedding FILE`",
            ),
            Self::Embedding => (
                "a learned word stands in prompts by itself",
                "leave out `embedding:`, and give the file by `--embedding`",
            ),
            Self::Apart => ("prompts are read as one", "leave it out"),
            Self::Blend => ("prompts are not mixed", "write one text"),
            Self::Choice => (
                "nothing in a prompt is drawn by lot",
                "write one of the words",
            ),
            Self::Command => (
                "prompts hold no options",
                "options stand beside the prompt, as in `--size 512x768`",
            ),
            Self::Backslash => ("brackets need no backslash", "leave the backslashes out"),
        }
    }
}

/// The marks of a prompt: brackets, of which the outermost of those within each other, and then words. `masked` is the prompt with letters
/// where nothing is a mark, of the same length.
pub(super) fn marks<'a>(text: &'a str, masked: &str) -> Vec<Mark<'a>> {
    let mut marks = brackets(text, masked);
    // A text in capitals has no words that stand out by theirs.
    let has_small = masked.contains(char::is_lowercase);
    for word in masked.split_whitespace() {
        let start = word.as_ptr() as usize - masked.as_ptr() as usize;
        let word = word.trim_end_matches([',', '.', ';']);
        let part = &text[start..start + word.len()];
        marks.extend(of_word(word, has_small).map(|kind| Mark { kind, part }));
    }
    marks
}

/// The mark that a word is.
fn of_word(word: &str, has_small: bool) -> Option<Kind> {
    let has = |marks: &[&str]| marks.iter().any(|mark| word.contains(mark));
    if matches!(word, "BREAK" | "AND") && has_small {
        Some(Kind::Apart)
    } else if is_learned(word) {
        Some(Kind::Embedding)
    } else if is_signed(word) {
        Some(Kind::Signs)
    } else if has(&[").blend(", ").and(", ").swap("]) {
        Some(Kind::Blend)
    } else if is_wildcard(word) {
        Some(Kind::Choice)
    } else if is_command(word) {
        Some(Kind::Command)
    } else if has(&[r"\(", r"\)", r"\[", r"\]"]) {
        Some(Kind::Backslash)
    } else {
        None
    }
}

/// `embedding:style`, in brackets or not.
fn is_learned(word: &str) -> bool {
    let name = word.trim_start_matches(['(', '[', '<', '{']);
    let name = name.strip_prefix("embedding:");
    name.is_some_and(|name| !name.is_empty())
}

/// `fox++`, `(fox)--`, `seas)1.5`, `fox::2`: a word of one letter may be called so.
fn is_signed(word: &str) -> bool {
    let bare = word.trim_end_matches(['+', '-']);
    let raised = word.len() >= bare.len() + 2 || bare.ends_with(')') && word.len() > bare.len();
    if raised && (bare.ends_with(')') || bare.chars().filter(|one| one.is_alphabetic()).count() > 1)
    {
        return true;
    }
    let is_number = |text: &str| {
        text.starts_with(|one: char| one.is_ascii_digit()) && text.parse::<f64>().is_ok()
    };
    let after = |mark: &str| word.rsplit_once(mark).map(|(_, after)| after);
    after(")").is_some_and(|number| number.contains('.') && is_number(number))
        || after("::").is_some_and(|number| is_number(number.trim_start_matches('-')))
}

/// `__colour__`
fn is_wildcard(word: &str) -> bool {
    let inner = word.strip_prefix("__");
    let inner = inner.and_then(|inner| inner.strip_suffix("__"));
    inner.is_some_and(|inner| inner.starts_with(char::is_alphanumeric))
}

/// `--ar`
fn is_command(word: &str) -> bool {
    let name = word.strip_prefix("--");
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(|one| one.is_ascii_lowercase()))
}

fn brackets<'a>(text: &'a str, masked: &str) -> Vec<Mark<'a>> {
    let pairs = pairs(masked);
    let mut marks = Vec::new();
    let mut behind = 0;
    for (&start, &end) in &pairs {
        if start < behind {
            continue;
        }
        if let Some(kind) = of_brackets(masked, [start, end], &pairs) {
            let part = &text[start..=end];
            marks.push(Mark { kind, part });
            behind = end;
        }
    }
    marks
}

/// Where brackets open that are closed again, and where: each kind by itself, without those that a backslash takes the meaning from.
fn pairs(text: &str) -> BTreeMap<usize, usize> {
    const KINDS: [[&str; 2]; 4] = [["(", ")"], ["[", "]"], ["<", ">"], ["{", "}"]];
    let mut open: [Vec<usize>; 4] = Default::default();
    let mut pairs = BTreeMap::new();
    for (place, bracket) in text.match_indices(['(', ')', '[', ']', '<', '>', '{', '}']) {
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
fn of_brackets(
    text: &str,
    [start, end]: [usize; 2],
    pairs: &BTreeMap<usize, usize>,
) -> Option<Kind> {
    let within = &text[start + 1..end];
    let inner = within.trim();
    let is_weight = is_numbered(inner);
    match text.as_bytes()[start] {
        b'(' if is_weight => Some(Kind::Weight),
        b'{' if inner.contains('|') => Some(Kind::Choice),
        opens @ (b'(' | b'{') => {
            let first = start + 1 + (within.len() - within.trim_start().len());
            let last = first + inner.len().saturating_sub(1);
            let doubled = inner.starts_with(char::from(opens)) && pairs.get(&first) == Some(&last);
            doubled.then_some(Kind::Brackets)
        }
        b'[' if inner.contains('|') || is_weight => Some(Kind::Change),
        b'[' => {
            // An index, a note's number, and what editors put there.
            let joined = text[..start].ends_with(char::is_alphanumeric);
            let number = inner.bytes().all(|byte| byte.is_ascii_digit());
            let ordinary = joined || number || inner == "sic";
            (!ordinary).then_some(Kind::Brackets)
        }
        _ => {
            let known = ["lora:", "lyco:", "hypernet:"];
            let adapter = known.iter().any(|kind| inner.starts_with(kind));
            adapter.then_some(Kind::Adapter)
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

    fn marks(text: &str) -> Vec<Mark<'_>> {
        super::marks(text, text)
    }

    fn found(kind: Kind, part: &str) -> Mark<'_> {
        Mark { kind, part }
    }

    #[test]
    fn marks_are_found_and_plain_brackets_are_not() {
        let weight = |text| vec![found(Kind::Weight, text)];
        assert_eq!(marks("a (red fox:1.3) runs"), weight("(red fox:1.3)"));
        let brackets = |text| vec![found(Kind::Brackets, text)];
        assert_eq!(marks("((red)) circle"), brackets("((red))"));
        assert_eq!(marks("( (( red )) ) circle"), brackets("( (( red )) )"));
        assert_eq!(marks("[a red circle]"), brackets("[a red circle]"));
        assert_eq!(marks("a (fox (red:1.3)) runs"), weight("(red:1.3)"));
        let change = |text| vec![found(Kind::Change, text)];
        assert_eq!(marks("a [cat:dog: 0.5]"), change("[cat:dog: 0.5]"));
        assert_eq!(marks("a red [circle|square]"), change("[circle|square]"));
        let adapter = vec![found(Kind::Adapter, "<lora:ink:0.8>")];
        assert_eq!(marks("ü (plain) <lora:ink:0.8>"), adapter);
        let several = [found(Kind::Brackets, "[ü]"), found(Kind::Weight, "(b:2)")];
        assert_eq!(marks("[ü] and (b:2)"), several);
        for plain in [
            "",
            "a (red) fox",
            "a cat (sitting (on a chair)) sleeps",
            "A CAT AND A DOG",
            "brandy, a C++ logo, a fox -- red --, a fox--red, 1.5 (x2) std::vector",
            "a_b __ {red} snake_case__",
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
    fn marks_that_are_words_are_found() {
        for (text, expected) in [
            ("a cat BREAK a dog", found(Kind::Apart, "BREAK")),
            ("a cat AND a dog", found(Kind::Apart, "AND")),
            ("a cat++, a dog", found(Kind::Signs, "cat++")),
            ("a (red fox)-", found(Kind::Signs, "fox)-")),
            ("(calm seas)0.5 here", found(Kind::Signs, "seas)0.5")),
            ("a cat::2 here", found(Kind::Signs, "cat::2")),
            (
                "a embedding:ink here",
                found(Kind::Embedding, "embedding:ink"),
            ),
            (
                r#"("a", "b").blend(1,1)"#,
                found(Kind::Blend, r#""b").blend(1,1)"#),
            ),
            ("a {red|blue} cat", found(Kind::Choice, "{red|blue}")),
            ("a __colour__ cat", found(Kind::Choice, "__colour__")),
            ("{{red}} cat", found(Kind::Brackets, "{{red}}")),
            ("a cat --ar 16:9", found(Kind::Command, "--ar")),
            (r"a \(red\) fox", found(Kind::Backslash, r"\(red\)")),
        ] {
            assert_eq!(marks(text), [expected], "{text}");
        }
    }

    /// What is quoted is what was written.
    #[test]
    fn learned_words_are_no_marks_and_stand_in_theirs() {
        let (text, masked) = ("a (<é>:1.3) <é> [<é>]", "a (xxxx:1.3) xxxx [xxxx]");
        let expected = [
            found(Kind::Weight, "(<é>:1.3)"),
            found(Kind::Brackets, "[<é>]"),
        ];
        assert_eq!(super::marks(text, masked), expected);
    }

    /// A client may send 64 KiB of them.
    #[test]
    fn many_brackets_are_looked_at_once() {
        for piece in ["(", "[", "<", "{", "(a ", "([<{", "a) "] {
            let text = piece.repeat((64 << 10) / piece.len());
            assert_eq!(marks(&text), [], "{piece}");
        }
        let nested = ["(a ".repeat(10_000), ")".repeat(10_000)].concat();
        assert_eq!(marks(&nested), []);
    }
}

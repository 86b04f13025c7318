//! Tokenizers.

use afterimage::text::{ClipTokenizer, T5Tokenizer, TokenizerFiles};

use super::{bounded, pieces, shown};

/// Prompts of several scripts, and none.
const PROMPTS: [&str; 5] = [
    "",
    "a photo of a cat",
    "  A\u{301} (word:1.3)\tdon't 12 <|endoftext|> ",
    "\u{4f60}\u{597d} \u{1f600}",
    "lowerlowerlower",
];

/// Tokens that T5's tokenizer is asked for.
const SENTENCE: usize = 12;

/// `vocab.json`, `merges.txt`, the two small files, `tokenizer.json`, `added_tokens.json`; an empty one is absent. What has no separator
/// in it is T5's: its `tokenizer.json` or `spiece.model`.
pub(super) fn tokenizers(data: &[u8]) {
    match pieces(data).as_slice() {
        [alone] => sentences(alone),
        pieces => words(data, pieces),
    }
}

fn sentences(data: &[u8]) {
    let text = std::str::from_utf8(data).ok();
    let text = text.filter(|text| text.trim_start().starts_with('{'));
    bounded(data, || {
        let read = match text {
            Some(text) => T5Tokenizer::from_json(text, SENTENCE),
            None => T5Tokenizer::from_pieces(data, SENTENCE),
        };
        let Some(tokenizer) = shown(read) else {
            return;
        };
        shown(tokenizer.check_rows(1 << 10));
        for prompt in PROMPTS {
            if let Some(tokens) = shown(tokenizer.encode(prompt)) {
                assert_eq!(tokens.ids.len(), SENTENCE);
                assert!(tokens.end < SENTENCE);
            }
        }
    });
}

fn words(data: &[u8], pieces: &[&[u8]]) {
    let texts: Vec<_> = pieces
        .iter()
        .map(|piece| {
            std::str::from_utf8(piece)
                .ok()
                .filter(|text| !text.is_empty())
        })
        .collect();
    let text = |index: usize| texts.get(index).copied().flatten();
    let files = TokenizerFiles {
        vocab: text(0),
        merges: text(1),
        config: text(2),
        special_tokens: text(3),
        tokenizer: text(4),
        added_tokens: text(5),
    };
    bounded(data, || {
        let Some(tokenizer) = shown(ClipTokenizer::from_files(files)) else {
            return;
        };
        for prompt in PROMPTS {
            if let Some(tokens) = shown(tokenizer.encode(prompt)) {
                assert_eq!(tokens.ids.len(), tokenizer.length());
                assert!(tokens.end < tokens.ids.len());
            }
        }
    });
}

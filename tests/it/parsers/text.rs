//! Tokenizers.

use afterimage::text::{ClipTokenizer, TokenizerFiles};

use super::{bounded, pieces, shown};

/// Prompts of several scripts, and none.
const PROMPTS: [&str; 5] = [
    "",
    "a photo of a cat",
    "  A\u{301} (word:1.3)\tdon't 12 <|endoftext|> ",
    "\u{4f60}\u{597d} \u{1f600}",
    "lowerlowerlower",
];

/// `vocab.json`, `merges.txt`, the two small files, `tokenizer.json`, `added_tokens.json`; an empty one is absent.
pub(super) fn tokenizers(data: &[u8]) {
    let texts: Vec<_> = pieces(data)
        .into_iter()
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

//! Adapters by the words of the command line, and what a file of one is.

use std::path::Path;

use super::{
    args::{self, EmbeddingFile, LoraFile},
    console,
};
use crate::{
    error::{Error, listed},
    pipeline::Adapters,
    text::Embedding,
    weights::{
        WeightSource,
        adapt::{CustomDiffusion, Lora, LoraSummary},
    },
};

/// Opens the files that are named.
pub(super) fn open(named: &args::Adapt) -> Result<Adapters, Error> {
    let lora = |file: &LoraFile| Ok(Lora::open(&file.path)?.with_scale(file.scale));
    let embedding = |file: &EmbeddingFile| Embedding::open(&file.path, file.token.as_deref());
    let customs = named.custom_diffusion.iter();
    Ok(Adapters {
        loras: named.lora.iter().map(lora).collect::<Result<_, Error>>()?,
        embeddings: named
            .embedding
            .iter()
            .map(embedding)
            .collect::<Result<_, _>>()?,
        custom_diffusions: customs
            .map(CustomDiffusion::open)
            .collect::<Result<_, _>>()?,
    })
}

/// What a file of an adapter is, in lines; `None` for files of anything else.
pub(super) fn described(name: &str) -> Result<Option<String>, Error> {
    let path = Path::new(name);
    if !path.is_file() {
        return Ok(None);
    }
    let source = WeightSource::open(path)?;
    let mut lines = vec![("file", name.to_owned())];
    if Lora::is_one(&source) {
        let file = Lora::from_source(&source)?;
        lines.extend(lora(&file.summary()));
        let words: Vec<_> = file.words().map(|(word, _)| word).collect();
        lines.extend((!words.is_empty()).then(|| ("words", words.join(", "))));
        lines.extend(left_out(file.left_out()));
    } else if CustomDiffusion::is_one(&source) {
        let custom = CustomDiffusion::from_source(&source)?;
        lines.push(("kind", "Custom Diffusion".into()));
        lines.push(("unet", format!("{} weights", custom.len())));
        lines.extend(left_out(custom.left_out()));
    } else if Embedding::is_one(&source) {
        let word = Embedding::from_source(&source, None)?;
        lines.extend(embedding(&word));
        lines.extend(left_out(word.left_out()));
    } else {
        return Ok(None);
    }
    lines.push(("size", console::bytes(source.bytes())));
    Ok(Some(console::pairs(&lines)))
}

/// What a file holds besides, if anything.
fn left_out(names: &[String]) -> Option<(&'static str, String)> {
    (!names.is_empty()).then(|| ("unused", listed(names)))
}

fn lora(summary: &LoraSummary) -> Vec<(&'static str, String)> {
    let kinds = summary.kinds.iter();
    let kinds: Vec<_> = kinds
        .map(|(kind, count)| format!("{kind} ({count} layers)"))
        .collect();
    let (first, last) = (
        summary.ranks.first_key_value(),
        summary.ranks.last_key_value(),
    );
    let rank = match (first, last) {
        (Some((first, _)), Some((last, _))) if first != last => format!("{first} to {last}"),
        (Some((rank, _)), _) => rank.to_string(),
        _ => String::new(),
    };
    let mut lines = vec![("kind", kinds.join(", ")), ("rank", rank)];
    let parts = summary.parts.iter();
    lines.extend(parts.map(|(part, count)| (*part, format!("{count} layers"))));
    let width = summary
        .text_width
        .map(|width| ("text", format!("of width {width}")));
    lines.extend(width);
    lines
}

fn embedding(embedding: &Embedding) -> Vec<(&'static str, String)> {
    let vectors = embedding.vectors().into_iter();
    let vectors: Vec<_> = vectors
        .map(|(count, width)| format!("{count} of width {width}"))
        .collect();
    vec![
        ("kind", "embedding".into()),
        ("token", embedding.token().to_owned()),
        ("vectors", vectors.join(", ")),
    ]
}

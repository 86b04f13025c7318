//! Adapters by the words of the command line, and what a file of one is.

use std::{collections::BTreeMap, path::Path};

use super::{
    args::{self, EmbeddingFile, LoraFile},
    console,
};
use crate::{
    catalog::may_be_of_hub,
    error::{Error, FileError, listed, shortened},
    pipeline::Adapters,
    text::Embedding,
    weights::{
        WeightSource,
        adapt::{CustomDiffusion, Lora, LoraSummary},
    },
};

/// Opens the files that are named.
pub(super) fn open(named: &args::Adapt) -> Result<Adapters, Error> {
    check_there(named)?;
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

/// Refuses what is no file where it tells what was meant: the ways of other programs to name adapters.
pub(super) fn check_there(named: &args::Adapt) -> Result<(), FileError> {
    let loras = named.lora.iter().map(|file| &file.path);
    let words = named.embedding.iter().map(|file| &file.path);
    for path in loras.chain(words).filter(|path| !path.exists()) {
        let name = path.display().to_string();
        if let Some(hint) = meant(&name) {
            return Err(FileError::NoAdapter { name, hint });
        }
    }
    Ok(())
}

/// What helps who named an adapter so.
fn meant(name: &str) -> Option<String> {
    let is_file = |name: &str| Path::new(name).is_file();
    if name.starts_with('<') && name.ends_with('>') {
        return Some("name the file, and its scale after `=`: `--lora FILE=SCALE`".into());
    }
    if let Some((file, scale)) = name.rsplit_once([':', ','])
        && is_file(file)
        && scale.trim().parse::<f64>().is_ok()
    {
        return Some(format!("the scale stands after `=`: `{file}={scale}`"));
    }
    let endings = ["safetensors", "pt", "bin", "ckpt"];
    let whole = endings.map(|ending| format!("{name}.{ending}"));
    if let Some(whole) = whole.iter().find(|whole| is_file(whole)) {
        return Some(format!("there is `{whole}`"));
    }
    let hint = "adapters are not fetched from the Hub: download the file, and name that";
    let has_ending = Path::new(name).extension().is_some();
    (may_be_of_hub(name) && !has_ending).then(|| hint.into())
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
        lines.extend(said(&source));
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

/// What the trainer wrote into the header: the model it was made for, and words that prompts can have.
fn said(source: &WeightSource) -> impl Iterator<Item = (&'static str, String)> {
    const KEYS: [(&str, [&str; 2]); 3] = [
        ("title", ["modelspec.title", "ss_output_name"]),
        ("for", ["modelspec.architecture", "ss_base_model_version"]),
        ("trigger", ["modelspec.trigger_phrase", "ss_trigger_words"]),
    ];

    let of_keys = KEYS.into_iter().filter_map(|(title, keys)| {
        let mut values = keys.iter().filter_map(|key| source.metadata(key));
        let value = values.find(|value| !value.trim().is_empty())?;
        Some((title, shortened(&printable(value))))
    });
    let tags = source.metadata("ss_tag_frequency").and_then(tags);
    of_keys.chain(tags.map(|tags| ("tags", tags)))
}

/// The tags that most of the training pictures had, of a header's JSON: for each folder of pictures, how many had each.
fn tags(text: &str) -> Option<String> {
    const SHOWN: usize = 10;

    let folders: BTreeMap<String, BTreeMap<String, u64>> = serde_json::from_str(text).ok()?;
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (tag, count) in folders.into_values().flatten() {
        let sum = counts.entry(printable(tag.trim())).or_default();
        *sum = sum.saturating_add(count);
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let first: Vec<_> = counts.into_iter().take(SHOWN).map(|(tag, _)| tag).collect();
    (!first.is_empty()).then(|| shortened(&first.join(", ")))
}

/// A text of a file without what would move a terminal's cursor.
fn printable(text: &str) -> String {
    text.replace(char::is_control, " ")
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

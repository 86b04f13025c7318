//! Which of several weight files of a part is read.
//!
//! In this order, whole files before sharded ones in each:
//!
//! 1. safetensors without a variant, then `fp32`, `ema`, `fp16`, `bf16`;
//! 2. torch files (`.bin`) in the same order;
//! 3. `non_ema`, the weights of training, which make worse pictures than their average does; safetensors before torch files;
//! 4. another variant, if there is only one;
//! 5. a GGUF file, whatever it is called, if there is only one.
//!
//! **Source.** The names of huggingface/diffusers (`variant`) and huggingface/transformers: `stem.variant.ending`,
//! `stem.ending.index.variant.json` and, of before diffusers 0.20, `stem.variant.ending.index.json`.

use std::path::Path;

/// Beginnings of weight files, as diffusers and transformers call them.
const STEMS: [&str; 3] = ["diffusion_pytorch_model", "model", "pytorch_model"];

/// Endings of weight files, the preferred first.
const ENDINGS: [&str; 2] = ["safetensors", "bin"];

/// Variants in order of preference; none is the first.
const VARIANTS: [&str; 5] = ["", "fp32", "ema", "fp16", "bf16"];

/// The variant that is taken last.
const TRAINED: &str = "non_ema";

/// The weight file to read among the names in a part's folder.
pub(super) fn choose<S: AsRef<str>>(names: &[S]) -> Option<&str> {
    let named = ENDINGS
        .iter()
        .flat_map(|ending| VARIANTS.map(|variant| (*ending, variant)));
    let last = ENDINGS.iter().map(|ending| (*ending, TRAINED));
    let ranked = named.chain(last);
    let mut found = ranked
        .flat_map(|(ending, variant)| spellings(ending, variant))
        .filter_map(|wanted| names.iter().map(AsRef::as_ref).find(|name| *name == wanted));
    found
        .next()
        .or_else(|| only_variant(names))
        .or_else(|| only_gguf(names))
}

/// Names of a variant's file: whole, then sharded in either spelling.
fn spellings(ending: &str, variant: &str) -> Vec<String> {
    let all = STEMS.iter().map(|stem| {
        let whole = joined(&[stem, variant, ending]);
        let index = joined(&[stem, ending, "index", variant, "json"]);
        let early = joined(&[stem, variant, ending, "index", "json"]);
        [whole, index, early]
    });
    let all: Vec<[String; 3]> = all.collect();
    (0..3)
        .flat_map(|kind| all.iter().map(move |names| names[kind].clone()))
        .collect()
}

/// The pieces that are not empty, with dots between them.
fn joined(pieces: &[&str]) -> String {
    let pieces = pieces.iter().filter(|piece| !piece.is_empty());
    pieces.copied().collect::<Vec<_>>().join(".")
}

/// The whole file of a variant of another name, if there is one variant only: safetensors before torch files.
fn only_variant<S: AsRef<str>>(names: &[S]) -> Option<&str> {
    ENDINGS.iter().find_map(|ending| {
        let mut variants = names.iter().map(AsRef::as_ref).filter(|name| {
            let stem = STEMS
                .iter()
                .find_map(|stem| name.strip_prefix(stem)?.strip_prefix('.'));
            let variant = stem.and_then(|rest| rest.strip_suffix(ending)?.strip_suffix('.'));
            variant.is_some_and(|variant| {
                !variant.is_empty() && !variant.contains('.') && !variant.contains("-of-")
            })
        });
        let first = variants.next()?;
        variants.next().is_none().then_some(first)
    })
}

/// The GGUF file, if there is only one.
fn only_gguf<S: AsRef<str>>(names: &[S]) -> Option<&str> {
    let is_gguf = |name: &&str| Path::new(name).extension().is_some_and(|end| end == "gguf");
    let mut files = names.iter().map(AsRef::as_ref).filter(is_gguf);
    let first = files.next()?;
    files.next().is_none().then_some(first)
}

/// What the weights of a part are usually called: those of a network of transformers otherwise than those of diffusers' own.
pub(super) fn usual(part: &str) -> &'static str {
    let transformers = ["text_encoder", "image_encoder", "safety_checker"];
    if transformers.iter().any(|one| part.starts_with(one)) {
        "model.safetensors"
    } else {
        "diffusion_pytorch_model.safetensors"
    }
}

/// What to do where a part's folder holds the weight files `names` and none of them can be read as it is; `usual` is a name that is read.
pub(super) fn hint(names: &[String], usual: &str) -> String {
    let all = |endings: &[&str]| {
        names.iter().all(|name| {
            let end = Path::new(name).extension().and_then(|end| end.to_str());
            end.is_some_and(|end| endings.contains(&end))
        })
    };
    if let Some(index) = names.iter().find_map(|name| index_of(name)) {
        return format!("the index of these shards is missing: fetch `{index}` of the model too");
    }
    if all(&["msgpack", "h5", "onnx", "npz"]) {
        return format!(
            "weights of Flax, Keras, ONNX and numpy are not read: fetch `{usual}` of the same model"
        );
    }
    if all(&["gguf"]) {
        return "leave only the one that is meant in it".to_owned();
    }
    let torch = usual.replace(ENDINGS[0], ENDINGS[1]);
    if all(&["pt", "pth", "ckpt"]) {
        return format!("rename the one that is meant to `{torch}`, or save it as `{usual}`");
    }
    format!("rename the one that is meant to `{usual}`, if it is a torch file to `{torch}`")
}

/// What the index of a shard (`stem-00001-of-00002.ending`) is called.
fn index_of(shard: &str) -> Option<String> {
    let (front, ending) = shard.rsplit_once('.')?;
    let (front, _) = front.split_once("-of-")?;
    let (stem, _) = front.rsplit_once('-')?;
    Some(format!("{stem}.{ending}.index.json"))
}

/// Whether a file could be weights, of whatever program.
pub(super) fn is_weights(name: &str) -> bool {
    const KINDS: [&str; 12] = [
        "safetensors",
        "bin",
        "pt",
        "pth",
        "ckpt",
        "msgpack",
        "onnx",
        "gguf",
        "h5",
        "npz",
        "sft",
        "index.json",
    ];
    KINDS.iter().any(|kind| {
        let stem = name.strip_suffix(kind);
        stem.is_some_and(|stem| stem.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_ranked() {
        let mut names = vec![
            "diffusion_pytorch_model.int8.safetensors",
            "diffusion_pytorch_model.non_ema.bin",
            "diffusion_pytorch_model.non_ema.safetensors",
            "diffusion_pytorch_model.bf16.bin",
            "diffusion_pytorch_model.bin.index.json",
            "diffusion_pytorch_model.bin",
            "diffusion_pytorch_model.bf16.safetensors.index.json",
            "diffusion_pytorch_model.safetensors.index.bf16.json",
            "diffusion_pytorch_model.bf16.safetensors",
            "diffusion_pytorch_model.safetensors.index.fp16.json",
            "diffusion_pytorch_model.fp16.safetensors",
            "diffusion_pytorch_model.ema.safetensors",
            "diffusion_pytorch_model.safetensors",
        ];
        while let Some(best) = names.pop() {
            assert_eq!(choose(&[&names[..], &[best]].concat()), Some(best));
        }
        let shards = [
            "model.bf16-00001-of-00002.safetensors",
            "model.safetensors.index.bf16.json",
        ];
        assert_eq!(choose(&shards), Some(shards[1]));
    }

    #[test]
    fn an_unknown_variant_is_taken_alone() {
        let one = ["model.q4.safetensors", "model.q4.txt", "config.json"];
        assert_eq!(choose(&one), Some(one[0]));
        let two = ["model.q4.safetensors", "model.q5.safetensors"];
        assert_eq!(choose(&two), None);
        assert_eq!(choose(&["model-00001-of-00002.safetensors"]), None);
        let gguf = ["t5-v1_1-xxl-encoder-Q8_0.gguf", "config.json"];
        assert_eq!(choose(&gguf), Some(gguf[0]));
        assert_eq!(choose(&["a.gguf", "b.gguf"]), None);
        assert!(is_weights("flax_model.msgpack") && !is_weights("config.json"));
    }

    #[test]
    fn hints_fit_what_is_there() {
        let usual = usual("unet");
        for (names, expected) in [
            (
                &["model-00001-of-00002.safetensors"][..],
                "`model.safetensors.index.json`",
            ),
            (
                &["diffusion_flax_model.msgpack"],
                "Flax, Keras, ONNX and numpy are not read",
            ),
            (&["a.gguf", "b.gguf"], "leave only the one that is meant"),
            (
                &["diffusion_pytorch_model.pt"],
                "to `diffusion_pytorch_model.bin`",
            ),
            (
                &["a.ckpt", "b.pth"],
                "or save it as `diffusion_pytorch_model.safetensors`",
            ),
            (
                &["other.safetensors"],
                "rename the one that is meant to `diffusion_pytorch_model.safetensors`",
            ),
        ] {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let hint = hint(&names, usual);
            assert!(hint.contains(expected), "{names:?}: {hint}");
        }
        assert_eq!(super::usual("image_encoder"), "model.safetensors");
        assert_eq!(super::usual("text_encoder_2"), "model.safetensors");
    }

    #[test]
    fn prefers_safetensors_and_full_precision() {
        let mut names = vec![
            "other.safetensors",
            "diffusion_pytorch_model.fp16.bin",
            "diffusion_pytorch_model.bin",
            "diffusion_pytorch_model.fp16.safetensors",
            "diffusion_pytorch_model.safetensors.index.json",
            "diffusion_pytorch_model.safetensors",
        ];
        while names.len() > 1 {
            let best = names.pop();
            assert_eq!(choose(&[&names[..], &[best.unwrap()]].concat()), best);
        }
        assert_eq!(choose(&names), None);
        assert_eq!(choose(&["model.safetensors"]), Some("model.safetensors"));
    }
}

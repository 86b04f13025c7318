//! What other programs call options of ours.
//!
//! Sources: arguments of diffusers' pipelines and scripts, `stable-diffusion.cpp`'s README ("Arguments"), `scripts/txt2img.py` of `CompVis`'
//! repository, and the web interface's `/sdapi/v1/txt2img`.

use clap::Command;

/// Ours, how it is written where that differs, and what it is called elsewhere, `_` as `-`.
type Row = (&'static str, &'static str, &'static [&'static str]);

const ROWS: &[Row] = &[
    (
        "size",
        ", as in 512x512",
        &["width", "height", "W", "H", "resolution", "image-size"],
    ),
    (
        "guidance-scale",
        "",
        &["cfg", "cfg-scale", "guidance", "scale", "g"],
    ),
    (
        "steps",
        "",
        &[
            "num-inference-steps",
            "inference-steps",
            "num-steps",
            "ddim-steps",
            "sample-steps",
            "sampling-steps",
        ],
    ),
    (
        "sampler",
        "",
        &[
            "scheduler",
            "sampling-method",
            "sampler-name",
            "sample-method",
        ],
    ),
    (
        "batch",
        "",
        &[
            "batch-size",
            "batch-count",
            "num-images",
            "num-images-per-prompt",
            "n-samples",
            "n-iter",
            "count",
            "b",
        ],
    ),
    (
        "negative-prompt",
        "",
        &["negative", "neg-prompt", "neg", "uncond", "n"],
    ),
    (
        "model",
        "",
        &[
            "ckpt",
            "checkpoint",
            "model-id",
            "pretrained-model-name-or-path",
            "m",
        ],
    ),
    (
        "output",
        "",
        &["out", "outdir", "output-dir", "output-path", "save", "o"],
    ),
    (
        "init-image",
        "",
        &["image", "init-img", "input-image", "input", "i"],
    ),
    ("strength", "", &["denoise", "denoising-strength"]),
    ("mask", "", &["mask-image"]),
    ("frames", "", &["num-frames", "video-frames"]),
    ("lora", "", &["lora-weights", "lora-path"]),
    ("embedding", "", &["textual-inversion"]),
    ("control-model", "", &["control-net", "controlnet"]),
    ("text-length", "", &["max-sequence-length"]),
    ("class-label", "", &["class-labels", "class"]),
    ("dtype", "", &["precision", "torch-dtype"]),
    ("seed", "", &["s"]),
];

/// What helps where `unknown` is an option of other programs that `command` has under another name.
pub(super) fn hint(unknown: &str, command: &Command) -> Option<String> {
    let word = unknown.strip_prefix('-')?.trim_start_matches('-');
    let word = word.split_once('=').map_or(word, |(name, _)| name);
    let word = word.replace('_', "-");
    if matches!(word.as_str(), "prompt" | "p") && command.get_name() == "generate" {
        return Some("the prompt stands alone, as in `generate \"a red circle\"`".to_owned());
    }
    let mut rows = ROWS.iter();
    let (ours, written, _) = rows.find(|(_, _, theirs)| theirs.contains(&word.as_str()))?;
    let mut options = command.get_arguments();
    let is_there = options.any(|option| option.get_long() == Some(*ours));
    is_there.then(|| format!("that is `--{ours}` here{written}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Arguments;

    #[test]
    fn every_row_is_of_an_option_and_hides_none() {
        let command = Arguments::command();
        let generate = command.find_subcommand("generate").expect("a command");
        let has = |name: &str| {
            let mut options = generate.get_arguments();
            options.any(|option| option.get_long() == Some(name))
        };
        for (ours, _, theirs) in ROWS {
            assert!(has(ours), "{ours}");
            assert!(!theirs.iter().any(|name| has(name)), "{theirs:?}");
        }
        let mut all: Vec<_> = ROWS.iter().flat_map(|(_, _, theirs)| *theirs).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "one name, one option");
    }

    #[test]
    fn names_are_known_however_they_are_written() {
        let command = Arguments::command();
        let generate = command.find_subcommand("generate").expect("a command");
        for unknown in ["--cfg_scale", "--cfg-scale=7", "--cfg"] {
            let said = hint(unknown, generate);
            assert_eq!(said.as_deref(), Some("that is `--guidance-scale` here"));
        }
        assert_eq!(hint("--nothing", generate), None);
        assert_eq!(hint("red", generate), None);
        assert!(hint("-p", generate).is_some_and(|said| said.contains("stands alone")));
    }
}

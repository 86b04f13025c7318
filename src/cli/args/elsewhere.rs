//! Options as other programs call them.

/// Theirs, without dashes, and ours.
const OPTIONS: [(&str, &str); 38] = [
    ("batch-size", "batch"),
    ("batch-count", "batch"),
    ("n-samples", "batch"),
    ("num-images", "batch"),
    ("num-images-per-prompt", "batch"),
    ("b", "batch"),
    ("cfg", "guidance-scale"),
    ("cfg-scale", "guidance-scale"),
    ("guidance", "guidance-scale"),
    ("scale", "guidance-scale"),
    ("checkpoint", "model"),
    ("ckpt", "model"),
    ("pretrained-model-name-or-path", "model"),
    ("m", "model"),
    ("control-net", "control-model"),
    ("controlnet", "control-model"),
    ("ddim-steps", "steps"),
    ("num-inference-steps", "steps"),
    ("sample-steps", "steps"),
    ("sampling-steps", "steps"),
    ("denoise", "strength"),
    ("denoising-strength", "strength"),
    ("image", "init-image"),
    ("init-img", "init-image"),
    ("lora-weights", "lora"),
    ("max-sequence-length", "text-length"),
    ("negative", "negative-prompt"),
    ("n", "negative-prompt"),
    ("o", "output"),
    ("outdir", "output"),
    ("sample-method", "sampler"),
    ("sampler-name", "sampler"),
    ("sampling-method", "sampler"),
    ("scheduler", "sampler"),
    ("height", "size"),
    ("width", "size"),
    ("resolution", "size"),
    ("textual-inversion", "embedding"),
];

/// What to do about an option that is none of ours, where `knows` says which options there are: all that is known is that another program
/// has it.
pub(super) fn tip(option: &str, knows: impl Fn(&str) -> bool) -> Option<String> {
    let bare = option.trim_start_matches('-');
    if option.starts_with('-') && matches!(bare, "prompt" | "p") && knows("negative-prompt") {
        return Some("a prompt stands alone, as in `afterimage generate \"a red circle\"`".into());
    }
    let name = match bare {
        // Letters that mean another option in small and in large.
        "W" | "H" => "width".to_owned(),
        bare => bare.replace('_', "-"),
    };
    let (_, ours) = OPTIONS.iter().find(|(theirs, _)| *theirs == name)?;
    let value = if *ours == "size" { " WxH" } else { "" };
    knows(ours).then(|| format!("it is `--{ours}{value}` here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_other_programs_lead_to_ours() {
        let generate = |option: &str| tip(option, |_| true);
        for (theirs, said) in [
            ("--cfg-scale", "it is `--guidance-scale` here"),
            ("--num_inference_steps", "it is `--steps` here"),
            ("--scheduler", "it is `--sampler` here"),
            ("--negative", "it is `--negative-prompt` here"),
            ("-W", "it is `--size WxH` here"),
            ("--height", "it is `--size WxH` here"),
        ] {
            assert_eq!(generate(theirs).as_deref(), Some(said), "{theirs}");
        }
        assert!(generate("--prompt").is_some_and(|said| said.contains("stands alone")));
        for unknown in ["--foo", "-a.png", "-blue", "--", ""] {
            assert_eq!(generate(unknown), None, "{unknown}");
        }
        assert_eq!(tip("--cfg-scale", |_| false), None);
    }
}

//! The engine's words for clients: options of the command line become keys of the recipe, which are what a request says.

use std::sync::LazyLock;

use serde_json::Value;

use crate::pipeline::Recipe;

/// Options that are called otherwise in a recipe.
const OTHERS: [(&str, &str); 17] = [
    ("--vae", "model.vae"),
    ("--tiny-vae", "model.tiny_vae"),
    ("--prediction", "model.prediction"),
    ("--refiner-from", "refiner.from"),
    ("--upscaler", "upscalers"),
    ("--negative-prompt", "negative_prompts"),
    ("--class-label", "classes"),
    ("--lora", "loras"),
    ("--embedding", "embeddings"),
    ("--custom-diffusion", "custom_diffusions"),
    ("--control-model", "controls.model"),
    ("--control-image", "controls.image"),
    ("--control-canny", "controls.canny"),
    ("--control-scale", "controls.scale"),
    ("--control-window", "controls.window"),
    ("--control-guess", "controls.guess"),
    ("--activations", "activations"),
];

/// Groups of a recipe whose keys are options.
const GROUPS: [&str; 2] = ["film", "framing"];

/// What a hint begins with that no client can follow.
const OPERATOR: &str = "the operator of the server can help: ";

static RECIPE: LazyLock<Value> =
    LazyLock::new(|| serde_json::to_value(Recipe::default()).unwrap_or_default());

/// A text with keys in place of options, as far as there are any.
pub(super) fn keyed(text: &str) -> String {
    translated(text).0
}

/// The same of a hint. One that names what no request says is for the operator, in the words of the command line.
pub(super) fn hint(text: &str) -> String {
    // A request picks no device.
    let text = text.replace(
        "use `--device cpu --dtype f32`",
        "use `--dtype f32` where the server computes on the CPU",
    );
    match translated(&text) {
        (_, false) => format!("{OPERATOR}{text}"),
        (keyed, true) => keyed,
    }
}

/// The text with what stands between backticks translated, and whether all options were.
fn translated(text: &str) -> (String, bool) {
    let mut whole = true;
    let parts = text.split('`').enumerate().map(|(number, part)| {
        // What is quoted stands at odd places.
        if number % 2 == 0 || !(part.starts_with("--") || part.starts_with("afterimage ")) {
            return part.to_owned();
        }
        let keys = keys(part);
        whole &= keys.is_some();
        keys.unwrap_or_else(|| part.to_owned())
    });
    let parts: Vec<_> = parts.collect();
    (parts.join("`"), whole)
}

/// `weights q8, activations q8` of `--weights q8 --activations q8`; nothing where one is no key.
fn keys(options: &str) -> Option<String> {
    let mut keys: Vec<String> = Vec::new();
    for word in options.split_whitespace() {
        if !word.starts_with("--") {
            let of_key = keys.last_mut()?;
            *of_key = format!("{of_key} {word}");
            continue;
        }
        let (option, value) = word.split_once('=').unwrap_or((word, ""));
        let key = key(option)?;
        keys.push(if value.is_empty() {
            key
        } else {
            format!("{key} {value}")
        });
    }
    Some(keys.join(", "))
}

/// The key of an option.
fn key(option: &str) -> Option<String> {
    if let Some((_, key)) = OTHERS.iter().find(|(other, _)| *other == option) {
        return Some((*key).to_owned());
    }
    let word = option.strip_prefix("--")?.replace('-', "_");
    if RECIPE.get(&word).is_some() {
        return Some(word);
    }
    let group = GROUPS
        .iter()
        .find(|group| RECIPE[**group].get(&word).is_some())?;
    Some(format!("{group}.{word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_keys() {
        for (text, expected) in [
            ("name one with `--init-image`", "name one with `init_image`"),
            (
                "use `--weights q8 --activations q8`, or leave `--activations q8` out",
                "use `weights q8, activations q8`, or leave `activations q8` out",
            ),
            (
                "lower ones, as in `--control-canny=50,100`",
                "lower ones, as in `controls.canny 50,100`",
            ),
            (
                "give `--frames` a divisor of 3",
                "give `film.frames` a divisor of 3",
            ),
            ("give `--original-size`", "give `framing.original_size`"),
            (
                "use `--device cpu --dtype f32`, or leave `--weights q4` out",
                "use `dtype f32` where the server computes on the CPU, or leave `weights q4` out",
            ),
            ("try 64x64", "try 64x64"),
        ] {
            assert_eq!(hint(text), expected);
        }
        assert_eq!(
            keyed("`--motion-x` is given, and this model takes none"),
            "`film.motion_x` is given, and this model takes none"
        );
    }

    #[test]
    fn what_no_request_says_is_for_the_operator() {
        let text = "use `--device cpu`, or see `afterimage doctor`";
        assert_eq!(hint(text), format!("{OPERATOR}{text}"));
        assert_eq!(keyed(text), text);
    }
}

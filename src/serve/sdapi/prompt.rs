//! Prompts as the web interface reads them: adapters between angle brackets, embeddings by their names.

use serde_json::{Value, json};

use crate::serve::{read::short, shelf::Shelf};

/// What a prompt says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Said {
    /// Without what names adapters.
    pub(super) prompt: String,
    pub(super) negative: String,
    /// Parts of a recipe.
    pub(super) loras: Vec<Value>,
    pub(super) embeddings: Vec<Value>,
    /// What of it was read otherwise than it stands.
    pub(super) warnings: Vec<String>,
}

/// Reads both prompts.
pub(super) fn read(prompt: &str, negative: &str, shelf: &Shelf) -> Said {
    let mut said = Said::default();
    said.prompt = without_loras(prompt, &mut said);
    said.negative = without_loras(negative, &mut said);
    let words = |text: &str| -> Vec<String> {
        let words =
            text.split(|letter: char| !(letter.is_alphanumeric() || "-_.".contains(letter)));
        words.map(str::to_owned).collect()
    };
    let words = [words(&said.prompt), words(&said.negative)].concat();
    let named = shelf.embeddings.keys().filter(|name| words.contains(name));
    said.embeddings = named
        .map(|name| json!({"file": {"path": name}, "token": name}))
        .collect();
    said
}

/// What tags of adapters begin with; one extension had a name of its own for its kind.
const TAGS: [&str; 2] = ["<lora:", "<lyco:"];

/// The text without `<lora:NAME>` and `<lora:NAME:SCALE>`, which go to `said`. Others between brackets are text.
fn without_loras(text: &str, said: &mut Said) -> String {
    let mut plain = String::new();
    let mut rest = text;
    loop {
        let tags = TAGS.iter().filter_map(|tag| rest.split_once(*tag));
        let Some((before, after)) = tags.min_by_key(|(before, _)| before.len()) else {
            break;
        };
        let Some((tag, behind)) = after.split_once('>') else {
            break;
        };
        plain.push_str(before);
        let lora = lora(tag, &mut said.warnings);
        said.loras.push(lora);
        rest = behind;
    }
    plain.push_str(rest);
    plain.trim().to_owned()
}

/// The adapter of a tag: a name, and scales, of which there may be one for the text encoder before that for the denoiser.
fn lora(tag: &str, warnings: &mut Vec<String>) -> Value {
    let mut parts = tag.split(':').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let (mut text, mut scale, mut others) = (None, None, Vec::new());
    for part in parts {
        match part.split_once('=') {
            Some(("te", part)) => text = Some(part),
            Some(("unet", part)) => scale = Some(part),
            None if text.is_none() => text = Some(part),
            None if scale.is_none() => scale = Some(part),
            _ => others.push(part),
        }
    }
    let text = text.unwrap_or("1");
    let scale = scale.unwrap_or(text);
    warnings.extend(others.iter().map(|part| {
        let part = short(part);
        format!("`{part}` of a LoRA is not known and was ignored")
    }));
    if text != scale {
        let [text, scale] = [text, scale].map(short);
        let word = "a LoRA has one scale for all of a model here";
        warnings.push(format!("{word}: `{scale}` was taken, and `{text}` ignored"));
    }
    let read = scale.parse::<f64>().ok().filter(|scale| scale.is_finite());
    if read.is_none() {
        let scale = short(scale);
        let word = format!("the scale `{scale}` of a LoRA is no number; 1 was taken");
        warnings.push(word);
    }
    json!({"file": {"path": name}, "scale": read.unwrap_or(1.0)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_taken_out_of_the_text() {
        let mut said = Said::default();
        let plain = without_loras(
            "a fox <lora:ink:0.8>, <lora:snow> at <night> <lora:open",
            &mut said,
        );
        assert_eq!(plain, "a fox ,  at <night> <lora:open");
        let loras = &said.loras;
        assert_eq!(loras[0], json!({"file": {"path": "ink"}, "scale": 0.8}));
        assert_eq!(loras[1]["scale"], 1.0);
        assert!(said.warnings.is_empty());
        for scale in ["much", "nan", "inf"] {
            let mut said = Said::default();
            without_loras(&format!("<lora:ink:{scale}>"), &mut said);
            assert_eq!(
                (&said.loras[0]["scale"], said.warnings.len()),
                (&json!(1.0), 1)
            );
        }
    }

    #[test]
    fn one_scale_is_taken_of_several() {
        for (tag, scale, words) in [
            ("<lora:ink:0.8:0.8>", 0.8, 0),
            ("<lora:ink:0.8:0.2>", 0.2, 1),
            ("<lora:ink:te=0:unet=0.5>", 0.5, 1),
            ("<lora:ink:unet=0.5:te=0>", 0.5, 1),
            ("<lora:ink:unet=0.5>", 0.5, 1),
            ("<lora:ink:0.5:lbw=ALL>", 0.5, 1),
            ("<lyco:ink:0.7>", 0.7, 0),
            ("a <lyco:ink:0.3> fox <lora:ink:0.1>", 0.3, 0),
        ] {
            let mut said = Said::default();
            without_loras(tag, &mut said);
            let taken = (&said.loras[0]["scale"], said.warnings.len());
            assert_eq!(taken, (&json!(scale), words), "{tag}");
        }
    }

    #[test]
    fn embeddings_are_words_of_the_text() {
        let mut shelf = Shelf::default();
        shelf
            .embeddings
            .insert("easynegative".into(), "/srv/easynegative.pt".into());
        assert!(
            read("a fox", "uneasynegative", &shelf)
                .embeddings
                .is_empty()
        );
        assert_eq!(
            read("a fox", "(easynegative:1.2)", &shelf).embeddings.len(),
            1
        );
    }
}

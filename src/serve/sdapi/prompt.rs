//! Prompts as the web interface reads them: adapters between angle brackets, embeddings by their names.

use serde_json::{Value, json};

use crate::serve::shelf::Shelf;

/// What a prompt says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Said {
    /// Without what names adapters.
    pub(super) prompt: String,
    pub(super) negative: String,
    /// Parts of a recipe.
    pub(super) loras: Vec<Value>,
    pub(super) embeddings: Vec<Value>,
}

/// Reads both prompts.
pub(super) fn read(prompt: &str, negative: &str, shelf: &Shelf) -> Said {
    let mut said = Said::default();
    said.prompt = without_loras(prompt, &mut said.loras);
    said.negative = without_loras(negative, &mut said.loras);
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

/// The text without `<lora:NAME>` and `<lora:NAME:SCALE>`, which go to `loras`. Others between brackets are text.
fn without_loras(text: &str, loras: &mut Vec<Value>) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<lora:") {
        let Some((tag, behind)) = after.split_once('>') else {
            break;
        };
        plain.push_str(before);
        let mut parts = tag.split(':');
        let name = parts.next().unwrap_or_default();
        let scale = parts
            .next()
            .and_then(|scale| scale.trim().parse::<f64>().ok());
        loras.push(json!({"file": {"path": name}, "scale": scale.unwrap_or(1.0)}));
        rest = behind;
    }
    plain.push_str(rest);
    plain.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_taken_out_of_the_text() {
        let mut loras = Vec::new();
        let plain = without_loras(
            "a fox <lora:ink:0.8>, <lora:snow> at <night> <lora:open",
            &mut loras,
        );
        assert_eq!(plain, "a fox ,  at <night> <lora:open");
        assert_eq!(loras[0], json!({"file": {"path": "ink"}, "scale": 0.8}));
        assert_eq!(loras[1]["scale"], 1.0);
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

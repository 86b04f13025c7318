//! What is said of a name that no model has: most are paths that lead nowhere, and addresses of the web.

use std::path::Path;

use super::cards;
use crate::error::{Error, RequestError};

/// Where the Hub's addresses begin.
const HUB: &str = "huggingface.co/";

/// Endings of files that are models.
const ENDINGS: [&str; 7] = ["safetensors", "sft", "ckpt", "pt", "pth", "bin", "gguf"];

/// The error of a name that nothing has.
pub(super) fn unknown(name: &str) -> Error {
    let hint = hint(name);
    let name = name.to_owned();
    RequestError::Model { name, hint }.into()
}

fn hint(name: &str) -> String {
    if let Some((scheme, address)) = name.split_once("://") {
        return of_address(scheme, address);
    }
    let quoted = |mark| name.len() > 1 && name.starts_with(mark) && name.ends_with(mark);
    if quoted('"') || quoted('\'') {
        return "the quotation marks are part of the name: leave them out".into();
    }
    if name != name.trim() {
        return "the name begins or ends with a space: leave it out".into();
    }
    if name.starts_with("~/") {
        return "`~` is a shell's word for a folder, and is not read here: write the folder out"
            .into();
    }
    if is_path(name) {
        return of_path(name);
    }
    format!(
        "name a folder, a checkpoint file, `bundled`, a Hub id `owner/name` or a card ({})",
        cards::names().join(", ")
    )
}

/// Of an address, what to name instead.
fn of_address(scheme: &str, address: &str) -> String {
    if scheme == "file" {
        return format!("name it as a path: `{address}`");
    }
    let Some((_, within)) = address.split_once(HUB) else {
        return "nothing is fetched from there: download the file, and name it where it lies"
            .into();
    };
    let mut pieces = within.split('/').filter(|piece| !piece.is_empty());
    let (owner, model) = (pieces.next(), pieces.next());
    let (Some(owner), Some(model)) = (owner, model) else {
        return "a model of the Hub is named by `owner/name`".into();
    };
    let whole = format!("a model of the Hub is named by `owner/name`, this one `{owner}/{model}`");
    match pieces.next_back().filter(|file| is_weights(file)) {
        Some(file) => format!(
            "{whole}, where it has the diffusers layout; for `{file}` alone, download it and name it where it lies"
        ),
        None => whole,
    }
}

fn is_weights(name: &str) -> bool {
    let ending = Path::new(name)
        .extension()
        .and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.to_ascii_lowercase().as_str()))
}

/// Whether a name is neither a word nor that of a model of the Hub.
pub(super) fn is_path(name: &str) -> bool {
    let begins = ["/", "./", "../"]
        .iter()
        .any(|start| name.starts_with(start));
    begins || name.contains('\\') || name.matches('/').count() > 1 || is_weights(name)
}

/// Whether a name that is nowhere may be `owner/name` of the Hub: its first half is no folder.
pub(crate) fn may_be_of_hub(name: &str) -> bool {
    name.split_once('/').is_some_and(|(owner, model)| {
        let is_folder = owner.is_empty() || owner.starts_with('.') || Path::new(owner).is_dir();
        !is_folder && !model.is_empty() && !model.contains('/')
    })
}

/// Of a path that leads to nothing, how far it leads.
fn of_path(name: &str) -> String {
    let ways = Path::new(name).ancestors().skip(1);
    let mut there = ways.filter(|way| !way.as_os_str().is_empty() && way.is_dir());
    let lies = match there.next() {
        Some(folder) => {
            let rest = Path::new(name)
                .strip_prefix(folder)
                .unwrap_or(Path::new(name));
            let first = rest
                .components()
                .next()
                .map(|one| one.as_os_str().to_owned());
            let first = first.unwrap_or_default();
            format!(
                "`{}` is there, and has no `{}`",
                folder.display(),
                first.display()
            )
        }
        None => "there is no file and no folder of that name".to_owned(),
    };
    let mut pieces = name.split('/');
    match (pieces.next(), pieces.next(), pieces.next()) {
        (Some(owner), Some(model), Some(_)) if !owner.is_empty() && !owner.starts_with('.') => {
            format!(
                "{lies}; a model of the Hub is named by `owner/name` alone, as in `{owner}/{model}`"
            )
        }
        _ => lies,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_fit_what_the_name_looks_like() {
        for (name, said) in [
            (
                "https://huggingface.co/stabilityai/sdxl-turbo",
                "by `owner/name`, this one `stabilityai/sdxl-turbo`",
            ),
            (
                "https://huggingface.co/a/b/resolve/main/c.safetensors",
                "for `c.safetensors` alone, download it",
            ),
            (
                "https://civitai.com/api/download/models/1",
                "download the file",
            ),
            ("file:///m/sd15", "name it as a path: `/m/sd15`"),
            ("\"/m/sd15\"", "quotation marks"),
            (" a/b", "a space"),
            ("~/sd15", "write the folder out"),
            ("a/b/c.safetensors", "`owner/name` alone, as in `a/b`"),
            ("model.ckpt", "there is no file and no folder"),
            ("sd15", "a card (stable-diffusion-v1-5, "),
            ("", "name a folder"),
        ] {
            let hint = hint(name);
            assert!(hint.contains(said), "{name}: {hint}");
        }
        assert!(!hint("a/b/c").contains("(stable-diffusion"));
    }

    #[test]
    fn a_path_is_followed_as_far_as_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().display();
        let name = format!("{there}/models/x.safetensors");
        assert_eq!(
            hint(&name),
            format!("`{there}` is there, and has no `models`")
        );
    }
}

//! Recipes in files: a picture or a film of ours, or JSON.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::Recipe;
use crate::error::{Error, FileError, RecipeError};
use crate::image_io::{RECIPE, Settings, settings};

/// The recipe beside the frames of a film.
const BESIDE_FRAMES: &str = "recipe.json";

/// Bytes of a file beyond which none is read.
const LARGEST_FILE: u64 = 1 << 30;

/// The same of a workflow of another program, of which all values are held at once.
const LARGEST_WORKFLOW: usize = 2 << 20;

/// Keys that other programs keep settings by. What is a text of anybody's elsewhere is one if it is an object.
const FOREIGN: [&str; 7] = [
    "parameters",
    "workflow",
    "sd-metadata",
    "invokeai_metadata",
    "Dream",
    "prompt",
    "Comment",
];
const ANYBODYS: &str = "Comment";

impl Recipe {
    /// Reads the recipe of a picture, of a film, of a folder of frames, or a file of JSON. Files that it names are looked for beside that
    /// one too.
    ///
    /// # Errors
    ///
    /// A file error if it cannot be read, a request error if it holds no recipe, or none that can be followed.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::read_as(path, |text| text)
    }

    /// [`read`](Self::read) without the rule, for a run that has another: the router that it names need not be there.
    #[cfg(feature = "cli")]
    pub(crate) fn read_without_rule(path: &Path) -> Result<Self, Error> {
        Self::read_as(path, |text| {
            let Ok(serde_json::Value::Object(mut said)) = serde_json::from_str(&text) else {
                return text;
            };
            said.remove("cache");
            said.remove("router");
            serde_json::Value::Object(said).to_string()
        })
    }

    fn read_as(path: &Path, said: impl FnOnce(String) -> String) -> Result<Self, Error> {
        let path = if path.is_dir() {
            &path.join(BESIDE_FRAMES)
        } else {
            path
        };
        let bytes = bytes(path).map_err(|source| FileError::Read {
            what: "the recipe".into(),
            path: path.into(),
            source,
        })?;
        let mut recipe = Self::from_json(&said(text(&bytes, path)?))?;
        if let Some(folder) = path.parent() {
            recipe.look_in(folder);
        }
        Ok(recipe)
    }
}

/// The whole file, up to what any picture or film of ours has.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?
        .take(LARGEST_FILE)
        .read_to_end(&mut bytes)?;
    if read as u64 == LARGEST_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

fn text(bytes: &[u8], path: &Path) -> Result<String, RecipeError> {
    let plain = std::str::from_utf8(bytes).map(|text| text.trim_start_matches('\u{feff}'));
    if let Some(text) = plain.ok().filter(|text| is_object(text)) {
        if is_workflow(text) {
            return Err(RecipeError::None {
                reason: "it is a workflow of ComfyUI".into(),
                hint: "workflows are not read; give their settings as options",
                path: path.into(),
            });
        }
        return Ok(text.to_owned());
    }
    let Some(settings) = settings(bytes) else {
        return Err(RecipeError::None {
            reason: "it is neither JSON nor a picture or film that has a place for one".into(),
            hint: "PNG, JPEG, WebP, GIF and MP4 have one; beside frames of a film lies a `recipe.json`",
            path: path.into(),
        });
    };
    // Ours stands at the end: what a prompt says before it is no recipe.
    let mut recipes = settings.iter().rev().filter(|(key, _)| key == RECIPE);
    let recipe = recipes.next().map(|(_, text)| text.clone());
    recipe.ok_or_else(|| none(&settings, path))
}

fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// Whether a text is a graph of `ComfyUI`'s, as its page saves them or as its interface takes them.
fn is_workflow(text: &str) -> bool {
    if text.len() > LARGEST_WORKFLOW {
        return false;
    }
    let Ok(serde_json::Value::Object(graph)) = serde_json::from_str(text) else {
        return false;
    };
    let is_node = |node: &serde_json::Value| node.get("class_type").is_some();
    graph.contains_key("nodes") && graph.contains_key("links") || graph.values().any(is_node)
}

/// Why a picture or film has none.
fn none(settings: &Settings, path: &Path) -> RecipeError {
    let is_key = |name: &str| settings.iter().find(|(key, _)| key == name);
    let ours = is_key("Software").filter(|(_, by)| by.starts_with("afterimage "));
    let is_theirs = |(key, text): &(String, String)| key != ANYBODYS || is_object(text);
    let mut foreign = FOREIGN.into_iter();
    let foreign = foreign.find(|key| is_key(key).is_some_and(is_theirs));
    let unnamed = settings.iter().any(|(key, _)| key.is_empty());
    let (reason, hint) = match (ours, foreign) {
        (Some((_, by)), _) if is_key("seed").is_none() && is_key("prompt").is_some() => (
            format!(
                "`{by}` wrote it without one: its settings are longer than a JPEG has room for"
            ),
            "what is left of them can be read in its texts and given as options; PNG and WebP keep all",
        ),
        (Some((_, by)), _) if is_key("seed").is_none() => (
            format!("`{by}` decoded it from latents without one, or by other weights than theirs"),
            "give the options of the run that left the latents",
        ),
        (Some((_, by)), _) => (
            format!("`{by}` wrote it without one"),
            "its settings can be read in its texts and given as options",
        ),
        (None, Some(key)) => (
            format!("another program's settings are in it, as `{key}`"),
            "they are not read; give them as options",
        ),
        (None, None) if unnamed => (
            "another program's settings are in it".to_owned(),
            "they are not read; give them as options",
        ),
        (None, None) => (
            "no settings are in it".to_owned(),
            "pictures and films of afterimage keep theirs, unless another program has written them again",
        ),
    };
    RecipeError::None {
        reason,
        hint,
        path: path.into(),
    }
}

//! Files that a run writes beside its pictures, held against these, against each other, and against the files that it reads.

use std::path::{Path, PathBuf};

use super::{args, output::Output};
use crate::{
    error::{Error, OutputError},
    image_io::is_same_place,
    pipeline::Recipe,
};

/// A file that is written beside the pictures, and what messages call it.
type Written<'a> = (String, &'a Path);

/// Refuses a run that would replace what it reads, or one of its own files by another.
///
/// # Errors
///
/// A request error for the first two that are the same.
pub(super) fn check(
    arguments: &args::Generate,
    recipe: &Recipe,
    output: &Output,
    kept: &Path,
) -> Result<(), Error> {
    let named = [
        ("`--trace`", arguments.trace.as_deref()),
        ("`--preview`", arguments.previews.preview.as_deref()),
        ("the file of the latents that are kept", Some(kept)),
    ];
    let named = named.into_iter();
    let named = named.filter_map(|(name, path)| Some((name.to_owned(), path?)));
    let written: Vec<Written<'_>> = named.collect();
    for (index, (name, path)) in written.iter().enumerate() {
        let second = if output.places().iter().any(|own| is_same_place(own, path)) {
            Some("`--output`".to_owned())
        } else {
            let mut others = written[index + 1..].iter();
            let other = others.find(|(_, other)| is_same_place(other, path));
            other.map(|(other, _)| other.clone())
        };
        if let Some(second) = second {
            return Err(OutputError::SameFile {
                first: name.clone(),
                second,
                path: path.to_path_buf(),
            }
            .into());
        }
    }
    // Latents are kept under a name that is free.
    let asked = written.iter().filter(|(_, path)| *path != kept);
    let read = read(arguments, recipe);
    for (written, path) in asked {
        if let Some((option, _)) = read.iter().find(|(_, file)| replaces(path, file)) {
            return Err(OutputError::ReadFile {
                written: written.clone(),
                read: option,
                path: path.to_path_buf(),
            }
            .into());
        }
    }
    Ok(())
}

/// What the run reads, by the options that name it.
fn read(arguments: &args::Generate, recipe: &Recipe) -> Vec<(&'static str, PathBuf)> {
    let mut read = recipe.sources();
    read.extend(
        arguments
            .replay
            .iter()
            .map(|path| ("--replay", path.clone())),
    );
    read
}

/// Whether writing `written` would replace what is read of `file`. A folder of pictures has them in itself, a model its weights in folders of
/// its parts: what else lies in a model's folder may be anybody's.
fn replaces(written: &Path, file: &Path) -> bool {
    if !file.is_dir() {
        return is_same_place(written, file);
    }
    let (Ok(written), Ok(folder)) = (written.canonicalize(), file.canonicalize()) else {
        return false;
    };
    let Ok(below) = written.strip_prefix(&folder) else {
        return false;
    };
    let is_model = folder.join("model_index.json").exists();
    below.components().count() > usize::from(is_model)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn folders_of_pictures_and_of_models_are_read_in_their_own_ways() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["frames", "model", "model/unet"] {
            fs::create_dir(at(name)).expect("a folder");
        }
        let files = [
            "frames/a.png",
            "model/model_index.json",
            "model/now.png",
            "model/unet/w.safetensors",
        ];
        for name in files {
            fs::write(at(name), "there").expect("a file");
        }
        assert!(replaces(&at("frames/a.png"), &at("frames")));
        assert!(!replaces(&at("frames/b.png"), &at("frames")), "a new one");
        assert!(!replaces(&at("model/now.png"), &at("model")));
        assert!(replaces(&at("model/unet/w.safetensors"), &at("model")));
        assert!(!replaces(&at("b.png"), &at("no such model")));
    }
}

//! Recipes that cannot be read, or cannot be followed.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RecipeError {
    #[error(
        "the file has no recipe: {reason}\nhint: {hint}\nfile: {}",
        path.display()
    )]
    None {
        reason: String,
        hint: &'static str,
        path: PathBuf,
    },
    #[error(
        "the recipe is of version {found}, and this program reads those up to {known}\nhint: a newer afterimage wrote it, and reads it"
    )]
    Newer { found: u32, known: u32 },
    #[error("the recipe has no `version`\nhint: begin it with \"version\": {known}")]
    NoVersion { known: u32 },
    #[error(
        "the recipe cannot be read: {said}\nhint: keys and values are those of the recipe in a picture of ours"
    )]
    Json { said: String },
    #[error(
        "the recipe was made with other weights of `{name}`: {expected}, and these are {found}\nhint: name the model that it was made with, or {option} this one to go on with it"
    )]
    OtherWeights {
        name: String,
        expected: String,
        found: String,
        option: &'static str,
    },
    #[error(
        "the {what} of the recipe is not there\nhint: put it back, or name one with `{option}`\nfile: {path}"
    )]
    Missing {
        what: &'static str,
        option: &'static str,
        path: String,
    },
    #[error(
        "the {what} is not the one that the recipe was made with: {found}, not {expected}\nhint: put that one back, or name this one with `{option}` to go on with it\nfile: {path}"
    )]
    Changed {
        what: &'static str,
        option: &'static str,
        path: String,
        expected: String,
        found: String,
    },
}

//! Where a run's latents are kept while there are no pictures of them.

use std::path::PathBuf;

/// A file for finished latents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rescue {
    /// Where it is; where a file is already, its number is put into the name.
    pub path: PathBuf,
    /// What a picture of the run keeps, keys and texts, the recipe among them as `recipe`: with it the file says by itself how it is
    /// decoded, and what is decoded keeps it. Silent ones leave that to whoever decodes.
    pub texts: Vec<(String, String)>,
}

impl From<PathBuf> for Rescue {
    fn from(path: PathBuf) -> Self {
        let texts = Vec::new();
        Self { path, texts }
    }
}

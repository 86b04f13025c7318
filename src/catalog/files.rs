//! Where a model's files are: on the disk or in the program.

use std::{
    borrow::Cow,
    fmt,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, FileError},
    weights::{WeightSource, refuse_stand_in},
};

/// Parts whose files may lie beside the index instead of in a folder of their own, and the file that tells: early models of one
/// network (google/ddpm-cifar10-32).
pub(super) const LOOSE: [(&str, &str); 2] = [
    ("unet", "config.json"),
    ("scheduler", "scheduler_config.json"),
];

/// Files of a model by their path within its folder.
#[derive(Clone)]
pub(super) enum Files {
    Disk(PathBuf),
    Static(&'static [(&'static str, &'static [u8])]),
}

impl fmt::Debug for Files {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(folder) => write!(formatter, "Disk({})", folder.display()),
            Self::Static(files) => write!(formatter, "Static({} files)", files.len()),
        }
    }
}

impl Files {
    /// The path that errors name.
    pub(super) fn path(&self, relative: &str) -> PathBuf {
        match self {
            Self::Disk(folder) => located(folder, relative),
            Self::Static(_) => PathBuf::from(relative),
        }
    }

    pub(super) fn has(&self, relative: &str) -> bool {
        match self {
            Self::Disk(folder) => located(folder, relative).is_file(),
            Self::Static(_) => self.compiled(relative).is_some(),
        }
    }

    fn compiled(&self, relative: &str) -> Option<&'static [u8]> {
        match self {
            Self::Disk(_) => None,
            Self::Static(files) => files
                .iter()
                .find_map(|(path, bytes)| (*path == relative).then_some(*bytes)),
        }
    }

    /// The text of a file, `None` if there is none.
    pub(super) fn text(&self, relative: &str) -> Result<Option<String>, Error> {
        let failed = |source| FileError::Read {
            what: format!("`{relative}`"),
            path: self.path(relative),
            source,
        };
        let bytes: Cow<'static, [u8]> = match self {
            Self::Disk(folder) => match std::fs::read(located(folder, relative)) {
                Ok(bytes) => bytes.into(),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed(error).into()),
            },
            Self::Static(_) => match self.compiled(relative) {
                Some(bytes) => bytes.into(),
                None => return Ok(None),
            },
        };
        refuse_stand_in(&bytes, &self.path(relative))?;
        let text = String::from_utf8(bytes.into_owned());
        let text = text.map_err(|error| failed(std::io::Error::new(ErrorKind::InvalidData, error)));
        Ok(Some(text?))
    }

    /// The file that holds a part's weights, by its name within the part.
    pub(super) fn weight_file(&self, part: &str) -> Option<String> {
        let names = match self {
            Self::Disk(folder) if is_loose(folder, part) => names(folder),
            Self::Disk(folder) => names(&folder.join(part)),
            Self::Static(files) => files
                .iter()
                .filter_map(|(path, _)| path.strip_prefix(part)?.strip_prefix('/'))
                .map(str::to_owned)
                .collect(),
        };
        choose(&names).map(str::to_owned)
    }

    pub(super) fn weights(&self, part: &str) -> Result<Option<WeightSource>, Error> {
        let Some(name) = self.weight_file(part) else {
            return Ok(None);
        };
        let relative = format!("{part}/{name}");
        match self.compiled(&relative) {
            Some(bytes) => WeightSource::from_static(bytes, &relative).map(Some),
            None => WeightSource::open(self.path(&relative)).map(Some),
        }
    }
}

/// Where a file of a model is.
fn located(folder: &Path, relative: &str) -> PathBuf {
    match relative.split_once('/') {
        Some((part, file)) if is_loose(folder, part) => folder.join(file),
        _ => folder.join(relative),
    }
}

/// Whether a part's files lie beside the index.
fn is_loose(folder: &Path, part: &str) -> bool {
    let tells = LOOSE.iter().find(|(loose, _)| *loose == part);
    tells.is_some_and(|(_, file)| !folder.join(part).is_dir() && folder.join(file).is_file())
}

/// Names of the files in a folder, none if there is no such folder.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Beginnings of weight files, as diffusers and transformers call them.
const STEMS: [&str; 3] = ["diffusion_pytorch_model", "model", "pytorch_model"];

/// Endings of weight files, the preferred first.
const ENDINGS: [&str; 8] = [
    ".safetensors",
    ".safetensors.index.json",
    ".fp16.safetensors",
    ".safetensors.index.fp16.json",
    ".bin",
    ".bin.index.json",
    ".fp16.bin",
    ".bin.index.fp16.json",
];

/// The weight file to read among the names in a part's folder.
pub(super) fn choose<S: AsRef<str>>(names: &[S]) -> Option<&str> {
    let wanted = ENDINGS
        .iter()
        .flat_map(|ending| STEMS.map(|stem| format!("{stem}{ending}")));
    wanted
        .into_iter()
        .find_map(|wanted| names.iter().map(AsRef::as_ref).find(|name| *name == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_safetensors_and_full_precision() {
        let mut names = vec![
            "diffusion_pytorch_model.non_ema.safetensors",
            "diffusion_pytorch_model.fp16.bin",
            "diffusion_pytorch_model.bin",
            "diffusion_pytorch_model.fp16.safetensors",
            "diffusion_pytorch_model.safetensors.index.json",
            "diffusion_pytorch_model.safetensors",
        ];
        while names.len() > 1 {
            let best = names.pop();
            assert_eq!(choose(&[&names[..], &[best.unwrap()]].concat()), best);
        }
        assert_eq!(choose(&names), None);
        assert_eq!(choose(&["model.safetensors"]), Some("model.safetensors"));
    }
}

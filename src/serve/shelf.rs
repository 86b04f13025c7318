//! What requests may name: models, adapters, `ControlNets`, autoencoders, by the names of their files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use axum::http::StatusCode;

use super::{fault::Fault, options::Options};

/// Files that weights are in.
const WEIGHTS: [&str; 6] = ["safetensors", "ckpt", "pt", "pth", "bin", "gguf"];

/// Names, and where what they mean lies.
pub(super) type Named = BTreeMap<String, String>;

/// All that there is to name.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// In the operator's order, then by name.
    order: Vec<String>,
    models: Named,
    pub(super) loras: Named,
    pub(super) embeddings: Named,
    pub(super) controls: Named,
    pub(super) vaes: Named,
}

impl Shelf {
    /// Looks into the folders that the operator has named.
    pub(super) fn look(options: &Options) -> Self {
        let mut shelf = Self {
            loras: found(&options.lora_folders, is_weights),
            embeddings: found(&options.embedding_folders, is_weights),
            controls: found(&options.control_folders, is_part_or_file),
            vaes: found(&options.vae_folders, is_part_or_file),
            ..Self::default()
        };
        for place in &options.models {
            let name = name_of(Path::new(place));
            if shelf.models.insert(name.clone(), place.clone()).is_none() {
                shelf.order.push(name);
            }
        }
        for (name, place) in found(&options.model_folders, is_model) {
            if !shelf.models.contains_key(&name) {
                shelf.order.push(name.clone());
                shelf.models.insert(name, place);
            }
        }
        shelf
    }

    /// Tells of folders that the operator has named and that cannot be read: what lies in them is offered once they can.
    pub(super) fn tell(options: &Options) {
        let Options {
            model_folders,
            lora_folders,
            embedding_folders,
            control_folders,
            vae_folders,
            ..
        } = options;
        for (option, folders) in [
            ("models", model_folders),
            ("loras", lora_folders),
            ("embeddings", embedding_folders),
            ("controls", control_folders),
            ("vaes", vae_folders),
        ] {
            for folder in folders {
                if let Err(cause) = fs::read_dir(folder) {
                    let folder = folder.display();
                    tracing::warn!("nothing is offered of `--{option}`: {cause} ({folder})");
                }
            }
        }
    }

    /// Names of the models; the first is taken where none is asked for.
    pub(super) fn models(&self) -> &[String] {
        &self.order
    }

    /// The model of that name, and its place. Front ends add a hash behind a name: `name [0123abcd]`, `name.safetensors`.
    pub(super) fn model(&self, asked: Option<&str>) -> Result<(&str, &str), Fault> {
        let Some(asked) = asked.or(self.order.first().map(String::as_str)) else {
            return Err(Fault::not_found("there is no model")
                .hint("the operator names some with `--models` or `--model`"));
        };
        let bare = asked.split(" [").next().unwrap_or(asked);
        let stem = name_of(Path::new(bare));
        let keys = [asked, bare, stem.as_str()];
        let found = keys.iter().find_map(|key| self.models.get_key_value(*key));
        found
            .map(|(name, place)| (name.as_str(), place.as_str()))
            .ok_or_else(|| {
                let known = self.order.join("`, `");
                Fault::new(
                    StatusCode::NOT_FOUND,
                    "model_not_found",
                    format!("there is no model `{asked}`"),
                )
                .of("model")
                .hint(format!("there are `{known}`"))
            })
    }

    /// The place of `name` among `named`, which are `what`.
    pub(super) fn find<'a>(named: &'a Named, name: &str, what: &str) -> Result<&'a str, Fault> {
        let bare = name.split(" [").next().unwrap_or(name);
        let found = named.get(name).or_else(|| named.get(bare));
        found.map(String::as_str).ok_or_else(|| {
            let known: Vec<_> = named.keys().map(String::as_str).collect();
            let fault = Fault::new(
                StatusCode::NOT_FOUND,
                "file_not_found",
                format!("there is no {what} `{name}`"),
            );
            if known.is_empty() {
                fault.hint(format!("the operator offers no {what}"))
            } else {
                fault.hint(format!("there are `{}`", known.join("`, `")))
            }
        })
    }
}

/// The last part of a path or a Hub id, without the ending of a file of weights.
pub(super) fn name_of(path: &Path) -> String {
    let whole = path.file_name().unwrap_or(path.as_os_str());
    let stem = if is_weights(path) {
        path.file_stem().unwrap_or(whole)
    } else {
        whole
    };
    stem.to_string_lossy().into_owned()
}

fn is_weights(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| WEIGHTS.contains(&ending.to_lowercase().as_str()))
}

/// A folder with a configuration of its own.
fn is_part(path: &Path) -> bool {
    path.join("config.json").is_file()
}

/// One, or a file of weights alone.
fn is_part_or_file(path: &Path) -> bool {
    is_part(path) || is_weights(path)
}

fn is_model(path: &Path) -> bool {
    path.join("model_index.json").is_file() || is_part(path) || (path.is_file() && is_weights(path))
}

/// Everything in `folders` that `is_one`; folders that cannot be read have nothing.
fn found(folders: &[PathBuf], is_one: fn(&Path) -> bool) -> Named {
    let entries = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok());
    let paths = entries.flatten().flatten().map(|entry| entry.path());
    let named = paths.filter(|path| is_one(path)).filter_map(|path| {
        let place = path.to_str()?.to_owned();
        Some((name_of(&path), place))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(models: &[&str]) -> Shelf {
        let names = models.iter().map(|place| name_of(Path::new(place)));
        let order: Vec<_> = names.collect();
        let places = models.iter().map(|place| (*place).to_owned());
        Shelf {
            models: order.iter().cloned().zip(places).collect(),
            order,
            ..Shelf::default()
        }
    }

    #[test]
    fn models_go_by_the_names_of_their_files() {
        let shelf = shelf(&[
            "/srv/models/sd15",
            "org/tiny-sd",
            "/srv/photo.v2.safetensors",
        ]);
        assert_eq!(shelf.models(), ["sd15", "tiny-sd", "photo.v2"]);
        assert_eq!(shelf.model(None), Ok(("sd15", "/srv/models/sd15")));
        let photo = Ok(("photo.v2", "/srv/photo.v2.safetensors"));
        for asked in [
            "photo.v2",
            "photo.v2 [0123456789]",
            "photo.v2.safetensors",
            "photo.v2.safetensors [01]",
        ] {
            assert_eq!(shelf.model(Some(asked)), photo, "{asked}");
        }
    }

    #[test]
    fn no_path_finds_anything() {
        let shelf = shelf(&["/srv/models/sd15"]);
        for asked in ["/srv/models", "..", "", "/etc/passwd", "sd15/unet"] {
            let fault = shelf.model(Some(asked)).unwrap_err();
            assert_eq!(
                (fault.status, fault.code),
                (StatusCode::NOT_FOUND, "model_not_found"),
                "{asked}"
            );
        }
    }
}

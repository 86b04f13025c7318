//! What a worker is given to do.

use axum::http::StatusCode;

use super::fault::Fault;
use crate::{
    image_io::{FilmFormat, PictureFormat},
    pipeline::Recipe,
};

/// A recipe that was checked, with what is to come of it.
#[derive(Debug)]
pub(super) struct Work {
    /// The model's name.
    pub(super) model: String,
    /// With places in it.
    pub(super) recipe: Recipe,
    /// The same with names, for clients.
    pub(super) shown: Recipe,
    /// Places and their names.
    pub(super) names: Vec<(String, String)>,
    pub(super) format: Format,
    /// Model calls.
    pub(super) evaluations: usize,
    /// Bytes of the model's weights.
    pub(super) weights: u64,
    /// What requests have in common that can be one run ([`together`](super::together)); nothing for one that is made alone.
    pub(super) kind: Option<String>,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Picture(PictureFormat),
    Film(FilmFormat),
}

impl Format {
    /// The format of that name for pictures, or for films; PNG where nothing is said.
    pub(super) fn read(name: Option<&str>, films: bool) -> Result<Self, Fault> {
        let name = name.unwrap_or("png");
        let known = if films {
            match name {
                "png" | "apng" => Some(Self::Film(FilmFormat::Apng)),
                "gif" => Some(Self::Film(FilmFormat::Gif)),
                "y4m" => Some(Self::Film(FilmFormat::Y4m)),
                #[cfg(feature = "video")]
                "mp4" => Some(Self::Film(FilmFormat::Mp4)),
                _ => None,
            }
        } else {
            match name {
                "png" => Some(Self::Picture(PictureFormat::Png)),
                "jpeg" | "jpg" => Some(Self::Picture(PictureFormat::Jpeg)),
                "webp" => Some(Self::Picture(PictureFormat::WebP)),
                _ => None,
            }
        };
        known.ok_or_else(|| {
            let (what, list) = if films {
                (
                    "films",
                    "apng, gif, y4m, and mp4 in builds with the Cargo feature `video`",
                )
            } else {
                ("pictures", "png, jpeg, webp")
            };
            let message = format!("`{name}` is no format that {what} are written in");
            Fault::new(StatusCode::BAD_REQUEST, "invalid_value", message)
                .of("format")
                .hint(format!("there are {list}"))
        })
    }

    /// The ending of a file's name.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::Picture(PictureFormat::Jpeg) => "jpg",
            Self::Picture(PictureFormat::WebP) => "webp",
            Self::Film(FilmFormat::Gif) => "gif",
            Self::Film(FilmFormat::Y4m) => "y4m",
            #[cfg(feature = "video")]
            Self::Film(FilmFormat::Mp4) => "mp4",
            _ => "png",
        }
    }

    /// The media type of a file whose name ends so.
    pub(super) fn media(ending: &str) -> &'static str {
        match ending {
            "png" => "image/png",
            "jpg" => "image/jpeg",
            "webp" => "image/webp",
            "gif" => "image/gif",
            "mp4" => "video/mp4",
            _ => "application/octet-stream",
        }
    }
}

/// `finished`, a recipe with places, with the names of `shown`.
pub(super) fn with_names(mut finished: Recipe, shown: &Recipe) -> Recipe {
    finished.model.name.clone_from(&shown.model.name);
    finished.model.vae.clone_from(&shown.model.vae);
    finished.model.tiny_vae.clone_from(&shown.model.tiny_vae);
    if let (Some(refiner), Some(shown)) = (&mut finished.refiner, &shown.refiner) {
        refiner.name.clone_from(&shown.name);
    }
    for (upscaler, shown) in finished.upscalers.iter_mut().zip(&shown.upscalers) {
        upscaler.name.clone_from(&shown.name);
    }
    for (control, shown) in finished.controls.iter_mut().zip(&shown.controls) {
        control.model.clone_from(&shown.model);
    }
    finished
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_of_pictures_or_of_films() {
        let png = Format::Picture(PictureFormat::Png);
        assert_eq!(Format::read(None, false), Ok(png));
        assert_eq!(
            Format::read(Some("gif"), true),
            Ok(Format::Film(FilmFormat::Gif))
        );
        let fault = Format::read(Some("gif"), false).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some("format"));
    }
}

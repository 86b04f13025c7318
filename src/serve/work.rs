//! What a worker is given to do.

use axum::http::StatusCode;

use super::fault::Fault;
use crate::{
    image_io::{FilmFormat, PictureFormat},
    pipeline::{Recipe, Seeds},
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

/// What makes the item of that number alone, of `items`; nothing where it depends on the others.
pub(super) fn alone(recipe: &Recipe, item: usize, items: usize) -> Option<Recipe> {
    if items == 1 {
        return Some(recipe.clone());
    }
    let Some(Seeds::Each(seeds)) = &recipe.seed else {
        return None;
    };
    let subjects = recipe.prompts.len().max(recipe.classes.len());
    let batch = recipe.batch.unwrap_or(1);
    if subjects > 1 && batch > 1 {
        return None;
    }
    let one = |texts: &[String]| match texts {
        [_, _, ..] if texts.len() == items => vec![texts[item].clone()],
        texts => texts.to_vec(),
    };
    let classes = match &recipe.classes[..] {
        [_, _, ..] => vec![*recipe.classes.get(item)?],
        classes => classes.to_vec(),
    };
    Some(Recipe {
        seed: Some(Seeds::One(*seeds.get(item)?)),
        batch: None,
        prompts: one(&recipe.prompts),
        negative_prompts: one(&recipe.negative_prompts),
        second_prompts: one(&recipe.second_prompts),
        second_negative_prompts: one(&recipe.second_negative_prompts),
        third_prompts: one(&recipe.third_prompts),
        third_negative_prompts: one(&recipe.third_negative_prompts),
        classes,
        ..recipe.clone()
    })
}

/// The seed of that item, where it has one.
pub(super) fn seed(recipe: &Recipe, item: usize) -> Option<u64> {
    match recipe.seed.as_ref()? {
        Seeds::One(seed) => Some(*seed),
        Seeds::Each(seeds) => seeds.get(item).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_with_seeds_of_their_own_are_made_alone() {
        let recipe = Recipe {
            prompts: vec!["a fox".into()],
            batch: Some(3),
            seed: Some(Seeds::Each(vec![7, 8, 9])),
            ..Recipe::default()
        };
        let second = alone(&recipe, 1, 3).unwrap();
        assert_eq!((second.seed, second.batch), (Some(Seeds::One(8)), None));
        let together = Recipe {
            seed: Some(Seeds::One(7)),
            ..recipe
        };
        assert_eq!(alone(&together, 1, 3), None);
    }

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

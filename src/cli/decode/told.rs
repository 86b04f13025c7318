//! What kept latents say of the run that left them, and what is said beside.

use crate::{
    catalog::Overrides,
    cli::{args, console, job, recipe},
    device::DtypeChoice,
    engine::Model,
    error::Error,
    image_io::{RECIPE, Settings},
    models::vae::Tiling,
    pipeline::{FilmRequest, LatentsFile, Recipe, SourceConfig},
};

/// The run, as far as it is known.
pub(super) struct Told {
    /// Nothing of files that hold latents alone, as earlier versions wrote them.
    recipe: Option<Recipe>,
    /// What its pictures were to keep.
    texts: Settings,
}

impl Told {
    /// What `file` says. A recipe that cannot be read stands in nobody's way who names a model.
    pub(super) fn read(file: &LatentsFile, arguments: &args::Decode) -> Result<Self, Error> {
        let texts = file.texts.clone();
        let recipe = texts.iter().find(|(key, _)| key == RECIPE);
        let recipe = recipe.map(|(_, text)| Recipe::from_json(text)).transpose();
        match recipe {
            Ok(recipe) => Ok(Self { recipe, texts }),
            Err(error) if arguments.model.name.is_some() => {
                console::warning(&format!("the latents' recipe is left out: {error}"));
                let (recipe, texts) = (None, Settings::new());
                Ok(Self { recipe, texts })
            }
            Err(error) => Err(error),
        }
    }

    /// The model whose autoencoder decodes: the one that is named, else the run's last.
    pub(super) fn model(&self, given: &args::Model) -> Result<Model, Error> {
        let Some(recipe) = &self.recipe else {
            return job::model(given);
        };
        let mut asked = recipe.clone();
        recipe::model(&mut asked, given);
        let (name, said) = (asked.model.name.as_deref(), asked.overrides());
        let upscaler = recipe.upscalers.last().map(|one| &one.name);
        let refiner = recipe.refiner.as_ref().map(|one| &one.name);
        match (&given.name, upscaler, refiner) {
            (None, Some(upscaler), _) => job::named(Some(upscaler), given.said.overrides()),
            (None, None, Some(refiner)) => {
                let prediction = given.said.prediction;
                job::named(Some(refiner), Overrides { prediction, ..said })
            }
            _ => job::named(name, said),
        }
    }

    /// How films are made of them: what is given, else what the run was told.
    pub(super) fn film(&self, given: &args::Projected) -> FilmRequest {
        let told = self.recipe.as_ref().map(|recipe| &recipe.film);
        // A run that makes pictures says nothing of frames.
        let frames = told.map(|film| film.frames.unwrap_or(1));
        FilmRequest {
            frames: given.frames.or(frames),
            fps: given.fps.or(told.and_then(|film| film.fps)),
            decode_chunk: given
                .decode_chunk
                .or(told.and_then(|film| film.decode_chunk)),
            ..FilmRequest::default()
        }
    }

    /// Height and width in pixels that the run's pictures were to have, where one model makes them.
    pub(super) fn size(&self) -> Option<[usize; 2]> {
        let recipe = self.recipe.as_ref()?;
        let [width, height] = recipe.size.filter(|_| recipe.upscalers.is_empty())?;
        Some([height, width])
    }

    pub(super) fn tiling(&self) -> Tiling {
        let recipe = self.recipe.as_ref();
        recipe.and_then(|recipe| recipe.tiling).unwrap_or_default()
    }

    /// What the run's denoiser computed in.
    pub(super) fn dtype(&self) -> DtypeChoice {
        let recipe = self.recipe.as_ref();
        let dtype = recipe.and_then(|recipe| recipe.dtype);
        dtype.unwrap_or(DtypeChoice::F32)
    }

    /// What the pictures keep, decoded by `model` on `device`: what the run's would have, where its recipe makes them again.
    ///
    /// # Errors
    ///
    /// If the weights are not those of the run, and no others are asked for.
    pub(super) fn texts(
        &self,
        model: &Model,
        device: &str,
        film: &FilmRequest,
        arguments: &args::Decode,
    ) -> Result<Settings, Error> {
        let Some(recipe) = &self.recipe else {
            return Ok(unknown(model, device));
        };
        let told = recipe.film.frames.unwrap_or(1);
        if let Some(given) = arguments.film.frames.filter(|given| *given != told) {
            console::warning(&format!(
                "these are pieces of {given} frames of a run of {told}, so that its recipe is not kept: it would make others"
            ));
            return Ok(unknown(model, device));
        }
        let Some(mut recipe) = followed(recipe, model, &arguments.model)? else {
            console::warning(
                "these are not the weights of the run that left the latents, so that its recipe is not kept: it would make other pictures",
            );
            return Ok(unknown(model, device));
        };
        // A model that films a picture is told the rate, and makes another film at another.
        if !matches!(model.config.source, SourceConfig::Picture(_)) {
            recipe.film.fps = film.fps;
        }
        recipe.film.decode_chunk = film.decode_chunk;
        let mut texts = self.texts.clone();
        if Some(&recipe) != self.recipe.as_ref() {
            retold(&mut texts, &recipe, model);
        }
        let on = recipe.made.as_ref().map(|made| made.on.as_str());
        if on.is_some_and(|on| on != device) {
            put(&mut texts, "decoded on", "device", device.to_owned());
        }
        Ok(texts)
    }
}

/// The recipe that makes what `model` decodes; nothing where no recipe says it.
fn followed(recipe: &Recipe, model: &Model, given: &args::Model) -> Result<Option<Recipe>, Error> {
    let folder = &model.folder;
    let last = recipe.upscalers.len().checked_sub(1);
    let hold = || match (last, &recipe.refiner) {
        (Some(last), _) => recipe.check_upscaler(last, folder),
        (None, Some(_)) => recipe.check_refiner(folder),
        (None, None) => recipe.check_model(folder),
    };
    let decoder = given.said.vae.is_some() || given.said.tiny_vae.is_some();
    if given.name.is_none() && !decoder {
        return hold().map(|()| Some(recipe.clone()));
    }
    let alone = last.is_none() && recipe.refiner.is_none();
    let mut asked = recipe.clone();
    if alone {
        recipe::model(&mut asked, given);
        asked.model.name = Some(folder.name().to_owned());
        asked.model.hash = Some(folder.weights_hash()?);
    }
    Ok(match hold() {
        Ok(()) => Some(asked),
        // Another decoder of the run's own latents: that much a recipe can say.
        Err(_) if alone && decoder && given.name.is_none() => Some(asked),
        Err(_) => None,
    })
}

/// Says in `texts` what `recipe` says otherwise than they do.
fn retold(texts: &mut Settings, recipe: &Recipe, model: &Model) {
    let weights = recipe.model.hash.clone().unwrap_or_default();
    if recipe.upscalers.is_empty() && recipe.refiner.is_none() {
        put(texts, "model", "Software", model.folder.name().to_owned());
        put(texts, "weights", "model", weights);
        let vae = model.folder.other_vae().unwrap_or_default();
        put(texts, "vae", "weights", vae.to_owned());
    }
    texts.retain(|(key, text)| key != RECIPE && !text.is_empty());
    texts.push((RECIPE.to_owned(), recipe.to_json()));
}

/// Has `text` in the place of what `key` said, or behind what `before` says.
fn put(texts: &mut Settings, key: &str, before: &str, text: String) {
    let place = |name: &str| texts.iter().position(|(key, _)| key == name);
    match (place(key), place(before)) {
        (Some(at), _) => texts[at].1 = text,
        (None, before) => {
            let at = before.map_or(0, |at| at + 1);
            texts.insert(at, (key.to_owned(), text));
        }
    }
}

/// What is known where the latents say nothing.
fn unknown(model: &Model, device: &str) -> Settings {
    let software = concat!("afterimage ", env!("CARGO_PKG_VERSION"));
    let texts = [
        ("Software", software),
        ("model", model.folder.name()),
        ("device", device),
    ];
    let texts = texts.into_iter();
    texts
        .map(|(key, text)| (key.to_owned(), text.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_put_where_they_stand_in_pictures() {
        let pair = |key: &str, text: &str| (key.to_owned(), text.to_owned());
        let mut texts = vec![
            pair("Software", "a"),
            pair("weights", "b"),
            pair("seed", "7"),
        ];
        put(&mut texts, "weights", "model", "c".into());
        put(&mut texts, "vae", "weights", "d".into());
        let expected = [
            pair("Software", "a"),
            pair("weights", "c"),
            pair("vae", "d"),
            pair("seed", "7"),
        ];
        assert_eq!(texts, expected);
    }
}

//! What SDXL's models take besides the prompts, by the words of the command line.

use serde::Serialize;

use super::args::Xl;
use crate::{
    error::RequestError,
    pipeline::{ModelConfig, Numbers, Recipe},
};

/// Refuses what `model` does not take, whatever its value; a refiner that follows takes scores.
///
/// # Errors
///
/// A request error that names the option.
pub(super) fn check(given: &Xl, model: &ModelConfig, refined: bool) -> Result<(), RequestError> {
    let inputs = model.texts().and_then(|texts| texts.added);
    let numbers = inputs.map(|inputs| inputs.numbers);
    let refused = |option: Option<&'static str>, what, hint| match option {
        Some(option) => Err(RequestError::NotTaken { option, what, hint }),
        None => Ok(()),
    };
    let options = Options::of(given);
    if numbers.is_none() {
        refused(options.sizes.or(options.targets), "sizes", "SDXL models do")?;
    }
    if numbers != Some(Numbers::Score) && !refined {
        refused(options.scores, "aesthetic scores", "SDXL's refiner does")?;
    }
    if numbers == Some(Numbers::Score) {
        let hint = "SDXL's base models do";
        refused(options.targets, "target size", hint)?;
    }
    Ok(())
}

/// The first option of each kind that is given.
struct Options {
    sizes: Option<&'static str>,
    targets: Option<&'static str>,
    scores: Option<&'static str>,
}

impl Options {
    fn of(given: &Xl) -> Self {
        let first = |options: &[(&'static str, bool)]| {
            let mut named = options.iter().filter(|(_, given)| *given);
            named.next().map(|(name, _)| *name)
        };
        Self {
            sizes: first(&[
                ("--original-size", given.original_size.is_some()),
                ("--crop", given.crop.is_some()),
                (
                    "--negative-original-size",
                    given.negative_original_size.is_some(),
                ),
                ("--negative-crop", given.negative_crop.is_some()),
            ]),
            targets: first(&[
                ("--target-size", given.target_size.is_some()),
                (
                    "--negative-target-size",
                    given.negative_target_size.is_some(),
                ),
            ]),
            scores: first(&[
                ("--aesthetic-score", given.aesthetic_score.is_some()),
                (
                    "--negative-aesthetic-score",
                    given.negative_aesthetic_score.is_some(),
                ),
            ]),
        }
    }
}

/// The same for the run's record, in the words of the options; what was left out is left out.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_2: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative_prompt_2: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crop: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative_original_size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative_crop: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative_target_size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aesthetic_score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative_aesthetic_score: Option<f64>,
}

impl Told {
    pub(super) fn new(recipe: &Recipe) -> Self {
        let size = |[width, height]: [usize; 2]| format!("{width}x{height}");
        let corner = |[x, y]: [usize; 2]| format!("{x},{y}");
        let given = &recipe.framing;
        Self {
            prompt_2: recipe.second_prompts.first().cloned(),
            negative_prompt_2: recipe.second_negative_prompts.first().cloned(),
            original_size: given.original_size.map(size),
            crop: given.crop.map(corner),
            target_size: given.target_size.map(size),
            negative_original_size: given.negative_original_size.map(size),
            negative_crop: given.negative_crop.map(corner),
            negative_target_size: given.negative_target_size.map(size),
            aesthetic_score: given.aesthetic_score,
            negative_aesthetic_score: given.negative_aesthetic_score,
        }
    }

    /// For the text chunks of the PNG and the report.
    pub(super) fn texts(&self) -> Vec<(&'static str, String)> {
        let score = |score: Option<f64>| score.map(|score| score.to_string());
        let texts = [
            ("prompt 2", self.prompt_2.clone()),
            ("negative prompt 2", self.negative_prompt_2.clone()),
            ("original size", self.original_size.clone()),
            ("crop", self.crop.clone()),
            ("target size", self.target_size.clone()),
            (
                "negative original size",
                self.negative_original_size.clone(),
            ),
            ("negative crop", self.negative_crop.clone()),
            ("negative target size", self.negative_target_size.clone()),
            ("aesthetic score", score(self.aesthetic_score)),
            (
                "negative aesthetic score",
                score(self.negative_aesthetic_score),
            ),
        ];
        let said = texts.into_iter();
        said.filter_map(|(name, text)| Some((name, text?)))
            .collect()
    }
}

//! What SDXL's models are told besides the prompts, in a recipe and in a request.

use super::{Recipe, RecipeFraming};
use crate::error::RequestError;
use crate::pipeline::config::{ModelConfig, Numbers};
use crate::pipeline::request::{Added, Framing};

/// Height and width as width and height, or rows and columns as columns and rows; and back.
fn turned([first, second]: [usize; 2]) -> [usize; 2] {
    [second, first]
}

impl RecipeFraming {
    /// What `added` says of sizes and scores; what is as it is where nothing is said stays silent.
    pub(super) fn of(added: &Added) -> Self {
        let (silent, framing) = (Added::default(), added.framing);
        let crop = |crop: [usize; 2]| (crop != [0, 0]).then(|| turned(crop));
        let score =
            |given: f64, silent: f64| (given.to_bits() != silent.to_bits()).then_some(given);
        let negative = added.negative_framing;
        Self {
            original_size: framing.original.map(turned),
            crop: crop(framing.crop),
            target_size: framing.target.map(turned),
            negative_original_size: negative.and_then(|one| one.original).map(turned),
            negative_crop: negative.map(|one| turned(one.crop)),
            negative_target_size: negative.and_then(|one| one.target).map(turned),
            aesthetic_score: score(added.aesthetic_score, silent.aesthetic_score),
            negative_aesthetic_score: score(
                added.negative_aesthetic_score,
                silent.negative_aesthetic_score,
            ),
        }
    }

    /// Refuses what `model` does not take, whatever its value; a refiner that follows takes scores.
    pub(super) fn check(&self, model: &ModelConfig, refined: bool) -> Result<(), RequestError> {
        let numbers = model.texts().and_then(|texts| texts.added);
        let numbers = numbers.map(|inputs| inputs.numbers);
        let [sizes, targets, scores] = self.given();
        let refused = match numbers {
            None if sizes.or(targets).is_some() => (sizes.or(targets), "sizes", "SDXL models do"),
            None | Some(Numbers::Sizes) if !refined => {
                (scores, "aesthetic scores", "SDXL's refiner does")
            }
            Some(Numbers::Score) => (targets, "target size", "SDXL's base models do"),
            _ => return Ok(()),
        };
        match refused {
            (Some(option), what, hint) => Err(RequestError::NotTaken { option, what, hint }),
            _ => Ok(()),
        }
    }

    /// The first option that is given of sizes, of target sizes and of scores.
    fn given(&self) -> [Option<&'static str>; 3] {
        let first = |options: &[(&'static str, bool)]| {
            let mut given = options.iter().filter(|(_, given)| *given);
            given.next().map(|(name, _)| *name)
        };
        let negative_original = self.negative_original_size.is_some();
        let negative_target = self.negative_target_size.is_some();
        let negative_score = self.negative_aesthetic_score.is_some();
        [
            first(&[
                ("--original-size", self.original_size.is_some()),
                ("--crop", self.crop.is_some()),
                ("--negative-original-size", negative_original),
                ("--negative-crop", self.negative_crop.is_some()),
            ]),
            first(&[
                ("--target-size", self.target_size.is_some()),
                ("--negative-target-size", negative_target),
            ]),
            first(&[
                ("--aesthetic-score", self.aesthetic_score.is_some()),
                ("--negative-aesthetic-score", negative_score),
            ]),
        ]
    }
}

impl Recipe {
    /// What SDXL is told.
    pub(super) fn added(&self) -> Added {
        let (given, silent) = (&self.framing, Added::default());
        let framing = Framing {
            original: given.original_size.map(turned),
            crop: given.crop.map(turned).unwrap_or_default(),
            target: given.target_size.map(turned),
        };
        let negative = Framing {
            original: given
                .negative_original_size
                .map(turned)
                .or(framing.original),
            crop: given.negative_crop.map_or(framing.crop, turned),
            target: given.negative_target_size.map(turned).or(framing.target),
        };
        let score = given.aesthetic_score;
        let negative_score = given.negative_aesthetic_score;
        Added {
            second_prompts: self.second_prompts.clone(),
            second_negative_prompts: self.second_negative_prompts.clone(),
            third_prompts: self.third_prompts.clone(),
            third_negative_prompts: self.third_negative_prompts.clone(),
            framing,
            negative_framing: (negative != framing).then_some(negative),
            aesthetic_score: score.unwrap_or(silent.aesthetic_score),
            negative_aesthetic_score: negative_score.unwrap_or(silent.negative_aesthetic_score),
        }
    }
}

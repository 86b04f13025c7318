//! Whether a request says what its model understands, and no more.

use super::added::Added;
use super::asked::Request;
use super::noise::Seeds;
use super::stage::Stage;
use crate::error::RequestError;
use crate::pipeline::config::{ModelConfig, TextConfig};

impl Request {
    /// Whether the model makes its pictures from what the request says: nothing is silently left out.
    pub(super) fn check_subject(&self, model: &ModelConfig) -> Result<(), RequestError> {
        let texts = [
            ("prompt", &self.prompts),
            ("negative_prompt", &self.negative_prompts),
        ];
        let said = |texts: &[String]| texts.iter().any(|text| !text.is_empty());
        let text = texts.into_iter().find(|(_, texts)| said(texts));
        let text = text.map(|(name, _)| name);
        if let Some(classes) = model.classes() {
            return match text {
                Some(_) => Err(RequestError::NoText {
                    classes: classes.count,
                }),
                None => classes.check_labels(&self.class_labels),
            };
        }
        if !self.class_labels.is_empty() {
            return Err(RequestError::NoClasses);
        }
        let guides = self.guidance_scale.is_some_and(|scale| scale > 1.0);
        match text.or(guides.then_some("guidance_scale")) {
            Some(condition) if !model.reads_text() => {
                Err(RequestError::Unconditional { condition })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_prompts(&self) -> Result<(), RequestError> {
        let (prompts, negative) = (self.prompts.len(), self.negative_prompts.len());
        if self.items() == 0 {
            return Err(RequestError::NoPictures);
        }
        if negative > 1 && negative != prompts {
            return Err(RequestError::NegativePrompts { prompts, negative });
        }
        match &self.seeds {
            Seeds::Each(seeds) if seeds.len() != self.items() => Err(RequestError::Seeds {
                seeds: seeds.len(),
                pictures: self.items(),
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn check_stage(&self, model: &ModelConfig) -> Result<(), RequestError> {
        let texts = model.texts();
        match self.stage {
            Stage::Begin { .. } | Stage::Finish { .. } if texts.is_none() => {
                Err(RequestError::NotSdxl { role: "model" })
            }
            // A refiner can also improve a picture that is there.
            Stage::Whole if self.edit.is_some() => Ok(()),
            Stage::Whole | Stage::Begin { .. } if texts.is_some_and(TextConfig::refines) => {
                Err(RequestError::RefinerAlone)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_added(&self, model: &ModelConfig) -> Result<(), RequestError> {
        let Added {
            second_prompts: second,
            second_negative_prompts: negative,
            ..
        } = &self.added;
        let given = !second.is_empty() || !negative.is_empty();
        let text = model.texts();
        let encoders = text.map_or(0, |text| text.encoders.len());
        if given && encoders < 2 {
            return Err(RequestError::NoSecondEncoder);
        }
        let told = text.and_then(|text| text.added);
        self.added.check(told.map(|inputs| inputs.numbers))?;
        let prompts = self.prompts.len();
        if !second.is_empty() && second.len() != prompts {
            let second = second.len();
            return Err(RequestError::SecondPrompts { prompts, second });
        }
        if negative.len() > 1 && negative.len() != prompts {
            let negative = negative.len();
            return Err(RequestError::NegativePrompts { prompts, negative });
        }
        Ok(())
    }

    /// Of `texts`, none, one for all or one a prompt, that of every prompt.
    pub(in crate::pipeline) fn one_each<'a>(&self, texts: &'a [String]) -> Vec<&'a str> {
        let one = |index: usize| match texts {
            [] => "",
            [one] => one,
            each => &each[index],
        };
        (0..self.prompts.len()).map(one).collect()
    }
}

//! Whether a request says what its model understands, and no more.

use burn::tensor::Tensor;

use super::added::Added;
use super::asked::Request;
use super::embeds::PromptEmbeds;
use super::noise::Seeds;
use super::stage::Stage;
use super::subject::Subject;
use crate::error::RequestError;
use crate::pipeline::config::{Films, ModelConfig, SourceConfig, TextConfig};

impl Request {
    /// Whether the model makes its pictures from what the request says: nothing is silently left out.
    pub(super) fn check_subject(&self, model: &ModelConfig) -> Result<(), RequestError> {
        match (&model.source, &self.subject) {
            (
                SourceConfig::Texts(_) | SourceConfig::Joint(_) | SourceConfig::Sentences(_),
                Subject::Prompts(_),
            ) => Ok(()),
            (SourceConfig::Classes(classes), subject) => match (self.text(), subject) {
                (None, subject) => classes.check_labels(subject.classes()),
                (Some(_), _) => Err(RequestError::NoText {
                    classes: classes.count,
                }),
            },
            (_, Subject::Classes(_)) => Err(RequestError::NoClasses),
            (SourceConfig::Picture(_), subject) => match (self.text(), subject) {
                (None, Subject::Picture { .. }) => Ok(()),
                (None, _) => Err(RequestError::NothingToFilm),
                (Some(condition), _) => Err(RequestError::NoTextInFilms { condition }),
            },
            (
                SourceConfig::Texts(_) | SourceConfig::Joint(_) | SourceConfig::Sentences(_),
                subject,
            ) => Err(RequestError::NoPrompt {
                given: subject.kind(),
            }),
            (SourceConfig::Nothing, Subject::Picture { .. }) => Err(RequestError::NoPictureStart),
            (SourceConfig::Nothing, _) => match self.text().or(self.guide()) {
                Some(condition) => Err(RequestError::Unconditional { condition }),
                None => Ok(()),
            },
        }
    }

    /// The option that says something in words.
    fn text(&self) -> Option<&'static str> {
        let said = |texts: &[String]| texts.iter().any(|text| !text.is_empty());
        let texts = [
            ("prompt", self.subject.prompts()),
            ("negative_prompt", &self.negative_prompts),
        ];
        let text = texts.into_iter().find(|(_, texts)| said(texts));
        text.map(|(name, _)| name)
    }

    /// The option that has a condition guide.
    fn guide(&self) -> Option<&'static str> {
        let guides = self.guidance_scale.is_some_and(|scale| scale > 1.0);
        guides.then_some("guidance_scale")
    }

    pub(super) fn check_prompts(&self) -> Result<(), RequestError> {
        let (prompts, negative) = (self.subject.count(), self.negative_prompts.len());
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

    /// Refuses encoded prompts that are not the model's, or not of these prompts.
    pub(super) fn check_embeds(&self, model: &ModelConfig) -> Result<(), RequestError> {
        let Some(embeds) = &self.prompt_embeds else {
            return Ok(());
        };
        let read = match &model.source {
            SourceConfig::Sentences(sentences) => {
                let tokens = self.text_length.unwrap_or(sentences.tokens);
                Some((tokens, sentences.width)).filter(|_| embeds.pooled.is_none())
            }
            SourceConfig::Joint(texts) => {
                let tokens = texts.tokens(self.text_length);
                Some((tokens, texts.width)).filter(|_| embeds.pooled.is_some())
            }
            _ => None,
        };
        let Some((tokens, width)) = read else {
            return Err(RequestError::NotTaken {
                option: "prompt_embeds",
                what: "such encoded prompts",
                hint: "models that read prompts through T5 do, and those that read them through CLIP besides take `pooled` as well",
            });
        };
        let expected = [self.subject.count(), tokens, width];
        let both = [&embeds.prompts, &embeds.negative].map(Tensor::dims);
        if let Some(found) = both.into_iter().find(|found| *found != expected) {
            return Err(RequestError::PromptEmbeds { found, expected });
        }
        if let (SourceConfig::Joint(texts), Some(pooled)) = (&model.source, &embeds.pooled) {
            let expected = [self.subject.count(), texts.pooled()];
            let mut both = pooled.iter().map(Tensor::dims);
            if let Some(found) = both.find(|found| *found != expected) {
                return Err(RequestError::PooledEmbeds { found, expected });
            }
        }
        self.check_lengths(embeds, tokens)
    }

    /// Refuses lengths of encoded prompts that are not of these prompts, each of so many `tokens`: rows are joined with them.
    fn check_lengths(&self, embeds: &PromptEmbeds, tokens: usize) -> Result<(), RequestError> {
        let prompts = self.subject.count();
        let both = [
            ("prompt_lengths", &embeds.prompt_lengths),
            ("negative_lengths", &embeds.negative_lengths),
        ];
        // Models that read prompts through CLIP besides look at all tokens.
        let all = embeds.pooled.is_some() || both.iter().all(|(_, lengths)| lengths.is_empty());
        let fits = |lengths: &[usize]| {
            let read = lengths.iter().all(|one| (1..=tokens).contains(one));
            lengths.len() == if all { 0 } else { prompts } && read
        };
        match both.into_iter().find(|(_, lengths)| !fits(lengths)) {
            None => Ok(()),
            Some((option, lengths)) => Err(RequestError::EmbedLengths {
                option,
                found: lengths.clone(),
                prompts,
                tokens,
            }),
        }
    }

    /// Refuses a number of tokens that the model does not let be said, or that is beyond what it reads.
    pub(super) fn check_text_length(&self, model: &ModelConfig) -> Result<(), RequestError> {
        let Some(tokens) = self.text_length else {
            return Ok(());
        };
        match model.longest_text() {
            Some(longest) if (1..=longest).contains(&tokens) => Ok(()),
            Some(longest) => Err(RequestError::TextLength { tokens, longest }),
            None => Err(RequestError::NotTaken {
                option: "text_length",
                what: "number of tokens to read",
                hint: "models that read prompts through T5 beside latents do",
            }),
        }
    }

    /// Refuses what has no place in films of so many `frames`.
    pub(super) fn check_film(
        &self,
        model: &ModelConfig,
        frames: usize,
    ) -> Result<(), RequestError> {
        if frames == 1 && !matches!(model.films(), Films::Trained { .. }) {
            return Ok(());
        }
        let refused = [
            ("init_image", self.edit.is_some()),
            ("refiner", self.stage != Stage::Whole),
        ];
        match refused.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(RequestError::NotOfFilms { option }),
            None => Ok(()),
        }
    }

    /// Whether there is a small picture where one is made larger, as far as the request says so by itself, and none where not.
    pub(super) fn check_low(&self, model: &ModelConfig) -> Result<(), RequestError> {
        let sentences = matches!(model.source, SourceConfig::Sentences(_));
        if sentences && self.clip_skip > 0 {
            return Err(RequestError::NotTaken {
                option: "clip_skip",
                what: "layers to leave out",
                hint: "models that read prompts through CLIP do",
            });
        }
        let Some(upscale) = &model.upscale else {
            let given = [
                ("noise_level", self.noise_level.is_some()),
                ("low", self.low.is_some()),
            ];
            return match given.into_iter().find(|(_, given)| *given) {
                Some((option, _)) => Err(RequestError::NotTaken {
                    option,
                    what: "small picture",
                    hint: "models that make a picture larger do",
                }),
                None => Ok(()),
            };
        };
        upscale.level(self.noise_level)?;
        let low = self.low.as_ref().map_or(1, |low| low.dims()[0]);
        let pictures = self.items();
        if low != 1 && low != pictures {
            return Err(RequestError::LowPictures { low, pictures });
        }
        Ok(())
    }

    /// Refuses what the loops of Text2Video-Zero have no place for.
    pub(super) fn check_loops(&self) -> Result<(), RequestError> {
        let refused = [
            ("guidance_until", self.guidance_until.is_some()),
            ("step_graphs", self.step_graphs),
        ];
        if self.cache.noise.is_some() {
            return Err(RequestError::NoiseInFilm);
        }
        match refused.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(RequestError::NotOfFilms { option }),
            None => Ok(()),
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
            third_prompts: third,
            third_negative_prompts: third_negative,
            ..
        } = &self.added;
        let encoders = model.source.texts_read();
        if encoders < 2 && !(second.is_empty() && negative.is_empty()) {
            return Err(RequestError::NoSecondEncoder);
        }
        if encoders < 3 && !(third.is_empty() && third_negative.is_empty()) {
            return Err(RequestError::NoThirdEncoder);
        }
        let told = model.texts().and_then(|text| text.added);
        self.added.check(told.map(|inputs| inputs.numbers))?;
        let prompts = self.subject.count();
        for second in [second, third] {
            if !second.is_empty() && second.len() != prompts {
                let second = second.len();
                return Err(RequestError::SecondPrompts { prompts, second });
            }
        }
        for negative in [negative, third_negative] {
            if negative.len() > 1 && negative.len() != prompts {
                let negative = negative.len();
                return Err(RequestError::NegativePrompts { prompts, negative });
            }
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
        (0..self.subject.count()).map(one).collect()
    }
}

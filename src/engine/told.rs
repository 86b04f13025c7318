//! What models with several text encoders were told besides the prompts, for the record of a run.

use serde::Serialize;

use crate::pipeline::Recipe;

/// What a run was told, in the words of the options; what was left out is left out.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_2: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative_prompt_2: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_3: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative_prompt_3: Option<String>,
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
    pub(crate) fn new(recipe: &Recipe) -> Self {
        let size = |[width, height]: [usize; 2]| format!("{width}x{height}");
        let corner = |[x, y]: [usize; 2]| format!("{x},{y}");
        let given = &recipe.framing;
        Self {
            prompt_2: recipe.second_prompts.first().cloned(),
            negative_prompt_2: recipe.second_negative_prompts.first().cloned(),
            prompt_3: recipe.third_prompts.first().cloned(),
            negative_prompt_3: recipe.third_negative_prompts.first().cloned(),
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
    pub(crate) fn texts(&self) -> Vec<(&'static str, String)> {
        let score = |score: Option<f64>| score.map(|score| score.to_string());
        let texts = [
            ("prompt 2", self.prompt_2.clone()),
            ("negative prompt 2", self.negative_prompt_2.clone()),
            ("prompt 3", self.prompt_3.clone()),
            ("negative prompt 3", self.negative_prompt_3.clone()),
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

//! What the web interface writes into pictures, for programs that read that: a prompt, what it avoids, and a line of settings.

use std::fmt::Write as _;

use crate::pipeline::Recipe;

/// The text `parameters` of a picture that `recipe` makes.
pub(super) fn write(recipe: &Recipe, model: &str) -> String {
    let mut text = recipe.prompts.first().cloned().unwrap_or_default();
    if let Some(negative) = recipe
        .negative_prompts
        .first()
        .filter(|negative| !negative.is_empty())
    {
        let _ = write!(text, "\nNegative prompt: {negative}");
    }
    let number = |number: Option<f64>| number.map(|number| number.to_string());
    let size = recipe
        .size
        .map(|[width, height]| format!("{width}x{height}"));
    let sampler = recipe.sampler.map(|sampler| sampler.name().to_owned());
    let settings = [
        ("Steps", recipe.steps.map(|steps| steps.to_string())),
        ("Sampler", sampler),
        ("CFG scale", number(recipe.guidance_scale)),
        ("Seed", recipe.seed_of(0).map(|seed| seed.to_string())),
        ("Size", size),
        ("Model hash", recipe.model.hash.clone()),
        ("Model", Some(model.to_owned())),
        ("Denoising strength", number(recipe.strength)),
        (
            "Version",
            Some(concat!("afterimage ", env!("CARGO_PKG_VERSION")).to_owned()),
        ),
    ];
    let said = settings
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key}: {}", value?)));
    let _ = write!(text, "\n{}", said.collect::<Vec<_>>().join(", "));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Seeds;

    #[test]
    fn settings_stand_below_the_prompts() {
        let recipe = Recipe {
            prompts: vec!["a fox".into()],
            negative_prompts: vec!["snow".into()],
            seed: Some(Seeds::One(7)),
            steps: Some(20),
            size: Some([64, 32]),
            ..Recipe::default()
        };
        let text = write(&recipe, "sd15");
        let start = "a fox\nNegative prompt: snow\nSteps: 20, Seed: 7, Size: 64x32, Model: sd15, Version: afterimage ";
        assert!(text.starts_with(start), "{text}");
    }
}

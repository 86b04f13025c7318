//! What the web interface writes into pictures, for programs that read that: a prompt, what it avoids, and a line of settings.

use std::fmt::Write as _;

use crate::pipeline::Recipe;

/// Samplers by the web interface's names, and ours.
pub(super) const SAMPLERS: [(&str, &str); 15] = [
    ("Euler a", "euler-a"),
    ("Euler", "euler"),
    ("LMS", "lms"),
    ("Heun", "heun"),
    ("DPM2", "dpm2"),
    ("DPM2 a", "dpm2-a"),
    ("DPM++ 2M", "dpmsolver++"),
    ("DPM++ 2M SDE", "dpmsolver++-sde"),
    ("DDIM", "ddim"),
    ("PLMS", "pndm"),
    ("UniPC", "unipc"),
    ("LCM", "lcm"),
    ("DDPM", "ddpm"),
    ("DEIS", "deis"),
    ("TCD", "tcd"),
];

/// How sigmas are laid out: the web interface's names and labels, and our endings.
pub(super) const SCHEDULERS: [(&str, &str, &str); 4] = [
    ("automatic", "Automatic", ""),
    ("karras", "Karras", "-karras"),
    ("exponential", "Exponential", "-exponential"),
    ("beta", "Beta", "-beta"),
];

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
    let named = recipe.sampler.map(|sampler| named(sampler.name()));
    let laid_out = named.and_then(|(_, layout)| layout);
    let settings = [
        ("Steps", recipe.steps.map(|steps| steps.to_string())),
        ("Sampler", named.map(|(name, _)| name.to_owned())),
        ("Schedule type", laid_out.map(str::to_owned)),
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

/// One of our samplers by the web interface's name, and how its sigmas are laid out if that is said apart; by ours where there is no other.
pub(super) fn named(word: &'static str) -> (&'static str, Option<&'static str>) {
    let laid_out = SCHEDULERS
        .iter()
        .filter(|(_, _, ending)| !ending.is_empty());
    let mut laid_out =
        laid_out.filter_map(|(_, label, ending)| Some((word.strip_suffix(*ending)?, *label)));
    let (bare, layout) = laid_out
        .next()
        .map_or((word, None), |(bare, label)| (bare, Some(label)));
    let known = SAMPLERS.iter().find(|(_, ours)| *ours == bare);
    known.map_or((word, None), |(name, _)| (*name, layout))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Seeds;

    #[test]
    fn samplers_are_called_as_the_web_interface_calls_them() {
        for (word, name, layout) in [
            ("euler-a", "Euler a", None),
            ("ddim", "DDIM", None),
            ("dpmsolver++-karras", "DPM++ 2M", Some("Karras")),
            ("dpmsolver++-sde-karras", "DPM++ 2M SDE", Some("Karras")),
            ("ddim-quad", "ddim-quad", None),
            ("flow-euler", "flow-euler", None),
        ] {
            assert_eq!(named(word), (name, layout));
        }
    }

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

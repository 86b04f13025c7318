//! What the controls say, as a recipe.

use std::str::FromStr;

use afterimage::cache::CacheRule;
use afterimage::pipeline::{Recipe, Seeds};

/// Rules that the menu offers, and what they are called there.
pub(crate) const RULES: [(&str, &str); 6] = [
    ("Everything at every step", "none"),
    (
        "DeepCache, every third step",
        "deepcache:interval=3,branch=0",
    ),
    (
        "DeepCache, every fifth step",
        "deepcache:interval=5,branch=0",
    ),
    ("Encoder propagation", "faster-diffusion"),
    ("The run decides (EasyCache)", "easycache:threshold=0.1"),
    ("As fast as twice, calibrated", "auto:speedup=2"),
];

/// What the controls say. Text that is empty leaves the choice to the model; what is not among the controls is as a replayed recipe has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wishes {
    base: Recipe,
    pub(crate) model: String,
    pub(crate) prompt: String,
    pub(crate) negative: String,
    pub(crate) seed: String,
    pub(crate) steps: String,
    pub(crate) guidance: String,
    pub(crate) frames: String,
    pub(crate) rule: String,
}

impl Wishes {
    /// Nothing but a model, and a rule that shows what the program is about.
    pub(crate) fn new(model: String) -> Self {
        Self {
            base: Recipe::default(),
            model,
            prompt: String::new(),
            negative: String::new(),
            seed: String::new(),
            steps: String::new(),
            guidance: String::new(),
            frames: String::new(),
            rule: RULES[1].1.to_owned(),
        }
    }

    /// What `recipe` says.
    pub(crate) fn of(recipe: Recipe) -> Self {
        let text = |texts: &[String]| texts.first().cloned().unwrap_or_default();
        let rule = recipe.cache.as_ref();
        Self {
            model: recipe.model.name.clone().unwrap_or_default(),
            prompt: text(&recipe.prompts),
            negative: text(&recipe.negative_prompts),
            seed: said(recipe.seed.as_ref().map(Seeds::first)),
            steps: said(recipe.steps),
            guidance: said(recipe.guidance_scale),
            frames: said(recipe.film.frames),
            rule: rule.map_or_else(|| RULES[0].1.to_owned(), text_of),
            base: recipe,
        }
    }

    /// The run that is asked for, or what is wrong with it.
    pub(crate) fn recipe(&self) -> Result<Recipe, String> {
        let mut recipe = self.base.clone();
        recipe.version = 1;
        let model = Some(self.model.trim().to_owned()).filter(|name| !name.is_empty());
        if recipe.model.name != model {
            recipe.model = afterimage::pipeline::RecipeModel {
                name: model,
                ..Default::default()
            };
        }
        put(&mut recipe.prompts, &self.prompt);
        put(&mut recipe.negative_prompts, &self.negative);
        let seed = number("seed", &self.seed)?;
        if recipe.seed.as_ref().map(Seeds::first) != seed {
            recipe.seed = seed.map(Seeds::One);
        }
        recipe.steps = number("steps", &self.steps)?;
        recipe.guidance_scale = number("guidance", &self.guidance)?;
        recipe.film.frames = number("frames", &self.frames)?;
        let rule: CacheRule = match self.rule.trim() {
            "" => CacheRule::none(),
            rule => rule
                .parse()
                .map_err(|error: afterimage::Error| error.to_string())?,
        };
        recipe.reuse((rule != CacheRule::none()).then_some(rule));
        Ok(recipe)
    }
}

/// `rule` as the menu has it, or as it writes itself.
fn text_of(rule: &CacheRule) -> String {
    let is_same = |text: &str| text.parse::<CacheRule>().is_ok_and(|known| known == *rule);
    let known = RULES.iter().find(|(_, text)| is_same(text));
    known.map_or_else(|| rule.to_string(), |(_, text)| (*text).to_owned())
}

/// `text` in place of the first of `texts`: further ones, of a batch, stay.
fn put(texts: &mut Vec<String>, text: &str) {
    match texts.first_mut() {
        Some(first) => text.clone_into(first),
        None if text.is_empty() => {}
        None => texts.push(text.to_owned()),
    }
    if texts.iter().all(String::is_empty) {
        texts.clear();
    }
}

fn said<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// What a control says in digits; nothing where it is empty.
fn number<T: FromStr>(name: &str, text: &str) -> Result<Option<T>, String> {
    match text.trim() {
        "" => Ok(None),
        text => match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(format!("`{text}` is no number for {name}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rules_of_the_menu_are_rules() {
        for (name, rule) in RULES {
            assert!(rule.parse::<CacheRule>().is_ok(), "{name}: {rule}");
        }
    }

    #[test]
    fn a_recipe_comes_back_from_the_controls() {
        let json = r#"{"version": 1, "model": {"name": "scenes"}, "prompts": ["a ring", "a star"],
            "seed": 7, "steps": 12, "guidance_scale": 3.5, "cache": "deepcache:interval=3,branch=0", "eta": 0.5}"#;
        let recipe = Recipe::from_json(json).unwrap();
        assert_eq!(Wishes::of(recipe.clone()).recipe(), Ok(recipe));
    }

    #[test]
    fn silence_leaves_the_choice_to_the_model() {
        let mut wishes = Wishes::new(String::new());
        wishes.rule.clear();
        let silent = wishes.recipe().unwrap();
        assert_eq!(
            silent,
            Recipe {
                version: 1,
                ..Recipe::default()
            }
        );
        wishes.prompt = "a ring".into();
        wishes.seed = "9".into();
        let asked = wishes.recipe().unwrap();
        assert_eq!(
            (asked.prompts, asked.seed),
            (vec!["a ring".into()], Some(Seeds::One(9)))
        );
    }

    #[test]
    fn what_is_no_number_is_named() {
        let mut wishes = Wishes::new(String::new());
        wishes.steps = "many".into();
        assert_eq!(wishes.recipe(), Err("`many` is no number for steps".into()));
        wishes.steps.clear();
        wishes.rule = "deepcash".into();
        assert!(wishes.recipe().unwrap_err().contains("`deepcash`"));
    }
}

//! Requests that differ in what they show and in their seeds alone: they can be one run, and are the same pictures.

use std::sync::Arc;

use super::{job::Job, work::Work};
use crate::pipeline::{Recipe, Seeds};

/// A job that a worker has taken.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) job: Arc<Job>,
    pub(super) work: Work,
}

/// What is the same of requests that can be one run; nothing for one that is made alone.
///
/// Alone are those of several pictures, those that start from a picture or follow one, chains of models, films, and rules that look at
/// what is computed: there one picture would decide over another.
pub(super) fn kind(recipe: &Recipe, plan: &serde_json::Value) -> Option<String> {
    let decided = plan["decided"].as_bool() == Some(true);
    let auto = recipe
        .cache
        .as_ref()
        .is_some_and(|rule| rule.auto.is_some());
    let several = recipe.refiner.is_some() || !recipe.upscalers.is_empty();
    let pictures = recipe.init_image.is_some() || !recipe.controls.is_empty();
    let latents = recipe.initial_latents.is_some();
    let items = plan["batch"].as_u64().unwrap_or(1) * plan["frames"].as_u64().unwrap_or(1);
    if decided || auto || several || pictures || latents || items > 1 {
        return None;
    }
    let mut same = recipe.clone();
    let texts = texts(&mut same);
    // No text at all is as many as are asked for; otherwise they are counted by their prompts.
    let counted = texts[0].len() == 1 || texts.iter().all(|texts| texts.is_empty());
    if !counted || texts.iter().any(|texts| texts.len() > 1) || recipe.classes.len() > 1 {
        return None;
    }
    for text in texts.into_iter().flatten() {
        text.clear();
    }
    same.classes.fill(0);
    (same.seed, same.batch, same.made) = (None, None, None);
    Some(same.to_json())
}

/// Everything that is said in words.
fn texts(recipe: &mut Recipe) -> [&mut Vec<String>; 6] {
    [
        &mut recipe.prompts,
        &mut recipe.negative_prompts,
        &mut recipe.second_prompts,
        &mut recipe.second_negative_prompts,
        &mut recipe.third_prompts,
        &mut recipe.third_negative_prompts,
    ]
}

/// The run of several requests of one [`kind`]: a picture each, in their order.
///
/// # Panics
///
/// If there are none.
pub(super) fn joined(runs: &[Run]) -> Recipe {
    let mut recipes = runs.iter().map(|run| run.work.recipe.clone());
    let mut whole = recipes.next().expect("a run is of at least one request");
    let first = whole.seed.as_ref().map_or(0, Seeds::first);
    let mut seeds = vec![first];
    for mut next in recipes {
        for (whole, next) in texts(&mut whole).into_iter().zip(texts(&mut next)) {
            whole.append(next);
        }
        whole.classes.append(&mut next.classes);
        seeds.push(next.seed.as_ref().map_or(0, Seeds::first));
    }
    let named = whole.prompts.len().max(whole.classes.len());
    whole.batch = (named == 0).then_some(seeds.len());
    whole.seed = Some(Seeds::Each(seeds));
    whole.made = None;
    whole
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn recipe(prompt: &str, seed: u64) -> Recipe {
        Recipe {
            prompts: vec![prompt.to_owned()],
            seed: Some(Seeds::One(seed)),
            steps: Some(20),
            ..Recipe::default()
        }
    }

    #[test]
    fn texts_and_seeds_alone_may_differ() {
        let plan = json!({"batch": 1});
        let kind = |recipe: &Recipe| kind(recipe, &plan);
        let fox = kind(&recipe("a fox", 1)).unwrap();
        assert_eq!(kind(&recipe("a hen", 2)).as_ref(), Some(&fox));
        let negative = Recipe {
            negative_prompts: vec!["snow".into()],
            ..recipe("a fox", 1)
        };
        let steps = Recipe {
            steps: Some(21),
            ..recipe("a fox", 1)
        };
        let rule = Recipe {
            cache: "deepcache:interval=3,branch=0".parse().ok(),
            ..recipe("a fox", 1)
        };
        for other in [negative, steps, rule] {
            let other = kind(&other);
            assert!(other.is_some() && other.as_ref() != Some(&fox), "{other:?}");
        }
        let two = Recipe {
            prompts: vec!["a fox".into(), "a hen".into()],
            ..recipe("", 1)
        };
        assert_eq!(kind(&two), None);
    }

    #[test]
    fn what_one_picture_would_decide_for_another_is_made_alone() {
        for plan in [
            json!({"batch": 1, "decided": true}),
            json!({"batch": 2}),
            json!({"batch": 1, "frames": 8}),
        ] {
            assert_eq!(kind(&recipe("a fox", 1), &plan), None, "{plan}");
        }
    }
}

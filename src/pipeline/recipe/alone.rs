//! Single items of a run.

use super::{Recipe, Seeds};
use crate::cache::CacheRule;

impl Recipe {
    /// What makes the item of that number alone, of `items`, bit for bit on the processor; nothing where it depends on the others, as where one
    /// seed draws the noise of all, or a rule decides by what is computed of all.
    pub fn alone(&self, item: usize, items: usize) -> Option<Self> {
        if items == 1 {
            return Some(self.clone());
        }
        let Some(Seeds::Each(seeds)) = &self.seed else {
            return None;
        };
        if self.cache.as_ref().is_some_and(CacheRule::decides) {
            return None;
        }
        let subjects = self.prompts.len().max(self.classes.len());
        let batch = self.batch.unwrap_or(1);
        if subjects > 1 && batch > 1 {
            return None;
        }
        let one = |texts: &[String]| match texts {
            [_, _, ..] if texts.len() == items => texts.get(item).cloned().into_iter().collect(),
            texts => texts.to_vec(),
        };
        let classes = match &self.classes[..] {
            [_, _, ..] => vec![*self.classes.get(item)?],
            classes => classes.to_vec(),
        };
        Some(Self {
            seed: Some(Seeds::One(*seeds.get(item)?)),
            batch: None,
            prompts: one(&self.prompts),
            negative_prompts: one(&self.negative_prompts),
            second_prompts: one(&self.second_prompts),
            second_negative_prompts: one(&self.second_negative_prompts),
            third_prompts: one(&self.third_prompts),
            third_negative_prompts: one(&self.third_negative_prompts),
            classes,
            ..self.clone()
        })
    }

    /// The seed of the item of that number, where it has one of its own or there is one for all.
    pub fn seed_of(&self, item: usize) -> Option<u64> {
        match self.seed.as_ref()? {
            Seeds::One(seed) => Some(*seed),
            Seeds::Each(seeds) => seeds.get(item).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_with_seeds_of_their_own_are_made_alone() {
        let recipe = Recipe {
            prompts: vec!["a fox".into()],
            batch: Some(3),
            seed: Some(Seeds::Each(vec![7, 8, 9])),
            ..Recipe::default()
        };
        let second = recipe.alone(1, 3).unwrap();
        assert_eq!((second.seed, second.batch), (Some(Seeds::One(8)), None));
        assert_eq!((recipe.seed_of(2), recipe.seed_of(3)), (Some(9), None));
        let together = Recipe {
            seed: Some(Seeds::One(7)),
            ..recipe
        };
        assert_eq!(together.alone(1, 3), None);
    }

    #[test]
    fn what_others_decide_over_is_not_made_alone() {
        let alone = |rule: &str| {
            let recipe = Recipe {
                batch: Some(2),
                seed: Some(Seeds::Each(vec![7, 8])),
                cache: Some(rule.parse().unwrap()),
                ..Recipe::default()
            };
            recipe.alone(0, 2).is_some() && recipe.alone(1, 2).is_some()
        };
        assert!(alone("deepcache:interval=2,branch=0"));
        for rule in [
            "easycache:threshold=0.1",
            "first-block:threshold=0.1",
            "dicache:threshold=0.1,branch=0",
            "deepcache:interval=2,branch=0,verify=0.1",
        ] {
            assert!(!alone(rule), "{rule}");
        }
    }

    #[test]
    fn texts_go_with_their_items() {
        let recipe = Recipe {
            prompts: vec!["a fox".into(), "a hen".into()],
            negative_prompts: vec!["snow".into()],
            seed: Some(Seeds::Each(vec![7, 8])),
            ..Recipe::default()
        };
        let second = recipe.alone(1, 2).unwrap();
        assert_eq!(second.prompts, ["a hen"]);
        assert_eq!(second.negative_prompts, ["snow"]);
    }
}

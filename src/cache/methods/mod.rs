//! One file a method: its name, its options, what it is in numbers, its text and its help.
//!
//! A new method is a file here and its line in [`ALL`]; the constructors of [`CacheRule`] stand beside the text they are written as.

mod auto;
mod deciders;
mod deepcache;
mod dit_propagation;
mod encoder_propagation;
pub(super) mod extras;
mod learning_to_cache;
mod method;
mod schedule;
mod taylorseer;
mod tgate;

use method::Method;

use super::rule::CacheRule;

/// All of them, in the order of the manual.
pub(super) static ALL: [Method; 12] = [
    deepcache::METHOD,
    encoder_propagation::METHOD,
    encoder_propagation::PRESET,
    encoder_propagation::PRESET_LDM,
    dit_propagation::METHOD,
    tgate::METHOD,
    learning_to_cache::METHOD,
    auto::METHOD,
    taylorseer::METHOD,
    deciders::EASYCACHE,
    deciders::FIRST_BLOCK,
    deciders::DICACHE,
];

/// A rule as the method reads it that it is of; `None` where nothing is reused.
pub(super) fn text(rule: &CacheRule) -> Option<String> {
    ALL.iter().find_map(|method| (method.text)(rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::rule::Cut;

    /// Methods of which a preset sets the rule: all others have rules of their own.
    const PRESETS: [&str; 2] = ["faster-diffusion", "faster-diffusion-ldm"];

    #[test]
    fn every_rule_is_of_one_method() {
        for (name, rule) in [
            ("deepcache", CacheRule::deepcache(3, 0)),
            ("encoder-propagation", CacheRule::faster_diffusion()),
            ("encoder-propagation", CacheRule::faster_diffusion_ldm()),
            ("dit-propagation", CacheRule::dit_propagation(4, vec![0, 2])),
            (
                "dit-propagation",
                CacheRule::dit_propagation_proportional(vec![0]),
            ),
            ("tgate", CacheRule::tgate(10)),
            ("easycache", CacheRule::easycache(0.1, Cut::AfterMiddle)),
            ("easycache", CacheRule::easycache(0.1, Cut::Cell(4))),
            ("easycache", CacheRule::easycache(0.1, Cut::Skip(0))),
        ] {
            let of = ALL.iter().filter(|method| (method.text)(&rule).is_some());
            let of: Vec<&str> = of.map(|method| method.name).collect();
            assert_eq!(of, [name], "{rule}");
        }
        assert_eq!(text(&CacheRule::none()), None);
    }

    #[test]
    fn presets_have_no_text_of_their_own() {
        let read = |method: &Method| method.example.parse::<CacheRule>().ok();
        let preset =
            |method: &&Method| read(method).is_some_and(|rule| (method.text)(&rule).is_none());
        let presets: Vec<&str> = ALL
            .iter()
            .filter(preset)
            .map(|method| method.name)
            .collect();
        assert_eq!(presets, PRESETS);
    }
}

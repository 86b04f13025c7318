//! Samplers by the names of the web interface.

use crate::{
    samplers::SamplerKind,
    serve::{
        fault::Fault,
        infotext::{SAMPLERS as NAMES, SCHEDULERS},
        read::short,
    },
};

/// Names of the web interface for samplers that are not here, and the nearest that is.
const NEAREST: [(&str, &str); 4] = [
    ("DPM++ SDE", "DPM++ 2M SDE"),
    ("DPM++ 2M SDE Heun", "DPM++ 2M SDE"),
    ("DPM++ 3M SDE", "DPM++ 2M SDE"),
    ("DPM++ 2S a", "DPM2 a"),
];

/// All samplers, each by the web interface's name where it has one, with our word.
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    SamplerKind::all().map(|kind| {
        let word = kind.name();
        let named = NAMES.iter().find(|(_, ours)| *ours == word);
        (named.map_or(word, |(name, _)| *name), word)
    })
}

/// Our word for a sampler and a scheduler; nothing where neither is asked for. Where the pair is not here, the nearest is taken with a word
/// in `warnings`: a web interface makes a picture then, and does not refuse it.
///
/// # Errors
///
/// If there is no such sampler.
pub(super) fn word(
    sampler: Option<&str>,
    scheduler: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<Option<String>, Fault> {
    let layout = scheduler.filter(|layout| !layout.is_empty());
    let layout = layout.filter(|layout| ending(layout) != Some(""));
    let Some(sampler) = sampler.filter(|sampler| !sampler.is_empty()) else {
        warnings.extend(layout.map(|layout| {
            format!(
                "the scheduler `{}` goes with a sampler, and none is named; it was ignored",
                short(layout)
            )
        }));
        return Ok(None);
    };
    // As they were called before schedulers had names of their own.
    let (bare, layout) = match sampler.rsplit_once(' ') {
        Some((bare, old)) if ending(old).is_some() => (bare, layout.or(Some(old))),
        _ => (sampler, layout),
    };
    let named = |asked: &str| {
        let found = NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(asked));
        found.map_or(asked, |(_, word)| *word).to_owned()
    };
    let nearest = NEAREST
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(bare));
    let word = match nearest {
        Some((missed, near)) => {
            warnings.push(format!(
                "there is no sampler `{missed}`; `{near}` was taken"
            ));
            named(near)
        }
        None => named(bare),
    };
    if !is_known(&word) {
        let message = format!("there is no sampler `{}`", short(sampler));
        return Err(Fault::value("sampler_name", message)
            .hint("`GET /sdapi/v1/samplers` lists those there are"));
    }
    let Some(layout) = layout else {
        return Ok(Some(word));
    };
    let laid_out = format!("{word}{}", ending(layout).unwrap_or("?"));
    if is_known(&laid_out) {
        return Ok(Some(laid_out));
    }
    warnings.push(format!(
        "the sampler `{}` has no scheduler `{}`; its own was taken",
        short(bare),
        short(layout)
    ));
    Ok(Some(word))
}

fn is_known(word: &str) -> bool {
    word.parse::<SamplerKind>().is_ok()
}

fn ending(layout: &str) -> Option<&'static str> {
    let found = SCHEDULERS
        .iter()
        .find(|(name, _, _)| name.eq_ignore_ascii_case(layout));
    found.map(|(_, _, ending)| *ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_web_interface_are_known() {
        for (sampler, scheduler, expected) in [
            ("Euler a", None, "euler-a"),
            ("DPM++ 2M Karras", None, "dpmsolver++-karras"),
            ("DPM++ 2M", Some("Karras"), "dpmsolver++-karras"),
            ("euler", Some("automatic"), "euler"),
            ("ddim-quad", None, "ddim-quad"),
        ] {
            let mut warnings = Vec::new();
            let word = word(Some(sampler), scheduler, &mut warnings);
            assert_eq!(word, Ok(Some(expected.to_owned())));
            assert!(warnings.is_empty(), "{warnings:?}");
        }
        let none = word(None, Some("automatic"), &mut Vec::new());
        assert_eq!(none, Ok(None));
        for sampler in ["Restart", "karras", "Euler karras karras"] {
            assert!(
                word(Some(sampler), None, &mut Vec::new()).is_err(),
                "{sampler}"
            );
        }
    }

    #[test]
    fn what_is_not_here_gives_way_to_the_nearest_with_a_word() {
        for (sampler, scheduler, expected) in [
            (Some("Euler a"), Some("karras"), Some("euler-a")),
            (Some("Euler a Karras"), None, Some("euler-a")),
            (Some("Euler"), Some("sgm_uniform"), Some("euler")),
            (
                Some("DPM++ SDE Karras"),
                None,
                Some("dpmsolver++-sde-karras"),
            ),
            (None, Some("karras"), None),
        ] {
            let mut warnings = Vec::new();
            let word = word(sampler, scheduler, &mut warnings);
            assert_eq!(word, Ok(expected.map(str::to_owned)), "{sampler:?}");
            assert_eq!(warnings.len(), 1, "{sampler:?}: {warnings:?}");
        }
    }

    #[test]
    fn every_name_has_a_sampler() {
        let names = NAMES.map(|(name, _)| name);
        assert!(NEAREST.iter().all(|(_, near)| names.contains(near)));
        for (name, ours) in NAMES {
            assert!(ours.parse::<SamplerKind>().is_ok(), "{name}");
        }
    }
}

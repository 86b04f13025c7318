//! Samplers by the names of the web interface.

use crate::{
    samplers::SamplerKind,
    serve::{fault::Fault, read::short},
};

/// Its names, and ours.
const NAMES: [(&str, &str); 15] = [
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

/// All samplers, each by the web interface's name where it has one, with our word.
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    SamplerKind::all().map(|kind| {
        let word = kind.name();
        let named = NAMES.iter().find(|(_, ours)| *ours == word);
        (named.map_or(word, |(name, _)| *name), word)
    })
}

/// Our word for a sampler and a scheduler; nothing where neither is asked for.
pub(super) fn word(
    sampler: Option<&str>,
    scheduler: Option<&str>,
) -> Result<Option<String>, Fault> {
    let Some(sampler) = sampler.filter(|sampler| !sampler.is_empty()) else {
        return Ok(None);
    };
    // As they were called before schedulers had names of their own.
    let (bare, old) = match sampler.rsplit_once(' ') {
        Some((bare, layout)) if ending(layout).is_some() => (bare, ending(layout)),
        _ => (sampler, None),
    };
    let known = NAMES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(bare));
    let word = known.map_or(bare, |(_, word)| *word);
    let layout = scheduler.filter(|layout| !layout.is_empty());
    let ending = match layout {
        None => old.unwrap_or(""),
        Some(layout) => ending(layout).or(old).ok_or_else(|| {
            let message = format!("there is no scheduler `{}`", short(layout));
            Fault::value("scheduler", message)
                .hint("`GET /sdapi/v1/schedulers` lists those there are")
        })?,
    };
    let word = format!("{word}{ending}");
    let known = word.parse::<SamplerKind>().is_ok();
    if known {
        return Ok(Some(word));
    }
    let message = format!("there is no sampler `{}`", short(sampler));
    let message = if ending.is_empty() {
        message
    } else {
        format!("{message} with the scheduler `{}`", &ending[1..])
    };
    Err(Fault::value("sampler_name", message)
        .hint("`GET /sdapi/v1/samplers` lists those there are"))
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
            assert_eq!(
                word(Some(sampler), scheduler),
                Ok(Some(expected.to_owned()))
            );
        }
        assert_eq!(word(None, Some("karras")), Ok(None));
        for (sampler, scheduler) in [
            ("Restart", None),
            ("Euler", Some("sgm")),
            ("DDIM", Some("karras")),
        ] {
            assert!(word(Some(sampler), scheduler).is_err(), "{sampler}");
        }
    }

    #[test]
    fn every_name_has_a_sampler() {
        for (name, ours) in NAMES {
            assert!(ours.parse::<SamplerKind>().is_ok(), "{name}");
        }
    }
}

//! Samplers as other programs call them: web interfaces, nodes, libraries of commands and diffusers' classes.

use super::rules;

/// Names without case, blanks and marks, `pp` for `++`; and our words.
const NAMES: [(&str, &str); 30] = [
    ("ddim", "ddim"),
    ("ddimquad", "ddim-quad"),
    ("plms", "pndm"),
    ("pndm", "pndm"),
    ("ddpm", "ddpm"),
    ("dpmsolver", "dpmsolver"),
    ("dpm2m", "dpmsolver"),
    ("dpmpp", "dpmsolver++"),
    ("dpmsolverpp", "dpmsolver++"),
    ("dpmpp2m", "dpmsolver++"),
    ("dpmpp2msde", "dpmsolver++-sde"),
    ("dpmsolverppsde", "dpmsolver++-sde"),
    ("dpmpp2s", "dpmsolver-singlestep"),
    ("euler", "euler"),
    ("eulera", "euler-a"),
    ("eulerancestral", "euler-a"),
    ("heun", "heun"),
    ("dpm2", "dpm2"),
    ("kdpm2", "dpm2"),
    ("dpm2a", "dpm2-a"),
    ("dpm2ancestral", "dpm2-a"),
    ("kdpm2a", "dpm2-a"),
    ("unipc", "unipc"),
    ("unipcbh2", "unipc"),
    ("deis", "deis"),
    ("lms", "lms"),
    ("lcm", "lcm"),
    ("tcd", "tcd"),
    ("floweuler", "flow-euler"),
    ("flowmatcheuler", "flow-euler"),
];

/// The same of samplers that are not here: the nearest of ours.
const NEAREST: [(&str, &str); 8] = [
    ("dpmpp2mv2", "dpmsolver++"),
    ("dpmpp3m", "dpmsolver++"),
    ("dpmppsde", "dpmsolver++-sde"),
    ("dpmpp3msde", "dpmsolver++-sde"),
    ("dpmpp2msdeheun", "dpmsolver++-sde"),
    ("dpmpp2sa", "dpm2-a"),
    ("dpmpp2sancestral", "dpm2-a"),
    ("unipcbh1", "unipc"),
];

/// Endings that lay sigmas out, as others and as we write them.
const LAYOUTS: [(&str, &str); 4] = [
    ("karras", "-karras"),
    ("exponential", "-exponential"),
    ("beta", "-beta"),
    // `dpmpp_2m_k`
    ("_k", "-karras"),
];

/// What to do about a word that is none of ours, which `is_ours` tells.
pub(super) fn hint(name: &str, is_ours: impl Fn(&str) -> bool) -> Option<String> {
    if let Some(class) = rules::class(name) {
        return Some(format!("diffusers' `{name}` is `{}`", class.words[0].name));
    }
    let lower = name.to_ascii_lowercase();
    let layout = LAYOUTS
        .iter()
        .find_map(|(theirs, ours)| Some((lower.strip_suffix(theirs)?, *ours)));
    let (bare, ending) = layout.unwrap_or((lower.as_str(), ""));
    if layout.is_some() && bare.is_empty() {
        return Some(format!(
            "it lays the noise levels out, and is an ending of some words, as in `euler{ending}`"
        ));
    }
    let bare = bare.strip_prefix("sample_").unwrap_or(bare);
    let bare = plain(bare.strip_prefix("k_").unwrap_or(bare));
    let find = |names: &[(&str, &'static str)]| {
        let found = names.iter().find(|(theirs, _)| *theirs == bare);
        found.map(|(_, ours)| *ours)
    };
    let (word, is_near) = match find(&NAMES) {
        Some(word) => (word, false),
        None => (find(&NEAREST)?, true),
    };
    let laid_out = format!("{word}{ending}");
    Some(match (is_ours(&laid_out), is_near) {
        (true, false) => format!("it is `{laid_out}` here"),
        (true, true) => format!("the nearest is `{laid_out}`"),
        (false, _) => format!("the nearest is `{word}`, which has no `{ending}`"),
    })
}

/// Letters and digits alone.
fn plain(name: &str) -> String {
    let letters = name.replace("++", "pp");
    letters
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samplers::SamplerKind;

    fn is_ours(word: &str) -> bool {
        word.parse::<SamplerKind>().is_ok()
    }

    fn hint(name: &str) -> Option<String> {
        super::hint(name, is_ours)
    }

    #[test]
    fn names_of_other_programs_lead_to_ours() {
        for (theirs, said) in [
            ("Euler a", "it is `euler-a` here"),
            ("euler_ancestral", "it is `euler-a` here"),
            ("k_euler_a", "it is `euler-a` here"),
            ("EULER", "it is `euler` here"),
            ("PLMS", "it is `pndm` here"),
            ("DPM++ 2M Karras", "it is `dpmsolver++-karras` here"),
            ("dpmpp_2m_k", "it is `dpmsolver++-karras` here"),
            ("dpm++2m", "it is `dpmsolver++` here"),
            ("sample_dpmpp_2m", "it is `dpmsolver++` here"),
            ("dpmpp_2m_sde", "it is `dpmsolver++-sde` here"),
            ("uni_pc", "it is `unipc` here"),
            ("kdpm_2_a", "it is `dpm2-a` here"),
            (
                "DPM++ SDE Karras",
                "the nearest is `dpmsolver++-sde-karras`",
            ),
            (
                "Euler a Karras",
                "the nearest is `euler-a`, which has no `-karras`",
            ),
            (
                "EulerDiscreteScheduler",
                "diffusers' `EulerDiscreteScheduler` is `euler`",
            ),
        ] {
            assert_eq!(hint(theirs).as_deref(), Some(said), "{theirs}");
        }
        assert!(hint("karras").is_some_and(|said| said.contains("`euler-karras`")));
        for unknown in ["", "restart", "normal", "_", "++", "ü"] {
            assert_eq!(hint(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_name_leads_to_a_sampler() {
        for (theirs, ours) in NAMES.iter().chain(&NEAREST) {
            assert!(is_ours(ours), "{ours}");
            assert_eq!(plain(theirs), *theirs);
        }
    }
}

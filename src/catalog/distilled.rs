//! What a name says of a model that was distilled for few steps.
//!
//! **Source.** The names of the published models and `LoRA`s: SD and SDXL Turbo (Sauer et al., arXiv 2311.17042), latent consistency models
//! (Luo et al., arXiv 2310.04378 and 2311.05556), SDXL Lightning (Lin et al., arXiv 2402.13929), Hyper-SD (Ren et al., arXiv 2404.13686),
//! trajectory consistency (Zheng et al., arXiv 2402.19159).

/// How a model was distilled, as far as that decides how it is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distillation {
    /// Against a discriminator: one to four steps.
    Turbo,
    /// Progressively, against a discriminator: as many steps as the file is for.
    Lightning,
    /// Along whole trajectories, by parts.
    Hyper,
    /// Trajectory consistency.
    Trajectory,
    /// Latent consistency.
    Consistency,
}

/// Words of names, and what they say.
const WORDS: [(&str, Distillation); 6] = [
    ("turbo", Distillation::Turbo),
    ("lightning", Distillation::Lightning),
    ("hyper", Distillation::Hyper),
    ("tcd", Distillation::Trajectory),
    ("lcm", Distillation::Consistency),
    ("consistency", Distillation::Consistency),
];

/// Turbo models of one step, by the words of their names.
const ONE_STEP: [&[&str]; 4] = [
    &["sd", "turbo"],
    &["sdxl", "turbo"],
    &["sd", "xl", "turbo"],
    &["sd", "2", "1", "turbo"],
];

/// Timestep of Hyper-SD's only step.
const HYPER_FIRST: usize = 800;

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) kind: Distillation,
    /// The word that says it.
    pub(crate) word: &'static str,
    /// Steps that it is made for.
    pub(crate) steps: usize,
}

impl Named {
    /// Of a model or a file; folders in front of it do not count.
    pub(crate) fn read(name: &str) -> Option<Self> {
        let separators = ['/', '\\'];
        let name = name.trim_end_matches(separators);
        let file = name.rsplit(separators).next().unwrap_or(name);
        let words = file.split(|letter: char| !letter.is_ascii_alphanumeric());
        let joined: Vec<String> = words.clone().flat_map(apart).collect();
        let words: Vec<String> = words.map(str::to_lowercase).collect();
        let said = |(word, kind): &&(&'static str, Distillation)| {
            let has = |words: &[String]| words.iter().any(|one| one == word);
            // Of names of people's own, `hyperRealism` is a style.
            has(&words) || (*kind != Distillation::Hyper && has(&joined))
        };
        let (word, kind) = *WORDS.iter().find(said)?;
        let one = ONE_STEP.iter().any(|name| begins(&words, name));
        let usual = if one { 1 } else { 4 };
        let steps = steps(&words).or_else(|| steps(&joined));
        Some(Self {
            kind,
            word,
            steps: steps.unwrap_or(usual),
        })
    }

    /// Class of its sampler in diffusers, in a family that has pooled texts (`xl`) or has none.
    pub(crate) fn scheduler(self, xl: bool) -> &'static str {
        match self.kind {
            Distillation::Turbo if xl => "EulerAncestralDiscreteScheduler",
            Distillation::Turbo | Distillation::Lightning => "EulerDiscreteScheduler",
            Distillation::Hyper if self.first_timestep(xl).is_some() => "LCMScheduler",
            Distillation::Hyper | Distillation::Trajectory => "TCDScheduler",
            Distillation::Consistency => "LCMScheduler",
        }
    }

    /// Where its only step begins, if not at the noisiest timestep: Hyper-SD's U-Net of one step for SDXL, as its card has it.
    pub(crate) fn first_timestep(self, xl: bool) -> Option<usize> {
        let one = xl && self.kind == Distillation::Hyper && self.steps == 1;
        one.then_some(HYPER_FIRST)
    }
}

impl Distillation {
    /// Its sampler by the word of the command line.
    pub(crate) fn sampler(self) -> &'static str {
        match self {
            Self::Turbo | Self::Lightning => "euler",
            Self::Hyper | Self::Trajectory => "tcd",
            Self::Consistency => "lcm",
        }
    }
}

/// The words of one that is written together, in lower case: `v9Rdphoto2Lightning` has `v`, `9`, `rdphoto`, `2`, `lightning`.
fn apart(word: &str) -> Vec<String> {
    let kind = |letter: &u8| (letter.is_ascii_digit(), letter.is_ascii_uppercase());
    let letters = word.as_bytes();
    let mut words: Vec<String> = Vec::new();
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| kind(&letters[at]));
        let ends_capitals = letters.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        let begins = match (before, kind(letter)) {
            (None, _) => true,
            (Some((digit, _)), (now, _)) if digit != now => true,
            (Some((_, upper)), (_, now)) => now && (!upper || ends_capitals),
        };
        if begins {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(letter.to_ascii_lowercase().into());
        }
    }
    words
}

fn begins(words: &[String], name: &[&str]) -> bool {
    words.len() >= name.len() && words.iter().zip(name).all(|(word, name)| word == name)
}

/// `8steps`, `4step`, `2-step`: the number.
fn steps(words: &[String]) -> Option<usize> {
    let together = |word: &String| {
        let digits = word.strip_suffix("steps").or(word.strip_suffix("step"))?;
        digits.parse().ok()
    };
    let apart = |pair: &[String]| {
        let stepped = pair[1] == "step" || pair[1] == "steps";
        pair[0].parse().ok().filter(|_| stepped)
    };
    let found: Option<usize> = words.iter().find_map(together);
    let found = found.or_else(|| words.windows(2).find_map(apart));
    found.filter(|steps| (1..=64).contains(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_published_models_say_how_they_are_sampled() {
        use Distillation::{Consistency, Hyper, Lightning, Trajectory, Turbo};
        for (name, kind, steps) in [
            ("stabilityai/sd-turbo", Turbo, 1),
            ("models/stable-diffusion-3.5-large-turbo/", Turbo, 4),
            ("models/sd_xl_turbo_1.0_fp16.safetensors", Turbo, 1),
            ("DreamShaperXL_Turbo_v2.safetensors", Turbo, 4),
            ("sdxl_lightning_8step_lora.safetensors", Lightning, 8),
            ("sdxl_lightning_4step.safetensors", Lightning, 4),
            ("Hyper-SD15-8steps-lora.safetensors", Hyper, 8),
            ("Hyper-SDXL-1step-Unet.safetensors", Hyper, 1),
            ("h1t/TCD-SD15-LoRA", Trajectory, 4),
            ("lcm-lora-sdv1-5", Consistency, 4),
            ("lightning-2-step.safetensors", Lightning, 2),
            ("dreamshaperXL_lightningDPMSDE.safetensors", Lightning, 4),
            ("realvisxlV40_v40TurboBakedvae.safetensors", Turbo, 4),
            ("juggernautXL_v9Rdphoto2Lightning.safetensors", Lightning, 4),
            ("sdxlLightning8Steps.safetensors", Lightning, 8),
            ("photonLCM_v10.safetensors", Consistency, 4),
            ("dreamshaper_8LCM.safetensors", Consistency, 4),
            ("modelXLTurbo.safetensors", Turbo, 4),
        ] {
            let named = Named::read(name).unwrap();
            assert_eq!((named.kind, named.steps), (kind, steps), "{name}");
        }
        let one = Named::read("Hyper-SDXL-1step-Unet").unwrap();
        assert_eq!(
            (one.first_timestep(true), one.scheduler(true)),
            (Some(800), "LCMScheduler")
        );
        assert_eq!(
            (one.first_timestep(false), one.scheduler(false)),
            (None, "TCDScheduler")
        );
        for name in [
            "turbo/model.safetensors",
            "hyperrealism.safetensors",
            "hyperRealism_v10.safetensors",
            "turboteenSlider.safetensors",
            "turbine",
            "",
        ] {
            assert_eq!(Named::read(name), None, "{name}");
        }
        assert_eq!(Named::read("lcm-0steps").unwrap().steps, 4);
    }
}

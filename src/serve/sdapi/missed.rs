//! Keys of the web interface that have no effect here: which are worth a word.
//!
//! Source: `AUTOMATIC1111/stable-diffusion-webui`, `modules/processing.py` and `modules/sd_samplers_*.py`, for what each value does there.

use serde_json::{Map, Value};

use super::numbers;

/// What a request is about.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct About<'a> {
    /// Our word for the sampler, where one is named.
    pub(super) sampler: Option<&'a str>,
    /// Whether a picture is changed.
    pub(super) of_picture: bool,
    /// Whether that has another size than what is made of it.
    pub(super) resized: bool,
    /// Whether a part of it is painted anew.
    pub(super) masked: bool,
}

/// When a key would have a say.
type When = fn(&About<'_>) -> bool;

const ALWAYS: When = |_| true;
const OF_PICTURE: When = |about| about.of_picture;
const RESIZED: When = |about| about.resized;
const MASKED: When = |about| about.masked;

/// Switches, texts and lists: what is off, empty or `None` says nothing.
const SWITCHES: [(&str, When); 9] = [
    ("styles", ALWAYS),
    ("restore_faces", ALWAYS),
    ("tiling", ALWAYS),
    ("enable_hr", ALWAYS),
    ("refiner_checkpoint", ALWAYS),
    ("script_name", ALWAYS),
    ("infotext", ALWAYS),
    ("latent_mask", OF_PICTURE),
    ("inpaint_full_res", MASKED),
];

/// A number's key, when it has a say, and which of its values say what is done anyway.
type Number = (&'static str, When, fn(f64) -> bool);

/// Numbers.
const NUMBERS: [Number; 16] = [
    ("subseed_strength", ALWAYS, |number| near(number, 0.0)),
    ("seed_resize_from_w", ALWAYS, |number| number <= 0.0),
    ("seed_resize_from_h", ALWAYS, |number| number <= 0.0),
    ("firstphase_width", ALWAYS, |number| near(number, 0.0)),
    ("firstphase_height", ALWAYS, |number| near(number, 0.0)),
    ("s_churn", ALWAYS, |number| near(number, 0.0)),
    ("s_noise", ALWAYS, |number| near(number, 1.0)),
    ("s_min_uncond", ALWAYS, |number| near(number, 0.0)),
    // Of models that guide by a text and a picture alone: 1 guides by none, 1.5 is where the interface's own slider stands.
    ("image_cfg_scale", OF_PICTURE, |number| {
        near(number, 1.0) || near(number, 1.5)
    }),
    ("initial_noise_multiplier", OF_PICTURE, |number| {
        near(number, 1.0)
    }),
    // Stretched.
    ("resize_mode", RESIZED, |number| near(number, 0.0)),
    ("mask_blur", MASKED, |number| near(number, 0.0)),
    ("mask_blur_x", MASKED, |number| near(number, 0.0)),
    ("mask_blur_y", MASKED, |number| near(number, 0.0)),
    // Latents are in or out.
    ("mask_round", MASKED, |number| !near(number, 0.0)),
    // What was there.
    ("inpainting_fill", MASKED, |number| near(number, 1.0)),
];

/// Words about keys that would have changed the picture.
pub(super) fn words(given: &Map<String, Value>, about: &About<'_>) -> Vec<String> {
    let switches = SWITCHES
        .iter()
        .filter(|(key, when)| when(about) && given.get(*key).is_some_and(is_on));
    let numbers = NUMBERS.iter().filter(|(key, when, silent)| {
        let given = given.get(*key).filter(|value| !value.is_null());
        when(about) && given.is_some_and(|value| !number(value).is_some_and(silent))
    });
    let keys = switches.map(|(key, _)| *key);
    let keys = keys.chain(numbers.map(|(key, _, _)| *key));
    let keys = keys.chain(misses_eta(given, about).then_some("eta"));
    keys.map(|key| format!("`{key}` has no effect here and was ignored"))
        .collect()
}

/// `eta`, where the sampler takes it.
pub(super) fn eta(given: &Map<String, Value>, about: &About<'_>) -> Option<f64> {
    let takes = about.sampler.is_some_and(takes_eta);
    given.get("eta").and_then(number).filter(|_| takes)
}

/// Ancestral samplers draw all of their noise, as is asked for by 1. Others take no `eta` there either.
fn misses_eta(given: &Map<String, Value>, about: &About<'_>) -> bool {
    let given = given.get("eta").filter(|value| !value.is_null());
    let sampler = about.sampler.unwrap_or_default();
    let all = ["euler-a", "dpm2-a", "dpmsolver++-sde"];
    let all = all.iter().any(|ours| {
        let ending = sampler.strip_prefix(ours);
        ending.is_some_and(|ending| ending.is_empty() || ending.starts_with('-'))
    });
    all && given.is_some_and(|value| !number(value).is_some_and(|number| near(number, 1.0)))
}

fn takes_eta(sampler: &str) -> bool {
    sampler.starts_with("ddim") || sampler == "tcd"
}

fn is_on(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => {
            !text.is_empty() && text != "None" && numbers::word(text) != Some(false)
        }
        Value::Array(list) => !list.is_empty(),
        other => !number(other).is_some_and(|number| near(number, 0.0)),
    }
}

fn near(number: f64, other: f64) -> bool {
    (number - other).abs() < 1e-9
}

/// A number as clients send it.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(on) => Some(f64::from(u8::from(*on))),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(given: &Value, about: About<'_>) -> String {
        let given = given.as_object().expect("an object");
        let words = words(given, &about).join("\n");
        words.replace(" has no effect here and was ignored", "")
    }

    const CHANGED: About<'_> = About {
        sampler: Some("euler"),
        of_picture: true,
        resized: true,
        masked: true,
    };

    #[test]
    fn keys_that_would_change_the_picture_are_told() {
        let given = json!({"tiling": true, "styles": [], "mask_blur": 4, "subseed_strength": 0.5, "script_name": ""});
        let words = named(&given, About::default());
        assert_eq!(words, "`tiling`\n`subseed_strength`");
        let given = json!({
            "s_churn": 10, "resize_mode": 1, "inpainting_fill": 2, "mask_blur": "4", "image_cfg_scale": 2.0,
            "initial_noise_multiplier": 0.9, "mask_round": false, "inpaint_full_res": true,
        });
        let words = named(&given, CHANGED);
        for key in given.as_object().expect("an object").keys() {
            assert!(words.contains(&format!("`{key}`")), "{key}: {words}");
        }
    }

    /// What front ends send with every request.
    #[test]
    fn values_that_say_what_is_done_anyway_are_not() {
        let given = json!({
            "s_churn": 0, "s_noise": "1.0", "s_tmin": 0, "s_tmax": 0, "s_min_uncond": 0.0, "eta": 0, "resize_mode": 0,
            "inpainting_fill": 1, "mask_blur": 0, "mask_round": true, "image_cfg_scale": 1.5, "initial_noise_multiplier": 1,
            "subseed": -1, "seed_resize_from_w": -1, "seed_resize_from_h": 0, "hr_scale": 2, "restore_faces": false,
            "refiner_checkpoint": "None", "firstphase_width": 0, "inpaint_full_res": 0, "latent_mask": null, "tiling": "False",
        });
        assert_eq!(named(&given, CHANGED), "");
        let given = json!({"resize_mode": 2, "inpainting_fill": 0, "mask_blur": 4, "inpaint_full_res": true});
        assert_eq!(named(&given, About::default()), "", "of a text");
    }

    #[test]
    fn eta_is_the_samplers() {
        let given = |eta: f64| json!({"eta": eta});
        let about = |sampler| About {
            sampler,
            ..About::default()
        };
        for (sampler, weighs) in [
            (None, false),
            (Some("euler"), false),
            (Some("euler-a"), true),
            (Some("dpmsolver++-sde-karras"), true),
        ] {
            for eta in [0.0, 0.5, 1.0] {
                let said = !named(&given(eta), about(sampler)).is_empty();
                assert_eq!(said, weighs && !near(eta, 1.0), "{sampler:?}: {eta}");
            }
        }
        let ddim = about(Some("ddim"));
        let half = given(0.5);
        assert_eq!(named(&half, ddim), "");
        assert_eq!(eta(half.as_object().expect("an object"), &ddim), Some(0.5));
    }
}

//! Answers of the web interface's form.

use std::time::SystemTime;

use axum::Json;
use serde_json::{Map, Value, json};

use crate::{
    pipeline::Recipe,
    samplers::SamplerKind,
    serve::{infotext, job::Seen},
};

/// Pictures of a request, which are not sent back.
const PICTURES: [&str; 3] = ["init_images", "mask", "alwayson_scripts"];

/// The request as it is sent back.
pub(super) fn echo(request: &Map<String, Value>) -> Value {
    let kept = request
        .iter()
        .filter(|(key, _)| !PICTURES.contains(&key.as_str()));
    Value::Object(
        kept.map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    )
}

/// The answer to a request for pictures.
pub(super) fn whole(seen: &Seen, images: Vec<String>, parameters: Value) -> Json<Value> {
    let mut answer = json!({
        "info": info(seen, images.len()).to_string(),
        "images": images,
        "parameters": parameters,
    });
    if !seen.warnings.is_empty() {
        answer["warnings"] = seen.warnings.clone().into();
    }
    Json(answer)
}

/// What a job was stopped at, as far as it is shown: one picture, which says as much as a finished one.
fn unfinished(seen: &Seen, shown: usize) -> Vec<Value> {
    let recipe = Recipe::from_json(&seen.recipe.to_string()).ok();
    let seed = recipe.and_then(|recipe| recipe.seed_of(0));
    let image = json!({"seed": seed, "recipe": seen.recipe.as_ref()});
    vec![image; shown]
}

/// How the pictures were made, for programs that read that; `shown` are in the answer.
fn info(seen: &Seen, shown: usize) -> Value {
    let images = seen.images.as_array().cloned();
    let images = images
        .filter(|images| !images.is_empty())
        .unwrap_or_else(|| unfinished(seen, shown));
    let recipe = images
        .first()
        .map_or(seen.recipe.as_ref(), |image| &image["recipe"]);
    let text = |key: &str| recipe[key][0].as_str().unwrap_or_default().to_owned();
    let (prompt, negative) = (text("prompts"), text("negative_prompts"));
    let seeds: Vec<Value> = images.iter().map(|image| image["seed"].clone()).collect();
    let count = images.len();
    let infotext = |image: &Value| {
        let recipe = Recipe::from_json(&image["recipe"].to_string()).ok();
        recipe.map_or_else(String::new, |recipe| infotext::write(&recipe, &seen.model))
    };
    let infotexts: Vec<_> = images.iter().map(infotext).collect();
    let sampler = recipe["sampler"]
        .as_str()
        .and_then(|word| word.parse().ok());
    let named = sampler.map(|sampler: SamplerKind| infotext::named(sampler.name()));
    let layout = named.and_then(|(_, layout)| layout);
    let extra = layout.map_or(json!({}), |layout| json!({"Schedule type": layout}));
    json!({
        "prompt": prompt,
        "all_prompts": vec![&prompt; count],
        "negative_prompt": negative,
        "all_negative_prompts": vec![&negative; count],
        "seed": seeds.first(),
        "all_seeds": seeds,
        "subseed": seeds.first(),
        "all_subseeds": seeds,
        "subseed_strength": 0,
        "width": recipe["size"][0],
        "height": recipe["size"][1],
        "sampler_name": named.map(|(name, _)| name),
        "cfg_scale": recipe["guidance_scale"],
        "steps": recipe["steps"],
        "batch_size": count,
        "restore_faces": false,
        "face_restoration_model": null,
        "sd_model_name": seen.model,
        "sd_model_hash": recipe["model"]["hash"],
        "sd_vae_name": recipe["model"]["vae"],
        "sd_vae_hash": null,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": recipe["strength"],
        "extra_generation_params": extra,
        "index_of_first_image": 0,
        "infotexts": infotexts,
        "styles": [],
        "comments": seen.warnings.join("\n"),
        "job_timestamp": timestamp(seen.created),
        "clip_skip": 1 + recipe["clip_skip"].as_u64().unwrap_or(0),
        "is_using_inpainting_conditioning": false,
        "version": concat!("afterimage ", env!("CARGO_PKG_VERSION")),
        "recipe": recipe,
    })
}

/// `20261129131500`, in UTC.
pub(super) fn timestamp(time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hours, minutes, seconds) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}{hours:02}{minutes:02}{seconds:02}")
}

/// Year, month and day of so many days after the first of 1970, by eras of 400 years that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        let at = |seconds| timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "19700101000000");
        assert_eq!(at(951_782_400), "20000229000000");
        assert_eq!(at(1_796_000_461), "20261130010101");
    }
}

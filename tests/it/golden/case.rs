//! The cases of the reference as requests.

use afterimage::cache::{CacheRule, Refresh};
use afterimage::image_io::{Mask, Picture};
use afterimage::inject::{Moment, PriorNoise};
use afterimage::pipeline::{
    Added, Control, Edit, FilmRequest, Framing, Request, Seeds, SkipLayers, Stage, Subject,
};
use serde_json::Value;

use crate::fixture::{Fixture, Reference};

pub(crate) fn request(fixture: &Fixture, case: &Value) -> Request {
    let call = &case["call"];
    let number = |key: &str| call[key].as_u64().map(|value| value as usize);
    let real = |key: &str| call[key].as_f64();
    Request {
        subject: subject(fixture, case),
        film: film(call),
        negative_prompts: strings(&call["negative_prompt"]),
        added: added(call),
        seeds: seeds(&call["seed"]),
        batch: number("num_images_per_prompt").unwrap_or(1),
        steps: number("num_inference_steps"),
        guidance_scale: real("guidance_scale").or(real("max_guidance_scale")),
        true_guidance_scale: real("true_cfg_scale"),
        guidance_rescale: real("guidance_rescale").unwrap_or(0.0),
        skip_layers: skipped(call),
        clip_skip: number("clip_skip").unwrap_or(0),
        text_length: number("max_sequence_length"),
        size: number("width").zip(number("height")),
        resolution_binning: call["use_resolution_binning"] != false,
        eta: real("eta").unwrap_or(0.0),
        stage: stage(call),
        cache: rule(&case["cache"]),
        edit: edit(fixture, case),
        controls: controls(fixture, case),
        ..Request::new("")
    }
}

fn skipped(call: &Value) -> SkipLayers {
    let share = |key: &str| call[format!("skip_layer_guidance_{key}")].as_f64();
    SkipLayers {
        layers: serde_json::from_value(call["skip_guidance_layers"].clone()).ok(),
        scale: share("scale"),
        from: share("start"),
        until: share("stop"),
    }
}

fn subject(fixture: &Fixture, case: &Value) -> Subject {
    if case["kind"] != "img2video" {
        return Subject::Prompts(strings(&case["call"]["prompt"]));
    }
    let file = case["image_file"].as_str().unwrap_or("image.png");
    Subject::picture(Picture::read(&fixture.file(file)).unwrap())
}

fn film(call: &Value) -> FilmRequest {
    let number = |key: &str| call[key].as_u64().map(|value| value as usize);
    let real = |key: &str| call[key].as_f64();
    FilmRequest {
        frames: number("num_frames").or(number("video_length")),
        fps: number("fps"),
        motion_bucket: number("motion_bucket_id"),
        noise_aug: real("noise_aug_strength"),
        guidance_first_frame: real("min_guidance_scale"),
        decode_chunk: number("decode_chunk_size"),
        motion_x: real("motion_field_strength_x"),
        motion_y: real("motion_field_strength_y"),
        motion_t0: number("t0"),
        motion_t1: number("t1"),
    }
}

fn stage(call: &Value) -> Stage {
    let share = |key: &str| call[key].as_f64();
    match (share("denoising_end"), share("denoising_start")) {
        (Some(until), _) => Stage::Begin { until },
        (_, Some(from)) => Stage::Finish { from },
        _ => Stage::Whole,
    }
}

fn edit(fixture: &Fixture, case: &Value) -> Option<Edit> {
    if case["kind"] == "img2video" {
        return None;
    }
    let masks = fixture.of(case, "mask_in");
    let masks = masks.iter().flat_map(pictures).map(Mask::new);
    Some(Edit {
        pictures: pictures(&fixture.of(case, "image_in")?),
        masks: masks.collect::<Result<_, _>>().unwrap(),
        strength: case["call"]["strength"].as_f64(),
        name: "the fixture's picture".into(),
    })
}

fn controls(fixture: &Fixture, case: &Value) -> Vec<Control> {
    let call = &case["call"];
    let scale = |index: usize| {
        let scale = &call["controlnet_conditioning_scale"];
        scale.as_f64().or_else(|| scale[index].as_f64())
    };
    let end = |key: &str| call[key].as_f64();
    let start = end("control_guidance_start").unwrap_or(0.0);
    let images = ["control_in", "control_in_2"].iter();
    let images = images.filter_map(|key| fixture.of(case, key)).enumerate();
    let control = |(index, image): (usize, Reference)| Control {
        scale: scale(index).unwrap_or(1.0),
        window: start..end("control_guidance_end").unwrap_or(1.0),
        guess: call["guess_mode"] == true,
        ..Control::new(0, pictures(&image).remove(0))
    };
    images.map(control).collect()
}

/// Pictures of `[rows, 1 or 3, height, width]` in bytes.
pub(crate) fn pictures(bytes: &Reference) -> Vec<Picture> {
    let [channels, height, width] = bytes.shape[1..] else {
        panic!("{:?} is no batch of pictures", bytes.shape);
    };
    let picture = |row: Reference| {
        let value = |channel: usize, place: usize| {
            let plane = channel.min(channels - 1);
            row.values[plane * height * width + place] as u8
        };
        Picture::from_fn(width, height, |x, y| {
            [0, 1, 2].map(|channel| value(channel, y * width + x))
        })
    };
    bytes.parts().map(picture).collect()
}

fn added(call: &Value) -> Added {
    let silent = Added::default();
    let score = |key: &str, silent: f64| call[key].as_f64().unwrap_or(silent);
    Added {
        second_prompts: strings(&call["prompt_2"]),
        second_negative_prompts: strings(&call["negative_prompt_2"]),
        third_prompts: strings(&call["prompt_3"]),
        third_negative_prompts: strings(&call["negative_prompt_3"]),
        framing: framing(call, ""),
        negative_framing: pair(&call["negative_original_size"]).map(|_| framing(call, "negative_")),
        aesthetic_score: score("aesthetic_score", silent.aesthetic_score),
        negative_aesthetic_score: score(
            "negative_aesthetic_score",
            silent.negative_aesthetic_score,
        ),
    }
}

fn framing(call: &Value, half: &str) -> Framing {
    let sides = |key: &str| pair(&call[format!("{half}{key}")]);
    Framing {
        original: sides("original_size"),
        crop: sides("crops_coords_top_left").unwrap_or_default(),
        target: sides("target_size"),
    }
}

fn pair(value: &Value) -> Option<[usize; 2]> {
    serde_json::from_value(value.clone()).ok()
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(texts) => texts
            .iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect(),
        _ => Vec::new(),
    }
}

fn seeds(value: &Value) -> Seeds {
    match value.as_array() {
        Some(seeds) => Seeds::Each(seeds.iter().map(|seed| seed.as_u64().unwrap()).collect()),
        None => Seeds::One(value.as_u64().unwrap()),
    }
}

/// The rule a case was made with. What ran in full is listed, as the package's own look-up is irregular for some samplers.
pub(crate) fn rule(cache: &Value) -> CacheRule {
    let list = |key: &str| {
        let steps = cache[key].as_array().unwrap().iter();
        Refresh::At(steps.map(|step| step.as_u64().unwrap() as usize).collect())
    };
    match cache["method"].as_str() {
        None => CacheRule::none(),
        Some("deepcache") => CacheRule::deepcache_skip(
            cache["skip_index"].as_u64().unwrap() as usize,
            list("full_steps"),
        ),
        Some("encoder_propagation") => {
            let rule =
                CacheRule::encoder_propagation(list("key_steps")).with_parallel(parallel(cache));
            match prior_noise(&cache["prior_noise"]) {
                Some(noise) => rule.with_noise(noise),
                None => rule,
            }
        }
        Some(_) => crate::dit::rule(cache, 0),
    }
}

fn parallel(cache: &Value) -> usize {
    let largest = |batches: &Vec<Value>| batches.iter().filter_map(Value::as_u64).max();
    cache["decoder_batches"]
        .as_array()
        .and_then(largest)
        .unwrap_or(1) as usize
}

fn prior_noise(value: &Value) -> Option<PriorNoise> {
    let at = match value["position"].as_str()? {
        "before model call" => Moment::BeforeCall,
        "before scheduler step" | "before scheduler.step" => Moment::BeforeStep,
        other => panic!("unknown position `{other}`"),
    };
    Some(PriorNoise {
        alpha: value["alpha"].as_f64()?,
        from: value["when_timestep_below"].as_f64()? / 1000.0,
        at,
    })
}

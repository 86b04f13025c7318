//! `ControlNets` as their extension sends them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::numbers;
use crate::serve::{asked::Ask, fault::Fault, pictures, read, server::Server, shelf::Shelf};

/// Thresholds of outlines where they are not said.
const CANNY: [f64; 2] = [100.0, 200.0];

/// Nets of one request.
const MOST: usize = 8;

/// One unit of the extension.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Unit {
    enabled: Option<bool>,
    module: Option<String>,
    model: Option<String>,
    #[serde(deserialize_with = "numbers::number")]
    weight: Option<f64>,
    image: Option<Value>,
    input_image: Option<Value>,
    #[serde(deserialize_with = "numbers::number")]
    guidance_start: Option<f64>,
    #[serde(deserialize_with = "numbers::number")]
    guidance_end: Option<f64>,
    control_mode: Option<Value>,
    #[serde(deserialize_with = "numbers::number")]
    threshold_a: Option<f64>,
    #[serde(deserialize_with = "numbers::number")]
    threshold_b: Option<f64>,
    // Without effect: pictures are brought to the size of the run as they are.
    resize_mode: Option<Value>,
    processor_res: Option<Value>,
    pixel_perfect: Option<Value>,
    lowvram: Option<Value>,
    low_vram: Option<Value>,
    mask: Option<Value>,
    guess_mode: Option<bool>,
    save_detected_map: Option<Value>,
    hr_option: Option<Value>,
}

/// Adds the nets of `scripts` to what is asked for.
pub(super) fn add(
    server: &Server,
    scripts: &BTreeMap<String, Value>,
    ask: &mut Ask,
) -> Result<(), Fault> {
    let script = scripts
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("controlnet"));
    let units = script.and_then(|(_, script)| script["args"].as_array());
    let units = units.map(Vec::as_slice).unwrap_or_default();
    if units.len() > MOST {
        let message = format!("of {} ControlNets the first {MOST} are used", units.len());
        ask.warnings.push(message);
    }
    let mut controls = Vec::new();
    for (number, unit) in units.iter().take(MOST).enumerate() {
        let Value::Object(unit) = unit else { continue };
        let (unit, words) = read::typed::<Unit>(unit.clone())?;
        ask.warnings.extend(words);
        let silent = unit
            .model
            .as_deref()
            .is_none_or(|model| model.is_empty() || model == "None");
        if unit.enabled == Some(false) || silent {
            continue;
        }
        controls.push(control(server, number, &unit, ask)?);
    }
    if !controls.is_empty() {
        ask.recipe["controls"] = controls.into();
    }
    Ok(())
}

fn control(server: &Server, number: usize, unit: &Unit, ask: &mut Ask) -> Result<Value, Fault> {
    let asked = unit.model.as_deref().unwrap_or_default();
    let bare = asked.split(" [").next().unwrap_or(asked);
    Shelf::find(&server.shelf().controls, bare, "ControlNet")?;
    let name = match picture(unit)? {
        Some(bytes) => {
            let name = format!("control-{number}");
            ask.files.insert(name.clone(), bytes);
            name
        }
        None if ask.files.contains_key("init_image") => "init_image".to_owned(),
        None => {
            let message = format!(
                "the ControlNet `{}` has no picture to follow",
                read::short(asked)
            );
            return Err(Fault::value("image", message));
        }
    };
    let [low, high] = [unit.threshold_a, unit.threshold_b];
    let positive =
        |given: Option<f64>, silent: f64| given.filter(|given| *given > 0.0).unwrap_or(silent);
    let canny = match unit
        .module
        .as_deref()
        .unwrap_or("none")
        .to_lowercase()
        .as_str()
    {
        "none" | "" => None,
        "canny" => {
            let ends = [positive(low, CANNY[0]), positive(high, CANNY[1])];
            // In either order, as the extension takes them.
            Some([ends[0].min(ends[1]), ends[0].max(ends[1])])
        }
        other => {
            let message = format!("there is no preprocessor `{}`", read::short(other));
            return Err(Fault::value("module", message)
                .hint("there are `none` and `canny`; send a picture that is prepared already"));
        }
    };
    let guess = match &unit.control_mode {
        Some(Value::String(mode)) => mode.starts_with("ControlNet"),
        Some(mode) => mode.as_u64() == Some(2),
        None => unit.guess_mode.unwrap_or(false),
    };
    let window = [
        unit.guidance_start.unwrap_or(0.0),
        unit.guidance_end.unwrap_or(1.0),
    ];
    Ok(json!({
        "model": bare,
        "image": {"path": name},
        "canny": canny,
        "scale": unit.weight.unwrap_or(1.0),
        "window": window,
        "guess": guess,
    }))
}

/// The picture of a unit: a text, or a text in an object.
fn picture(unit: &Unit) -> Result<Option<Vec<u8>>, Fault> {
    let given = unit.image.as_ref().or(unit.input_image.as_ref());
    let text = given.map(|given| given.get("image").unwrap_or(given));
    match text {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => read::base64("image", text).map(Some),
        Some(_) => Err(Fault::value(
            "image",
            "`image` of a ControlNet is no text in base64",
        )),
    }
}

/// A mask with light and dark exchanged.
pub(super) fn inverted(mask: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut luma = pictures::upright("mask", mask)?.into_luma8();
    luma.pixels_mut()
        .for_each(|pixel| pixel.0[0] = 255 - pixel.0[0]);
    let mut bytes = std::io::Cursor::new(Vec::new());
    let written = luma.write_to(&mut bytes, image::ImageFormat::Png);
    written.map_err(|_| Fault::internal())?;
    Ok(bytes.into_inner())
}

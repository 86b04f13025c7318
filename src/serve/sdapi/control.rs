//! `ControlNets` as their extension sends them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

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
    #[serde(deserialize_with = "numbers::truth")]
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
    #[serde(deserialize_with = "numbers::truth")]
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
    let units = script.map(|(_, script)| script.get("args").unwrap_or(script));
    let units = units.map_or(Ok(&[][..]), listed)?;
    if units.len() > MOST {
        let message = format!("of {} ControlNets the first {MOST} are used", units.len());
        ask.warnings.push(message);
    }
    let mut controls = Vec::new();
    for (number, unit) in units.iter().take(MOST).enumerate() {
        let Some(unit) = named(unit)? else { continue };
        let (unit, words) = read::typed::<Unit>(unit.clone())?;
        ask.warnings.extend(words);
        if unit.enabled == Some(false) {
            continue;
        }
        ask.warnings.extend(unit.missed());
        if unit.is_named() {
            controls.push(control(server, number, &unit, ask)?);
        }
    }
    if !controls.is_empty() {
        ask.recipe["controls"] = controls.into();
    }
    Ok(())
}

/// The units of a script, of which there may be one alone.
fn listed(units: &Value) -> Result<&[Value], Fault> {
    match units {
        Value::Null => Ok(&[]),
        Value::Array(units) => Ok(units),
        Value::Object(_) => Ok(std::slice::from_ref(units)),
        _ => Err(Fault::value(
            "alwayson_scripts",
            "the ControlNets of `alwayson_scripts` are no list",
        )),
    }
}

/// A unit by the names of its parts. Their places alone, as first versions of the extension took them, say too little.
fn named(unit: &Value) -> Result<Option<&Map<String, Value>>, Fault> {
    match unit {
        Value::Null => Ok(None),
        Value::Object(unit) => Ok(Some(unit)),
        other => {
            let other = read::short(&other.to_string());
            let message = format!("`{other}` is no ControlNet, which is an object");
            Err(Fault::value("alwayson_scripts", message)
                .hint("name its parts: `model`, `image`, `module`, `weight`"))
        }
    }
}

impl Unit {
    fn is_named(&self) -> bool {
        let model = self.model.as_deref().unwrap_or_default();
        !["", "None"].contains(&model)
    }

    /// Words about what is asked for and not done.
    fn missed(&self) -> Vec<String> {
        let given = |value: &Option<Value>| value.as_ref().is_some_and(|value| value != "");
        let module = self.module.as_deref().unwrap_or_default();
        let prepares = !["", "none"].contains(&module.to_lowercase().as_str());
        let wanted = self.enabled == Some(true) || given(&self.image) || given(&self.input_image);
        let prompt_first = match &self.control_mode {
            Some(Value::String(mode)) => mode.starts_with("My prompt"),
            Some(mode) => mode.as_u64() == Some(1),
            None => false,
        };
        let words = [
            (
                !self.is_named() && (wanted || prepares),
                "a ControlNet without a `model` was ignored",
            ),
            (
                self.is_named() && prompt_first,
                "`control_mode` does not weigh the prompt more here: the ControlNet is used as in `Balanced`",
            ),
            (
                self.is_named() && given(&self.mask),
                "the `mask` of a ControlNet has no effect here and was ignored",
            ),
        ];
        let told = words.into_iter().filter(|(told, _)| *told);
        told.map(|(_, word)| word.to_owned()).collect()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_come_in_a_list_or_alone() {
        let unit = json!({"model": "edges"});
        assert_eq!(listed(&json!([unit, unit])).map(<[_]>::len), Ok(2));
        assert_eq!(listed(&unit).map(<[_]>::len), Ok(1));
        assert_eq!(listed(&Value::Null).map(<[_]>::len), Ok(0));
        assert!(listed(&json!("edges")).is_err());
        assert_eq!(named(&Value::Null), Ok(None));
        let fault = named(&json!(false)).unwrap_err();
        assert!(fault.message.starts_with("`false` is no ControlNet"));
    }

    #[test]
    fn what_is_asked_for_and_not_done_is_told() {
        for (unit, words) in [
            (json!({"enabled": "True", "module": "reference_only"}), 1),
            (json!({"image": "…"}), 1),
            (json!({"model": "None", "module": "none", "image": ""}), 0),
            (
                json!({"model": "edges", "image": "…", "control_mode": 2}),
                0,
            ),
            (json!({"model": "edges", "mask": "…", "control_mode": 1}), 2),
            (
                json!({"model": "edges", "control_mode": "My prompt is more important"}),
                1,
            ),
        ] {
            let unit: Unit = serde_json::from_value(unit).unwrap();
            assert_eq!(unit.missed().len(), words, "{unit:?}");
        }
    }
}

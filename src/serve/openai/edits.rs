//! Requests to change a picture, as forms.

use axum::extract::{Multipart, multipart::Field};
use serde_json::{Map, Value};

use super::{
    ask::{ImageRequest, Wanted},
    masks,
};
use crate::serve::{fault::Fault, options::Limits, pictures, read};

/// Parts that are texts, whatever is in them.
const TEXTS: [&str; 10] = [
    "prompt",
    "model",
    "size",
    "response_format",
    "output_format",
    "negative_prompt",
    "cache",
    "sampler",
    "quality",
    "user",
];

/// Parts of a form beyond which none is read.
const MOST_PARTS: usize = 64;

/// A form, read.
#[derive(Debug, Default)]
pub(super) struct Form {
    fields: Map<String, Value>,
    images: Vec<Vec<u8>>,
    mask: Option<Vec<u8>>,
}

/// Reads a form to its end.
pub(super) async fn read(mut form: Multipart) -> Result<Form, Fault> {
    let broken = |error: axum::extract::multipart::MultipartError| {
        Fault::value(
            "form",
            format!("the form cannot be read: {}", error.body_text()),
        )
    };
    let mut whole = Form::default();
    let mut parts = 0;
    while let Some(field) = form.next_field().await.map_err(broken)? {
        parts += 1;
        if parts > MOST_PARTS {
            return Err(Fault::value(
                "form",
                format!("the form has more than {MOST_PARTS} parts"),
            ));
        }
        whole.take(field).await?;
    }
    Ok(whole)
}

impl Form {
    async fn take(&mut self, field: Field<'_>) -> Result<(), Fault> {
        let name = field.name().unwrap_or_default().to_owned();
        let bytes = field.bytes().await.map_err(|error| {
            Fault::value(
                &name,
                format!("`{name}` cannot be read: {}", error.body_text()),
            )
        })?;
        match name.as_str() {
            // `image[]`, and `image[0]` of languages that number their lists.
            name if name == "image" || name.starts_with("image[") => {
                self.images.push(bytes.to_vec());
            }
            "mask" => self.mask = Some(bytes.to_vec()),
            _ => {
                let text = String::from_utf8(bytes.to_vec());
                let text = text.map_err(|_| {
                    Fault::value(&name, format!("`{name}` is no UTF-8"))
                        .hint("a picture goes by `image`, and its mask by `mask`")
                })?;
                self.fields.insert(name.clone(), value(&name, text));
            }
        }
        Ok(())
    }
}

/// A part of a form as JSON would have it: numbers and truths are written as texts there.
fn value(name: &str, text: String) -> Value {
    if TEXTS.contains(&name) {
        return text.into();
    }
    let parsed = serde_json::from_str(&text).ok();
    let parsed = parsed.filter(|value: &Value| value.is_number() || value.is_boolean());
    parsed.unwrap_or_else(|| text.into())
}

/// Understands a form.
pub(super) fn wanted(form: Form, limits: &Limits) -> Result<Wanted, Fault> {
    let (request, warnings) = read::typed::<ImageRequest>(form.fields)?;
    let mut wanted = request.wanted(warnings)?;
    wanted.reply.kind = "image_edit";
    let [image] = <[Vec<u8>; 1]>::try_from(form.images).map_err(|images| {
        let message = format!(
            "the request has {} pictures, and one is changed",
            images.len()
        );
        Fault::value("image", message)
    })?;
    let sides = limits.check_picture("image", &image)?;
    let mask = match &form.mask {
        Some(mask) => {
            pictures::check_mask(limits.check_picture("mask", mask)?, "image", sides)?;
            Some(masks::of_mask(mask, &mut wanted.ask.warnings)?)
        }
        None => masks::of_image(&image)?,
    };
    let recipe = &mut wanted.ask.recipe;
    recipe["init_image"] = serde_json::json!({"path": "image"});
    wanted.ask.files.insert("image".into(), image);
    if let Some(mask) = mask {
        recipe["mask"] = serde_json::json!({"path": "mask"});
        wanted.ask.files.insert("mask".into(), mask);
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_form_become_what_json_would_have() {
        assert_eq!(value("n", "2".into()), 2);
        assert_eq!(value("stream", "true".into()), true);
        assert_eq!(value("prompt", "2".into()), "2");
        assert_eq!(value("seed", "seven".into()), "seven");
    }
}

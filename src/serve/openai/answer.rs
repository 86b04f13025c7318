//! Answers of `OpenAI`'s form.

use axum::http::{HeaderMap, header};
use serde_json::{Value, json};

use super::ask::Reply;
use crate::serve::{
    fault::Fault,
    job::{Seen, since_epoch},
    once::Once,
    read::to_base64,
};

/// Where this server is, as the client called it.
pub(super) fn site(headers: &HeaderMap) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let scheme = headers
        .get("x-forwarded-proto")
        .and_then(|scheme| scheme.to_str().ok());
    let scheme = scheme.filter(|scheme| *scheme == "https").unwrap_or("http");
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}

/// All pictures of an ended job.
pub(super) async fn whole(
    once: &Once,
    seen: &Seen,
    reply: &Reply,
    site: &str,
) -> Result<Value, Fault> {
    let images = seen.images.as_array().cloned().unwrap_or_default();
    let data = if reply.by_url {
        let url = |image: &Value| format!("{site}{}", image["url"].as_str().unwrap_or_default());
        images
            .iter()
            .map(|image| json!({"url": url(image), "seed": image["seed"]}))
            .collect::<Vec<_>>()
    } else {
        let files = once.files(seen).await?;
        let pairs = files.iter().zip(&images);
        pairs
            .map(|(file, image)| json!({"b64_json": to_base64(file), "seed": image["seed"]}))
            .collect()
    };
    let mut answer = json!({
        "created": since_epoch(seen.created) as u64,
        "data": data,
        "size": size(&images),
        "output_format": reply.format,
        "background": "opaque",
        "quality": "auto",
        "usage": usage(),
    });
    if !seen.warnings.is_empty() {
        answer["warnings"] = seen.warnings.clone().into();
    }
    Ok(answer)
}

/// Of the first picture.
pub(super) fn size(images: &[Value]) -> Option<String> {
    let image = images.first()?;
    Some(format!("{}x{}", image["width"], image["height"]))
}

/// Nothing is counted in tokens here.
pub(super) fn usage() -> Value {
    json!({
        "total_tokens": 0,
        "input_tokens": 0,
        "output_tokens": 0,
        "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
    })
}

//! What a client has set, and what a picture says.

use std::{collections::BTreeMap, sync::PoisonError};

use axum::{Extension, Json, body::Bytes, extract::State, http::HeaderMap};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    picked,
    settings::{Settings, Vae},
    title,
};
use crate::{
    image_io,
    serve::{fault::Fault, gate::Client, read, server::Shared, shelf::Shelf},
};

/// Clients whose settings are remembered.
const MOST_PICKED: usize = 4096;

/// A picture to read settings from
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(in crate::serve) struct PngInfo {
    /// The file, in base64
    image: String,
}

/// Look at your options
#[utoipa::path(get, operation_id = "getOptions", path = "/sdapi/v1/options", tag = "sdapi", responses(
    (status = 200, description = "Options"),
    (status = "4XX", description = "Refused")))]
pub(in crate::serve) async fn show(
    State(server): Shared,
    Extension(client): Extension<Client>,
) -> Result<Json<Value>, Fault> {
    let picked = picked(&server, &client.0);
    let name = server.shelf().model(picked.model.as_deref())?.0.to_owned();
    let (title, hash) = title(&server, &name).await?;
    Ok(Json(json!({
        "sd_model_checkpoint": title,
        "sd_checkpoint_hash": hash,
        "sd_vae": picked.vae.as_deref().unwrap_or("Automatic"),
        "CLIP_stop_at_last_layers": picked.clip_stop.unwrap_or(1),
        "samples_format": "png",
        "show_progress_every_n_steps": 1,
    })))
}

/// Set what your next pictures are made with: `sd_model_checkpoint`, `sd_vae`, `CLIP_stop_at_last_layers`; all else is ignored
#[utoipa::path(post, operation_id = "setOptions", path = "/sdapi/v1/options", tag = "sdapi", request_body = Object, responses(
    (status = 200, description = "null, or `warnings`"),
    (status = "4XX", description = "Refused")))]
pub(in crate::serve) async fn set(
    State(server): Shared,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    let mut warnings = Vec::new();
    let settings = Settings::read(&read::object(&headers, &body)?, &mut warnings)?;
    let shelf = server.shelf();
    let model = settings.model().map(|asked| shelf.model(Some(asked)));
    let model = model.transpose()?.map(|(name, _)| name.to_owned());
    if let Some(Vae::Named(vae)) = settings.vae() {
        Shelf::find(&shelf.vaes, vae, "autoencoder").map_err(|fault| fault.of("sd_vae"))?;
    }
    let mut all = server.picked.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() >= MOST_PICKED && !all.contains_key(&client.0) {
        all.pop_first();
    }
    let picked = all.entry(client.0).or_default();
    picked.model = model.or(picked.model.take());
    picked.clip_stop = settings.clip_stop.or(picked.clip_stop);
    if let Some(vae) = settings.vae() {
        picked.vae = vae.name().map(str::to_owned);
    }
    Ok(Json(if warnings.is_empty() {
        Value::Null
    } else {
        json!({"warnings": warnings})
    }))
}

/// Read what a picture says of how it was made
#[utoipa::path(post, operation_id = "readPngInfo", path = "/sdapi/v1/png-info", tag = "sdapi", request_body = PngInfo, responses(
    (status = 200, description = "`info`, `items`, `parameters`"),
    (status = "4XX", description = "Refused")))]
pub(in crate::serve) async fn png_info(
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    let (asked, _) = read::typed::<PngInfo>(read::object(&headers, &body)?)?;
    let bytes = read::base64("image", &asked.image)?;
    let settings = tokio::task::spawn_blocking(move || image_io::settings(&bytes)).await;
    let settings = settings.unwrap_or_default();
    let settings = settings.ok_or_else(|| {
        Fault::value(
            "image",
            "`image` is no picture that has a place for settings",
        )
    })?;
    let items: BTreeMap<_, _> = settings.into_iter().collect();
    let info = items.get("parameters").cloned().unwrap_or_default();
    Ok(Json(
        json!({"info": info, "items": items, "parameters": {}}),
    ))
}

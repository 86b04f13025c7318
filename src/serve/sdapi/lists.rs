//! What there is, as the web interface lists it. Where files lie is told to nobody.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{samplers as names, title};
use crate::{
    device,
    serve::{fault::Fault, infotext::SCHEDULERS, server::Shared},
};

pub(super) async fn samplers() -> Json<Value> {
    let listed =
        names::all().map(|(name, word)| json!({"name": name, "aliases": [word], "options": {}}));
    Json(listed.collect())
}

pub(super) async fn schedulers() -> Json<Value> {
    let listed = SCHEDULERS.iter().map(|(name, label, _)| {
        json!({"name": name, "label": label, "aliases": null, "default_rho": -1.0, "need_inner_model": false})
    });
    Json(listed.collect())
}

pub(super) async fn models(State(server): Shared) -> Result<Json<Value>, Fault> {
    let names = server.shelf().models().to_vec();
    let mut listed = Vec::new();
    for name in names {
        let (title, hash) = title(&server, &name).await?;
        listed.push(json!({
            "title": title, "model_name": name, "hash": hash, "sha256": null, "filename": name, "config": null,
        }));
    }
    Ok(Json(listed.into()))
}

pub(super) async fn vaes(State(server): Shared) -> Json<Value> {
    let shelf = server.shelf();
    Json(
        shelf
            .vaes
            .keys()
            .map(|name| json!({"model_name": name, "filename": name}))
            .collect(),
    )
}

pub(super) async fn loras(State(server): Shared) -> Json<Value> {
    let shelf = server.shelf();
    let listed = shelf
        .loras
        .keys()
        .map(|name| json!({"name": name, "alias": name, "path": name, "metadata": {}}));
    Json(listed.collect())
}

pub(super) async fn embeddings(State(server): Shared) -> Json<Value> {
    let shelf = server.shelf();
    let one = json!({"step": null, "sd_checkpoint": null, "sd_checkpoint_name": null, "shape": 0, "vectors": 0});
    let loaded: BTreeMap<_, _> = shelf.embeddings.keys().map(|name| (name, &one)).collect();
    Json(json!({"loaded": loaded, "skipped": {}}))
}

/// The first is none, which programs take for granted.
pub(super) async fn upscalers() -> Json<Value> {
    Json(
        json!([{"name": "None", "model_name": null, "model_path": null, "model_url": null, "scale": 4.0}]),
    )
}

pub(super) async fn controls(State(server): Shared) -> Json<Value> {
    let names: Vec<_> = server.shelf().controls.keys().cloned().collect();
    Json(json!({"model_list": names}))
}

pub(super) async fn modules() -> Json<Value> {
    Json(json!({"module_list": ["none", "canny"], "module_detail": {}}))
}

pub(super) async fn scripts() -> Json<Value> {
    Json(json!({"txt2img": ["controlnet"], "img2img": ["controlnet"]}))
}

pub(super) async fn memory(State(server): Shared) -> Json<Value> {
    let first = server.devices.first();
    let total = first.and_then(|device| device.info().memory);
    let free = first.and_then(|opened| device::room(opened.device()).free);
    let used = total
        .zip(free)
        .map(|(total, free)| total.saturating_sub(free));
    Json(json!({"ram": {"free": free, "used": used, "total": total}, "cuda": {}}))
}

/// Has models make way for another program on the same device, once nothing waits for them.
pub(super) async fn give_up(State(server): Shared) -> Json<Value> {
    server.queue.give_up();
    Json(json!({}))
}

/// The next request reads its model by itself.
pub(super) async fn read_again() -> Json<Value> {
    Json(json!({}))
}

/// Looks into the operator's folders again.
pub(super) async fn refresh(State(server): Shared) -> Result<Json<Value>, Fault> {
    let look = |server: &crate::serve::server::Server| {
        server.look_again();
        Ok(Json(Value::Null))
    };
    server.aside(look).await
}

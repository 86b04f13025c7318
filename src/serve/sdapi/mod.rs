//! The web interface's own interface, `/sdapi/v1`, as front ends speak it.
//!
//! Source: behaviour of `AUTOMATIC1111/stable-diffusion-webui` (`modules/api`) and of its `ControlNet` extension, as its clients rely on it.

mod answer;
mod ask;
mod control;
mod layers;
mod lists;
mod missed;
mod numbers;
pub(super) mod options;
pub(super) mod progress;
mod prompt;
mod samplers;
mod settings;

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

pub(super) use self::{ask::SdRequest, options::PngInfo};

use super::{
    fault::Fault,
    gate::Client,
    job::{Door, State as JobState},
    once::Once,
    read,
    server::{Picked, Server, Shared},
    timing,
};

/// The paths of the interface. What is not there answers 404.
pub(super) fn routes() -> Router<Arc<Server>> {
    let at = |path: &str| format!("/sdapi/v1/{path}");
    let routes = Router::new()
        .route(&at("txt2img"), post(txt2img))
        .route(&at("img2img"), post(img2img))
        .route(&at("progress"), get(progress::show))
        .route(&at("interrupt"), post(progress::stop))
        .route(&at("skip"), post(progress::stop))
        .route(&at("options"), get(options::show).post(options::set))
        .route(&at("png-info"), post(options::png_info))
        .route(&at("samplers"), get(lists::samplers))
        .route(&at("schedulers"), get(lists::schedulers))
        .route(&at("sd-models"), get(lists::models))
        .route(&at("sd-vae"), get(lists::vaes))
        .route(&at("loras"), get(lists::loras))
        .route(&at("embeddings"), get(lists::embeddings))
        .route(&at("upscalers"), get(lists::upscalers))
        .route(&at("memory"), get(lists::memory))
        .route(&at("scripts"), get(lists::scripts))
        .route(&at("cmd-flags"), get(async || Json(json!({}))))
        .route("/controlnet/model_list", get(lists::controls))
        .route("/controlnet/module_list", get(lists::modules))
        .route(
            "/controlnet/version",
            get(async || Json(json!({"version": 2}))),
        );
    let empty = [
        "latent-upscale-modes",
        "sd-modules",
        "hypernetworks",
        "face-restorers",
        "realesrgan-models",
        "prompt-styles",
        "script-info",
    ];
    let routes = empty.into_iter().fold(routes, |routes, path| {
        routes.route(&at(path), get(async || Json(json!([]))))
    });
    // Programs that share a device with this one ask for it.
    let (giving, taking) = (at("unload-checkpoint"), at("reload-checkpoint"));
    let routes = routes
        .route(&giving, post(lists::give_up))
        .route(&taking, post(lists::read_again));
    let refreshing = [
        "refresh-checkpoints",
        "refresh-loras",
        "refresh-embeddings",
        "refresh-vae",
    ];
    refreshing.into_iter().fold(routes, |routes, path| {
        routes.route(&at(path), post(lists::refresh))
    })
}

/// Make pictures of a text
#[utoipa::path(post, operation_id = "textToImage", path = "/sdapi/v1/txt2img", tag = "sdapi", request_body = SdRequest, responses(
    (status = 200, description = "`images` in base64, `parameters`, `info`"),
    (status = "4XX", description = "Refused"),
    (status = 503, description = "The device failed, or the server is shutting down")))]
pub(super) async fn txt2img(
    State(server): Shared,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Fault> {
    made(&server, &client, &headers, &body, false).await
}

/// Change a picture
#[utoipa::path(post, operation_id = "imageToImage", path = "/sdapi/v1/img2img", tag = "sdapi", request_body = SdRequest, responses(
    (status = 200, description = "`images` in base64, `parameters`, `info`"),
    (status = "4XX", description = "Refused"),
    (status = 503, description = "The device failed, or the server is shutting down")))]
pub(super) async fn img2img(
    State(server): Shared,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Fault> {
    made(&server, &client, &headers, &body, true).await
}

async fn made(
    server: &Arc<Server>,
    client: &Client,
    headers: &HeaderMap,
    body: &Bytes,
    of_picture: bool,
) -> Result<Response, Fault> {
    let object = read::object(headers, body)?;
    let echo = answer::echo(&object);
    let (request, warnings) = read::typed::<SdRequest>(object)?;
    let sends = request.send_images.unwrap_or(true);
    let keeps = request.save_images.unwrap_or(false);
    let owner = client.0.clone();
    let ask = move |server: &Server| ask::ask(server, &owner, request, of_picture, warnings);
    let ask = server.aside(ask).await?;
    let begun = Once::begin(server, &client.0, Door::Sdapi, ask).await;
    let mut once = begun.map_err(|fault| fault.called("batch", "batch_size"))?;
    if keeps {
        once.keep();
    }
    let seen = once.job.ended().await;
    if seen.state == JobState::Cancelled {
        // Interrupted: what it was about to become is answered, as the web interface does.
        let preview = once.job.preview.borrow().clone();
        let images = preview
            .iter()
            .map(|preview| read::to_base64(&preview.jpeg))
            .collect();
        return Ok(answer::whole(&seen, images, echo).into_response());
    }
    let seen = super::once::outcome(seen)?;
    let files = if sends {
        once.files(&seen).await?
    } else {
        Vec::new()
    };
    let images = files.iter().map(|file| read::to_base64(file)).collect();
    let answer = answer::whole(&seen, images, echo);
    Ok(timing::note(answer.into_response(), &seen))
}

/// What a client has set.
fn picked(server: &Server, owner: &str) -> Picked {
    let picked = server
        .picked
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    picked.get(owner).cloned().unwrap_or_default()
}

/// `name [hash]`, as lists of models show them.
async fn title(server: &Arc<Server>, name: &str) -> Result<(String, Value), Fault> {
    let described = super::models::described(server, name).await?;
    let hash = described["hash"]
        .as_str()
        .map(|hash| hash.chars().take(10).collect::<String>());
    let title = hash
        .as_ref()
        .map_or_else(|| name.to_owned(), |hash| format!("{name} [{hash}]"));
    Ok((title, hash.into()))
}

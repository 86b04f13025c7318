//! `OpenAI`'s images interface.
//!
//! Source: the reference of the images API, "Create image", "Create image edit" and their streaming events.

mod answer;
mod ask;
mod edits;
mod masks;
mod stream;

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{Multipart, State, multipart::MultipartRejection},
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::post,
};

pub(super) use ask::{EditRequest, ImageRequest, seeds};

use self::ask::Wanted;
use super::{
    fault::Fault,
    gate::Client,
    job::Door,
    once::Once,
    read,
    server::{Server, Shared},
    timing,
};

/// The paths of the interface; models are listed with the server's own.
pub(super) fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/v1/images/generations", post(generate).options(nothing))
        .route("/v1/images/edits", post(edit).options(nothing))
}

/// Programs ask so whether there is such a path.
async fn nothing() {}

/// Make pictures of a text
#[utoipa::path(post, operation_id = "createImage", path = "/v1/images/generations", tag = "openai", request_body = ImageRequest, responses(
    (status = 200, description = "Pictures, or with `stream` events"),
    (status = "4XX", description = "Refused"),
    (status = 503, description = "The device failed, or the server is shutting down")))]
pub(super) async fn generate(
    State(server): Shared,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Fault> {
    let (request, warnings) = read::typed::<ImageRequest>(read::object(&headers, &body)?)?;
    let wanted = request.wanted(warnings)?;
    answered(&server, &client.0, wanted, &headers).await
}

/// Change a picture
#[utoipa::path(post, operation_id = "createImageEdit", path = "/v1/images/edits", tag = "openai",
    request_body(content = EditRequest, content_type = "multipart/form-data"), responses(
    (status = 200, description = "Pictures, or with `stream` events"),
    (status = "4XX", description = "Refused"),
    (status = 503, description = "The device failed, or the server is shutting down")))]
pub(super) async fn edit(
    State(server): Shared,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Response, Fault> {
    let form = form.map_err(|_| read::no_form(&headers))?;
    let form = edits::read(form).await?;
    let limits = server.options.limits.clone();
    let wanted = server.aside(move |_| edits::wanted(form, &limits)).await?;
    answered(&server, &client.0, wanted, &headers).await
}

/// Makes what is wanted, and answers at the end or step by step.
async fn answered(
    server: &Arc<Server>,
    owner: &str,
    wanted: Wanted,
    headers: &HeaderMap,
) -> Result<Response, Fault> {
    let Wanted { ask, reply } = wanted;
    let begun = Once::begin(server, owner, Door::OpenAi, ask).await;
    let called = |fault: Fault| fault.called("batch", "n").called("format", "output_format");
    let mut once = begun.map_err(called)?;
    if reply.by_url {
        once.keep();
    }
    if reply.streams {
        return Ok(stream::answer(once, reply));
    }
    let seen = once.ended().await?;
    let site = answer::site(headers);
    let answer = answer::whole(&once, &seen, &reply, &site).await?;
    Ok(timing::note(axum::Json(answer).into_response(), &seen))
}

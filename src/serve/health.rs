//! How the server is.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::{fault::Fault, server::Shared};

/// Whether the server lives
#[utoipa::path(get, operation_id = "getHealth", path = "/healthz", tag = "server", responses(
    (status = 200, description = "It lives"),
    (status = 503, description = "It ends")))]
pub(super) async fn show(State(server): Shared) -> Result<Json<Value>, Fault> {
    if *server.closing.borrow() {
        return Err(Fault::shutting_down());
    }
    Ok(Json(
        json!({"status": "ok", "started": server.started(), "version": env!("CARGO_PKG_VERSION")}),
    ))
}

/// Counts, as Prometheus reads them
#[utoipa::path(get, operation_id = "getMetrics", path = "/metrics", tag = "server", responses(
    (status = 200, description = "Counts", content_type = "text/plain"),
    (status = "4XX", description = "Refused")))]
pub(super) async fn metrics(State(server): Shared) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let text = server.metrics.text(server.queue.counts());
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

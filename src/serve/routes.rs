//! All paths, and what every request passes on its way.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, Method, header},
    middleware::from_fn_with_state,
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde_json::{Value, json};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};

use super::{
    document,
    fault::Fault,
    gate, openai, own, page, sdapi,
    server::{Server, Shared},
};

/// Everything that is served.
pub(super) fn all(server: &Arc<Server>) -> Router {
    let state = || Arc::clone(server);
    let closed = Router::new()
        .merge(own::routes())
        .merge(openai::routes())
        .merge(sdapi::routes())
        .route("/metrics", get(metrics))
        .layer(from_fn_with_state(state(), gate::whole))
        .route_layer(from_fn_with_state(state(), gate::admit));
    let open = Router::new()
        .merge(page::routes())
        .route("/healthz", get(health))
        .route("/openapi.json", get(document::show));
    let routes = closed.merge(open).fallback(nothing).with_state(state());
    // Upload sizes are held by `gate::whole`, of all kinds of bodies.
    let routes = routes.layer(axum::extract::DefaultBodyLimit::disable());
    let routes = routes.layer(from_fn_with_state(state(), gate::same_site));
    let origins = &server.options.origins;
    let routes = if origins.is_empty() {
        routes
    } else {
        routes.layer(cors(origins))
    };
    routes
        .layer(CatchPanicLayer::custom(|_| panicked()))
        .layer(from_fn_with_state(state(), gate::number))
}

fn panicked() -> Response {
    tracing::error!("a request failed where it should not");
    Fault::internal().into_response()
}

async fn nothing() -> Fault {
    Fault::not_found("there is nothing at this path").hint("`/openapi.json` lists what there is")
}

/// Which sites' pages may read answers: those that the operator names.
fn cors(origins: &[String]) -> CorsLayer {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        let origins = origins
            .iter()
            .filter_map(|origin| HeaderValue::from_str(origin).ok());
        AllowOrigin::list(origins)
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
}

/// Whether the server lives
#[utoipa::path(get, path = "/healthz", tag = "server", responses(
    (status = 200, description = "It lives"),
    (status = 503, description = "It ends")))]
pub(super) async fn health(State(server): Shared) -> Result<Json<Value>, Fault> {
    if *server.closing.borrow() {
        return Err(Fault::shutting_down());
    }
    Ok(Json(
        json!({"status": "ok", "started": server.started(), "version": env!("CARGO_PKG_VERSION")}),
    ))
}

/// Counts, as Prometheus reads them
#[utoipa::path(get, path = "/metrics", tag = "server", responses(
    (status = 200, description = "Counts", content_type = "text/plain"),
    (status = "4XX", description = "Refused")))]
pub(super) async fn metrics(State(server): Shared) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let text = server.metrics.text(server.queue.counts());
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

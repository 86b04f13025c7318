//! All paths, and what every request passes on its way.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderName, HeaderValue, Method, header},
    middleware::from_fn_with_state,
    response::{IntoResponse as _, Response},
    routing::get,
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowHeaders, AllowOrigin, CorsLayer},
};

use super::{document, fault::Fault, gate, health, openai, own, page, sdapi, server::Server};

/// Everything that is served.
pub(super) fn all(server: &Arc<Server>) -> Router {
    let state = || Arc::clone(server);
    let closed = Router::new()
        .merge(own::routes())
        .merge(openai::routes())
        .merge(sdapi::routes())
        .route("/metrics", get(health::metrics))
        .layer(from_fn_with_state(state(), gate::whole))
        .route_layer(from_fn_with_state(state(), gate::admit));
    let open = Router::new()
        .merge(page::routes())
        .route(gate::HEALTH, get(health::show))
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

/// Headers of answers that pages may read.
const TOLD: [HeaderName; 4] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("server-timing"),
    header::LOCATION,
    header::RETRY_AFTER,
];

/// Which sites' pages may read answers: those that the operator names. They may send whatever headers they have: `OpenAI`'s library has a dozen
/// of its own.
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
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(TOLD)
}

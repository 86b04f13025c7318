//! The page, and the pictures that it shows.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

use super::{
    fault::Fault,
    ranges,
    server::{Server, Shared},
    work::Format,
};

/// The page takes everything from here, and nothing in it is written into the document itself.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
);

/// What a picture that is opened alone may do.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; sandbox");

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path, type and text of the page's files.
const FILES: [(&str, &str, &str); 10] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/icon.svg", SVG, include_str!("page/icon.svg")),
    ("/api.js", SCRIPT, include_str!("page/api.js")),
    ("/app.js", SCRIPT, include_str!("page/app.js")),
    ("/ask.js", SCRIPT, include_str!("page/ask.js")),
    ("/jobs.js", SCRIPT, include_str!("page/jobs.js")),
    ("/score.js", SCRIPT, include_str!("page/score.js")),
    ("/shelf.js", SCRIPT, include_str!("page/shelf.js")),
    ("/stage.js", SCRIPT, include_str!("page/stage.js")),
];

/// The page's files and all results: neither asks for a token.
pub(super) fn routes() -> Router<Arc<Server>> {
    let routes = Router::new().route("/results/{key}/{name}", get(result));
    FILES
        .into_iter()
        .fold(routes, |routes, (path, kind, text)| {
            let answer = move || async move {
                let headers = [
                    (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
                    (header::CONTENT_SECURITY_POLICY, POLICY),
                    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
                ];
                (headers, text)
            };
            routes.route(path, get(answer))
        })
}

#[derive(Debug, Deserialize)]
struct Wish {
    download: Option<String>,
}

/// A result, by an address that nobody guesses.
async fn result(
    State(server): Shared,
    Path((key, name)): Path<(String, String)>,
    Query(wish): Query<Wish>,
    asked: HeaderMap,
) -> Result<Response, Fault> {
    let gone = || Fault::not_found("there is no such result, or no more");
    let job = server.queue.by_key(&key).ok_or_else(gone)?;
    let url = format!("/results/{key}/{name}");
    let images = Arc::clone(&job.seen.borrow().images);
    let made = images
        .as_array()
        .into_iter()
        .flatten()
        .any(|image| image["url"] == url.as_str());
    if !made {
        return Err(gone());
    }
    let path = job.folder.path.join(&name);
    let bytes = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
    let bytes = bytes.ok().and_then(Result::ok).ok_or_else(gone)?;
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static(Format::media(ending)),
        ),
        (header::CONTENT_SECURITY_POLICY, NOTHING),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, max-age=3600, immutable"),
        ),
    ];
    let mut response = (headers, ranges::answer(&asked, bytes)).into_response();
    if wish.download.is_some() {
        let saved = format!(
            "attachment; filename=\"afterimage-{}-{name}\"",
            &job.id[..8]
        );
        if let Ok(saved) = HeaderValue::from_str(&saved) {
            response
                .headers_mut()
                .insert(header::CONTENT_DISPOSITION, saved);
        }
    }
    Ok(response)
}

//! Where the time of a request that waited for its pictures went, for browsers and scripts: the header `Server-Timing`.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    http::{HeaderName, HeaderValue},
    response::Response,
};
use serde_json::Value;

use super::job::Seen;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What of a job's `seconds` is told; its `total` is not that of the request.
const PARTS: [&str; 6] = [
    "waiting",
    "loading",
    "text",
    "denoising",
    "decoding",
    "encoding",
];

/// Goes with an answer to the door, where the request began.
#[derive(Debug, Clone)]
struct Spent(Arc<Value>);

/// Has `answer` say what the job took.
pub(super) fn note(mut answer: Response, seen: &Seen) -> Response {
    let spent = Spent(Arc::clone(&seen.seconds));
    answer.extensions_mut().insert(spent);
    answer
}

/// Writes the header, if there is something to say; the request took `total`.
pub(super) fn write(answer: &mut Response, total: Duration) {
    let Some(Spent(seconds)) = answer.extensions_mut().remove() else {
        return;
    };
    let mut text = String::new();
    for part in PARTS {
        if let Some(seconds) = seconds[part].as_f64() {
            let _ = write!(text, "{part};dur={:.3}, ", 1e3 * seconds);
        }
    }
    let _ = write!(text, "total;dur={:.3}", 1e3 * total.as_secs_f64());
    if let Ok(value) = HeaderValue::from_str(&text) {
        answer.headers_mut().insert(SERVER_TIMING, value);
    }
}

//! What every request passes: a number and a log line, who asks, from where; and the form of what is refused.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::Engine as _;

use super::{
    fault::{Fault, Form},
    keys::random_key,
    options::{Options, Token},
    read::BASE64,
    server::Server,
    timing,
};

/// Bytes of an answer that is written anew in the form of an interface.
const MOST_REFUSAL: usize = 4096;

/// Where it is asked whether the server lives.
pub(super) const HEALTH: &str = "/healthz";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Who asks: a token by its name, or an address.
#[derive(Debug, Clone)]
pub(super) struct Client(pub(super) String);

/// The outermost: numbers the request, writes refusals in the form of their interface, logs.
pub(super) async fn number(
    State(server): State<Arc<Server>>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let id = request_id(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let mut response = in_form(response, Form::of(&path)).await;
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    let no_referrer = HeaderValue::from_static("no-referrer");
    headers.insert(header::REFERRER_POLICY, no_referrer);
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    let status = response.status().as_u16();
    server.metrics.request(&path, status);
    let took = begun.elapsed();
    timing::write(&mut response, took);
    let milliseconds = took.as_secs_f64() * 1e3;
    tracing::info!(request = id, %method, path, status, milliseconds, "answered");
    response
}

/// The client's own number, if it is a plain one; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let given = given.filter(|id| (1..=64).contains(&id.len()) && id.bytes().all(plain));
    given.map_or_else(|| random_key()[..16].to_owned(), str::to_owned)
}

/// Refusals, whoever made them, as the interface writes its errors.
async fn in_form(response: Response, form: Form) -> Response {
    if let Some(fault) = response.extensions().get::<Fault>() {
        return fault.answer(form);
    }
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let allowed = response.headers().get(header::ALLOW).cloned();
    let text = to_bytes(response.into_body(), MOST_REFUSAL)
        .await
        .unwrap_or_default();
    let mut answer = unnamed(status, &String::from_utf8_lossy(&text)).answer(form);
    if let Some(allowed) = allowed {
        answer.headers_mut().insert(header::ALLOW, allowed);
    }
    answer
}

/// A refusal that a library has made.
fn unnamed(status: StatusCode, text: &str) -> Fault {
    let (code, silent) = match status {
        StatusCode::NOT_FOUND => ("not_found", "there is nothing at this path"),
        StatusCode::METHOD_NOT_ALLOWED => {
            ("method_not_allowed", "this path is not asked in this way")
        }
        _ => ("invalid_request", "the request cannot be read"),
    };
    Fault::new(status, code, if text.is_empty() { silent } else { text })
}

/// Makes one slash of several in a row, and none of one at the end: programs put them there whose address ends in one.
pub(super) fn one_slash(uri: &mut Uri) {
    let path = uri.path();
    if !path.contains("//") && (path == "/" || !path.ends_with('/')) {
        return;
    }
    let parts: Vec<_> = uri
        .path()
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let query = uri.query().map(|query| format!("?{query}"));
    let plain = format!("/{}{}", parts.join("/"), query.unwrap_or_default());
    if let Ok(plain) = plain.parse() {
        *uri = plain;
    }
}

/// Who asks, and whether they may.
pub(super) async fn admit(
    State(server): State<Arc<Server>>,
    mut request: Request,
    next: Next,
) -> Response {
    let client = who(&server.options, &request);
    match client {
        Ok(client) => {
            request.extensions_mut().insert(client);
            next.run(request).await
        }
        Err(fault) => fault.into_response(),
    }
}

/// Refuses what other sites' pages ask for, and names that are not this machine's where no token is asked for.
pub(super) async fn same_site(
    State(server): State<Arc<Server>>,
    request: Request,
    next: Next,
) -> Response {
    // What looks after servers may call this one by any name, or by none.
    if request.uri().path() == HEALTH {
        return next.run(request).await;
    }
    match check_site(&server.options, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(fault) => fault.into_response(),
    }
}

fn who(options: &Options, request: &Request) -> Result<Client, Fault> {
    let peer = request.extensions().get::<Peer>();
    if options.tokens.is_empty() {
        let address = peer.map_or("nowhere".to_owned(), |peer| peer.0.ip().to_string());
        return Ok(Client(address));
    }
    let given = request.headers().get(header::AUTHORIZATION);
    let Some(secret) = given.and_then(secret) else {
        let fault = Fault::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "a token is asked for",
        );
        return Err(fault.hint(
            "send `Authorization: Bearer TOKEN`, or the token as the password of HTTP Basic",
        ));
    };
    // All are looked at, so that the time tells nothing.
    let matching = options
        .tokens
        .iter()
        .fold(None, |found: Option<&Token>, token| {
            if same(token.secret.as_bytes(), secret.as_bytes()) {
                Some(token)
            } else {
                found
            }
        });
    let token = matching.ok_or_else(|| {
        Fault::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "the token is not known",
        )
    })?;
    Ok(Client(token.name.clone()))
}

/// The token of `Bearer TOKEN`, or the password of `Basic …`.
fn secret(header: &HeaderValue) -> Option<String> {
    let text = text_of(header.as_bytes());
    let (scheme, rest) = text.split_once([' ', '\t'])?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = text_of(&BASE64.decode(rest).ok()?);
    pair.split_once(':')
        .map(|(_, password)| password.to_owned())
}

/// A text as clients write it into headers: in UTF-8, or a byte a letter.
fn text_of(bytes: &[u8]) -> String {
    let bytewise = || bytes.iter().copied().map(char::from).collect();
    std::str::from_utf8(bytes).map_or_else(|_| bytewise(), str::to_owned)
}

/// Whether both are the same, in a time that does not tell where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differ = one
        .iter()
        .zip(other)
        .fold(0, |differ, (one, other)| differ | (one ^ other));
    one.len() == other.len() && differ == 0
}

fn check_site(options: &Options, headers: &HeaderMap) -> Result<(), Fault> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    if options.tokens.is_empty() && !is_ours(options, host) {
        let message = format!("`{host}` is not a name of this machine");
        let fault = Fault::new(StatusCode::FORBIDDEN, "forbidden", message);
        return Err(fault.hint("the operator allows names with `--allow-host`"));
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let own = origin
        .split_once("://")
        .is_some_and(|(_, site)| site == host);
    if own
        || options
            .origins
            .iter()
            .any(|allowed| allowed == origin || allowed == "*")
    {
        return Ok(());
    }
    let message = format!("pages of `{origin}` may not ask here");
    let fault = Fault::new(StatusCode::FORBIDDEN, "forbidden", message);
    Err(fault.hint("the operator allows sites with `--cors`"))
}

/// Whether `host` is loopback by name or address, or a name that the operator allows.
fn is_ours(options: &Options, host: &str) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = bare.trim_matches(['[', ']']).parse::<IpAddr>();
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    // Nobody else has a name of this ending.
    name == "localhost"
        || name.ends_with(".localhost")
        || address.is_ok_and(|address| address.is_loopback() || address == options.address.ip())
        || options
            .hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(bare))
}

/// Reads a body to its end before a handler begins.
pub(super) async fn whole(
    State(server): State<Arc<Server>>,
    request: Request,
    next: Next,
) -> Response {
    if matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE
    ) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    match server.bodies.read(body, &parts.headers).await {
        Ok(bytes) => {
            next.run(Request::from_parts(parts, Body::from(bytes)))
                .await
        }
        Err(fault) => fault.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_from_both_schemes() {
        let read = |text: &str| secret(&HeaderValue::from_str(text).unwrap());
        assert_eq!(read("Bearer s3cret").as_deref(), Some("s3cret"));
        assert_eq!(read("bearer  s3cret").as_deref(), Some("s3cret"));
        assert_eq!(read("Basic dXNlcjpzM2NyZXQ=").as_deref(), Some("s3cret"));
        assert_eq!(read("Basic dXNlcjpzM2NyZXQ").as_deref(), Some("s3cret"));
        for bytes in ["Bearer clé".as_bytes(), b"Bearer cl\xe9"] {
            let header = HeaderValue::from_bytes(bytes).unwrap();
            assert_eq!(secret(&header).as_deref(), Some("clé"));
        }
        for wrong in ["s3cret", "Basic !!", "Basic dXNlcg==", "Digest a", ""] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn slashes_too_many_make_no_other_path() {
        for (path, expected) in [
            ("/", "/"),
            ("/v1/jobs", "/v1/jobs"),
            ("/v1/jobs/", "/v1/jobs"),
            ("//v1//jobs/?limit=1", "/v1/jobs?limit=1"),
            ("//", "/"),
        ] {
            let mut uri = path.parse().unwrap();
            one_slash(&mut uri);
            assert_eq!(uri, expected, "{path}");
        }
    }

    #[test]
    fn secrets_are_compared_as_a_whole() {
        assert!(same(b"abc", b"abc"));
        for other in ["abd", "ab", "abcd", ""] {
            assert!(!same(b"abc", other.as_bytes()), "{other}");
        }
    }
}

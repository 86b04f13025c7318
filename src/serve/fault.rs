//! What is answered in place of what was asked for.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

use super::words;
use crate::{Error, ErrorKind};

/// Seconds after which a client may try again.
const AGAIN: HeaderValue = HeaderValue::from_static("5");

/// Characters of a message, whatever it repeats of a request.
const LONGEST: usize = 2000;

/// A refusal, or a job that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    #[serde(skip)]
    pub(super) status: StatusCode,
    pub(super) message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    pub(super) param: Option<String>,
    pub(super) code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
}

/// How an interface writes its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `{"error": {"message", "type", "param", "code", "hint"}}`
    OpenAi,
    /// `{"error", "detail", "errors", "body"}`
    Sdapi,
}

impl Form {
    /// Of what is asked for at `path`.
    pub(super) fn of(path: &str) -> Self {
        let first = path.split('/').nth(1);
        match first {
            Some("sdapi" | "controlnet" | "internal") => Self::Sdapi,
            _ => Self::OpenAi,
        }
    }
}

impl Fault {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            message: bounded(message.into()),
            kind: kind(status),
            param: None,
            code,
            hint: None,
        }
    }

    /// Something makes no sense.
    pub(super) fn value(param: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_value", message).of(param)
    }

    /// More than `option` allows.
    pub(super) fn limit(
        param: &str,
        found: impl ToString,
        most: impl ToString,
        option: &str,
    ) -> Self {
        let (found, most) = (found.to_string(), most.to_string());
        let message = format!("`{param}` is {found}, and the server allows {most} (`{option}`)");
        Self::new(StatusCode::BAD_REQUEST, "limit", message).of(param)
    }

    /// There is nothing of that name, or nothing that the client may see.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// The server ends.
    pub(super) fn shutting_down() -> Self {
        let message = "the server is shutting down";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", message)
            .hint("ask again when it is back")
    }

    /// A job was stopped.
    pub(super) fn cancelled() -> Self {
        Self::new(StatusCode::CONFLICT, "cancelled", "the job was cancelled")
    }

    /// A defect of this program.
    pub(super) fn internal() -> Self {
        let message = "the server failed where it should not";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
            .hint("this is a defect; please report it with the server's log")
    }

    /// About this part of the request.
    #[must_use]
    pub(super) fn of(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same of what an interface calls otherwise.
    #[must_use]
    pub(super) fn called(self, ours: &str, theirs: &str) -> Self {
        if self.param.as_deref() != Some(ours) {
            return self;
        }
        let message = self
            .message
            .replace(&format!("`{ours}`"), &format!("`{theirs}`"));
        Self { message, ..self }.of(theirs)
    }

    /// The same with another status.
    #[must_use]
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        let kind = kind(status);
        Self {
            status,
            kind,
            ..self
        }
    }

    /// The same, places of the operator's called by their names.
    #[must_use]
    pub(super) fn with_names(mut self, names: &[(String, String)]) -> Self {
        for (place, name) in names {
            self.message = self.message.replace(place.as_str(), name);
            self.hint = self.hint.map(|hint| hint.replace(place.as_str(), name));
        }
        self
    }

    /// What stands in the body.
    pub(super) fn body(&self, form: Form) -> serde_json::Value {
        match form {
            Form::OpenAi => json!({"error": self}),
            Form::Sdapi => {
                let hint = self
                    .hint
                    .iter()
                    .map(|hint| format!("\nhint: {}", called(hint)));
                let detail = self.message.clone() + &hint.collect::<String>();
                json!({"error": self.code, "detail": detail, "errors": self.message, "body": ""})
            }
        }
    }

    /// The answer in the form of an interface.
    pub(super) fn answer(&self, form: Form) -> Response {
        let mut response = (self.status, axum::Json(self.body(form))).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                let scheme = HeaderValue::from_static("Basic realm=\"afterimage\", Bearer");
                headers.insert(header::WWW_AUTHENTICATE, scheme);
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, AGAIN);
            }
            StatusCode::REQUEST_TIMEOUT => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

/// A message with `…` for its middle, where it would repeat a request of megabytes.
fn bounded(message: String) -> String {
    if message.len() <= LONGEST {
        return message;
    }
    let letters: Vec<char> = message.chars().collect();
    if letters.len() <= LONGEST {
        return message;
    }
    let half = LONGEST / 2;
    let ends = [&letters[..half], &letters[letters.len() - half..]];
    ends.map(|end| end.iter().collect::<String>()).join(" … ")
}

/// A hint with the web interface's names in place of ours.
fn called(hint: &str) -> String {
    const NAMES: [(&str, &str); 7] = [
        ("`init_image`", "`init_images`"),
        ("`size`", "`width` and `height`"),
        ("`batch`", "`batch_size`"),
        ("`guidance_scale`", "`cfg_scale`"),
        ("`sampler`", "`sampler_name`"),
        ("`strength`", "`denoising_strength`"),
        ("`model.vae`", "`sd_vae`"),
    ];
    let named = NAMES.iter();
    named.fold(hint.to_owned(), |hint, (ours, theirs)| {
        hint.replace(ours, theirs)
    })
}

/// What `OpenAI`'s interface calls refusals of a status.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let (status, code) = match error.kind() {
            ErrorKind::Cancelled => return Self::cancelled(),
            ErrorKind::Plan => (StatusCode::BAD_REQUEST, "plan"),
            ErrorKind::Device => (StatusCode::SERVICE_UNAVAILABLE, "device"),
            ErrorKind::Config | ErrorKind::Weights => (StatusCode::BAD_REQUEST, "model"),
            _ => (StatusCode::BAD_REQUEST, "invalid_value"),
        };
        let message = error.message();
        // Where files of the operator lie is nobody's affair.
        let lines = message.lines().filter(|line| !line.starts_with("file: "));
        let message = words::keyed(&lines.collect::<Vec<_>>().join("\n"));
        let fault = Self::new(status, code, message);
        Self {
            hint: error.hint().as_deref().map(words::hint),
            ..fault
        }
    }
}

/// The answer without a body, which gets the form of the interface at the door ([`Form`]).
impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::RequestError;

    #[test]
    fn errors_are_written_as_each_interface_does() {
        let fault = Fault::limit("steps", 500, 200, "--max-steps").hint("ask for fewer");
        let openai = fault.body(Form::of("/v1/jobs"));
        assert_eq!(openai["error"]["param"], "steps");
        assert_eq!(openai["error"]["type"], "invalid_request_error");
        let sdapi = fault.body(Form::of("/sdapi/v1/txt2img"));
        assert_eq!(sdapi["error"], "limit");
        assert!(
            sdapi["detail"]
                .as_str()
                .unwrap()
                .ends_with("hint: ask for fewer")
        );
    }

    #[test]
    fn messages_end_somewhere() {
        let fault = Fault::value("mask", format!("a {}z", "é".repeat(1 << 20)));
        assert!(fault.message.starts_with("a é") && fault.message.ends_with("éz"));
        assert_eq!(fault.message.chars().count(), LONGEST + 3);
        let short = "é".repeat(LONGEST);
        assert_eq!(Fault::value("mask", short.clone()).message, short);
    }

    #[test]
    fn hints_say_what_a_client_can() {
        let fault = Fault::from(Error::from(RequestError::NothingToEnlarge));
        let openai = fault.body(Form::OpenAi)["error"]["hint"].to_string();
        assert!(
            openai.contains("`init_image`") && openai.contains("`upscalers`"),
            "{openai}"
        );
        let sdapi = fault.body(Form::Sdapi)["detail"].to_string();
        assert!(
            sdapi.contains("`init_images`") && !sdapi.contains("--"),
            "{sdapi}"
        );
    }

    #[test]
    fn places_are_called_by_their_names() {
        let fault = Fault::value("model", "no weights in /srv/m/a").hint("look into /srv/m/a");
        let named = fault.with_names(&[("/srv/m/a".into(), "a".into())]);
        assert_eq!(named.message, "no weights in a");
        assert_eq!(named.hint.as_deref(), Some("look into a"));
    }
}

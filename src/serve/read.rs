//! Bodies of requests as values.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    extract::{FromRequestParts, Query},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::fault::Fault;

/// Base64 as programs write it, with or without its last signs.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Unknown keys that are named in an answer; of more, their number.
pub(super) const MOST_NAMED: usize = 16;

/// A JSON object from a body that says to be JSON.
pub(super) fn object(headers: &HeaderMap, body: &Bytes) -> Result<Map<String, Value>, Fault> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    let json = kind.eq_ignore_ascii_case("application/json") || kind.ends_with("+json");
    if !json {
        let message = format!("the request is of type `{kind}`");
        let fault = Fault::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            message,
        );
        return Err(fault.hint("send JSON, as `Content-Type: application/json`"));
    }
    let wrong = |message: String| Fault::new(StatusCode::BAD_REQUEST, "invalid_json", message);
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(wrong("the request is no JSON object".into())),
        Err(error) => Err(wrong(format!("the request is not JSON: {error}"))),
    }
}

/// A request as a value, and words about keys that it does not know. Nulls are as good as nothing.
pub(super) fn typed<T>(mut object: Map<String, Value>) -> Result<(T, Vec<String>), Fault>
where
    T: DeserializeOwned + Serialize + Default,
{
    object.retain(|_, value| !value.is_null());
    let known = serde_json::to_value(T::default()).unwrap_or_default();
    let unknown: Vec<_> = object
        .keys()
        .filter(|key| known.get(key.as_str()).is_none())
        .cloned()
        .collect();
    object.retain(|key, _| known.get(key).is_some());
    let read = serde_path_to_error::deserialize(Value::Object(object));
    let value = read.map_err(|error| {
        let param = error.path().to_string();
        let message = format!("`{param}` cannot be read: {}", error.inner());
        Fault::value(&param, message)
    })?;
    Ok((value, ignored(&unknown)))
}

/// What stands behind the `?` of an address.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Fault> {
        let asked = Query::try_from_uri(&parts.uri);
        let asked = asked.map(|Query(asked)| Self(asked));
        asked.map_err(|refused| unread_query(&refused.body_text()))
    }
}

/// The refusal of a query: axum's words end in the parameter and the cause, or in a cause that quotes the parameter.
fn unread_query(text: &str) -> Fault {
    let said = text.split_once(": ").map_or(text, |(_, said)| said);
    let (param, cause) = match said.split_once(": ") {
        Some((param, cause)) => (Some(param), cause),
        None => (said.split('`').nth(1), said),
    };
    match param {
        Some(param) => Fault::value(param, format!("`{param}` cannot be read: {cause}")),
        None => Fault::value("query", text),
    }
}

fn ignored(unknown: &[String]) -> Vec<String> {
    let named = unknown
        .iter()
        .take(MOST_NAMED)
        .map(|key| format!("`{}` is not known and was ignored", short(key)));
    let more = unknown.len().saturating_sub(MOST_NAMED);
    let more = (more > 0).then(|| format!("{more} more keys are not known and were ignored"));
    named.chain(more).collect()
}

/// The beginning of a text.
pub(super) fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The bytes of a text in base64, bare or as a `data:` URL.
pub(super) fn base64(param: &str, text: &str) -> Result<Vec<u8>, Fault> {
    let bare = match text.strip_prefix("data:") {
        Some(url) => url
            .split_once(',')
            .map(|(_, bytes)| bytes)
            .unwrap_or_default(),
        None => text,
    };
    let decoded = if bare.bytes().any(|byte| byte.is_ascii_whitespace()) {
        let bare: String = bare.split_ascii_whitespace().collect();
        BASE64.decode(bare)
    } else {
        BASE64.decode(bare)
    };
    decoded.map_err(|error| Fault::value(param, format!("`{param}` is not base64: {error}")))
}

/// Bytes as base64.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Files of a request by their names.
pub(super) fn files(texts: &BTreeMap<String, String>) -> Result<BTreeMap<String, Vec<u8>>, Fault> {
    let files = texts.iter().map(|(name, text)| {
        Ok((
            name.clone(),
            base64(&format!("files.{}", short(name)), text)?,
        ))
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Asked {
        seed: Option<u64>,
        prompt: String,
    }

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn unknown_keys_are_told_and_wrong_values_are_named() {
        let (asked, words) =
            typed::<Asked>(map(json!({"seed": 7, "sead": 8, "prompt": null}))).unwrap();
        assert_eq!((asked.seed, asked.prompt.as_str()), (Some(7), ""));
        assert_eq!(words, ["`sead` is not known and was ignored"]);
        let fault = typed::<Asked>(map(json!({"seed": "7"}))).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some("seed"));
    }

    #[test]
    fn queries_that_cannot_be_read_name_their_parameter() {
        #[derive(Debug, Deserialize)]
        struct Asked {
            #[expect(dead_code, reason = "it is never read")]
            limit: Option<usize>,
        }
        for query in ["limit=abc", "limit=1&limit=2", "limit="] {
            let uri = format!("http://localhost/v1/jobs?{query}").parse().unwrap();
            let refused = Query::<Asked>::try_from_uri(&uri).unwrap_err();
            let fault = unread_query(&refused.body_text());
            assert_eq!(fault.param.as_deref(), Some("limit"), "{fault:?}");
            assert!(
                fault.message.starts_with("`limit` cannot be read: "),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn base64_is_read_as_programs_write_it() {
        for text in ["Zm94", "data:image/png;base64,Zm94", "Zm\n94"] {
            assert_eq!(base64("image", text).unwrap(), b"fox");
        }
        assert_eq!(base64("image", "Zg").unwrap(), b"f");
        assert!(base64("image", "no picture").is_err());
    }
}

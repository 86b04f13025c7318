//! Bodies of requests as values.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    extract::{FromRequestParts, Query},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use base64::{
    DecodeError, Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::fault::Fault;

/// Base64 as programs write it, with or without its last signs.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Unknown keys that are named in an answer; of more, their number.
pub(super) const MOST_NAMED: usize = 16;

/// Commas of a body: values take many times the room of what they are written with. Pictures have none.
const MOST_COMMAS: usize = 1 << 18;

/// What some programs of Windows begin a text with.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Types of numbers, and what they are to people.
const NUMBERS: [(&str, &str); 5] = [
    ("usize", "a whole number of at least 0"),
    ("u32", "a whole number of at least 0"),
    ("u64", "a whole number of at least 0"),
    ("i64", "a whole number"),
    ("f64", "a number"),
];

/// Signs of base64 as they are escaped in addresses.
const ESCAPED: [(&str, &str); 6] = [
    ("%2B", "+"),
    ("%2b", "+"),
    ("%2F", "/"),
    ("%2f", "/"),
    ("%3D", "="),
    ("%3d", "="),
];

/// A JSON object from a body that says to be JSON, or says nothing.
pub(super) fn object(headers: &HeaderMap, body: &Bytes) -> Result<Map<String, Value>, Fault> {
    let kind = kind(headers);
    let json = kind.is_none_or(|kind| {
        kind.eq_ignore_ascii_case("application/json") || kind.ends_with("+json")
    });
    if !json {
        let hint = "send JSON, as `Content-Type: application/json`";
        return Err(unsupported(kind).hint(hint));
    }
    let coding = headers.get(header::CONTENT_ENCODING);
    if let Some(coding) = coding.filter(|coding| *coding != "identity") {
        let coding = short(&String::from_utf8_lossy(coding.as_bytes()));
        let message = format!("the request is packed as `{coding}`");
        return Err(media(message).hint("send it as it is, without `Content-Encoding`"));
    }
    let wrong = |message: String| Fault::new(StatusCode::BAD_REQUEST, "invalid_json", message);
    let mut values = body.split(|byte| *byte == b',');
    if values.nth(MOST_COMMAS + 1).is_some() {
        let message = format!("the request has more than {MOST_COMMAS} values");
        return Err(Fault::new(StatusCode::BAD_REQUEST, "limit", message));
    }
    match serde_json::from_slice(body.strip_prefix(MARK).unwrap_or(body)) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(wrong("the request is no JSON object".into())),
        Err(error) => Err(wrong(format!("the request is not JSON: {error}"))),
    }
}

/// The type of a request, if it says one.
fn kind(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str();
    kind.unwrap_or("?").split(';').next().map(str::trim)
}

/// The refusal of a type that is not read.
fn unsupported(kind: Option<&str>) -> Fault {
    let kind = short(kind.unwrap_or_default());
    media(format!("the request is of type `{kind}`"))
}

fn media(message: String) -> Fault {
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Fault::new(status, "unsupported_media_type", message)
}

/// The refusal of what is no form.
pub(super) fn no_form(headers: &HeaderMap) -> Fault {
    let form = "multipart/form-data";
    match kind(headers) {
        Some(kind) if kind.eq_ignore_ascii_case(form) => {
            let message = "the form does not say what its parts are divided by";
            Fault::value("form", message).hint(format!("send `Content-Type: {form}; boundary=…`"))
        }
        kind => {
            let hint = format!("send a form, as `Content-Type: {form}`, the picture as `image`");
            unsupported(kind).hint(hint)
        }
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
        let param = short(&error.path().to_string());
        let cause = cause(&error.inner().to_string());
        let message = format!("`{param}` cannot be read: {cause}");
        Fault::value(&param, message)
    })?;
    Ok((value, ignored(&unknown)))
}

/// What is wrong with a value, with words for the types of numbers.
fn cause(text: &str) -> String {
    let said = NUMBERS.iter().find_map(|(kind, words)| {
        let text = text.strip_suffix(kind)?.strip_suffix("expected ")?;
        Some(format!("{text}expected {words}"))
    });
    said.unwrap_or_else(|| text.to_owned())
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

/// The bytes of a text in base64, of either alphabet, bare or as a `data:` URL.
pub(super) fn base64(param: &str, text: &str) -> Result<Vec<u8>, Fault> {
    let text = text.trim();
    let start = text.get(..5).unwrap_or_default();
    let bare = if start.eq_ignore_ascii_case("data:") {
        text.split_once(',').map(|(_, bytes)| bytes)
    } else {
        Some(text)
    };
    let bare = bare.ok_or_else(|| {
        Fault::value(param, format!("`{param}` is a `data:` URL without a comma"))
    })?;
    let odd = |byte: u8| byte.is_ascii_whitespace() || b"-_%".contains(&byte);
    let decoded = if bare.bytes().any(odd) {
        BASE64.decode(plain(bare))
    } else {
        BASE64.decode(bare)
    };
    decoded.map_err(|error| {
        let fault = Fault::value(param, format!("`{param}` is not base64: {}", said(&error)));
        if bare.contains("://") || bare.contains(":\\") || bare.starts_with("blob:") {
            return fault.hint("send the file itself: addresses and paths are not followed");
        }
        fault
    })
}

/// The same signs in the usual alphabet, without spaces, and none of them escaped.
fn plain(text: &str) -> String {
    let whole = ESCAPED
        .iter()
        .fold(text.to_owned(), |text, (escaped, sign)| {
            if text.contains('%') {
                text.replace(escaped, sign)
            } else {
                text
            }
        });
    let signs = whole.chars().filter(|sign| !sign.is_ascii_whitespace());
    let signs = signs.map(|sign| match sign {
        '-' => '+',
        '_' => '/',
        sign => sign,
    });
    signs.collect()
}

/// What is wrong with base64.
fn said(error: &DecodeError) -> String {
    match error {
        DecodeError::InvalidByte(place, byte) => {
            format!("byte {place} is `{}`", byte.escape_ascii())
        }
        _ => "it breaks off".to_owned(),
    }
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
        for text in [
            "Zm94",
            "data:image/png;base64,Zm94",
            "Zm\n94",
            " Data:image/png;base64,Zm94\n",
        ] {
            assert_eq!(base64("image", text).unwrap(), b"fox");
        }
        for text in ["+/8=", "-_8", "data:;base64,%2B%2f8%3D"] {
            assert_eq!(base64("image", text).unwrap(), [0xfb, 0xff], "{text}");
        }
        assert_eq!(base64("image", "Zg").unwrap(), b"f");
        assert!(base64("image", "no picture").is_err());
    }

    #[test]
    fn what_is_no_base64_is_told() {
        let told = |text: &str| base64("image", text).unwrap_err();
        let address = told("https://example.org/a.png");
        assert_eq!(address.message, "`image` is not base64: byte 5 is `:`");
        let hint = address.hint.expect("a hint");
        assert!(hint.starts_with("send the file itself"), "{hint}");
        let url = told("data:image/png;base64");
        assert_eq!(url.message, "`image` is a `data:` URL without a comma");
        assert!(told("Zm9").message.ends_with("it breaks off"));
    }

    #[test]
    fn bodies_are_read_as_programs_send_them() {
        let read = |name: Option<(header::HeaderName, &'static str)>, body: &[u8]| {
            let headers = name.map(|(name, value)| (name, value.parse().unwrap()));
            object(
                &headers.into_iter().collect(),
                &Bytes::copy_from_slice(body),
            )
        };
        assert!(read(None, b"{}").is_ok(), "without a type");
        assert!(read(None, b"\xef\xbb\xbf{}").is_ok(), "with a mark");
        let many = ["{\"a\": [0", &",0".repeat(MOST_COMMAS + 1), "]}"].concat();
        let fault = read(None, many.as_bytes()).map(|_| ()).unwrap_err();
        assert!(fault.message.ends_with("values"), "or more: {fault:?}");
        for (header, value) in [
            (header::CONTENT_TYPE, "text/plain"),
            (header::CONTENT_ENCODING, "gzip"),
        ] {
            let fault = read(Some((header, value)), b"{}").unwrap_err();
            assert_eq!(fault.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
            assert!(fault.message.contains(value), "{fault:?}");
        }
    }

    #[test]
    fn numbers_are_called_so() {
        let fault = typed::<Asked>(map(json!({"seed": "7"}))).unwrap_err();
        assert!(
            fault
                .message
                .ends_with("expected a whole number of at least 0"),
            "{fault:?}"
        );
    }
}

//! Parts of results: players of films ask for them, and so do downloads that go on where they broke off.
//!
//! Source: RFC 9110, section 14. One range at a time is answered; of several, of ranges that there are none of, and of a result that may have
//! changed since (`If-Range`) all is sent, as may be.

use std::ops::RangeInclusive;

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

/// `bytes`, or the part of them that is asked for.
pub(super) fn answer(headers: &HeaderMap, bytes: Vec<u8>) -> Response {
    let whole = bytes.len();
    let mut response = match asked(headers, whole) {
        Some(part) => {
            let (first, last) = (part.start(), part.end());
            let told = [(
                header::CONTENT_RANGE,
                format!("bytes {first}-{last}/{whole}"),
            )];
            (StatusCode::PARTIAL_CONTENT, told, bytes[part].to_vec()).into_response()
        }
        None => bytes.into_response(),
    };
    let ranges = HeaderValue::from_static("bytes");
    response.headers_mut().insert(header::ACCEPT_RANGES, ranges);
    response
}

/// The bytes that are asked for of so many.
fn asked(headers: &HeaderMap, whole: usize) -> Option<RangeInclusive<usize>> {
    if headers.contains_key(header::IF_RANGE) {
        return None;
    }
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    let (first, last) = range.trim().strip_prefix("bytes=")?.split_once('-')?;
    let most = whole.checked_sub(1)?;
    let (first, last) = if first.is_empty() {
        let last = last.parse::<usize>().ok().filter(|last| *last > 0)?;
        (whole.saturating_sub(last), most)
    } else if last.is_empty() {
        (first.parse().ok()?, most)
    } else {
        (first.parse().ok()?, last.parse::<usize>().ok()?.min(most))
    };
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(range: &'static str, whole: usize) -> Option<RangeInclusive<usize>> {
        let range = (header::RANGE, HeaderValue::from_static(range));
        asked(&[range].into_iter().collect(), whole)
    }

    #[test]
    fn parts_are_those_that_are_asked_for() {
        for (range, expected) in [
            ("bytes=0-1", Some(0..=1)),
            ("bytes=8-", Some(8..=9)),
            ("bytes=8-99", Some(8..=9)),
            ("bytes=-3", Some(7..=9)),
            ("bytes=-99", Some(0..=9)),
            ("bytes=10-", None),
            ("bytes=2-1", None),
            ("bytes=-0", None),
            ("bytes=0-1,4-5", None),
            ("bytes=a-b", None),
            ("lines=0-1", None),
            ("bytes=", None),
        ] {
            assert_eq!(part(range, 10), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), None);
    }

    #[test]
    fn what_may_have_changed_is_sent_whole() {
        let headers = [header::RANGE, header::IF_RANGE].map(|name| {
            let value = HeaderValue::from_static("bytes=0-1");
            (name, value)
        });
        assert_eq!(asked(&headers.into_iter().collect(), 10), None);
    }
}

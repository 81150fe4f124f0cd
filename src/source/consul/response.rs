//! Reading a response besides its data: headers, the text of a refusal, the class of a transport error.

use std::io::ErrorKind;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use tokio::time::{Instant, timeout};

use super::super::Freshness;
use super::error::{ErrorClass, clean};

/// No `Retry-After` is honoured for longer.
const RETRY_AFTER_MOST: Duration = Duration::from_secs(60);
/// How much of an error's body is read.
const EXCERPT: usize = 2048;

/// The start of an error's body as one clean line; whatever goes wrong with it does not matter.
pub(super) async fn excerpt(response: &mut Response, limit: Duration) -> String {
    let mut body = Vec::new();
    // Cancel safety: what arrived before the deadline stays in `body`.
    let _ = timeout(limit, async {
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk[..chunk.len().min(EXCERPT)]);
            if body.len() >= EXCERPT {
                break;
            }
        }
    })
    .await;
    clean(&String::from_utf8_lossy(&body))
}

/// What the headers of a good answer say of its age.
pub(super) fn freshness(headers: &HeaderMap, received: Option<u64>, began: Instant) -> Freshness {
    let number = |name| -> Option<u64> { headers.get(name)?.to_str().ok()?.parse().ok() };
    let flag = |name| Some(headers.get(name)?.as_bytes().eq_ignore_ascii_case(b"true"));
    let at = Instant::now();
    Freshness {
        at,
        last_contact: Duration::from_millis(number("x-consul-lastcontact").unwrap_or(0)),
        age: number("age").map(Duration::from_secs),
        known_leader: flag("x-consul-knownleader").unwrap_or(true),
        filtered_by_acls: flag("x-consul-results-filtered-by-acls").unwrap_or(false),
        index: received.unwrap_or(0),
        took: at - began,
    }
}

/// The class of a transport error, its own text without the URL, and whether the connection was lost
/// before any answer.
pub(super) fn transport(error: reqwest::Error) -> (ErrorClass, String, bool) {
    let error = error.without_url();
    let (mut tls, mut garbled) = (false, false);
    let mut words: Vec<String> = Vec::new();
    let mut link: Option<&dyn std::error::Error> = Some(&error);
    while let Some(current) = link {
        tls |= current.is::<rustls::Error>();
        // An io::Error passes over the error it wraps when asked for its source, and may wrap another.
        let mut io = current.downcast_ref::<std::io::Error>();
        while let Some(outer) = io {
            garbled |= matches!(
                outer.kind(),
                ErrorKind::InvalidData | ErrorKind::InvalidInput
            );
            tls |= outer
                .get_ref()
                .is_some_and(|inner| inner.is::<rustls::Error>());
            io = outer.get_ref().and_then(|inner| inner.downcast_ref());
        }
        let text = current.to_string();
        if !words.last().is_some_and(|last| last.contains(&text)) {
            words.push(text);
        }
        link = current.source();
    }
    let class = if tls {
        ErrorClass::Tls
    } else if error.is_timeout() {
        ErrorClass::Timeout
    } else if garbled {
        ErrorClass::Protocol
    } else {
        ErrorClass::Unreachable
    };
    let lost = class == ErrorClass::Unreachable && error.is_request() && !error.is_connect();
    (class, words.join(": "), lost)
}

/// A header value that no debug text shows.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A 404 that bears one of Consul's headers is Consul's own.
pub(super) fn from_consul(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| name.as_str().starts_with("x-consul-"))
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    kind.and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// `Retry-After` in seconds, capped; the form with a date is not read, since clocks differ.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A09
    #[test]
    fn a_pause_that_consul_asks_for_is_honoured_up_to_a_minute() {
        for (text, seconds) in [
            ("0", Some(0)),
            ("3", Some(3)),
            (" 60 ", Some(60)),
            ("61", Some(60)),
            ("18446744073709551615", Some(60)),
            ("18446744073709551616", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("Sat, 28 Nov 2026 01:00:00 GMT", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            assert_eq!(
                retry_after(&headers),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}

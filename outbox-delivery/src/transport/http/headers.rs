//! Headers of an event as headers of a request.

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use outbox_traits::PublishError;

/// Those that describe the request itself; with another value it would be another request.
const OF_THE_REQUEST: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A header exactly as it is, or none.
pub(super) fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let is_ours = name.as_str().starts_with("ce-") || name.as_str().starts_with("webhook-");
    // A reader strips the blanks around a value.
    if is_ours || OF_THE_REQUEST.contains(&name.as_str()) || value.trim() != value {
        return None;
    }
    Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
}

pub(super) fn name(name: &str) -> Result<HeaderName, PublishError> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused(name))
}

pub(super) fn value(value: &str) -> Result<HeaderValue, PublishError> {
    HeaderValue::from_str(value)
        .map_err(|error| PublishError::rejected("a value has no form as a header of HTTP").with_source(error))
}

/// Adds a header, of which a request has no more than some ten thousand.
pub(super) fn append(
    headers: &mut HeaderMap,
    name: HeaderName,
    value: HeaderValue,
) -> Result<(), PublishError> {
    let added = headers.try_append(name, value);
    added.map(|_| ()).map_err(|error| {
        PublishError::rejected("the event has too many headers to be sent by HTTP").with_source(error)
    })
}

/// Without the values, of which one may be a secret.
pub(super) fn taken(name: &HeaderName) -> PublishError {
    PublishError::rejected(format!(
        "the event's header `{name}` has another value than the transport gives to every request by `with_header`: \
         leave it out of the one or of the other"
    ))
}

pub(super) fn refused(name: &str) -> PublishError {
    PublishError::rejected(format!(
        "the event's header {name:?} cannot be sent by HTTP: its name must be a token that the request does not \
         use itself and that no other header of the event has in another case, and its value must have no line breaks and no blanks around it"
    ))
}

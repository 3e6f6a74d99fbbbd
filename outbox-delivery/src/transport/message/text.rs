//! Text in places that take ASCII alone.

use std::{borrow::Cow, fmt::Write};

/// An attribute's value as a header of HTTP or NATS takes it: spaces, double quotes, percent signs and all that is
/// not printable ASCII are percent-encoded as UTF-8, as the HTTP binding of CloudEvents says.
#[must_use]
pub fn percent_encoded(value: &str) -> Cow<'_, str> {
    encoded(value, |byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%'))
}

/// A reference to a URI: what may not stand in one is percent-encoded.
pub(super) fn uri_reference(text: &str) -> Cow<'_, str> {
    encoded(text, |byte| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte))
}

fn encoded(text: &str, is_kept: impl Fn(u8) -> bool) -> Cow<'_, str> {
    if text.bytes().all(&is_kept) {
        return text.into();
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if is_kept(byte) {
            encoded.push(char::from(byte));
        } else {
            // A String takes everything.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded.into()
}

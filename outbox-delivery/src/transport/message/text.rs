//! Text in places that take ASCII alone.

use std::{borrow::Cow, fmt::Write};

/// An attribute's value as a header of HTTP or NATS takes it: spaces, double quotes, percent signs and all that is
/// not printable ASCII are percent-encoded as UTF-8, as the HTTP binding of CloudEvents says.
#[must_use]
pub fn percent_encoded(value: &str) -> Cow<'_, str> {
    encoded(value, |_, byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%'))
}

/// Percent-encodes all bytes but those that are kept, of which it says where they are.
pub(super) fn encoded(text: &str, is_kept: impl Fn(usize, u8) -> bool) -> Cow<'_, str> {
    if text.bytes().enumerate().all(|(at, byte)| is_kept(at, byte)) {
        return text.into();
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for (at, byte) in text.bytes().enumerate() {
        if is_kept(at, byte) {
            encoded.push(char::from(byte));
        } else {
            // A String takes everything.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded.into()
}

//! References to URIs, as RFC 3986 writes them.

use std::{borrow::Cow, ops::Range};

use super::text::encoded;

/// A reference to a URI: what may not stand in one, or not in its place, is percent-encoded.
pub(super) fn uri_reference(text: &str) -> Cow<'_, str> {
    let fragment = text.find('#');
    let brackets = brackets(text);
    let without_scheme = if scheme(text).is_some() { 0 } else { end_of(text, ['/', '?', '#']) };
    let is_encoding = |at: usize| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    encoded(text, |at, byte| match byte {
        b'%' => is_encoding(at),
        b'#' => fragment == Some(at),
        b'[' | b']' => brackets.contains(&Some(at)),
        // In front of the first slash it would end a scheme.
        b':' => at >= without_scheme,
        _ => byte.is_ascii_alphanumeric() || b"-._~/?@!$&'()*+,;=".contains(&byte),
    })
}

/// Where the first of these is, or the end.
fn end_of<const N: usize>(text: &str, marks: [char; N]) -> usize {
    text.find(marks).unwrap_or(text.len())
}

fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let is_one = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_one.then_some(scheme)
}

/// Where the brackets are around an address of IPv6, which is a host.
fn brackets(text: &str) -> [Option<usize>; 2] {
    let Some(authority) = authority(text) else { return [None; 2] };
    let user = text[authority.clone()].rfind('@').map_or(0, |at| at + 1);
    let host = &text[authority.start + user..authority.end];
    let address = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match address {
        Some((address, port))
            if address.chars().all(|c| c.is_ascii_alphanumeric() || ":.".contains(c))
                && (port.is_empty() || port.starts_with(':')) =>
        {
            let open = authority.start + user;
            [Some(open), Some(open + address.len() + 1)]
        }
        _ => [None; 2],
    }
}

/// What is between two slashes and the next one.
fn authority(text: &str) -> Option<Range<usize>> {
    let slashes = scheme(text).map_or(0, |scheme| scheme.len() + 1);
    let rest = text[slashes..].strip_prefix("//")?;
    let start = slashes + 2;
    Some(start..start + end_of(rest, ['/', '?', '#']))
}

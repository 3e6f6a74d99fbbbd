//! References to URIs, as RFC 3986 writes them.

use std::{borrow::Cow, net::Ipv6Addr, ops::Range};

use super::text::encoded;

/// A reference to a URI: what may not stand in one, or not in its place, is percent-encoded.
pub(super) fn uri_reference(text: &str) -> Cow<'_, str> {
    let fragment = text.find('#');
    let authority = authority(text).map(|range| Authority::of(text, range));
    let without_scheme = if scheme(text).is_some() { 0 } else { end_of(text, ['/', '?', '#']) };
    let is_encoding = |at: usize| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    encoded(text, |at, byte| match byte {
        b'%' => is_encoding(at),
        b'#' => fragment == Some(at),
        b'[' | b']' | b':' | b'@' => match &authority {
            Some(authority) if authority.range.contains(&at) => authority.may_have(at, byte),
            // In front of the first slash a colon would end a scheme.
            _ => byte == b'@' || byte == b':' && at >= without_scheme,
        },
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

/// What is between two slashes and the next one: perhaps a user and an `@`, a host, and perhaps a `:` and a port.
struct Authority {
    range: Range<usize>,
    host: Range<usize>,
    /// The host is an address in brackets, and no name.
    is_address: bool,
}

impl Authority {
    fn of(text: &str, range: Range<usize>) -> Self {
        let start = text[range.clone()].rfind('@').map_or(range.start, |at| range.start + at + 1);
        let rest = &text[start..range.end];
        let host = match rest.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
            _ => rest,
        };
        Self { range, host: start..start + host.len(), is_address: is_address(host) }
    }

    /// Whether a bracket, a `:` or an `@` is in its place.
    fn may_have(&self, at: usize, byte: u8) -> bool {
        let is_in_host = self.host.contains(&at);
        match byte {
            b'[' | b']' => is_in_host && self.is_address,
            b':' => !is_in_host || self.is_address,
            _ => at + 1 == self.host.start,
        }
    }
}

/// Whether a host is an address of IPv6, or of a version that is yet to come, in brackets.
fn is_address(host: &str) -> bool {
    let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { return false };
    let future = address.strip_prefix(['v', 'V']).and_then(|rest| rest.split_once('.'));
    let is_future = future.is_some_and(|(version, address)| {
        let is_address = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:".contains(c);
        !version.is_empty()
            && version.chars().all(|c| c.is_ascii_hexdigit())
            && !address.is_empty()
            && address.chars().all(is_address)
    });
    is_future || address.parse::<Ipv6Addr>().is_ok()
}

/// What is between two slashes and the next one.
fn authority(text: &str) -> Option<Range<usize>> {
    let slashes = scheme(text).map_or(0, |scheme| scheme.len() + 1);
    let rest = text[slashes..].strip_prefix("//")?;
    let start = slashes + 2;
    Some(start..start + end_of(rest, ['/', '?', '#']))
}

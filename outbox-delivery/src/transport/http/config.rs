//! What a user may set, and what is wrong with it.

use std::{error::Error as StdError, fmt};

use hyper::{Uri, http::uri::Authority};
use standardwebhooks::Webhook;

/// Why a webhook cannot be set up so. It shows no secret, and no URL, which often has one in it.
#[derive(Debug)]
pub struct HttpConfigError {
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl HttpConfigError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    pub(super) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}

impl fmt::Display for HttpConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, ": {source}"))
    }
}

impl StdError for HttpConfigError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

pub(super) fn endpoint(url: &str) -> Result<Uri, HttpConfigError> {
    let wanted = "the URL of a webhook must be like `https://example.com/webhooks`";
    let url: Uri = url.parse().map_err(|error| HttpConfigError::new(wanted).with_source(error))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none_or(str::is_empty) {
        return Err(HttpConfigError::new(wanted));
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(HttpConfigError::new(
            "the URL of a webhook must have no user and no password: give them as the header `Authorization`",
        ));
    }
    if url.authority().is_some_and(|authority| !has_a_good_port(authority)) {
        return Err(HttpConfigError::new(
            "the port in the URL of a webhook must be a number from 1 to 65535",
        ));
    }
    Ok(url)
}

/// Or none. The parser of the URL takes anything for a port, and the client the default one for what is none.
fn has_a_good_port(authority: &Authority) -> bool {
    let Some(port) = authority.as_str().strip_prefix(authority.host()) else { return false };
    let Some(port) = port.strip_prefix(':') else { return port.is_empty() };
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// In Base64, 24 bytes are 32 characters and 64 bytes are 88, padding included.
pub(super) fn secret(secret: &str) -> Result<Webhook, HttpConfigError> {
    let wrong = || {
        HttpConfigError::new("the secret of a webhook must be `whsec_` and 24 to 64 random bytes in Base64")
    };
    let encoded = secret.strip_prefix("whsec_").ok_or_else(wrong)?;
    if !(32..=88).contains(&encoded.len()) {
        return Err(wrong());
    }
    // Its error would tell a character of the secret.
    Webhook::new(encoded).map_err(|_| wrong())
}

pub(super) fn no_header(name: &str) -> HttpConfigError {
    HttpConfigError::new(format!(
        "the header {name:?} cannot be set: it has no form in HTTP, or is one that the transport sets itself"
    ))
}

//! What a relay did.

use std::fmt;

use outbox_traits::Error;

/// What a relay did, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Events that the transport accepted.
    pub published: u64,
    /// Attempts to publish an event that failed: one event counts as often as it failed. Those that the
    /// transport did not attempt do not count.
    pub failed: u64,
    /// Errors of the store that were survived.
    pub store_errors: u64,
    /// The text of the last failure, of the transport or the store.
    pub last_error: Option<String>,
}

impl Report {
    pub(crate) fn store_failed(&mut self, error: &Error) {
        tracing::warn!(%error, "the outbox store failed");
        self.store_errors += 1;
        self.last_error = Some(error.to_string());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "published {}, failed {}", self.published, self.failed)?;
        if self.store_errors > 0 {
            write!(f, ", store errors {}", self.store_errors)?;
        }
        self.last_error.as_ref().map_or(Ok(()), |error| write!(f, "; last error: {error}"))
    }
}

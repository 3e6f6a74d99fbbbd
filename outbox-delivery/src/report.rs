//! What a relay did.

use std::fmt;

use outbox_traits::EventId;

/// What a relay did, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Events that the transport accepted.
    pub published: u64,
    /// Attempts to publish an event that failed: one event counts as often as it failed. An event for which the
    /// transport was unavailable counts too, which is at least one for each call; those that it did not attempt, because
    /// of a failure before them, do not.
    pub failed: u64,
    /// Events that the relay set aside as dead letters: not those that the store sets aside by itself, as they cannot be
    /// decoded.
    pub dead_lettered: u64,
    /// Events whose lease ran out, or was ended by others, before they were settled. Somebody else may deliver
    /// them, again where the transport had accepted them. One whose settlement took, and the answer was lost, is among
    /// them.
    pub lost_leases: u64,
    /// Leases that were given back, because the event was not tried, or was and the transport was unavailable. No attempt is
    /// counted for them.
    pub released: u64,
    /// Delivered events that were deleted.
    pub purged: u64,
    /// Errors of the store that were survived.
    pub store_errors: u64,
    /// In strict mode: the event whose failure ended it.
    pub stopped_at: Option<EventId>,
    /// The text of the last failure, of the transport or the store.
    pub last_error: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "published {}, failed {}", self.published, self.failed)?;
        for (name, count) in [
            ("dead-lettered", self.dead_lettered),
            ("lost leases", self.lost_leases),
            ("released", self.released),
            ("purged", self.purged),
            ("store errors", self.store_errors),
        ] {
            if count > 0 {
                write!(f, ", {name} {count}")?;
            }
        }
        if let Some(event) = self.stopped_at {
            write!(f, ", stopped at event {event}")?;
        }
        self.last_error.as_ref().map_or(Ok(()), |error| write!(f, "; last error: {error}"))
    }
}

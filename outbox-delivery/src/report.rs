//! What a relay did.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use outbox_traits::{Error, Event, EventId, PublishError, PublishErrorKind};

/// What a relay did, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Events that the transport accepted.
    pub published: u64,
    /// Attempts to publish an event that failed: one event counts as often as it failed. Those that the
    /// transport did not attempt do not count.
    pub failed: u64,
    /// Events that were set aside as dead letters.
    pub dead_lettered: u64,
    /// Events whose lease ran out, or was ended by others, before they were settled. Somebody else may deliver
    /// them, again where the transport had accepted them.
    pub lost_leases: u64,
    /// Leases that were given back, because the event was not tried. No attempt is counted for them.
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

/// Where everything that happens is written down: by the loop, and by what runs beside it.
#[derive(Debug, Default)]
pub(crate) struct Record {
    report: Mutex<Report>,
}

impl Record {
    pub(crate) fn report(&self) -> Report {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transport answered for so many events, of which these were not accepted.
    pub(crate) fn answered(&self, all: usize, failures: &[(&Event, PublishError)]) {
        let is_tried = |(_, error): &&(&Event, PublishError)| error.kind() != PublishErrorKind::NotAttempted;
        let failed = failures.len();
        let mut report = self.lock();
        report.published += (all - failed) as u64;
        report.failed += failures.iter().filter(is_tried).count() as u64;
        if let Some((event, error)) = failures.iter().find(is_tried).or(failures.first()) {
            let id = event.id();
            tracing::warn!(%error, event = %id, "{failed} of {all} events were not accepted");
            report.last_error = Some(format!("{error} (event {id})"));
        }
    }

    pub(crate) fn dead_lettered(&self, id: EventId, error: &str) {
        tracing::error!(event = %id, error, "the event is set aside as a dead letter");
        self.lock().dead_lettered += 1;
    }

    pub(crate) fn lease_lost(&self, id: EventId) {
        tracing::warn!(event = %id, "the lease was lost: somebody else may deliver the event again");
        self.lock().lost_leases += 1;
    }

    pub(crate) fn released(&self) {
        self.lock().released += 1;
    }

    pub(crate) fn purged(&self, count: u64) {
        if count > 0 {
            tracing::debug!(count, "delivered events were purged");
            self.lock().purged += count;
        }
    }

    pub(crate) fn store_failed(&self, error: &Error) {
        tracing::warn!(%error, "the outbox store failed");
        let mut report = self.lock();
        report.store_errors += 1;
        report.last_error = Some(error.to_string());
    }

    pub(crate) fn stopped_at(&self, id: EventId) {
        self.lock().stopped_at.get_or_insert(id);
    }
}

//! The leases of what is queued or being published, and for how long they can be counted on.

use std::{collections::HashMap, time::Duration};

use outbox_traits::{EventId, Lease};
use tokio::time::Instant;

/// By the monotonic clock of the process, counted from before a call was sent. The store, which counts from when the
/// call arrived, gives each lease at least as long.
#[derive(Debug)]
pub(super) struct Leases {
    length: Duration,
    held: HashMap<EventId, Held>,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    since: Instant,
}

impl Leases {
    pub(super) fn new(length: Duration) -> Self {
        Self { length, held: HashMap::new() }
    }

    /// Whether another lease of the event was held, which this one takes the place of.
    pub(super) fn hold(&mut self, lease: Lease, since: Instant) -> bool {
        self.held.insert(lease.event(), Held { lease, since }).is_some()
    }

    pub(super) fn renewed(&mut self, lease: &Lease, since: Instant) {
        if let Some(held) = self.held.get_mut(&lease.event()).filter(|held| held.lease == *lease) {
            held.since = since;
        }
    }

    pub(super) fn has(&self, lease: &Lease) -> bool {
        self.held.get(&lease.event()).is_some_and(|held| held.lease == *lease)
    }

    /// The lease of an event with which something else is to be done from now on.
    pub(super) fn take(&mut self, id: EventId) -> Option<Lease> {
        self.held.remove(&id).map(|held| held.lease)
    }

    /// Those to renew now, once it is time for any: those, too, that would soon follow.
    pub(super) fn to_renew(&self, now: Instant) -> Vec<Lease> {
        if self.renew_at().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let is_worn = |held: &&Held| now.duration_since(held.since) >= self.length / 4;
        self.held.values().filter(is_worn).map(|held| held.lease).collect()
    }

    /// Those that can be counted on no more.
    pub(super) fn expired(&self, now: Instant) -> Vec<EventId> {
        let has_expired = |held: &&Held| held.since + self.reliable() <= now;
        self.held.values().filter(has_expired).map(|held| held.lease.event()).collect()
    }

    pub(super) fn renew_at(&self) -> Option<Instant> {
        self.oldest().map(|since| since + self.length / 2)
    }

    pub(super) fn expire_at(&self) -> Option<Instant> {
        self.oldest().map(|since| since + self.reliable())
    }

    /// A tenth is left for what takes a moment, such as to end a publish.
    fn reliable(&self) -> Duration {
        self.length.mul_f64(0.9)
    }

    fn oldest(&self) -> Option<Instant> {
        self.held.values().map(|held| held.since).min()
    }
}

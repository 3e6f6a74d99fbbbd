//! Claims: the right to deliver, for a time and fenced.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::{Event, EventId, OutboxStore, Result};

/// A store that many workers deliver from at once.
///
/// A worker [`claim`](Self::claim)s events, publishes them, and [`settle`](Self::settle)s each. Its lease on an
/// event is exclusive and runs out; the token is a fence: what a worker does with a lease that ran out has no
/// effect, whatever name the worker has. All times are by the store's clock.
///
/// - Claims made at the same time are disjoint.
/// - While an event of a [partition key](Event::partition_key) is leased, waits for a retry, or is a dead letter
///   that holds its key, no other event of that key is handed to anyone. One claim may take several events of a
///   key, in order, or one at a time.
/// - Events without a partition key do not wait for one another.
/// - The cost of a claim is bounded by its limit and by what is leased, not by the backlog, by one hot key or by
///   how many keys wait.
#[async_trait]
pub trait ClaimStore: OutboxStore {
    /// Leases events that are pending and due, oldest first. Leases that ran out end here: their events are
    /// claimable again, each with one more started attempt.
    ///
    /// A call that is dropped before it has answered may have leased all the same. Nobody delivers those events before
    /// their leases run out, and they count as a started attempt.
    async fn claim(&self, claim: &Claim) -> Result<Vec<Leased>>;

    /// Makes leases last this long from now on, and says of each whether it did. One that ran out or was settled is
    /// [`LeaseLost`](crate::ErrorKind::LeaseLost) in its own answer, and cannot be had back.
    ///
    /// # Errors
    /// Those of the engine, of the call as a whole; a lost lease is none.
    async fn renew(&self, leases: &[Lease], length: Duration) -> Result<Vec<Result<()>>>;

    /// Settles leases, in one transaction and in as few round trips as the engine allows, and says of each whether
    /// it took. One that ran out, was settled before, or whose event was acknowledged meanwhile is
    /// [`LeaseLost`](crate::ErrorKind::LeaseLost) in its own answer: its settlement has no effect, and the others have theirs.
    ///
    /// # Errors
    /// Those of the engine, of the call as a whole; a lost lease is none.
    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Result<()>>>;
}

/// What a worker asks for. By default 100 events of all types for 30 seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// Who asks, for people to read; the fence is the token.
    pub worker: String,
    /// How many events at most; a store takes at most [`Claim::MAX_LIMIT`].
    pub limit: usize,
    /// How long the leases last, at least a millisecond.
    pub lease: Duration,
    /// Only events of these types; none means all. Events of other types are passed over and hold up nobody.
    pub types: Vec<String>,
}

impl Claim {
    /// The most events that one claim leases.
    pub const MAX_LIMIT: usize = 10_000;

    /// For a worker of this name.
    #[must_use]
    pub fn new(worker: impl Into<String>) -> Self {
        Self { worker: worker.into(), limit: 100, lease: Duration::from_secs(30), types: Vec::new() }
    }

    /// At most so many events.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// For so long. A lease of no time is over within a second.
    #[must_use]
    pub fn with_lease(mut self, length: Duration) -> Self {
        self.lease = length;
        self
    }

    /// Only events of these types.
    #[must_use]
    pub fn with_types<T: Into<String>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        self.types = types.into_iter().map(Into::into).collect();
        self
    }

    /// Whether an event of this type is wanted.
    #[must_use]
    pub fn wants(&self, event_type: &str) -> bool {
        self.types.is_empty() || self.types.iter().any(|wanted| wanted == event_type)
    }
}

/// The exclusive, expiring right to deliver one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    event: EventId,
    token: Uuid,
}

impl Lease {
    /// A lease on this event under this fencing token; a store makes a new token for each claim.
    #[must_use]
    pub fn new(event: EventId, token: Uuid) -> Self {
        Self { event, token }
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> EventId {
        self.event
    }

    /// The fencing token, unique to the claim.
    #[must_use]
    pub fn token(&self) -> Uuid {
        self.token
    }

    /// What a store answers where the lease is not held any more.
    #[must_use]
    pub fn lost(&self) -> crate::Error {
        let message = "the lease ran out, was settled or was superseded, and this had no effect";
        crate::Error::new(crate::ErrorKind::LeaseLost, message).with_event(self.event)
    }
}

/// A claimed event.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Leased {
    /// The event.
    pub event: Event,
    /// The right to deliver it.
    pub lease: Lease,
    /// How many deliveries were started, this one included.
    pub attempts: u32,
    /// How many of those before failed.
    pub failures: u32,
}

impl Leased {
    /// A claimed event.
    #[must_use]
    pub fn new(event: Event, lease: Lease, attempts: u32, failures: u32) -> Self {
        Self { event, lease, attempts, failures }
    }
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Of which lease.
    pub lease: Lease,
    /// How.
    pub outcome: Outcome,
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was accepted.
    Delivered,
    /// It failed, and is to be tried again after this time; its key waits.
    Retry {
        /// How long from now on, by the store's clock.
        after: Duration,
        /// Why.
        error: String,
    },
    /// It failed for good: it becomes a dead letter.
    DeadLetter {
        /// Why.
        error: String,
        /// Whether its partition key waits until it is requeued or discarded. If not, or where the event has no
        /// key, nothing waits for it.
        holds_key: bool,
    },
    /// It was not tried: it is claimable again at once, and the attempt does not count.
    Released,
}

impl Settlement {
    /// It was accepted.
    #[must_use]
    pub fn delivered(lease: Lease) -> Self {
        Self { lease, outcome: Outcome::Delivered }
    }

    /// It failed, and is to be tried again after this time.
    #[must_use]
    pub fn retry(lease: Lease, after: Duration, error: impl Into<String>) -> Self {
        Self { lease, outcome: Outcome::Retry { after, error: error.into() } }
    }

    /// It failed for good, and its key does not wait for it.
    #[must_use]
    pub fn dead_letter(lease: Lease, error: impl Into<String>) -> Self {
        Self { lease, outcome: Outcome::DeadLetter { error: error.into(), holds_key: false } }
    }

    /// It failed for good, and its key waits until it is requeued or discarded.
    #[must_use]
    pub fn dead_letter_holding_key(lease: Lease, error: impl Into<String>) -> Self {
        Self { lease, outcome: Outcome::DeadLetter { error: error.into(), holds_key: true } }
    }

    /// It was not tried.
    #[must_use]
    pub fn released(lease: Lease) -> Self {
        Self { lease, outcome: Outcome::Released }
    }
}

//! Events that were given up or cannot be read.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{Event, EventId, OutboxStore, Result};

/// A store that shows what was set aside.
///
/// A dead event is claimed by nobody and purged by nobody. It blocks nobody, unless it was settled as one that
/// [holds its key](crate::Outcome::DeadLetter): then the other events of its key wait until it is requeued or
/// discarded, and those of other keys do not.
#[async_trait]
pub trait DeadLetterStore: OutboxStore {
    /// Dead events in the order of the outbox, a page at a time.
    ///
    /// An undecodable row is set aside by the fetch that meets it, and is shown from then on.
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage>;

    /// Makes one dead event pending again, with fresh attempts and in its old place: of its key, it comes before all
    /// that waited for it. It returns whether there was one.
    async fn requeue(&self, id: EventId) -> Result<bool>;

    /// Makes all dead events pending again that match, with fresh attempts, and returns how many. The filter's
    /// page (`limit` and `after`) does not count here.
    async fn requeue_all(&self, filter: &DeadLetterFilter) -> Result<u64>;

    /// Removes one dead event for good, and what waited for it goes on. It returns whether there was one.
    async fn discard(&self, id: EventId) -> Result<bool>;

    /// Removes all dead events that match for good, and returns how many. The filter's page (`limit` and
    /// `after`) does not count here.
    async fn discard_all(&self, filter: &DeadLetterFilter) -> Result<u64>;
}

/// So many characters of an error every store keeps: 2,000. What comes behind them may be cut off.
pub const MAX_REASON_CHARS: usize = 2000;

/// An event that was set aside.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The id of the event.
    pub id: EventId,
    /// The type under which it was stored.
    pub event_type: String,
    /// The event, or its raw content where it cannot be decoded.
    pub content: Result<Event, String>,
    /// Why it was set aside: the last error, of which the first [`MAX_REASON_CHARS`] characters are kept. Where an
    /// engine has no text with a NUL, it is U+FFFD here.
    pub reason: String,
    /// How many deliveries were started.
    pub attempts: u32,
    /// How many of them failed.
    pub failures: u32,
    /// When a delivery failed first, by the store's clock.
    pub first_failed_at: Option<DateTime<Utc>>,
    /// When a delivery failed last, by the store's clock.
    pub last_failed_at: Option<DateTime<Utc>>,
    /// When it was set aside, by the store's clock.
    pub dead_at: DateTime<Utc>,
    /// Whether the other events of its partition key wait until it is requeued or discarded.
    pub holds_key: bool,
}

impl DeadLetter {
    /// A dead letter without attempts or failures that holds no key; a store sets the rest.
    #[must_use]
    pub fn new(
        id: EventId,
        event_type: String,
        content: Result<Event, String>,
        reason: String,
        dead_at: DateTime<Utc>,
    ) -> Self {
        Self {
            id,
            event_type,
            content,
            reason,
            attempts: 0,
            failures: 0,
            first_failed_at: None,
            last_failed_at: None,
            dead_at,
            holds_key: false,
        }
    }
}

/// A page of dead letters.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DeadLetterPage {
    /// The dead letters, oldest first.
    pub letters: Vec<DeadLetter>,
    /// Where the next page begins, for [`DeadLetterFilter::after`]; `None` if this is the last one.
    pub next: Option<u64>,
}

impl DeadLetterPage {
    /// A page of these letters.
    #[must_use]
    pub fn new(letters: Vec<DeadLetter>, next: Option<u64>) -> Self {
        Self { letters, next }
    }
}

/// Which dead letters, and which page of them. By default all types and times, and a page of 100.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetterFilter {
    /// Only events of this type.
    pub event_type: Option<String>,
    /// Only those set aside at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only those set aside before this time.
    pub before: Option<DateTime<Utc>>,
    /// Only what comes after this position, which [`DeadLetterPage::next`] gives.
    pub after: Option<u64>,
    /// How many at most. A page of 0 is empty and its [`next`](DeadLetterPage::next) is `after`, so that whoever goes on
    /// from there with another limit misses nothing.
    pub limit: usize,
}

impl Default for DeadLetterFilter {
    fn default() -> Self {
        Self { event_type: None, since: None, before: None, after: None, limit: 100 }
    }
}

impl DeadLetterFilter {
    /// All of them, in pages of 100.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only events of this type.
    #[must_use]
    pub fn with_type(mut self, event_type: impl Into<String>) -> Self {
        self.event_type = Some(event_type.into());
        self
    }

    /// Only those set aside at this time or later, by the store's clock.
    #[must_use]
    pub fn with_since(mut self, time: DateTime<Utc>) -> Self {
        self.since = Some(time);
        self
    }

    /// Only those set aside before this time, by the store's clock.
    #[must_use]
    pub fn with_before(mut self, time: DateTime<Utc>) -> Self {
        self.before = Some(time);
        self
    }

    /// Only what comes after this position.
    #[must_use]
    pub fn with_after(mut self, position: Option<u64>) -> Self {
        self.after = position;
        self
    }

    /// At most so many.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Whether an event of this type, set aside at this time, is wanted.
    #[must_use]
    pub fn matches(&self, event_type: &str, dead_at: DateTime<Utc>) -> bool {
        self.event_type.as_deref().is_none_or(|wanted| wanted == event_type)
            && self.since.is_none_or(|since| dead_at >= since)
            && self.before.is_none_or(|before| dead_at < before)
    }
}

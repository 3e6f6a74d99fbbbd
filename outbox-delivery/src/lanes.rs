//! Which events wait, because one of their key failed.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use outbox_traits::{Event, EventId};
use tokio::time::Instant;

use crate::retry::{Backoff, Retry};

/// What keeps its order: the events of a partition key, or an event without one by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    Key(String),
    Event(EventId),
}

impl Lane {
    pub(crate) fn of(event: &Event) -> Self {
        event.partition_key().map_or_else(|| Self::Event(event.id()), |key| Self::Key(key.to_owned()))
    }
}

/// The lanes whose first event failed and has not been accepted since.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// `None`: a failed lane is left alone for good.
    retry: Option<Retry>,
    failed: HashMap<Lane, Failed>,
}

#[derive(Debug)]
struct Failed {
    backoff: Option<Backoff>,
    /// `None`: never.
    retry_at: Option<Instant>,
}

impl Lanes {
    pub(crate) fn new(retry: Option<Retry>) -> Self {
        Self { retry, failed: HashMap::new() }
    }

    pub(crate) fn is_waiting(&self, lane: &Lane, now: Instant) -> bool {
        self.failed.get(lane).is_some_and(|failed| failed.retry_at.is_none_or(|retry_at| retry_at > now))
    }

    /// Whether it is tried by itself: it may be what makes a whole batch fail.
    pub(crate) fn has_failed(&self, lane: &Lane) -> bool {
        self.failed.contains_key(lane)
    }

    pub(crate) fn accepted(&mut self, lane: &Lane) {
        self.failed.remove(lane);
    }

    /// For at least this time. It says whether the lane had failed before, and for how long it waits, if not for good.
    pub(crate) fn failed(&mut self, lane: Lane, now: Instant, asked_for: Duration) -> (bool, Duration) {
        let retry = self.retry;
        let is_again = self.failed.contains_key(&lane);
        let failed = self
            .failed
            .entry(lane)
            .or_insert_with(|| Failed { backoff: retry.map(Retry::start), retry_at: None });
        failed.retry_at =
            failed.backoff.as_mut().and_then(|backoff| now.checked_add(backoff.next().max(asked_for)));
        let delay = failed.retry_at.map_or(Duration::ZERO, |retry_at| retry_at - now);
        (is_again, delay)
    }

    /// When the next one may be tried again, if any waits.
    pub(crate) fn next_retry(&self, now: Instant) -> Option<Instant> {
        self.failed.values().filter_map(|failed| failed.retry_at).filter(|retry_at| *retry_at > now).min()
    }

    /// Forgets the lanes that have no pending event left, because somebody else took care of it.
    pub(crate) fn keep_only(&mut self, pending: &[Event]) {
        if !self.failed.is_empty() {
            let pending: HashSet<Lane> = pending.iter().map(Lane::of).collect();
            self.failed.retain(|lane, _| pending.contains(lane));
        }
    }
}

//! A side that is down is left alone for a while.

use std::time::Duration;

use tokio::time::Instant;

use crate::retry::{Backoff, Retry};

#[derive(Debug)]
pub(super) struct Pause {
    backoff: Backoff,
    until: Option<Instant>,
}

impl Pause {
    pub(super) fn new(retry: Retry) -> Self {
        Self { backoff: retry.start(), until: None }
    }

    /// For at least this time. It says until when.
    pub(super) fn begin(&mut self, now: Instant, asked_for: Duration) -> Instant {
        // Several calls can fail of the same cause: that is one failure, and the longest time counts that any asks for.
        let wait = if self.is_on(now) { asked_for } else { self.backoff.next().max(asked_for) };
        *self.until.insert((now + wait).max(self.until.unwrap_or(now)))
    }

    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// Whether it was down, and has not been seen to work since.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.until.is_some()
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// It works. A pause that is on goes on: what worked had begun before.
    pub(super) fn reset(&mut self, now: Instant) {
        if self.is_in_doubt() && !self.is_on(now) {
            self.backoff.reset();
            self.until = None;
        }
    }
}

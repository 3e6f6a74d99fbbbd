//! How the loop ends.

use std::time::Duration;

use outbox_traits::Error;
use tokio::time::Instant;

use super::{Worker, patience, pause::Pause, store_retry};
use crate::guard;

/// It was told to stop, or has to.
pub(super) struct Stop {
    /// When the publishes are cut off that still go on.
    pub(super) cut_at: Instant,
    /// When it ends in any case.
    pub(super) end_at: Instant,
    /// The error that ended it.
    pub(super) error: Option<Error>,
    /// Nothing is waited for any more.
    has_given_up: bool,
}

impl Worker<'_> {
    /// Nobody has told it to, and so there is time at least to write down what became of everything.
    pub(super) fn begin_stop(&mut self, now: Instant) {
        let grace_period = self.relay.common.grace_period;
        self.stop_within(now, grace_period.max(patience(self.relay.way.lease)));
    }

    /// Begins nothing more, and gives back what has not begun.
    pub(super) fn stop_within(&mut self, now: Instant, grace_period: Duration) {
        if self.stop.is_none() {
            // A tenth is left to write down what became of the publishes.
            let cut_at = now + grace_period.mul_f64(0.9);
            let end_at = now + grace_period;
            self.stop = Some(Stop { cut_at, end_at, error: None, has_given_up: false });
            self.stopping.cancel();
            // There may be less time than the store was to be left alone for.
            self.store = Pause::new(store_retry(self.relay.way.lease));
        }
        self.give_back_all();
    }

    /// The store has failed for good. What is held is settled if it can be, and not if it fails again.
    pub(super) fn give_up(&mut self, now: Instant, error: Error) {
        self.begin_stop(now);
        if let Some(stop) = &mut self.stop {
            stop.has_given_up = stop.error.is_some();
            // The first one is the reason.
            let later = if stop.has_given_up { Some(error) } else { stop.error.replace(error) };
            guard::discard(later);
        }
    }

    pub(super) fn is_giving_up(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.error.is_some())
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.stop
            .as_ref()
            .is_some_and(|stop| stop.has_given_up || (self.is_empty_handed() && !self.calling.claim))
    }

    /// Whether it ends all the same.
    pub(super) fn is_out_of_time(&self, now: Instant) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.end_at <= now)
    }
}

//! Settlements, as many in a call as have come together.

use std::cmp::Reverse;

use futures_util::FutureExt;
use outbox_traits::{Claim, Error, ErrorKind, Outcome, Result, Settlement};
use tokio::time::Instant;
use tracing::Instrument;

use super::{Done, Worker, one_each, patience};
use crate::{
    guard::{self, in_time},
    health::Question,
};

/// So many moments are remembered at which something becomes due; the rest is found by looking now and then.
const MAX_DUE: usize = 10_000;

impl Worker<'_> {
    pub(super) fn start_settling(&mut self, now: Instant) {
        if self.settling > 0 || self.store.is_on(now) || self.unsettled.is_empty() {
            return;
        }
        self.record.asks_store(Question::Settlement);
        let count = self.unsettled.len().min(Claim::MAX_LIMIT);
        self.settling = count;
        let settlements: Vec<Settlement> = self.unsettled.drain(..count).collect();
        let way = &self.relay.way;
        let span = tracing::debug_span!("outbox.settle", relay = self.relay.common.name, events = count);
        let call = async move {
            let result = in_time(patience(way.lease), async { way.store.settle(&settlements).await }).await;
            Done::Settled { settlements, result }
        };
        self.calls.push(call.instrument(span).boxed());
    }

    pub(super) fn settled(
        &mut self,
        now: Instant,
        settlements: Vec<Settlement>,
        result: Result<Vec<Result<()>>>,
    ) {
        let results: Vec<Result<()>> = match result {
            Ok(results) => one_each(results, settlements.len()).collect(),
            Err(error) => {
                // Whether it took is not known: if it did, its leases are lost by the next time.
                self.unsettled.splice(..0, settlements);
                return self.store_failed(now, error);
            }
        };
        self.store.reset(now);
        let is_done = |result: &Result<()>| {
            result.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::LeaseLost)
        };
        if results.iter().all(is_done) {
            self.record.store_answered(Question::Settlement);
        }
        let mut failure: Option<Error> = None;
        for (settlement, result) in settlements.into_iter().zip(results) {
            match result {
                Ok(()) => self.took(now, &settlement),
                Err(error) if error.kind() == ErrorKind::LeaseLost => {
                    self.record.lease_lost(settlement.lease.event());
                    guard::discard(error);
                }
                Err(error) => {
                    if error.is_retryable() && !self.is_giving_up() {
                        self.unsettled.push(settlement);
                    }
                    // One call has failed once, and worst where it is for good.
                    let is_worse = failure.as_ref().is_none_or(Error::is_retryable);
                    guard::discard(if is_worse { failure.replace(error) } else { Some(error) });
                }
            }
        }
        if let Some(error) = failure {
            self.store_failed(now, error);
        }
        // What waited for these keys may be free.
        self.claim_soon(now);
    }

    fn took(&mut self, now: Instant, settlement: &Settlement) {
        match &settlement.outcome {
            Outcome::Released => self.record.released(1),
            Outcome::DeadLetter { error, holds_key } => {
                self.record.dead_lettered(settlement.lease.event(), error, *holds_key);
            }
            Outcome::Retry { after, .. } => {
                if let Some(due) = now.checked_add(*after).filter(|_| self.due.len() < MAX_DUE) {
                    self.due.push(Reverse(due));
                }
            }
            _ => {}
        }
    }
}

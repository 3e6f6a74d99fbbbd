//! Claims and renewals: what is held, and what is given back at once.

use std::{cmp::Reverse, collections::HashSet, mem, time::Duration};

use futures_util::FutureExt;
use outbox_traits::{Claim, ErrorKind, EventId, Lease, Leased, Outcome, Result, Settlement};
use tokio::time::Instant;
use tracing::Instrument;

use super::{Done, Worker, one_each, patience};
use crate::{
    guard::{self, in_time},
    health::Question,
    lanes::Lane,
};

/// An event whose worker died so often with it is published while nothing else is held, and so before it is set aside.
const SUSPICIOUS_CRASHES: u32 = 3;

/// However short the leases are, a renewal may take so long.
const SHORTEST_RENEWAL: Duration = Duration::from_secs(1);

impl Worker<'_> {
    pub(super) fn start_claiming(&mut self, now: Instant) {
        while self.due.peek().is_some_and(|Reverse(due)| *due <= now) {
            self.due.pop();
            self.claim_soon(now);
        }
        if self.next_claim(now).is_none_or(|at| at > now) || self.store.is_on(now) {
            return;
        }
        let batch_size = self.relay.common.batch_size;
        let was_empty_handed = self.is_empty_handed();
        self.record.asks_store(Question::Events);
        self.calling.claim = true;
        self.is_to_claim_again = false;
        let way = &self.relay.way;
        let claim = Claim::new(self.name.clone()).with_limit(batch_size).with_lease(way.lease);
        let span = tracing::debug_span!("outbox.claim", relay = self.relay.common.name, limit = claim.limit);
        let call = async move {
            let result = in_time(patience(way.lease), async { way.store.claim(&claim).await }).await;
            Done::Claimed { sent_at: now, was_empty_handed, result }
        };
        self.calls.push(call.instrument(span).boxed());
    }

    /// When it is to claim; `None`: something else comes first.
    fn next_claim(&self, now: Instant) -> Option<Instant> {
        let has_room = if self.relay.common.is_strict {
            // Beside what is held, a claim goes past the rest of its keys, and so past what comes first.
            self.is_empty_handed()
        } else if self.transport.is_in_doubt() {
            // One batch is enough to see whether it is back, unless that has only what may be to blame.
            self.is_empty_handed() || self.is_to_look_for_others()
        } else {
            let has_suspect = self.suspect.is_some() || self.suspect_flight.is_some();
            let batch_size = self.relay.common.batch_size;
            // As much as may land together. What is published and cannot be written down is not to grow for ever: its
            // leases would run out, and all of it would be published again.
            let most_unsettled = batch_size.saturating_mul(self.relay.way.concurrency.max(2));
            let unsettled = self.unsettled.len() + self.settling;
            self.queue.len() < batch_size && unsettled < most_unsettled && !has_suspect
        };
        if self.calling.claim || self.stop.is_some() || !has_room {
            return None;
        }
        let at = self.claim_at.or_else(|| self.is_empty_handed().then_some(now))?;
        Some(self.transport.until().map_or(at, |until| at.max(until)))
    }

    /// When the store is to be asked for anything, if nothing happens before.
    pub(super) fn next_question(&self, now: Instant) -> Option<Instant> {
        let renewal = self.leases.renew_at().filter(|_| !self.calling.renew);
        let at = self.next_claim(now).into_iter().chain(renewal).min()?;
        Some(self.store.until().map_or(at, |until| at.max(until)))
    }

    pub(super) fn claimed(
        &mut self,
        now: Instant,
        sent_at: Instant,
        was_empty_handed: bool,
        result: Result<Vec<Leased>>,
    ) {
        let claimed = match result {
            Ok(claimed) => claimed,
            Err(error) => return self.store_failed(now, error),
        };
        self.store.reset(now);
        let is_empty = claimed.is_empty();
        self.has_claimed_all = claimed.len() < self.relay.common.batch_size;
        self.record.store_answered(Question::Events);
        if !was_empty_handed {
            self.is_futile_beside = is_empty;
        } else if is_empty {
            // What comes after a lull may be of more keys than what came before.
            self.is_futile_beside = false;
        }
        let mut passed_over = HashSet::new();
        let mut has_work = false;
        for leased in claimed {
            if self.leases.hold(leased.lease, sent_at) {
                // The store ended the lease before its time, as where its clock was set. What is held here already goes
                // on under the new one.
                self.record.lease_lost(leased.event.id());
                continue;
            }
            let lane = Lane::of(&leased.event);
            // The order of strict mode is that of all events.
            let is_behind_suspect = self.relay.common.is_strict && self.suspect.is_some();
            let is_of_no_use = self.stop.is_some() || self.transport.is_on(now) || is_behind_suspect;
            if is_of_no_use || passed_over.contains(&lane) {
                passed_over.insert(lane);
                self.give_back([leased]);
                continue;
            }
            if self.was_tried(leased.event.id()) {
                passed_over.insert(lane);
                self.kept.push(leased);
                continue;
            }
            has_work = true;
            let crashes = crashes(&leased);
            // In strict mode what comes before it has its turn first.
            if crashes >= self.relay.way.max_crashes && !self.relay.common.is_strict {
                passed_over.insert(lane);
                self.crashed(now, leased, crashes);
            } else if crashes < SUSPICIOUS_CRASHES.min(self.relay.way.max_crashes.saturating_sub(1)).max(1) {
                self.queue.push(leased);
            } else {
                passed_over.insert(lane);
                if self.suspect.is_none() {
                    self.suspect = Some(leased);
                } else {
                    self.give_back([leased]);
                }
            }
        }
        self.make_way_for_suspect();
        if has_work {
            self.idle.reset();
            // To look for events of other keys is dear where there are none: so rather when these are settled, or a
            // little later.
            self.claim_at = Some(if self.is_futile_beside { now + self.idle.next() } else { now });
        } else if self.once.is_none() {
            self.claim_at = Some(now + self.idle.next());
        } else if !is_empty {
            // What was tried before is kept, so that the next claim goes past it.
            self.claim_at = Some(now);
        } else if was_empty_handed {
            self.begin_stop(now);
        } else {
            // What is held may have kept the rest of its keys back.
            self.claim_at = None;
        }
        if self.is_to_claim_again {
            self.claim_at = Some(now);
        }
    }

    /// Gives back what would be held beside it without need.
    fn make_way_for_suspect(&mut self) {
        let Some(suspect) = &self.suspect else { return };
        let calls = self.blame.calls(suspect.event.id());
        // What comes before it in its lane is to be published first.
        let is_first = !self.queue.has(&Lane::of(&suspect.event));
        let kept = mem::take(&mut self.kept);
        self.give_back(kept);
        // Where all else may be to blame for the state of the transport, it shows whether that is back.
        if self.transport.is_in_doubt() && is_first && self.waits_in_vain(calls) {
            let waiting = self.queue.take_all();
            self.give_back(waiting);
        }
    }

    /// Something may have become free.
    pub(super) fn claim_soon(&mut self, now: Instant) {
        self.claim_at = Some(now);
        self.is_to_claim_again = self.calling.claim;
    }

    fn was_tried(&self, id: EventId) -> bool {
        self.once.as_ref().is_some_and(|tried| tried.contains(&id))
    }

    /// It is not published any more. In strict mode that is left to somebody who looks.
    pub(super) fn crashed(&mut self, now: Instant, leased: Leased, crashes: u32) {
        let error = format!(
            "{crashes} deliveries were started and never ended: the event may kill the worker that publishes it"
        );
        if self.relay.common.is_strict {
            self.record.stopped_by_crashes(leased.event.id(), &error);
            self.give_back([leased]);
            self.begin_stop(now);
        } else if let Some(lease) = self.leases.take(leased.event.id()) {
            let outcome = Outcome::DeadLetter { error, holds_key: self.relay.way.holds_keys };
            self.unsettled.push(Settlement { lease, outcome });
        }
    }

    /// Gives up leases of events that were not tried.
    pub(super) fn give_back(&mut self, events: impl IntoIterator<Item = Leased>) {
        for leased in events {
            if let Some(lease) = self.leases.take(leased.event.id()) {
                self.unsettled.push(Settlement::released(lease));
            }
        }
    }

    /// Gives up what is of these lanes and not being published.
    pub(super) fn give_back_lanes(&mut self, lanes: &HashSet<Lane>) {
        let waiting = self.queue.take_lanes(lanes);
        self.give_back(waiting);
        let suspect = self.suspect.take_if(|suspect| lanes.contains(&Lane::of(&suspect.event)));
        self.give_back(suspect);
    }

    /// Gives up everything that is not being published.
    pub(super) fn give_back_all(&mut self) {
        let waiting = self.queue.take_all();
        self.give_back(waiting);
        let suspect = self.suspect.take();
        self.give_back(suspect);
        let kept = mem::take(&mut self.kept);
        self.give_back(kept);
    }

    pub(super) fn start_renewing(&mut self, now: Instant) {
        if self.calling.renew || self.store.is_on(now) {
            return;
        }
        let leases = self.leases.to_renew(now);
        if leases.is_empty() {
            // Nobody waits for a renewal that failed, when what was held is settled.
            self.record.asks_no_more(Question::Leases);
            return;
        }
        self.record.asks_store(Question::Leases);
        self.calling.renew = true;
        let way = &self.relay.way;
        // It is a small call, and if it is not answered there is to be time for another.
        let time = (way.lease / 5).max(SHORTEST_RENEWAL);
        let call = async move {
            let result = in_time(time, async { way.store.renew(&leases, way.lease).await }).await;
            Done::Renewed { sent_at: now, leases, result }
        };
        self.calls.push(call.boxed());
    }

    pub(super) fn renewed(
        &mut self,
        now: Instant,
        sent_at: Instant,
        leases: &[Lease],
        result: Result<Vec<Result<()>>>,
    ) {
        let results = match result {
            Ok(results) => results,
            Err(error) => return self.store_failed(now, error),
        };
        self.store.reset(now);
        self.record.store_answered(Question::Leases);
        let mut lost = HashSet::new();
        let mut failure = None;
        for (lease, result) in leases.iter().zip(one_each(results, leases.len())) {
            match result {
                Ok(()) => self.leases.renewed(lease, sent_at),
                Err(error) if error.kind() == ErrorKind::LeaseLost => {
                    // One that was settled meanwhile is none any more, and not lost.
                    if self.leases.has(lease) {
                        self.record.lease_lost(lease.event());
                        self.leases.take(lease.event());
                        lost.insert(lease.event());
                    }
                    guard::discard(error);
                }
                Err(error) => guard::discard(failure.replace(error)),
            }
        }
        self.end(&lost);
        if let Some(error) = failure {
            self.store_failed(now, error);
        }
    }

    /// Publishing ends before the lease does.
    pub(super) fn give_back_what_expires(&mut self, now: Instant) {
        if self.leases.expire_at().is_some_and(|at| at <= now) {
            let expired = self.leases.expired(now).into_iter().collect();
            self.end(&expired);
        }
        if self.stop.as_ref().is_some_and(|stop| stop.cut_at <= now) {
            self.flights.cut_all();
        }
    }

    /// No publish of these begins any more, nor of what is behind them in their lanes, in strict mode of anything.
    fn end(&mut self, ids: &HashSet<EventId>) {
        if self.relay.common.is_strict && !ids.is_empty() {
            self.give_back_all();
        }
        let lanes = self.queue.lanes_of(ids);
        self.give_back_lanes(&lanes);
        if let Some(suspect) = self.suspect.take_if(|suspect| ids.contains(&suspect.event.id())) {
            self.give_back([suspect]);
        }
        let kept: Vec<_> = self.kept.extract_if(.., |kept| ids.contains(&kept.event.id())).collect();
        self.give_back(kept);
        for id in ids {
            self.flights.cut(*id);
        }
    }
}

/// How many deliveries were started before this one and never ended.
pub(super) fn crashes(leased: &Leased) -> u32 {
    leased.attempts.saturating_sub(1).saturating_sub(leased.failures)
}

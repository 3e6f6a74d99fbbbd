//! Publishing, and what the answers mean.

use std::{collections::HashSet, time::Duration};

use futures_util::FutureExt;
use outbox_traits::{Event, Leased, MAX_REASON_CHARS, Outcome, PublishError, PublishErrorKind, Settlement};
use tokio::time::Instant;

use super::{
    Done, Worker,
    claim::crashes,
    flight::{History, Landed},
};
use crate::{
    Decision, ExponentialRetry, Failed, RetryPolicy, guard,
    lanes::Lane,
    publish::{Ending, asks_for, publish},
    retry::SHORTEST,
};

/// Where nobody knows which event of a batch was to blame, and the policy would have set this one aside.
const RETRY_ALONE: Duration = Duration::from_millis(100);

impl Worker<'_> {
    pub(super) fn start_publishing(&mut self, now: Instant) {
        if self.stop.is_some() || self.transport.is_on(now) {
            return;
        }
        let common = &self.relay.common;
        let limit = if common.is_strict { 1 } else { common.batch_size };
        // After a failure of the transport one call is enough to see whether it is back.
        let is_in_doubt = self.transport.is_in_doubt();
        if is_in_doubt && self.is_to_look_for_others() {
            return;
        }
        let is_single = common.is_strict || is_in_doubt;
        let concurrency = if is_single { 1 } else { self.relay.way.concurrency };
        while self.flights.len() < concurrency {
            let is_busy = |lane: &Lane| self.flights.is_busy(lane);
            let is_accused = |event: &Event| self.blame.is_accused(event.id());
            let is_alone = |leased: &Leased| leased.failures > 0 || is_accused(&leased.event);
            let is_left_out = |lane: &Lane, event: &Event| is_busy(lane) || is_in_doubt && is_accused(event);
            // Where more waits, each call gets as much as it may have. Else each has its share of the keys, rather than that most
            // have none.
            let is_shared = self.has_claimed_all && !is_single;
            let free = concurrency - self.flights.len();
            let waiting = || self.queue.heads().into_iter().filter(|head| !is_busy(&Lane::of(head))).count();
            let most_lanes = if is_shared { waiting().div_ceil(free) } else { limit };
            let limits = (limit, most_lanes);
            let mut batch = self.queue.take(limits, is_left_out, is_alone);
            if batch.is_empty() && is_in_doubt {
                // Where there is nothing else, they have to do.
                let calls = |event: &Event| self.blame.calls(event.id());
                let fewest = self.queue.heads().into_iter().map(calls).min().unwrap_or_default();
                let is_left_out = |lane: &Lane, event: &Event| is_busy(lane) || calls(event) > fewest;
                batch = self.queue.take(limits, is_left_out, is_alone);
            }
            if batch.is_empty() {
                break;
            }
            self.publish(batch);
        }
        self.start_suspect(now);
    }

    /// Once nothing else is held, it is its turn.
    fn start_suspect(&mut self, now: Instant) {
        let is_alone = self.queue.is_empty() && self.flights.is_empty() && self.unsettled.is_empty();
        if !is_alone || self.settling > 0 || self.calling.claim {
            return;
        }
        let Some(suspect) = self.suspect.take() else { return };
        let crashes = crashes(&suspect);
        if crashes >= self.relay.way.max_crashes {
            self.crashed(now, suspect, crashes);
            // What is to be settled was looked for before.
            self.start_settling(now);
        } else {
            self.suspect_flight = Some(self.publish(vec![suspect]));
        }
    }

    /// Whether all that waits is what may be to blame for the state of the transport, and nobody has seen whether there is
    /// anything else.
    pub(super) fn is_to_look_for_others(&self) -> bool {
        self.suspect.is_none()
            && !self.queue.is_empty()
            && self.queue.len() <= self.relay.common.batch_size
            && self.flights.is_empty()
            && !self.is_futile_beside
            && self.queue.has_only_lanes_of(|event| self.blame.is_accused(event.id()))
    }

    /// Whether all that waits may be to blame, and has met the transport so at least so often.
    pub(super) fn waits_in_vain(&self, calls: u32) -> bool {
        let is_accused =
            |event: &Event| self.blame.is_accused(event.id()) && self.blame.calls(event.id()) >= calls;
        self.flights.is_empty() && self.queue.has_only_lanes_of(is_accused)
    }

    /// Begins a publish, which gets a number.
    fn publish(&mut self, batch: Vec<Leased>) -> u64 {
        let (events, histories): (Vec<Event>, Vec<History>) = batch
            .into_iter()
            .map(|leased| {
                let Leased { event, attempts, failures, .. } = leased;
                (event, History { attempts, failures })
            })
            .unzip();
        let (number, cut) = self.flights.start(&events);
        let (relay, record, stopping) = (self.relay, self.record, self.stopping.clone());
        let call = async move {
            let answers = publish(&relay.common, record, &events, &stopping, &cut).await;
            Done::Published(Landed { number, events, histories, answers })
        };
        self.calls.push(call.boxed());
        number
    }

    pub(super) fn published(&mut self, now: Instant, landed: Landed) {
        let Landed { number, events, histories, mut answers } = landed;
        self.flights.end(number);
        self.blame.answered(&events, &mut answers.results);
        self.suspect_flight.take_if(|flight| *flight == number);
        let is_broken = answers.ending == Ending::Broken && events.len() > 1;
        let mut failures = Vec::new();
        let mut was_anything_tried = false;
        let mut is_unavailable = false;
        let (mut is_again, mut longest_delay) = (false, Duration::ZERO);
        let mut asked_for = Duration::ZERO;
        for ((event, history), result) in events.iter().zip(histories).zip(answers.results) {
            let outcome = match &result {
                Ok(()) => Outcome::Delivered,
                Err(error) => match error.kind() {
                    PublishErrorKind::NotAttempted => Outcome::Released,
                    PublishErrorKind::Unavailable => {
                        is_unavailable = true;
                        asked_for = asked_for.max(asks_for(error));
                        Outcome::Released
                    }
                    _ => self.decide(event, error, history, is_broken),
                },
            };
            if let Outcome::Retry { after, .. } = &outcome {
                longest_delay = longest_delay.max(*after);
            }
            if outcome != Outcome::Released {
                was_anything_tried = true;
                is_again |= result.is_err() && history.failures > 0;
                if let Some(tried) = &mut self.once {
                    tried.insert(event.id());
                }
            }
            // Without a lease it was lost on the way, which was said then.
            if let Some(lease) = self.leases.take(event.id()) {
                self.unsettled.push(Settlement { lease, outcome });
            }
            if let Err(error) = result {
                failures.push((event, error));
            }
        }
        if failures.len() < events.len() {
            self.transport.reset(now);
        }
        if answers.ending == Ending::Cut {
            if self.stop.is_none() {
                // At the end of its lease, of which no renewal took.
                self.record.cut_off(self.relay.way.lease);
            }
        } else {
            let next = (self.relay.common.time_of_next(answers.ending), longest_delay);
            self.record.answered(events.len(), &failures, is_again, next);
            if self.relay.common.is_strict
                && let Some((event, _)) = failures.first()
            {
                self.record.stopped_at(event.id());
                self.begin_stop(now);
            }
            // One that never tries anything, and says no reason, is no better than one that is down.
            if is_unavailable || !was_anything_tried {
                self.transport_failed(now, asked_for);
            }
        }
        // What is behind a failed event may come only after it, and that may take long.
        let lanes: HashSet<Lane> = failures.iter().map(|(event, _)| Lane::of(event)).collect();
        self.give_back_lanes(&lanes);
        guard::discard(failures);
    }

    fn decide(&self, event: &Event, error: &PublishError, history: History, is_broken: bool) -> Outcome {
        let text = |more: &str| (guard::text(error) + more).chars().take(MAX_REASON_CHARS).collect();
        if self.relay.common.is_strict {
            // It is left pending, with the failure written down.
            return Outcome::Retry { after: Duration::ZERO, error: text("") };
        }
        let History { attempts, failures } = history;
        let failed = Failed { event, error, attempts, failures: failures.saturating_add(1) };
        let (decision, more) = match guard::run(|| self.relay.way.policy.decide(&failed)) {
            Ok(decision) => (decision, String::new()),
            Err(panic) => {
                self.record.policy_panicked(event.id(), &panic);
                let more = format!("; and the retry policy panicked: {panic}");
                (ExponentialRetry::default().decide(&failed), more)
            }
        };
        match decision {
            Decision::Retry { after } => {
                // Where everything is tried once, nothing comes round.
                let shortest = if self.once.is_some() { Duration::ZERO } else { SHORTEST };
                Outcome::Retry { after: after.max(shortest), error: text(&more) }
            }
            _ if is_broken => Outcome::Retry { after: RETRY_ALONE, error: text(&more) },
            decision => {
                let holds_key = decision == Decision::HoldKey || self.relay.way.holds_keys;
                Outcome::DeadLetter { error: text(&more), holds_key }
            }
        }
    }

    fn transport_failed(&mut self, now: Instant, asked_for: Duration) {
        if self.once.is_some() {
            self.begin_stop(now);
        } else {
            let until = self.transport.begin(now, asked_for);
            self.record.paused(until);
            self.is_futile_beside = false;
            self.give_back_all();
        }
    }
}

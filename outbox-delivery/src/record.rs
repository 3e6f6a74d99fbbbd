//! Where everything that happens is written down.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use outbox_traits::{Error, Event, EventId, PublishError, PublishErrorKind, Stats};
use tokio::time::Instant;

use crate::{
    Health, Report, guard,
    health::{Question, Running},
    meter::{Counter, Meter},
    publish::Ending,
    relay::Common,
};

/// Of one run: by its loop, and by what goes on beside it. It ends up in the report, the log, the metrics and the
/// answer to whether the relay is healthy.
#[derive(Debug)]
pub(crate) struct Record {
    report: Mutex<Report>,
    meter: Meter,
    health: Health,
    _running: Running,
}

impl Record {
    pub(crate) fn new(common: &Common) -> Self {
        let health = common.health.clone();
        let meter = Meter::new(&common.name);
        meter.begin();
        Self { report: Mutex::default(), meter, _running: health.run(), health }
    }

    pub(crate) fn report(&self) -> Report {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn asks_store(&self, question: Question) {
        self.health.asked(question);
    }

    /// If nothing else is waited for.
    pub(crate) fn asks_store_at(&self, at: Option<Instant>) {
        self.health.asks_at(at);
    }

    pub(crate) fn store_answered(&self, question: Question) {
        self.health.answered(question);
    }

    /// What it was asked is of no interest any more.
    pub(crate) fn asks_no_more(&self, question: Question) {
        self.health.answered(question);
    }

    /// The transport is left alone until then, and with it the store.
    pub(crate) fn paused(&self, until: Instant) {
        self.health.paused(until);
    }

    /// The transport answered for so many events, of which these were not accepted, and perhaps one of them again. The next
    /// publish may take so long, and comes after so much time at the latest.
    pub(crate) fn answered(
        &self,
        all: usize,
        failures: &[(&Event, PublishError)],
        is_again: bool,
        (publish, retry): (Duration, Duration),
    ) {
        let is_tried = |(_, error): &&(&Event, PublishError)| error.kind() != PublishErrorKind::NotAttempted;
        let accepted = (all - failures.len()) as u64;
        let failed = failures.iter().filter(is_tried).count() as u64;
        // What is left for the next call, beside what was accepted, is no failure.
        let is_stuck = |_: &&(&Event, PublishError)| accepted == 0;
        if let Some((event, error)) = failures.iter().find(is_tried).or(failures.first().filter(is_stuck)) {
            let (id, count, error) = (event.id(), failures.len(), guard::text(error));
            tracing::warn!(error, event = %id, "{count} of {all} events were not accepted");
            self.lock().last_error = Some(format!("{error} (event {id})"));
        }
        if accepted > 0 {
            self.health.accepted();
        } else if !failures.is_empty() {
            self.health.failed(is_again, publish, retry);
        }
        self.count(Counter::Published, accepted);
        self.count(Counter::Failed, failed);
    }

    /// A call of the transport ended after this time.
    pub(crate) fn called(&self, events: usize, time: Duration, ending: Ending) {
        self.meter.published(events, time);
        if ending == Ending::Cut {
            tracing::warn!(events, "a publish was cut off, at the end of its lease or of the relay");
        }
    }

    /// At the end of a lease that could not be renewed. No event is to blame, and it is no progress.
    pub(crate) fn cut_off(&self, lease: Duration) {
        self.health.cut_off(lease);
    }

    /// The run ends with an error in the place of its report.
    pub(crate) fn ended(&self, error: &Error) {
        tracing::error!(error = guard::text(error), "the relay has ended: {}", self.report());
    }

    pub(crate) fn dead_lettered(&self, id: EventId, error: &str, holds_key: bool) {
        tracing::error!(event = %id, error, holds_key, "the event is set aside as a dead letter");
        self.count(Counter::DeadLettered, 1);
    }

    pub(crate) fn policy_panicked(&self, id: EventId, panic: &str) {
        tracing::error!(event = %id, panic, "the retry policy panicked, and the default one decides in its place");
        self.lock().last_error = Some(format!("the retry policy panicked: {panic} (event {id})"));
    }

    pub(crate) fn lease_lost(&self, id: EventId) {
        tracing::warn!(event = %id, "the lease was lost: somebody else may deliver the event again");
        self.count(Counter::LostLeases, 1);
    }

    pub(crate) fn released(&self, count: u64) {
        self.count(Counter::Released, count);
    }

    pub(crate) fn purged(&self, count: u64) {
        tracing::debug!(count, "delivered events were purged");
        self.count(Counter::Purged, count);
    }

    pub(crate) fn stats(&self, stats: &Stats) {
        self.meter.stats(stats);
        self.health.oldest_due(stats.oldest_due);
    }

    pub(crate) fn store_failed(&self, error: Error) {
        let error = guard::into_text(error);
        tracing::warn!(error, "the outbox store failed");
        self.lock().last_error = Some(error);
        self.count(Counter::StoreErrors, 1);
    }

    pub(crate) fn stopped_at(&self, id: EventId) {
        self.lock().stopped_at.get_or_insert(id);
    }

    /// In strict mode: the event is not published, because its workers died with it.
    pub(crate) fn stopped_by_crashes(&self, id: EventId, error: &str) {
        tracing::error!(event = %id, error, "the event ends the relay, and stays pending");
        self.lock().last_error = Some(format!("{error} (event {id})"));
        self.stopped_at(id);
    }

    /// In the report and in the metrics, so that they cannot differ.
    fn count(&self, counter: Counter, count: u64) {
        if count == 0 {
            return;
        }
        let mut report = self.lock();
        *match counter {
            Counter::Published => &mut report.published,
            Counter::Failed => &mut report.failed,
            Counter::DeadLettered => &mut report.dead_lettered,
            Counter::LostLeases => &mut report.lost_leases,
            Counter::Released => &mut report.released,
            Counter::Purged => &mut report.purged,
            Counter::StoreErrors => &mut report.store_errors,
        } += count;
        self.meter.count(counter, count);
    }
}

/// At the end of the grace period there was something left to do.
pub(crate) fn ended_early() {
    tracing::warn!("the relay was stopped at the end of its grace period");
}

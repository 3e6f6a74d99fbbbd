//! Metrics, by the `metrics` facade. Without the feature of that name this does nothing.
//!
//! The names are stable; `docs/observability.md` lists them, and a test compares the two.

use std::time::Duration;

use outbox_traits::Stats;

#[cfg(feature = "metrics")]
use crate::guard;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Counter {
    Published,
    Failed,
    DeadLettered,
    LostLeases,
    Released,
    Purged,
    StoreErrors,
}

#[cfg(feature = "metrics")]
impl Counter {
    const ALL: [Self; 7] = [
        Self::Published,
        Self::Failed,
        Self::DeadLettered,
        Self::LostLeases,
        Self::Released,
        Self::Purged,
        Self::StoreErrors,
    ];
}

/// The metrics of one relay, which the label `relay` names.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    #[cfg(feature = "metrics")]
    relay: metrics::SharedString,
}

#[cfg(feature = "metrics")]
impl Meter {
    pub(crate) fn new(relay: &str) -> Self {
        Self { relay: relay.to_owned().into() }
    }

    /// Shows every counter from the beginning: what counts what was added since it was last read would never see the
    /// first of something.
    pub(crate) fn begin(&self) {
        for counter in Counter::ALL {
            self.count(counter, 0);
        }
    }

    pub(crate) fn count(&self, counter: Counter, count: u64) {
        let name = match counter {
            Counter::Published => "outbox_published_total",
            Counter::Failed => "outbox_failed_total",
            Counter::DeadLettered => "outbox_dead_lettered_total",
            Counter::LostLeases => "outbox_lost_leases_total",
            Counter::Released => "outbox_released_total",
            Counter::Purged => "outbox_purged_total",
            Counter::StoreErrors => "outbox_store_errors_total",
        };
        guarded(|| metrics::counter!(name, "relay" => self.relay.clone()).increment(count));
    }

    /// A call of the transport that ended.
    pub(crate) fn published(&self, events: usize, time: Duration) {
        // No batch is so large that a float would not hold its size.
        let size = f64::from(u32::try_from(events).unwrap_or(u32::MAX));
        for (name, value) in [("outbox_batch_size", size), ("outbox_publish_seconds", time.as_secs_f64())] {
            guarded(|| metrics::histogram!(name, "relay" => self.relay.clone()).record(value));
        }
    }

    pub(crate) fn stats(&self, stats: &Stats) {
        let seconds = |age: Option<Duration>| age.unwrap_or_default().as_secs_f64();
        for (name, value) in [
            ("outbox_pending", as_float(stats.pending)),
            ("outbox_leased", as_float(stats.leased)),
            ("outbox_delivered", as_float(stats.delivered)),
            ("outbox_dead", as_float(stats.dead)),
            ("outbox_oldest_pending_age_seconds", seconds(stats.oldest_pending)),
            ("outbox_oldest_due_age_seconds", seconds(stats.oldest_due)),
        ] {
            guarded(|| metrics::gauge!(name, "relay" => self.relay.clone()).set(value));
        }
    }
}

/// The recorder is the program's. One that panics costs a number, and the panic's own message says so.
#[cfg(feature = "metrics")]
fn guarded(record: impl FnOnce()) {
    let _ = guard::run(record);
}

#[cfg(feature = "metrics")]
#[allow(clippy::cast_precision_loss, reason = "a count of events beyond 2^53 need not be exact")]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(not(feature = "metrics"))]
#[allow(clippy::unused_self, reason = "the same calls as with the feature")]
impl Meter {
    pub(crate) fn new(_: &str) -> Self {
        Self {}
    }

    pub(crate) fn begin(&self) {}

    pub(crate) fn count(&self, _: Counter, _: u64) {}

    pub(crate) fn published(&self, _: usize, _: Duration) {}

    pub(crate) fn stats(&self, _: &Stats) {}
}

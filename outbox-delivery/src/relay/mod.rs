//! The relay: from the store to the transport.

mod claims;
mod single_worker;

use std::{future::Future, sync::Arc, time::Duration};

use outbox_traits::{Claim, OutboxStore, Result, StatsStore, Transport, WakeStore};
use tokio::{
    sync::{Mutex, Notify},
    task::unconstrained,
};
use tokio_util::sync::CancellationToken;

pub use self::{claims::Claims, single_worker::SingleWorker};
use crate::{
    Health, IntoStore, Report, housekeeping,
    publish::Ending,
    record::{Record, ended_early},
};

/// Moves the pending events of a store to a transport.
///
/// There are two ways, which the type parameter tells apart:
///
/// - [`Relay::new`] takes a store with [claims](outbox_traits::ClaimStore) and is safe in any number of workers and
///   processes. This is the one to take.
/// - [`Relay::single_worker`] takes any store, and is to be the only one that works on it.
///
/// # What both promise
///
/// - **At least once.** An event is marked as delivered only after the transport accepted that very event; one that
///   the transport's report forgot, or on which it gave two different answers, counts as failed. After a crash or
///   an error between the two, the event is published again.
/// - **In order.** The events of a [partition key](outbox_traits::Event::partition_key) are published in the
///   order of the store. One that fails keeps the later ones of its key behind it, and no others.
/// - **Failures are survived**, panics of the transport and calls that never end among them: what failed is tried
///   again after a back-off and not before; a transport that is
///   [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable) and a
///   [retryable](outbox_traits::Error::is_retryable) error of the store make the whole relay wait. There is no
///   busy loop.
///
/// A transport runs in the task of the relay, which also renews its leases: it must not block its thread. What does,
/// such as a long calculation, belongs in [`spawn_blocking`](tokio::task::spawn_blocking).
///
/// # Defaults
///
/// | setting | default |
/// |---|---|
/// | [`with_batch_size`](Self::with_batch_size) | 100 events |
/// | [`with_publish_timeout`](Self::with_publish_timeout) | 30 s for a call of the transport |
/// | [`with_grace_period`](Self::with_grace_period) | 30 s |
/// | [`with_strict`](Self::with_strict) | no |
/// | [`with_wakeups`](Self::with_wakeups) | none: it polls |
/// | [`with_purge`](Self::with_purge) | no |
/// | [`with_stats`](Self::with_stats) | no |
/// | [`with_health_limit`](Self::with_health_limit) | 5 minutes |
///
/// More of them are there for either way alone. All times but those of leases are measured by the clock of the
/// process.
///
/// ```
/// use outbox_delivery::{CancellationToken, Relay};
/// use outbox_traits::{ClaimStore, Result, Transport};
///
/// async fn serve(store: impl ClaimStore, transport: impl Transport) -> Result<()> {
///     let shutdown = CancellationToken::new();
///     let relay = Relay::new(store, transport);
///     let stop = shutdown.clone();
///     let publishing = tokio::spawn(async move { relay.run(stop).await });
///     // … the rest of the program …
///     shutdown.cancel();
///     let report = publishing.await.expect("the relay does not panic")?;
///     println!("{report}");
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Relay<W = Claims> {
    pub(crate) common: Common,
    pub(crate) way: W,
}

/// What every relay has.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) batch_size: usize,
    pub(crate) publish_timeout: Duration,
    pub(crate) grace_period: Duration,
    pub(crate) is_strict: bool,
    pub(crate) wakeups: Option<Arc<dyn WakeStore>>,
    pub(crate) purge: Option<Duration>,
    pub(crate) stats: Option<Arc<dyn StatsStore>>,
    pub(crate) name: String,
    pub(crate) health: Health,
    /// Held by the one that purges, of all that run this relay.
    pub(crate) purging: Mutex<()>,
}

impl Common {
    /// How long the publish after one that ended so may take: after one that did not end, as long as that.
    pub(crate) fn time_of_next(&self, ending: Ending) -> Duration {
        if ending == Ending::Broken { self.publish_timeout } else { Duration::ZERO }
    }
}

impl<W> Relay<W> {
    fn build(transport: impl Transport, way: W) -> Self {
        let common = Common {
            transport: Box::new(transport),
            batch_size: 100,
            publish_timeout: Duration::from_secs(30),
            grace_period: Duration::from_secs(30),
            is_strict: false,
            wakeups: None,
            purge: None,
            stats: None,
            name: "outbox".to_owned(),
            health: Health::new(Duration::from_mins(5)),
            purging: Mutex::new(()),
        };
        Self { common, way }
    }

    /// How many events are fetched and published at a time, from one to [`Claim::MAX_LIMIT`]. By default 100.
    #[must_use]
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        self.common.batch_size = batch_size.clamp(1, Claim::MAX_LIMIT);
        self
    }

    /// How long one call of the transport may take, for a whole batch, at least 1 ms. By default 30 s.
    ///
    /// A call that takes longer is given up and its events count as failed, whatever became of them. Events that
    /// failed before are published by themselves, so that a slow one ends up alone.
    ///
    /// Transports that publish event by event, such as `InProcess`, `Http` and those of your own that have no
    /// [`publish_all`](Transport::publish_all), begin none after half of it, but the first: the rest costs no attempt, and is taken up again at once. So a batch may take longer than
    /// this as a whole, while one event is to take less than half of it.
    #[must_use]
    pub fn with_publish_timeout(mut self, timeout: Duration) -> Self {
        self.common.publish_timeout = timeout.clamp(Duration::from_millis(1), MAX_INTERVAL);
        self
    }

    /// How long `run` may go on after its cancellation, to finish the publish in flight and to
    /// write down what was accepted. By default 30 s.
    ///
    /// Transports that publish event by event, those of your own without a `publish_all` among them, finish the events that have begun,
    /// and begin no others of their batch: these stay pending, and cost no attempt. One whose `publish_all` does not ask
    /// [`is_call_to_end`](outbox_traits::is_call_to_end) finishes its batch, or is cut off, and what it had accepted by then is
    /// published again.
    #[must_use]
    pub fn with_grace_period(mut self, period: Duration) -> Self {
        self.common.grace_period = period.min(MAX_INTERVAL);
        self
    }

    /// Stops at the first event that is not accepted, and leaves it and the rest pending.
    ///
    /// Events are then published one by one, each after the one before it was accepted. The report says where it
    /// ended: [`Report::stopped_at`] and [`Report::last_error`].
    ///
    /// That is the order of what can be published: what is hidden until a time is gone past, and on claims what is leased to
    /// another worker, or to one that has died. There the next batch is claimed when all of one is settled; and where that
    /// cannot be settled at which it stopped, it ends after the [grace period](Self::with_grace_period), or after as long as
    /// a settlement may take where that is more.
    #[must_use]
    pub fn with_strict(mut self) -> Self {
        self.common.is_strict = true;
        self
    }

    /// Listens for the wake-ups of a store, which is the one that it works on, and so looks at once when something
    /// was committed and seldom otherwise.
    ///
    /// A wake-up is a hint: lost ones and errors cost latency and nothing else.
    #[must_use]
    pub fn with_wakeups<Form>(mut self, store: impl IntoStore<Form, dyn WakeStore>) -> Self {
        self.common.wakeups = Some(store.into_store());
        self
    }

    /// Deletes delivered events, about once a minute while it runs, whose delivery is at least so long ago. By
    /// default nothing is deleted.
    ///
    /// Runs of the same relay take turns. Relays of several processes do not know of one another, and may purge at the
    /// same time, which is harmless: each deletes what is still there. With many of them, have a few do it.
    #[must_use]
    pub fn with_purge(mut self, older_than: Duration) -> Self {
        self.common.purge = Some(older_than);
        self
    }

    /// What it is called in spans and metrics, and towards the store. By default `outbox`.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.common.name = name.into();
        self
    }

    /// Asks a store, which is the one that it works on, every ten seconds how much it holds, for metrics and for
    /// [`health`](Self::health): more often where the limit of that is short.
    #[must_use]
    pub fn with_stats<Form>(mut self, store: impl IntoStore<Form, dyn StatsStore>) -> Self {
        self.common.stats = Some(store.into_store());
        self
    }

    /// For how long it may go without progress and be [healthy](Self::health) all the same. By default 5 minutes.
    ///
    /// To be set before a handle is taken.
    #[must_use]
    pub fn with_health_limit(mut self, limit: Duration) -> Self {
        self.common.health.set_limit(limit);
        self
    }

    /// A handle that says whether it is making progress, for the health check of a process.
    ///
    /// ```
    /// # use outbox_delivery::Relay;
    /// # use outbox_traits::{ClaimStore, Transport};
    /// # fn build(store: impl ClaimStore, transport: impl Transport) {
    /// let relay = Relay::new(store, transport);
    /// let health = relay.health();
    /// if let Err(reason) = health.check() {
    ///     assert_eq!(reason.to_string(), "the relay is not running");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn health(&self) -> Health {
        self.common.health.clone()
    }

    /// Runs a loop and what belongs beside it, until the loop ends or the grace period is over.
    async fn run_loop(
        &self,
        store: &dyn OutboxStore,
        work: impl Future<Output = Result<()>>,
        (record, woken): (&Record, &Notify),
        shutdown: &CancellationToken,
    ) -> Result<Report> {
        let grace_is_over = async {
            shutdown.cancelled().await;
            tokio::time::sleep(self.common.grace_period).await;
        };
        tokio::select! {
            biased;
            result = work => result.inspect_err(|error| record.ended(error))?,
            // Their turn does not hang on how much the loop has done in its own.
            () = unconstrained(grace_is_over) => {
                ended_early();
            }
            () = unconstrained(housekeeping::beside(&self.common, store, record, woken)) => {}
        }
        Ok(record.report())
    }
}

/// So far ahead that it does not matter, and not so far that a clock overflows.
pub(crate) const MAX_INTERVAL: Duration = Duration::from_hours(365 * 24);

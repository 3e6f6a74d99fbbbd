//! The relay on claims, for any number of workers.

use std::{fmt, sync::Arc, time::Duration};

use outbox_traits::{ClaimStore, Result, Transport};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{MAX_INTERVAL, Relay};
use crate::{ExponentialRetry, IntoStore, Report, RetryPolicy, claims::Worker, record::Record};

/// On claims: any number of relays for a store.
pub struct Claims {
    pub(crate) store: Arc<dyn ClaimStore>,
    pub(crate) lease: Duration,
    pub(crate) concurrency: usize,
    pub(crate) longest_poll: Option<Duration>,
    pub(crate) policy: Box<dyn RetryPolicy>,
    pub(crate) max_crashes: u32,
    pub(crate) holds_keys: bool,
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("store", &self.store)
            .field("lease", &self.lease)
            .field("concurrency", &self.concurrency)
            .field("longest_poll", &self.longest_poll)
            .field("max_crashes", &self.max_crashes)
            .field("holds_keys", &self.holds_keys)
            .finish_non_exhaustive()
    }
}

/// # On claims
///
/// Safe in any number of workers and processes: each holds a lease on what it publishes. The next batch is claimed
/// while others are published, and outcomes are written many at a time.
///
/// - **Order, across all workers,** as long as leases hold: a publish of a key begins only after the one before it
///   was accepted. Leases are renewed while work goes on. Where that fails, publishing ends before the lease does, by
///   a clock that counts from before the claim was sent.
/// - **A lost lease** is counted and reported, and its event is not taken for delivered.
/// - **What fails** is tried again after a time, counted in the store, and set aside as a dead letter in the end: see
///   [`with_retry_policy`](Self::with_retry_policy). After a failure an event is published by itself.
/// - **What kills its worker** again and again is published while nothing else is held, and set aside in the end: see
///   [`with_max_crashes`](Self::with_max_crashes).
/// - **A transport that is [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable)** makes the relay give back
///   what it holds and pause, for as long as the transport asked for, up to five minutes, or for a back-off. No
///   attempt is counted, unless the transport takes others whenever it is not given this event.
///
/// With everything that a store can do for it:
///
/// ```
/// use std::time::Duration;
/// use outbox_delivery::{ExponentialRetry, Relay};
/// use outbox_traits::{ClaimStore, StatsStore, Transport, WakeStore};
///
/// fn build<S>(store: S, transport: impl Transport) -> Relay
/// where
///     S: ClaimStore + WakeStore + StatsStore + Clone,
/// {
///     Relay::new(store.clone(), transport)
///         .with_name("orders")
///         .with_wakeups(store.clone())
///         .with_stats(store)
///         .with_purge(Duration::from_hours(24))
///         .with_retry_policy(ExponentialRetry::default().with_max_failures(50))
/// }
/// ```
///
/// | setting | default |
/// |---|---|
/// | [`with_concurrency`](Self::with_concurrency) | 4 calls of the transport at once |
/// | [`with_lease`](Self::with_lease) | 30 s |
/// | [`with_poll_interval`](Self::with_poll_interval) | from 50 ms up to 2 s, with wake-ups up to 5 s |
/// | [`with_retry_policy`](Self::with_retry_policy) | from 100 ms up to 5 minutes, dead after 20 failures |
/// | [`with_max_crashes`](Self::with_max_crashes) | 10 |
/// | [`with_held_keys`](Self::with_held_keys) | a dead letter blocks nobody |
impl Relay<Claims> {
    /// A relay for a store with claims, in any number of workers and processes.
    ///
    /// It takes the store itself or an `Arc` of it.
    pub fn new<Form>(store: impl IntoStore<Form, dyn ClaimStore>, transport: impl Transport) -> Self {
        let way = Claims {
            store: store.into_store(),
            lease: Duration::from_secs(30),
            concurrency: 4,
            longest_poll: None,
            policy: Box::new(ExponentialRetry::default()),
            max_crashes: 10,
            holds_keys: false,
        };
        Self::build(transport, way)
    }

    /// How many calls of the transport may go on at once, at least one, each with a batch; where fewer events wait than a batch may
    /// have, each with a part of them. The events of a partition key are never in two of them. By default 4; in
    /// [strict](Self::with_strict) mode it is one.
    #[must_use]
    pub fn with_concurrency(mut self, calls: usize) -> Self {
        self.way.concurrency = calls.max(1);
        self
    }

    /// How long a lease lasts, at least 1 s. By default 30 s.
    ///
    /// It is renewed as long as work goes on, so that it need not be longer than a publish. It is how long the events
    /// of a worker that died wait for another.
    ///
    /// A renewal that the store does not answer within a fifth of it, at least 1 s, has failed and is tried again. So has a
    /// claim or a settlement within a fifth of it, at least 5 s, or as long as the lease where that is less, and at most 30 s.
    #[must_use]
    pub fn with_lease(mut self, length: Duration) -> Self {
        self.way.lease = length.clamp(Duration::from_secs(1), MAX_INTERVAL);
        self
    }

    /// How long to wait at most, when there is nothing to publish, before looking again; at least 1 ms. By default
    /// 2 s, and with [wake-ups](Self::with_wakeups) 5 s.
    ///
    /// An idle relay waits 50 ms at first and then ever longer. With work, it never waits.
    /// No wake-up tells of what becomes due by its [`not_before`](outbox_traits::Event::with_not_before), or by the retry of a worker
    /// that has died: an idle relay finds it when it looks.
    #[must_use]
    pub fn with_poll_interval(mut self, longest: Duration) -> Self {
        self.way.longest_poll = Some(longest.clamp(Duration::from_millis(1), MAX_INTERVAL));
        self
    }

    /// What becomes of an event that was not accepted. By default [`ExponentialRetry::default`].
    ///
    /// In [strict](Self::with_strict) mode it is not asked. Where a call of the transport panicked or did not end, and
    /// had more than one event, nobody knows which was to blame: a decision to set aside is then taken for one to
    /// try again in 100 ms.
    #[must_use]
    pub fn with_retry_policy(mut self, policy: impl RetryPolicy) -> Self {
        self.way.policy = Box::new(policy);
        self
    }

    /// After how many deliveries that were started and never ended, because the worker died, an event becomes a dead
    /// letter; at least one. By default 10.
    ///
    /// After three of them, or one less than this, an event is published while its worker holds nothing else, so that it
    /// takes no other with it. With one alone nobody can tell which it was, and all that the worker held is set aside.
    /// Leases that ran out for another reason count too, such as those of a claim whose answer was lost. In
    /// [strict](Self::with_strict) mode nothing is set aside: when all before it is published, the relay stops at it, and it
    /// stays pending.
    #[must_use]
    pub fn with_max_crashes(mut self, crashes: u32) -> Self {
        self.way.max_crashes = crashes.max(1);
        self
    }

    /// Makes every dead letter hold its partition key: no other event of the key is published, by any worker, until
    /// somebody [requeues](outbox_traits::DeadLetterStore::requeue) or
    /// [discards](outbox_traits::DeadLetterStore::discard) it. By default a dead letter blocks nobody.
    ///
    /// For keys whose events make no sense without those before them. Somebody has to look: a key that is held waits
    /// for ever, and what waits is pending. Other keys go on, and so do events without a key. A
    /// [policy](Self::with_retry_policy) can hold the keys of some events only: [`HoldKey`](crate::Decision::HoldKey).
    #[must_use]
    pub fn with_held_keys(mut self) -> Self {
        self.way.holds_keys = true;
        self
    }

    /// Publishes until `shutdown` is cancelled, and says what it did.
    ///
    /// On cancellation it claims and publishes nothing more, gives back what it has not begun to publish, finishes
    /// the publishes in flight and writes down what became of them. Shortly before the end of the grace period it cuts
    /// off those that have not ended, and gives their events back; no attempt is counted for them. After it, it
    /// returns in any case, and what it still holds is free when the leases run out.
    ///
    /// The future may also just be dropped, with the same effect as a crash.
    ///
    /// # Errors
    /// An error of the store that is not [retryable](outbox_traits::Error::is_retryable), such as
    /// [`Schema`](outbox_traits::ErrorKind::Schema).
    pub async fn run(&self, shutdown: CancellationToken) -> Result<Report> {
        let (record, woken) = (Record::new(&self.common), Notify::new());
        let mut worker = Worker::new(self, &record);
        let work = worker.run(&shutdown, &woken);
        self.run_loop(&*self.way.store, work, (&record, &woken), &shutdown).await
    }

    /// Publishes what is pending and returns, for batch jobs and tests.
    ///
    /// Each event is tried at most once: one that fails waits for its retry, with the later events of its key, and
    /// everything is given back when the transport is unavailable.
    ///
    /// # Errors
    /// Any error of the store. Events that were accepted and could not be settled are published again, when
    /// their leases have run out.
    pub async fn publish_pending(&self) -> Result<Report> {
        let (record, woken) = (Record::new(&self.common), Notify::new());
        Worker::once(self, &record).run(&CancellationToken::new(), &woken).await?;
        Ok(record.report())
    }
}

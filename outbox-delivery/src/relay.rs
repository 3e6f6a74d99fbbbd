//! The relay: from the store to the transport.

use std::{sync::Arc, time::Duration};

use outbox_traits::{OutboxStore, Result, Transport};
use tokio_util::sync::CancellationToken;

use crate::{IntoStore, Report, retry::Retry, worker::Worker};

/// Moves the pending events of a store to a transport.
///
/// # What it promises
///
/// - **At least once.** An event is acknowledged only after the transport accepted that very event; one that the
///   transport's report forgot, or on which it gave two different answers, counts as failed. After a crash or an
///   error between the two, the event is published again.
/// - **In order.** The events of a [partition key](outbox_traits::Event::partition_key) are published in the
///   order of the store. One that fails keeps the later ones of its key behind it, and no others.
/// - **Failures are survived**, panics of the transport among them: a key that failed is tried again after its
///   back-off and not before; a transport that is
///   [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable) and a
///   [retryable](outbox_traits::Error::is_retryable) error of the store make the whole relay wait. There is no
///   busy loop and no limit to the tries.
///
/// A relay made by [`single_worker`](Self::single_worker) keeps the order **as long as no other relay works on
/// the same store**: two of them publish every event twice.
///
/// It looks past the waiting events of failed keys for others, up to ten batches of them. When more than that
/// wait in front, the rest waits too, until one of them is accepted.
///
/// # Defaults
///
/// | setting | default |
/// |---|---|
/// | [`with_batch_size`](Self::with_batch_size) | 100 events |
/// | [`with_poll_interval`](Self::with_poll_interval) | 100 ms |
/// | [`with_retry_delay`](Self::with_retry_delay) | 100 ms, doubling up to 30 s |
/// | [`with_grace_period`](Self::with_grace_period) | 30 s |
///
/// All times are measured by the clock of the process.
///
/// ```
/// use outbox_delivery::{CancellationToken, Relay};
/// use outbox_traits::{OutboxStore, Result, Transport};
///
/// async fn serve(store: impl OutboxStore, transport: impl Transport) -> Result<()> {
///     let shutdown = CancellationToken::new();
///     let relay = Relay::single_worker(store, transport);
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
pub struct Relay {
    pub(crate) store: Arc<dyn OutboxStore>,
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) batch_size: usize,
    pub(crate) poll_interval: Duration,
    pub(crate) retry: Retry,
    grace_period: Duration,
}

impl Relay {
    /// A relay for any store, which is to be the only one that works on it.
    ///
    /// It takes the store itself or an `Arc` of it.
    pub fn single_worker<Form>(store: impl IntoStore<Form>, transport: impl Transport) -> Self {
        Self {
            store: store.into_store(),
            transport: Box::new(transport),
            batch_size: 100,
            poll_interval: Duration::from_millis(100),
            retry: Retry::default(),
            grace_period: Duration::from_secs(30),
        }
    }

    /// How many events are published and acknowledged at a time, at least one. By default 100.
    #[must_use]
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size.max(1);
        self
    }

    /// How long to wait before looking again when nothing is pending, at least 1 ms. By default 100 ms.
    ///
    /// It is the latency of an event that is saved while the relay is idle; with work, it never waits.
    #[must_use]
    pub fn with_poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval.clamp(Duration::from_millis(1), MAX_INTERVAL);
        self
    }

    /// How long to wait after a failure: `first` after the first one, then twice as long each time, up to
    /// `longest`, and each time a random part of it ("full jitter"), at least 1 ms. By default 100 ms and 30 s.
    #[must_use]
    pub fn with_retry_delay(mut self, first: Duration, longest: Duration) -> Self {
        self.retry = Retry::new(first.min(MAX_INTERVAL), longest.min(MAX_INTERVAL));
        self
    }

    /// How long [`run`](Self::run) may go on after its cancellation, to finish the publish in flight and to
    /// acknowledge what was accepted. By default 30 s.
    #[must_use]
    pub fn with_grace_period(mut self, period: Duration) -> Self {
        self.grace_period = period;
        self
    }

    /// Publishes until `shutdown` is cancelled, and says what it did.
    ///
    /// On cancellation it publishes nothing more, finishes the publish in flight and acknowledges what was
    /// accepted. After the grace period it returns in any case: the events of a publish that has not ended by
    /// then stay pending.
    ///
    /// # Errors
    /// An error of the store that is not [retryable](outbox_traits::Error::is_retryable), such as
    /// [`Schema`](outbox_traits::ErrorKind::Schema).
    pub async fn run(&self, shutdown: CancellationToken) -> Result<Report> {
        let mut worker = Worker::new(self);
        let grace_is_over = async {
            shutdown.cancelled().await;
            tokio::time::sleep(self.grace_period).await;
        };
        tokio::select! {
            biased;
            result = worker.run(&shutdown) => result?,
            () = grace_is_over => {
                tracing::warn!("the relay was stopped at the end of its grace period");
            }
        }
        Ok(worker.report)
    }

    /// Publishes what is pending and returns, for batch jobs and tests.
    ///
    /// Each event is tried at most once: one that fails is left pending, with the later events of its key, and
    /// so is everything when the transport is unavailable.
    ///
    /// # Errors
    /// Any error of the store, at once. Events that were accepted and could not be acknowledged are published
    /// again by the next call.
    pub async fn publish_pending(&self) -> Result<Report> {
        let mut worker = Worker::once(self);
        worker.drain().await?;
        Ok(worker.report)
    }
}

/// So far ahead that it does not matter, and not so far that a clock overflows.
const MAX_INTERVAL: Duration = Duration::from_hours(365 * 24);

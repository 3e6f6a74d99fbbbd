//! The relay that is the only one on its store.

use std::{sync::Arc, time::Duration};

use outbox_traits::{OutboxStore, Result, Transport};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{MAX_INTERVAL, Relay};
use crate::{IntoStore, Report, record::Record, retry::Retry, single_worker::Worker};

/// Without claims: one relay for a store, of any kind.
#[derive(Debug)]
pub struct SingleWorker {
    pub(crate) store: Arc<dyn OutboxStore>,
    pub(crate) longest_poll: Option<Duration>,
    pub(crate) retry: Retry,
}

/// # For a single worker
///
/// The order is kept, and events are published once, **as long as no other relay works on the same store**: two of
/// them publish every event twice. Failures are counted in the process alone; nothing is ever set aside.
///
/// It looks past the waiting events of failed keys for others, up to ten batches of them. When more than that
/// wait in front, the rest waits too, until one of them is accepted.
impl Relay<SingleWorker> {
    /// A relay for any store, which is to be the only one that works on it.
    ///
    /// It takes the store itself or an `Arc` of it.
    pub fn single_worker<Form>(store: impl IntoStore<Form>, transport: impl Transport) -> Self {
        let way = SingleWorker { store: store.into_store(), longest_poll: None, retry: Retry::default() };
        Self::build(transport, way)
    }

    /// How long to wait at most, when nothing is pending, before looking again; at least 1 ms. By default 2 s, and with
    /// [wake-ups](Self::with_wakeups) 5 s.
    ///
    /// An idle relay waits 50 ms at first and then ever longer, each time shortened at random. Without wake-ups an event that is
    /// saved meanwhile waits for so long. With work, it never waits.
    #[must_use]
    pub fn with_poll_interval(mut self, longest: Duration) -> Self {
        self.way.longest_poll = Some(longest.clamp(Duration::from_millis(1), MAX_INTERVAL));
        self
    }

    /// How long to wait after a failure: `first` after the first one, then twice as long each time, up to
    /// `longest`, and each time a random part of it ("full jitter"), at least 10 ms. By default 100 ms and 30 s.
    #[must_use]
    pub fn with_retry_delay(mut self, first: Duration, longest: Duration) -> Self {
        self.way.retry = Retry::new(first.min(MAX_INTERVAL), longest.min(MAX_INTERVAL));
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
        let (record, woken) = (Record::new(&self.common), Notify::new());
        let mut worker = Worker::new(self, &record);
        let work = worker.run(&shutdown, &woken);
        self.run_loop(&*self.way.store, work, (&record, &woken), &shutdown).await
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
        let record = Record::new(&self.common);
        Worker::once(self, &record).drain().await?;
        Ok(record.report())
    }
}

//! A transport and a store that fail as they are told.

#![allow(dead_code, reason = "not every test needs all of it")]

pub(crate) mod consumer;
pub(crate) mod remote;

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use outbox_delivery::{Relay, Report, SingleWorker};
use outbox_memory::{MemoryOutbox, MemorySession};
use outbox_traits::{
    Error, ErrorKind, Event, EventId, OutboxStore, PublishError, Published, Result, Saved, Transport,
    async_trait,
};
use serde_json::json;
use tokio::{runtime::Builder, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

pub(crate) fn event(event_type: &str, key: &str) -> Event {
    Event::new(event_type, json!({})).unwrap().with_partition_key(key)
}

pub(crate) async fn outbox_with(events: &[Event]) -> MemoryOutbox {
    let outbox = MemoryOutbox::new();
    outbox.save_all(events).await.unwrap();
    outbox
}

pub(crate) async fn pending(outbox: &MemoryOutbox) -> Vec<String> {
    let pending = outbox.get_pending(usize::MAX).await.unwrap();
    pending.iter().map(|event| event.event_type().to_owned()).collect()
}

/// Runs it on a runtime of its own, in simulated time: nothing of it depends on anything but the seed, which is said with
/// what else there is to say where it panics.
pub(crate) fn seeded<T>(seed: u64, more: &impl fmt::Debug, work: impl Future<Output = T>) -> T {
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(work))).unwrap_or_else(|panic| {
        eprintln!("shown by seed {seed}, {more:?}");
        resume_unwind(panic)
    })
}

type Answer = dyn Fn(&[Event]) -> Vec<Published> + Send + Sync;

/// When, and the types of the events.
type Call = (Instant, Vec<String>);

/// Answers as it is told and remembers what it was given, and when.
#[derive(Clone)]
pub(crate) struct Scripted {
    answer: Arc<Answer>,
    delay: Duration,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Scripted {
    /// Answers for a whole batch.
    pub(crate) fn batches(answer: impl Fn(&[Event]) -> Vec<Published> + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), delay: Duration::ZERO, calls: Arc::default() }
    }

    /// Answers for one event; what follows a failed one of its key is not attempted.
    pub(crate) fn events(
        answer: impl Fn(&Event) -> Result<(), PublishError> + Send + Sync + 'static,
    ) -> Self {
        Self::batches(move |events| {
            let mut failed: Vec<&str> = Vec::new();
            let mut published = Vec::new();
            for event in events {
                let result = if event.partition_key().is_some_and(|key| failed.contains(&key)) {
                    Err(PublishError::not_attempted())
                } else {
                    answer(event)
                };
                if result.is_err() {
                    failed.extend(event.partition_key());
                }
                published.push(Published { id: event.id(), result });
            }
            published
        })
    }

    pub(crate) fn accepting() -> Self {
        Self::events(|_| Ok(()))
    }

    /// Takes no event of a batch with one of the type `poison`, as where the connection breaks that is that of all.
    pub(crate) fn refusing_batches_with_poison(error: fn(&'static str) -> PublishError) -> Self {
        Self::batches(move |events| {
            let is_broken = events.iter().any(|event| event.event_type() == "poison");
            let result = || if is_broken { Err(error("the batch broke")) } else { Ok(()) };
            events.iter().map(|event| Published { id: event.id(), result: result() }).collect()
        })
    }

    pub(crate) fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(crate) fn calls(&self) -> Vec<Vec<String>> {
        self.calls.lock().unwrap().iter().map(|(_, types)| types.clone()).collect()
    }

    pub(crate) fn times(&self) -> Vec<Instant> {
        self.calls.lock().unwrap().iter().map(|(time, _)| *time).collect()
    }

    pub(crate) fn given(&self) -> Vec<String> {
        self.calls().concat()
    }
}

#[async_trait]
impl Transport for Scripted {
    async fn publish(&self, _: &Event) -> Result<(), PublishError> {
        unreachable!("a relay publishes batches")
    }

    async fn publish_all(&self, events: &[Event]) -> Vec<Published> {
        let types = events.iter().map(|event| event.event_type().to_owned()).collect();
        self.calls.lock().unwrap().push((Instant::now(), types));
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        (self.answer)(events)
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

/// A store whose next calls fail as they are told, and which counts the fetches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flaky {
    pub(crate) inner: MemoryOutbox,
    pub(crate) fetch_errors: Arc<Mutex<VecDeque<ErrorKind>>>,
    pub(crate) acknowledge_errors: Arc<Mutex<VecDeque<ErrorKind>>>,
    pub(crate) limits: Arc<Mutex<Vec<usize>>>,
    pub(crate) acknowledged: Arc<Mutex<Vec<EventId>>>,
    /// The next call of each of these names never ends.
    pub(crate) hanging: Arc<Mutex<Vec<&'static str>>>,
}

impl Flaky {
    async fn hang_if_told(&self, call: &str) {
        let told = self.hanging.lock().unwrap().extract_if(.., |name| *name == call).count();
        if told > 0 {
            std::future::pending::<()>().await;
        }
    }
}

fn fail_next(errors: &Mutex<VecDeque<ErrorKind>>) -> Result<()> {
    errors.lock().unwrap().pop_front().map_or(Ok(()), |kind| Err(Error::new(kind, "told to fail")))
}

#[async_trait]
impl OutboxStore for Flaky {
    type Session = MemorySession;

    async fn save(&self, event: &Event) -> Result<Saved> {
        self.inner.save(event).await
    }

    async fn save_all(&self, events: &[Event]) -> Result<Vec<Saved>> {
        self.inner.save_all(events).await
    }

    async fn save_in_session(&self, event: &Event, session: &mut MemorySession) -> Result<Saved> {
        self.inner.save_in_session(event, session).await
    }

    async fn get_pending(&self, limit: usize) -> Result<Vec<Event>> {
        self.limits.lock().unwrap().push(limit);
        self.hang_if_told("get_pending").await;
        fail_next(&self.fetch_errors)?;
        self.inner.get_pending(limit).await
    }

    async fn acknowledge(&self, _: EventId) -> Result<()> {
        unreachable!("a relay acknowledges batches")
    }

    async fn acknowledge_all(&self, ids: &[EventId]) -> Result<()> {
        self.hang_if_told("acknowledge_all").await;
        fail_next(&self.acknowledge_errors)?;
        self.acknowledged.lock().unwrap().extend(ids);
        self.inner.acknowledge_all(ids).await
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        self.hang_if_told("purge").await;
        self.inner.purge(older_than).await
    }
}

/// A relay at work, and how to stop it.
pub(crate) struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<Result<Report>>,
}

pub(crate) fn start(relay: Relay<SingleWorker>) -> Running {
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    Running { task: tokio::spawn(async move { relay.run(stop).await }), shutdown }
}

pub(crate) fn start_on_claims(relay: Relay) -> Running {
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    Running { task: tokio::spawn(async move { relay.run(stop).await }), shutdown }
}

impl Running {
    pub(crate) async fn stop(self) -> Report {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap()
    }

    /// As a crash would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    pub(crate) async fn end(self) -> Result<Report> {
        self.task.await.unwrap()
    }
}

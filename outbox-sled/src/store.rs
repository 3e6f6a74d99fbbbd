//! The store.

use std::{
    fmt, slice,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use outbox_traits::{Error, ErrorKind, Event, EventId, OutboxStore, Result, Retention, Saved};
use sled::Db;

use crate::{
    SledSession, clock,
    trees::{Fetched, Trees, count},
    writer::Writer,
};

/// How many rows one transaction changes, where there is no end to them: all other access to sled waits for it.
pub(crate) const BATCH: usize = 250;

/// The outbox in a data base of sled. Clones share it.
///
/// By default its trees are named `outbox.events` and so on. Open it once and clone it: a second one over the same
/// trees is safe and hears of the first one's commits, but has a thread and flushes of its own.
///
/// It needs a runtime of tokio, on whose blocking threads it reads, and has one thread of its own, which writes.
/// Dropping the last clone waits for that thread to end.
#[derive(Clone)]
pub struct SledOutbox {
    pub(crate) shared: Arc<Shared>,
    pub(crate) retention: Retention,
}

pub(crate) struct Shared {
    pub(crate) trees: Arc<Trees>,
    pub(crate) writer: Writer,
    /// The last sequence number that a crash cannot take back.
    durable: Arc<AtomicU64>,
}

impl Shared {
    /// By the store's clock.
    pub(crate) fn now(&self) -> i64 {
        self.trees.peers.clock.now()
    }

    /// Flushes, unless the event of this place is flushed already.
    pub(crate) async fn wait_until_durable(&self, seq: u64) -> Result<()> {
        if seq > self.durable.load(SeqCst) {
            self.writer.run(|| Ok(())).await?;
        }
        Ok(())
    }
}

impl SledOutbox {
    /// Opens the outbox of a data base, or makes it.
    ///
    /// # Errors
    /// [`Schema`](ErrorKind::Schema) if a newer version of this crate has written it.
    pub fn open(db: &Db) -> Result<Self> {
        Self::open_named(db, "outbox")
    }

    /// The same with a name of its own: outboxes of different names in one data base are apart.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_named(db: &Db, name: &str) -> Result<Self> {
        let trees = Arc::new(Trees::open(db, name)?);
        let durable = Arc::new(AtomicU64::new(0));
        let writer = Writer::start({
            let (trees, durable) = (Arc::clone(&trees), Arc::clone(&durable));
            move || {
                let last = trees.last_seq()?;
                trees.meta.flush()?;
                durable.fetch_max(last, SeqCst);
                Ok(())
            }
        })?;
        let shared = Arc::new(Shared { trees, writer, durable });
        Ok(Self { shared, retention: Retention::default() })
    }

    /// What becomes of delivered events; by default they stay until they are purged. It is this handle's, and that of
    /// the clones made of it.
    ///
    /// ```
    /// use outbox_sled::SledOutbox;
    /// use outbox_traits::{Event, OutboxStore, Retention, Saved};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// # let db = sled::Config::new().temporary(true).open()?;
    /// let outbox = SledOutbox::open(&db)?.with_retention(Retention::DeleteOnDelivery);
    /// let event = Event::new("order.placed", ())?;
    /// outbox.save(&event).await?;
    /// outbox.acknowledge(event.id()).await?;
    /// assert_eq!(outbox.save(&event).await?, Saved::Stored, "its id is free");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn with_retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Opens a unit of work.
    #[must_use]
    pub fn begin(&self) -> SledSession {
        SledSession::new(Arc::clone(&self.shared))
    }

    /// The store's clock, for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        clock::time(self.shared.now())
    }

    /// Moves the store's clock forward, for tests.
    #[doc(hidden)]
    pub fn advance_clock(&self, by: Duration) {
        self.shared.trees.peers.clock.advance(by);
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Trees) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let trees = Arc::clone(&self.shared.trees);
        blocking(move || read(&trees)).await
    }

    /// Queues a change; it is given the trees and the time at which it is made.
    pub(crate) fn write<T, C>(&self, change: C) -> impl Future<Output = Result<T>> + Send + use<T, C>
    where
        T: Send + 'static,
        C: FnOnce(&Trees, i64) -> Result<T> + Send + 'static,
    {
        let trees = Arc::clone(&self.shared.trees);
        self.shared.writer.run(move || change(&trees, trees.peers.clock.now()))
    }
}

/// Runs what waits for sled's lock or for the disk on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => {
            Err(Error::new(ErrorKind::Unavailable, "the runtime is shutting down").with_source(error))
        }
    }
}

#[async_trait]
impl OutboxStore for SledOutbox {
    type Session = SledSession;

    async fn save(&self, event: &Event) -> Result<Saved> {
        let saved = self.save_all(slice::from_ref(event)).await?;
        Ok(saved[0])
    }

    async fn save_all(&self, events: &[Event]) -> Result<Vec<Saved>> {
        let mut session = self.begin();
        let saved = session.save_all(&self.shared, events).await?;
        session.commit().await?;
        Ok(saved)
    }

    async fn save_in_session(&self, event: &Event, session: &mut SledSession) -> Result<Saved> {
        let saved = session.save_all(&self.shared, slice::from_ref(event)).await?;
        Ok(saved[0])
    }

    async fn save_all_in_session(&self, events: &[Event], session: &mut SledSession) -> Result<Vec<Saved>> {
        session.save_all(&self.shared, events).await
    }

    async fn get_pending(&self, limit: usize) -> Result<Vec<Event>> {
        loop {
            let now = self.shared.now();
            match self.read(move |trees| trees.fetch(limit, now, BATCH)).await? {
                Fetched::Behind => self.write(Trees::catch_up).await?,
                Fetched::Undecodable(rows) => {
                    self.write(move |trees, now| {
                        trees.change(|view| {
                            rows.iter().try_for_each(|(place, why)| view.set_aside(place, None, why, now))
                        })
                    })
                    .await?;
                }
                Fetched::Events(events, last) => {
                    // What is delivered must have happened: a crash could take back what is not flushed.
                    self.shared.wait_until_durable(last).await?;
                    return Ok(events);
                }
            }
        }
    }

    async fn acknowledge(&self, id: EventId) -> Result<()> {
        self.acknowledge_all(&[id]).await
    }

    async fn acknowledge_all(&self, ids: &[EventId]) -> Result<()> {
        // All are queued before the first is waited for, so that they share a flush.
        let retention = self.retention;
        let batches: Vec<_> = ids
            .chunks(BATCH)
            .map(|ids| {
                let ids = ids.to_vec();
                self.write(move |trees, now| {
                    trees.change(|view| ids.iter().try_for_each(|id| view.acknowledge(*id, now, retention)))
                })
            })
            .collect();
        for batch in batches {
            batch.await?;
        }
        Ok(())
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        let until = clock::before(self.shared.now(), older_than);
        let mut purged = 0;
        loop {
            let (found, gone) = self
                .write(move |trees, _| {
                    let delivered = trees.delivered(until, BATCH)?;
                    let gone = trees.change(|view| count(&delivered, |place| view.purge(place)))?;
                    Ok((delivered.len(), gone))
                })
                .await?;
            purged += gone;
            if found < BATCH {
                return Ok(purged);
            }
        }
    }
}

impl fmt::Debug for SledOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the trees, which would show all that is in them.
        f.debug_struct("SledOutbox").field("name", &self.shared.trees.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::NewRow;

    #[tokio::test]
    async fn nobody_is_told_of_an_event_that_is_not_flushed() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let outbox = SledOutbox::open(&db).unwrap();
        let event = Event::new("t", ()).unwrap();
        let durable = || outbox.shared.durable.load(SeqCst);
        for (seq, id) in [(1, EventId::new()), (2, EventId::new())] {
            let event = event.clone().with_id(id);
            let new = NewRow::of(&event).unwrap();
            outbox.shared.trees.change(|view| view.insert(&new, 0)).unwrap();
            assert!(durable() < seq);
            match seq {
                1 => assert_eq!(outbox.get_pending(1).await.unwrap(), [event]),
                _ => assert_eq!(outbox.save(&event).await.unwrap(), Saved::Duplicate),
            }
            assert_eq!(durable(), seq);
        }
    }
}

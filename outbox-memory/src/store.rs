//! The store.

use std::{
    fmt, slice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use outbox_traits::{Event, EventId, OutboxStore, Result, Retention, Saved};
use tokio::sync::watch;

use crate::{
    ManualClock, MemorySession,
    clock::{Clock, earlier},
    state::{Content, State},
};

/// The outbox in memory. Clones share it.
///
/// By default its clock is that of the system, and delivered events stay until they are purged.
#[derive(Clone, Debug)]
pub struct MemoryOutbox {
    pub(crate) shared: Arc<Shared>,
    pub(crate) retention: Retention,
}

pub(crate) struct Shared {
    pub(crate) clock: Clock,
    state: Mutex<State>,
    /// Whoever listens is told of each commit.
    pub(crate) commits: watch::Sender<()>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a function of the user's (`on_commit`) leaves the rows as they should be.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the state, which would show every payload.
        f.debug_struct("Shared").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl MemoryOutbox {
    /// An empty outbox with the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::build(Clock::System)
    }

    /// An empty outbox whose time is that of a [`ManualClock`].
    #[must_use]
    pub fn with_clock(clock: &ManualClock) -> Self {
        Self::build(Clock::Manual(clock.clone()))
    }

    fn build(clock: Clock) -> Self {
        let shared = Shared { clock, state: Mutex::default(), commits: watch::Sender::new(()) };
        Self { shared: Arc::new(shared), retention: Retention::default() }
    }

    /// What this handle does with events that it delivers. By default they stay until they are purged.
    #[must_use]
    pub fn with_retention(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    /// Opens a unit of work.
    #[must_use]
    pub fn begin(&self) -> MemorySession {
        MemorySession::new(Arc::clone(&self.shared))
    }

    /// Puts a row at the end that cannot be decoded, as a broken producer would, to test how an application
    /// deals with it: a fetch sets it aside as a dead letter. As with [`save`](OutboxStore::save), nothing is put in where an event of
    /// that id is there already.
    pub fn insert_undecodable(&self, id: EventId, event_type: impl Into<String>, raw: impl Into<String>) {
        let content = Content::Undecodable { id, event_type: event_type.into(), raw: raw.into() };
        let mut state = self.shared.lock();
        if !state.has_id(id) {
            state.insert(content, self.shared.clock.now());
        }
    }
}

impl Default for MemoryOutbox {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl OutboxStore for MemoryOutbox {
    type Session = MemorySession;

    async fn save(&self, event: &Event) -> Result<Saved> {
        let saved = self.save_all(slice::from_ref(event)).await?;
        Ok(saved[0])
    }

    async fn save_all(&self, events: &[Event]) -> Result<Vec<Saved>> {
        let mut session = self.begin();
        let saved = session.save_all(&self.shared, events)?;
        session.commit();
        Ok(saved)
    }

    async fn save_in_session(&self, event: &Event, session: &mut MemorySession) -> Result<Saved> {
        Ok(session.save_all(&self.shared, slice::from_ref(event))?[0])
    }

    async fn save_all_in_session(&self, events: &[Event], session: &mut MemorySession) -> Result<Vec<Saved>> {
        session.save_all(&self.shared, events)
    }

    async fn get_pending(&self, limit: usize) -> Result<Vec<Event>> {
        Ok(self.shared.lock().pending(limit, self.shared.clock.now()))
    }

    async fn acknowledge(&self, id: EventId) -> Result<()> {
        self.acknowledge_all(&[id]).await
    }

    async fn acknowledge_all(&self, ids: &[EventId]) -> Result<()> {
        let now = self.shared.clock.now();
        let mut state = self.shared.lock();
        for id in ids {
            state.acknowledge(*id, now, self.retention);
        }
        Ok(())
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        let until = earlier(self.shared.clock.now(), older_than);
        // Older than time itself: there is none.
        Ok(until.map_or(0, |until| self.shared.lock().purge(until)))
    }
}

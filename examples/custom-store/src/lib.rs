//! A store of one's own: an outbox, and the business rows beside it, in a journal file.
//!
//! Every commit is one line of JSON, written and synced before it returns; opening the file plays the lines back.
//! It is for one process at a time, and has one writer, whom the next session waits for. The suite in
//! `tests/conformance.rs` is all that it takes to know that it keeps the contract.

mod journal;
mod session;
mod state;

use std::{
    path::Path,
    slice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use outbox_traits::{Event, EventId, OutboxStore, Result, Saved, async_trait};
use serde_json::Value;

pub use crate::session::JournalSession;
use crate::{
    journal::Journal,
    state::{Entry, Row, State},
};

/// An outbox in a journal file. Clones share it.
#[derive(Clone, Debug)]
pub struct JournalOutbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Whoever holds it is the one writer.
    journal: Arc<tokio::sync::Mutex<Journal>>,
    clock_offset: Mutex<TimeDelta>,
}

impl JournalOutbox {
    /// Opens a journal, or begins one.
    ///
    /// # Errors
    /// If the file cannot be read or written, or is not a journal.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let (journal, entries) = Journal::open(path.as_ref())?;
        let mut state = State::default();
        entries.into_iter().for_each(|entry| state.apply(entry));
        Ok(Self(Arc::new(Shared {
            state: Mutex::new(state),
            journal: Arc::new(tokio::sync::Mutex::new(journal)),
            clock_offset: Mutex::new(TimeDelta::zero()),
        })))
    }

    /// Opens a session, when the one before it has ended.
    pub async fn begin(&self) -> JournalSession {
        JournalSession::new(self.clone(), Arc::clone(&self.0.journal).lock_owned().await)
    }

    /// All business rows.
    #[must_use]
    pub fn rows(&self) -> Vec<String> {
        self.state().rows().to_vec()
    }

    /// Writes something into the outbox that need not be an event, for tests.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub async fn insert_raw(&self, id: EventId, raw: impl Into<Value>) -> Result<()> {
        let row = Row { id, key: None, not_before: None, event: raw.into() };
        self.change(|_, _| Entry { saved: vec![row], ..Entry::default() }).await
    }

    /// Moves the store's clock, for tests.
    pub fn advance_clock(&self, by: Duration) {
        let mut offset = self.0.clock_offset.lock().unwrap_or_else(PoisonError::into_inner);
        *offset += TimeDelta::from_std(by).unwrap_or(TimeDelta::MAX);
    }

    /// The time by the store's clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now() + *self.0.clock_offset.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what the function makes of the state, and then applies it.
    async fn change(&self, entry: impl FnOnce(&State, DateTime<Utc>) -> Entry) -> Result<()> {
        let mut journal = self.0.journal.lock().await;
        let entry = entry(&self.state(), self.now());
        if !entry.is_empty() {
            journal.append(&entry)?;
            self.state().apply(entry);
        }
        Ok(())
    }
}

#[async_trait]
impl OutboxStore for JournalOutbox {
    type Session = JournalSession;

    async fn save(&self, event: &Event) -> Result<Saved> {
        Ok(self.save_all(slice::from_ref(event)).await?[0])
    }

    async fn save_all(&self, events: &[Event]) -> Result<Vec<Saved>> {
        let mut session = self.begin().await;
        let saved = session.save_all(events)?;
        session.commit()?;
        Ok(saved)
    }

    async fn save_in_session(&self, event: &Event, session: &mut JournalSession) -> Result<Saved> {
        Ok(session.save_all(slice::from_ref(event))?[0])
    }

    async fn save_all_in_session(
        &self,
        events: &[Event],
        session: &mut JournalSession,
    ) -> Result<Vec<Saved>> {
        session.save_all(events)
    }

    async fn get_pending(&self, limit: usize) -> Result<Vec<Event>> {
        let (events, undecodable) = self.state().pending(limit, self.now());
        if !undecodable.is_empty() {
            // Set aside, so that no later fetch meets them again.
            self.change(|_, _| Entry { dead: undecodable, ..Entry::default() }).await?;
        }
        Ok(events)
    }

    async fn acknowledge(&self, id: EventId) -> Result<()> {
        self.acknowledge_all(&[id]).await
    }

    async fn acknowledge_all(&self, ids: &[EventId]) -> Result<()> {
        self.change(|state, now| Entry {
            delivered: state.undelivered(ids),
            delivered_at: Some(now),
            ..Entry::default()
        })
        .await
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        let mut count = 0;
        self.change(|state, now| {
            let older_than = TimeDelta::from_std(older_than).ok();
            let until = older_than.and_then(|older_than| now.checked_sub_signed(older_than));
            let purged = until.map(|until| state.delivered_until(until)).unwrap_or_default();
            count = purged.len() as u64;
            Entry { purged, ..Entry::default() }
        })
        .await?;
        Ok(count)
    }
}

//! A unit of work: events and business rows in one line of the journal.

use std::collections::HashSet;

use outbox_traits::{EncodedEvent, Error, ErrorKind, Event, EventId, Result, Saved};
use tokio::sync::OwnedMutexGuard;

use crate::{
    JournalOutbox,
    journal::Journal,
    state::{Entry, Row},
};

/// An open unit of work; dropped without a commit, it leaves nothing.
#[derive(Debug)]
pub struct JournalSession {
    outbox: JournalOutbox,
    journal: OwnedMutexGuard<Journal>,
    entry: Entry,
    ids: HashSet<EventId>,
    keys: HashSet<String>,
}

impl JournalSession {
    pub(crate) fn new(outbox: JournalOutbox, journal: OwnedMutexGuard<Journal>) -> Self {
        Self { outbox, journal, entry: Entry::default(), ids: HashSet::new(), keys: HashSet::new() }
    }

    /// Writes a business row.
    pub fn write_row(&mut self, row: impl Into<String>) {
        self.entry.rows.push(row.into());
    }

    /// Makes all of it visible, and durable, at once.
    ///
    /// # Errors
    /// If the journal cannot be written; then nothing of it was.
    pub fn commit(mut self) -> Result<()> {
        if !self.entry.is_empty() {
            self.journal.append(&self.entry)?;
            self.outbox.state().apply(self.entry);
        }
        Ok(())
    }

    pub(crate) fn save_all(&mut self, events: &[Event]) -> Result<Vec<Saved>> {
        // All are looked at before the first is kept: a bad one must not leave half of them behind.
        let mut rows = Vec::new();
        for event in events {
            // It holds the event to the rules, as `validate` does, and to its size, at which that does not look.
            EncodedEvent::new(event)?;
            let row = Row::new(event).map_err(|error| {
                Error::new(ErrorKind::InvalidEvent, "the event has no form in JSON")
                    .with_event(event.id())
                    .with_source(error)
            })?;
            rows.push(row);
        }
        let mut saved = Vec::new();
        for (event, row) in events.iter().zip(rows) {
            let is_own =
                self.ids.contains(&row.id) || row.key.as_ref().is_some_and(|key| self.keys.contains(key));
            if is_own || self.outbox.state().is_taken(event) {
                saved.push(Saved::Duplicate);
                continue;
            }
            self.ids.insert(row.id);
            self.keys.extend(row.key.clone());
            self.entry.saved.push(row);
            saved.push(Saved::Stored);
        }
        Ok(saved)
    }
}

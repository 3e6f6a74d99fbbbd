//! The ids, keys and marks of an inbox that open sessions have saved.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use outbox_traits::{Error, ErrorKind, EventId, Result, Saved};
use sled::IVec;

use crate::{row::Row, trees::Trees};

/// Names who holds something, among all of the process: an open session, or one save in it until that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder(u64);

impl Holder {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

/// What only one holder at a time may save.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Held {
    Id(EventId),
    /// An idempotency key.
    Key(String),
    /// What a consumer has processed.
    Mark(IVec),
}

/// Who holds what, so that two cannot both be told that they stored it.
#[derive(Debug, Default)]
pub(crate) struct Reservations(Mutex<HashMap<Held, Holder>>);

/// What one holder holds; dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Reserved {
    table: Arc<Reservations>,
    pub(crate) holder: Holder,
    taken: Vec<Held>,
    /// The highest place among the committed events of which the session met a duplicate.
    pub(crate) met: u64,
}

impl Reservations {
    /// Held for moments only, and never beside sled's lock: sessions are dropped on threads of the async runtime.
    fn lock(&self) -> MutexGuard<'_, HashMap<Held, Holder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved {
    pub(crate) fn none(table: &Arc<Reservations>) -> Self {
        Self { table: Arc::clone(table), holder: Holder::next(), taken: Vec::new(), met: 0 }
    }

    /// Takes the row's id and key for a session, unless they are taken.
    ///
    /// A save that nobody waits for any more goes on for a while and gives back what it holds: that is no duplicate, to its
    /// own session neither.
    pub(crate) fn take(&mut self, row: &Row, session: Holder, trees: &Trees) -> Result<Saved> {
        if self.meets(row, trees)? {
            return Ok(Saved::Duplicate);
        }
        let (id, key) = (Held::Id(row.id), row.idempotency_key.clone().map(Held::Key));
        if let Err(holders) = self.hold([id].into_iter().chain(key)) {
            if holders.iter().any(|holder| [self.holder, session].contains(holder)) {
                return Ok(Saved::Duplicate);
            }
            // To wait for the other session would be a deadlock where that one waits for this one.
            let message = "another open session, or a save that was cut off and has not ended, has this id or \
                           idempotency key: try again when it ended";
            return Err(Error::new(ErrorKind::Conflict, message).with_event(row.id));
        }
        // Again, now that no other can take it: one may have committed it in between.
        if self.meets(row, trees)? {
            self.free(1 + usize::from(row.idempotency_key.is_some()));
            return Ok(Saved::Duplicate);
        }
        Ok(Saved::Stored)
    }

    /// Whether a committed event has the row's id or key.
    fn meets(&mut self, row: &Row, trees: &Trees) -> Result<bool> {
        let taken = trees.taken(row.id, row.idempotency_key.as_deref())?;
        self.met = self.met.max(taken.unwrap_or(0));
        Ok(taken.is_some())
    }

    /// Holds all of it, or none and says who holds some of it.
    pub(crate) fn hold(&mut self, all: impl IntoIterator<Item = Held>) -> Result<(), Vec<Holder>> {
        let all: Vec<Held> = all.into_iter().collect();
        let mut table = self.table.lock();
        let holders: Vec<Holder> = all.iter().filter_map(|one| table.get(one).copied()).collect();
        if !holders.is_empty() {
            return Err(holders);
        }
        table.extend(all.iter().cloned().map(|one| (one, self.holder)));
        self.taken.extend(all);
        Ok(())
    }

    /// Takes over what another holds.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        self.table.lock().extend(other.taken.iter().cloned().map(|held| (held, self.holder)));
        self.taken.append(&mut other.taken);
    }

    /// Frees the last so many that were taken.
    fn free(&mut self, count: usize) {
        let mut table = self.table.lock();
        for held in self.taken.drain(self.taken.len().saturating_sub(count)..) {
            table.remove(&held);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.taken.is_empty() {
            self.free(self.taken.len());
        }
    }
}

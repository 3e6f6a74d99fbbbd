//! The ids and keys that open sessions have saved.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use outbox_traits::{Error, ErrorKind, EventId, Result, Saved};

use crate::{row::Row, trees::Trees};

/// Names one open session among all.
pub(crate) type SessionId = u64;

/// Which session holds an id or key, so that two cannot both be told that they stored it.
#[derive(Debug, Default)]
pub(crate) struct Reservations(Mutex<Holders>);

#[derive(Debug, Default)]
struct Holders {
    ids: HashMap<EventId, SessionId>,
    keys: HashMap<String, SessionId>,
}

/// What one session holds; dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Reserved {
    table: Arc<Reservations>,
    taken: Vec<(EventId, Option<String>)>,
    /// The highest place among the committed events of which the session met a duplicate.
    pub(crate) met: u64,
}

impl Reservations {
    /// Held for moments only, and never beside sled's lock: sessions are dropped on threads of the async runtime.
    fn lock(&self) -> MutexGuard<'_, Holders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved {
    pub(crate) fn none(table: &Arc<Reservations>) -> Self {
        Self { table: Arc::clone(table), taken: Vec::new(), met: 0 }
    }

    /// Takes the row's id and key, unless they are taken.
    pub(crate) fn take(&mut self, row: &Row, session: SessionId, trees: &Trees) -> Result<Saved> {
        if self.meets(row, trees)? || self.hold(row, session)? == Saved::Duplicate {
            return Ok(Saved::Duplicate);
        }
        // Again, now that no other session can take it: one may have committed it in between.
        if self.meets(row, trees)? {
            if let Some(taken) = self.taken.pop() {
                self.table.lock().free(&taken);
            }
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

    fn hold(&mut self, row: &Row, session: SessionId) -> Result<Saved> {
        let key = row.idempotency_key.as_ref();
        let mut table = self.table.lock();
        let holders = [table.ids.get(&row.id), key.and_then(|key| table.keys.get(key))];
        if holders.contains(&Some(&session)) {
            return Ok(Saved::Duplicate);
        }
        if holders.iter().any(Option::is_some) {
            // To wait for the other session would be a deadlock where that one waits for this one.
            let message =
                "another open session has saved this id or idempotency key: try again when it ended";
            return Err(Error::new(ErrorKind::Conflict, message).with_event(row.id));
        }
        table.ids.insert(row.id, session);
        if let Some(key) = key {
            table.keys.insert(key.clone(), session);
        }
        self.taken.push((row.id, key.cloned()));
        Ok(Saved::Stored)
    }

    /// Takes over what another holds.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        self.taken.append(&mut other.taken);
    }
}

impl Holders {
    fn free(&mut self, (id, key): &(EventId, Option<String>)) {
        self.ids.remove(id);
        if let Some(key) = key {
            self.keys.remove(key);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.taken.is_empty() {
            let mut table = self.table.lock();
            self.taken.iter().for_each(|taken| table.free(taken));
        }
    }
}

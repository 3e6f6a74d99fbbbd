//! What can be claimed: of each partition key that is free, the first event, and every event without a key.

use std::collections::{BTreeSet, HashMap};

#[derive(Debug, Default)]
pub(crate) struct Keys {
    by_key: HashMap<String, Key>,
    /// The first event of each free key, and all events without one.
    first: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Key {
    pending: BTreeSet<u64>,
    /// How many of its events are leased, wait for a retry, or hold it as dead letters.
    blocked_by: usize,
}

impl Key {
    fn first(&self) -> Option<u64> {
        self.pending.first().copied().filter(|_| self.blocked_by == 0)
    }
}

impl Keys {
    pub(crate) fn add(&mut self, key: Option<&str>, seq: u64) {
        match key {
            Some(key) => self.change(key, |key| _ = key.pending.insert(seq)),
            None => _ = self.first.insert(seq),
        }
    }

    pub(crate) fn remove(&mut self, key: Option<&str>, seq: u64) {
        match key {
            Some(key) => self.change(key, |key| _ = key.pending.remove(&seq)),
            None => _ = self.first.remove(&seq),
        }
    }

    pub(crate) fn block(&mut self, key: Option<&str>) {
        if let Some(key) = key {
            self.change(key, |key| key.blocked_by += 1);
        }
    }

    pub(crate) fn unblock(&mut self, key: Option<&str>) {
        if let Some(key) = key {
            self.change(key, |key| key.blocked_by -= 1);
        }
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Key)) {
        let key = self.by_key.entry(name.to_owned()).or_default();
        let before = key.first();
        change(key);
        let after = key.first();
        if key.pending.is_empty() && key.blocked_by == 0 {
            self.by_key.remove(name);
        }
        if before != after {
            before.map(|seq| self.first.remove(&seq));
            self.first.extend(after);
        }
    }

    /// The oldest event that nobody's lease stands before.
    pub(crate) fn first(&self) -> Option<u64> {
        self.first.first().copied()
    }

    /// The oldest pending event of a key, whether or not the key is free.
    pub(crate) fn first_of(&self, key: &str) -> Option<u64> {
        self.by_key.get(key)?.pending.first().copied()
    }

    pub(crate) fn is_free(&self, key: &str) -> bool {
        self.by_key.get(key).is_none_or(|key| key.blocked_by == 0)
    }
}

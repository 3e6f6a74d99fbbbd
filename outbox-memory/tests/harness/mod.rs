//! The harness of the in-memory store.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use outbox_conformance::{Harness, Skip};
use outbox_memory::{ManualClock, MemoryOutbox, MemorySession};
use outbox_traits::{EventId, async_trait};

pub(crate) struct Memory {
    store: MemoryOutbox,
    clock: ManualClock,
    rows: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Harness for Memory {
    type Store = MemoryOutbox;
    type Transaction = MemorySession;

    async fn open() -> Result<Self, Skip> {
        let clock = ManualClock::new();
        Ok(Self { store: MemoryOutbox::with_clock(&clock), clock, rows: Arc::default() })
    }

    fn store(&self) -> &MemoryOutbox {
        &self.store
    }

    async fn begin(&self) -> MemorySession {
        self.store.begin()
    }

    fn session<'a>(&self, transaction: &'a mut MemorySession) -> &'a mut MemorySession {
        transaction
    }

    async fn commit(&self, transaction: MemorySession) {
        transaction.commit();
    }

    async fn rollback(&self, transaction: MemorySession) {
        transaction.rollback();
    }

    async fn write_row(&self, key: &str, session: &mut MemorySession) {
        let (rows, key) = (Arc::clone(&self.rows), key.to_owned());
        session.on_commit(move || rows.lock().unwrap().push(key));
    }

    async fn rows(&self) -> Vec<String> {
        self.rows.lock().unwrap().clone()
    }

    async fn insert_undecodable(&self, id: EventId) {
        self.store.insert_undecodable(id, "suite.broken", r#"{"payload": tru"#);
    }

    async fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

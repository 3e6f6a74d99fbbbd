//! The harness of the in-memory store.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use outbox_conformance::{Harness, InboxHarness, Skip, WakeHarness};
use outbox_memory::{ManualClock, MemoryInbox, MemoryOutbox, MemorySession};
use outbox_traits::{EventId, Retention, async_trait};

/// Either retention.
pub(crate) struct Memory<const DELETES: bool> {
    store: MemoryOutbox,
    inbox: MemoryInbox,
    clock: ManualClock,
    rows: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl<const DELETES: bool> Harness for Memory<DELETES> {
    type Store = MemoryOutbox;
    type Transaction = MemorySession;

    async fn open() -> Result<Self, Skip> {
        let clock = ManualClock::new();
        let store = MemoryOutbox::with_clock(&clock).with_retention(retention(DELETES));
        Ok(Self { inbox: MemoryInbox::new(&store), store, clock, rows: Arc::default() })
    }

    fn store(&self) -> &MemoryOutbox {
        &self.store
    }

    fn retention(&self) -> Retention {
        retention(DELETES)
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

    fn undecodable_content(&self) -> &'static str {
        r#"{"payload": tru"#
    }

    async fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

#[async_trait]
impl<const DELETES: bool> WakeHarness for Memory<DELETES> {
    async fn peer(&self) -> MemoryOutbox {
        self.store.clone()
    }

    async fn cut_connections(&self) {}
}

#[async_trait]
impl<const DELETES: bool> InboxHarness for Memory<DELETES> {
    type Inbox = MemoryInbox;

    fn inbox(&self) -> &MemoryInbox {
        &self.inbox
    }
}

fn retention(deletes: bool) -> Retention {
    if deletes { Retention::DeleteOnDelivery } else { Retention::UntilPurged }
}

//! The harness of a broken store.

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use outbox_conformance::{Harness, Skip};
use outbox_memory::ManualClock;
use outbox_traits::{EventId, async_trait};

use crate::{fault::Fault, session::BrokenSession, store::Broken};

thread_local! {
    /// The fault of the stores that are opened on this thread, which is where a clause opens its store. A type
    /// for each fault would be compiled with the whole suite as many times.
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
}

/// The memory store with a fault.
pub(crate) struct Faulty {
    store: Arc<Broken>,
    clock: ManualClock,
    rows: Arc<Mutex<Vec<String>>>,
}

impl Faulty {
    /// Opens stores with this fault from now on.
    pub(crate) fn with(fault: Fault) {
        FAULT.set(fault);
    }
}

#[async_trait]
impl Harness for Faulty {
    type Store = Broken;
    type Transaction = BrokenSession;

    async fn open() -> Result<Self, Skip> {
        let clock = ManualClock::new();
        let store = Arc::new(Broken::new(FAULT.get(), &clock));
        Ok(Self { store, clock, rows: Arc::default() })
    }

    fn store(&self) -> &Broken {
        &self.store
    }

    async fn begin(&self) -> BrokenSession {
        self.store.begin()
    }

    fn session<'a>(&self, transaction: &'a mut BrokenSession) -> &'a mut BrokenSession {
        transaction
    }

    async fn commit(&self, transaction: BrokenSession) {
        transaction.commit().await;
    }

    async fn rollback(&self, transaction: BrokenSession) {
        transaction.rollback();
    }

    async fn write_row(&self, key: &str, session: &mut BrokenSession) {
        let (rows, key) = (Arc::clone(&self.rows), key.to_owned());
        session.inner().on_commit(move || rows.lock().unwrap().push(key));
    }

    async fn rows(&self) -> Vec<String> {
        self.rows.lock().unwrap().clone()
    }

    async fn insert_undecodable(&self, id: EventId) {
        self.store.inner.insert_undecodable(id, "suite.broken", r#"{"payload": tru"#);
    }

    async fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

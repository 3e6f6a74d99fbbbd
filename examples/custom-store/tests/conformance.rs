//! The contract, kept by a store of one's own: this file is all that the suite asks for.

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use journal_outbox::{JournalOutbox, JournalSession};
use outbox_conformance::{DurableHarness, Harness, Skip};
use outbox_traits::{ErrorKind, Event, EventId, OutboxStore, async_trait};

struct Journal {
    store: JournalOutbox,
    path: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

#[async_trait]
impl Harness for Journal {
    type Store = JournalOutbox;
    type Transaction = JournalSession;

    async fn open() -> Result<Self, Skip> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        Ok(Self { store: JournalOutbox::open(&path).unwrap(), path, _folder: Some(folder) })
    }

    fn store(&self) -> &JournalOutbox {
        &self.store
    }

    async fn begin(&self) -> JournalSession {
        self.store.begin().await
    }

    fn session<'a>(&self, transaction: &'a mut JournalSession) -> &'a mut JournalSession {
        transaction
    }

    async fn commit(&self, transaction: JournalSession) {
        transaction.commit().unwrap();
    }

    async fn rollback(&self, transaction: JournalSession) {
        drop(transaction);
    }

    async fn write_row(&self, key: &str, session: &mut JournalSession) {
        session.write_row(key);
    }

    async fn rows(&self) -> Vec<String> {
        self.store.rows()
    }

    async fn insert_undecodable(&self, id: EventId) {
        self.store.insert_raw(id, "not an event").await.unwrap();
    }

    fn undecodable_content(&self) -> &'static str {
        "not an event"
    }

    async fn now(&self) -> DateTime<Utc> {
        self.store.now()
    }

    async fn advance(&self, by: Duration) {
        self.store.advance_clock(by);
    }
}

#[async_trait]
impl DurableHarness for Journal {
    fn location(&self) -> String {
        self.path.to_str().unwrap().to_owned()
    }

    async fn reopen(location: &str) -> Self {
        Self { store: JournalOutbox::open(location).unwrap(), path: location.into(), _folder: None }
    }
}

// The group `concurrent` is left out: a journal has one writer. So are the capabilities that this store lacks.
outbox_conformance::suite!(Journal; store, durable, resource);
outbox_conformance::model!(Journal, 64);

#[tokio::test]
async fn an_event_that_is_too_large_is_refused_and_the_session_goes_on() {
    let journal = Journal::open().await.unwrap();
    let large = Event::new("order.placed", "x".repeat(9 * 1024 * 1024)).unwrap();
    let mut session = journal.store.begin().await;
    let error = journal.store.save_in_session(&large, &mut session).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidEvent);
    let small = Event::new("order.placed", 1).unwrap();
    journal.store.save_in_session(&small, &mut session).await.unwrap();
    session.commit().unwrap();
    assert_eq!(journal.store.get_pending(10).await.unwrap(), [small]);
}

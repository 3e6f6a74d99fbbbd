//! The harness of the store on sled.

use std::{sync::OnceLock, thread::sleep, time::Duration};

use chrono::{DateTime, Utc};
use outbox_conformance::{DurableHarness, Harness, InboxHarness, Skip, WakeHarness};
use outbox_sled::{
    SledInbox, SledOutbox, SledSession,
    sled::{self, Db, Tree},
};
use outbox_traits::{Event, EventId, OutboxStore, Retention, async_trait};
use tempfile::TempDir;

/// A data base in a directory of its own, with either retention. It is opened when it is first used: sled lets one in
/// at a time.
pub(crate) struct Sled<const DELETES: bool> {
    path: String,
    opened: OnceLock<Opened>,
    /// Removed in the end.
    _directory: Option<TempDir>,
}

struct Opened {
    db: Db,
    outbox: SledOutbox,
    inbox: SledInbox,
}

impl<const DELETES: bool> Sled<DELETES> {
    const RETENTION: Retention = if DELETES { Retention::DeleteOnDelivery } else { Retention::UntilPurged };

    fn new(path: String, directory: Option<TempDir>) -> Self {
        Self { path, opened: OnceLock::new(), _directory: directory }
    }

    fn opened(&self) -> &Opened {
        self.opened.get_or_init(|| {
            // Sled's threads, and a child process just started beside it, may hold the lock of a closed one for a
            // moment.
            let open = |_| sled::open(&self.path).map_err(|_| sleep(Duration::from_millis(10))).ok();
            let db = (0..200).find_map(open).expect("nobody has it open");
            Opened { outbox: Self::outbox(&db), inbox: SledInbox::open(&db).unwrap(), db }
        })
    }

    fn outbox(db: &Db) -> SledOutbox {
        SledOutbox::open(db).unwrap().with_retention(Self::RETENTION)
    }

    fn tree(&self, name: &str) -> Tree {
        self.opened().db.open_tree(name).unwrap()
    }
}

#[async_trait]
impl<const DELETES: bool> Harness for Sled<DELETES> {
    type Store = SledOutbox;
    type Transaction = SledSession;

    async fn open() -> Result<Self, Skip> {
        let directory = tempfile::tempdir().unwrap();
        Ok(Self::new(directory.path().to_str().unwrap().to_owned(), Some(directory)))
    }

    fn store(&self) -> &SledOutbox {
        &self.opened().outbox
    }

    fn retention(&self) -> Retention {
        Self::RETENTION
    }

    async fn begin(&self) -> SledSession {
        self.store().begin()
    }

    fn session<'a>(&self, transaction: &'a mut SledSession) -> &'a mut SledSession {
        transaction
    }

    async fn commit(&self, transaction: SledSession) {
        self.try_commit(transaction).await.unwrap();
    }

    async fn try_commit(&self, transaction: SledSession) -> outbox_traits::Result<()> {
        transaction.commit().await
    }

    async fn rollback(&self, transaction: SledSession) {
        transaction.rollback();
    }

    async fn write_row(&self, key: &str, session: &mut SledSession) {
        session.insert(&self.tree("business"), key, "").unwrap();
    }

    async fn rows(&self) -> Vec<String> {
        let keys = self.tree("business").iter().keys();
        keys.map(|key| String::from_utf8(key.unwrap().to_vec()).unwrap()).collect()
    }

    async fn insert_undecodable(&self, id: EventId) {
        self.store().save(&Event::new("suite.broken", ()).unwrap().with_id(id)).await.unwrap();
        let place = self.tree("outbox.ids").get(id.as_uuid().as_bytes()).unwrap().unwrap();
        self.tree("outbox.events").insert(place, r#"{"payload": tru"#).unwrap();
    }

    fn undecodable_content(&self) -> &'static str {
        r#"{"payload": tru"#
    }

    async fn insert_unreadable(&self, way: usize) -> bool {
        if way > 3 {
            return false;
        }
        let id = EventId::new();
        self.insert_undecodable(id).await;
        let (ids, rows, events) =
            (self.tree("outbox.ids"), self.tree("outbox.rows"), self.tree("outbox.events"));
        let place = ids.get(id.as_uuid().as_bytes()).unwrap().unwrap();
        match way {
            // No text.
            0 => drop(events.insert(place, vec![0xff, 0]).unwrap()),
            1 => drop(rows.insert(place, "{").unwrap()),
            // Nor is it known of what id they were.
            _ => {
                rows.insert(place, "").unwrap();
                ids.remove(id.as_uuid().as_bytes()).unwrap();
            }
        }
        true
    }

    async fn now(&self) -> DateTime<Utc> {
        self.store().now()
    }

    async fn advance(&self, by: Duration) {
        self.store().advance_clock(by);
        self.inbox().advance_clock(by);
    }
}

#[async_trait]
impl<const DELETES: bool> DurableHarness for Sled<DELETES> {
    fn location(&self) -> String {
        self.path.clone()
    }

    async fn reopen(location: &str) -> Self {
        Self::new(location.to_owned(), None)
    }
}

#[async_trait]
impl<const DELETES: bool> WakeHarness for Sled<DELETES> {
    async fn peer(&self) -> SledOutbox {
        Self::outbox(&self.opened().db)
    }

    async fn cut_connections(&self) {}
}

#[async_trait]
impl<const DELETES: bool> InboxHarness for Sled<DELETES> {
    type Inbox = SledInbox;

    fn inbox(&self) -> &SledInbox {
        &self.opened().inbox
    }
}

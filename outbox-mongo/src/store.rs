//! The store: what its methods mean.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bson::{Document, RawDocumentBuf, doc};
use mongodb::{
    ClientSession, Collection, Database,
    error::Error as DriverError,
    options::{CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern},
};
use outbox_traits::{Error, ErrorKind, Event, EventId, OutboxStore, Result, Saved, async_trait};
use tokio::sync::Mutex;

use crate::{
    document::{DELIVERED, NewDocument, PARKED, PENDING, SCHEDULED},
    error,
    indexes::{DELIVERED_KEYS, ID_KEYS, keys},
};

/// Documents that one command changes at most where the store looks for them first.
pub(crate) const BATCH: usize = 1000;
/// Ids in one command: far below what a command may be long.
const MAX_IDS: usize = 50_000;
/// Such ages are older than any delivery, and as milliseconds within what the server can subtract.
const OLDEST: Duration = Duration::from_hours(1000 * 365 * 24);
const DEFAULT_COLLECTION: &str = "outbox";
/// What is beside the events, by the end of its name.
const LEASES: &str = ".leases";
const KEYS: &str = ".keys";

/// An outbox in a collection of MongoDB.
///
/// A clone is cheap and is the same outbox. By default its collection is `outbox`, and what was delivered stays until
/// it is purged.
///
/// # What the server is asked for
/// Whatever the client's or the database's own settings are, the store reads from the primary with read concern
/// `majority` and writes with write concern `majority`: what it hands out, and what it says was stored or
/// acknowledged, a fail-over does not take back. In the caller's session the transaction's own settings hold, so
/// let those be `majority` too, which they are by default from MongoDB 5.0 on.
#[derive(Clone)]
pub struct MongoOutbox {
    pub(crate) database: Database,
    pub(crate) events: Collection<RawDocumentBuf>,
    /// One document for each claim whose leases are held, and the lock.
    pub(crate) leases: Collection<Document>,
    /// One document for each key with parked events.
    pub(crate) keys: Collection<Document>,
    /// Those of this process wait here, rather than to meet at the server.
    pub(crate) turn: Arc<Mutex<()>>,
    pub(crate) time_to_live: Option<Duration>,
    /// Whether the collection and its indexes were seen to be there.
    pub(crate) is_ready: Arc<AtomicBool>,
}

impl MongoOutbox {
    /// An outbox in the collection `outbox` of this database.
    #[must_use]
    pub fn new(database: &Database) -> Self {
        Self {
            database: database.clone(),
            events: collection(database, DEFAULT_COLLECTION),
            leases: collection(database, &format!("{DEFAULT_COLLECTION}{LEASES}")),
            keys: collection(database, &format!("{DEFAULT_COLLECTION}{KEYS}")),
            turn: Arc::default(),
            time_to_live: None,
            is_ready: Arc::default(),
        }
    }

    /// In another collection.
    ///
    /// # Errors
    /// [`Schema`](ErrorKind::Schema) if no collection can have that name: it is empty or too long, contains a NUL or
    /// a `$`, begins with `system.` or a dot, or ends with a dot, `.leases` or `.keys`.
    pub fn with_collection(self, name: &str) -> Result<Self> {
        // The server counts the name of the database and the dot between them; and there are those beside it.
        let room = 255 - self.database.name().len() - 1 - LEASES.len();
        let problem = if name.is_empty() {
            "is empty".to_owned()
        } else if name.contains(['\0', '$']) {
            "contains a NUL or a `$`".to_owned()
        } else if name.starts_with("system.") {
            "begins with `system.`, which is the server's own".to_owned()
        } else if name.starts_with('.') || name.ends_with('.') {
            "begins or ends with a dot".to_owned()
        } else if name.ends_with(LEASES) || name.ends_with(KEYS) {
            "ends like those beside an outbox".to_owned()
        } else if name.len() > room {
            format!("is longer than the {room} bytes that its database leaves it")
        } else {
            return Ok(Self {
                events: collection(&self.database, name),
                leases: collection(&self.database, &format!("{name}{LEASES}")),
                keys: collection(&self.database, &format!("{name}{KEYS}")),
                turn: Arc::default(),
                is_ready: Arc::default(),
                ..self
            });
        };
        let message = format!("the collection name {name:?} {problem}: choose another");
        Err(Error::new(ErrorKind::Schema, message))
    }

    /// Delivered events are deleted by the server itself, so long after their delivery, with a TTL index that never
    /// touches any other. It takes effect with the next [`migrate`](outbox_traits::SchemaStore::migrate), which also
    /// changes it, or removes it for an outbox without one. In whole seconds, rounded up; the server looks once a
    /// minute.
    #[must_use]
    pub fn with_ttl(self, after_delivery: Duration) -> Self {
        Self { time_to_live: Some(after_delivery), ..self }
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The name of the collection.
    #[must_use]
    pub fn collection_name(&self) -> &str {
        self.events.name()
    }

    pub(crate) fn namespace(&self) -> String {
        format!("{}.{}", self.database.name(), self.events.name())
    }

    pub(crate) fn error(&self, tried: &str) -> impl Fn(DriverError) -> Error {
        move |error| error::of(&self.namespace(), tried, error)
    }
}

/// A collection that is read and written as the store promises.
fn collection<T: Send + Sync>(database: &Database, name: &str) -> Collection<T> {
    let options = CollectionOptions::builder()
        .read_concern(ReadConcern::majority())
        .write_concern(WriteConcern::majority())
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .build();
    database.collection_with_options(name, options)
}

pub(crate) fn as_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// One more than is wanted: a batch of just as many leaves the cursor open on the server.
pub(crate) fn as_batch(limit: usize) -> u32 {
    u32::try_from(limit).map_or(u32::MAX >> 1, |limit| limit.saturating_add(1).min(u32::MAX >> 1))
}

/// All of them, before the first is written.
fn documents(events: &[Event]) -> Result<Vec<NewDocument>> {
    events.iter().map(NewDocument::of).collect()
}

const SAVE: &str = "save an event in";
const SAVE_ALL: &str = "save events in";
const FETCH: &str = "fetch pending events from";
const ACKNOWLEDGE: &str = "acknowledge events in";
const PURGE: &str = "purge delivered events from";

#[async_trait]
impl OutboxStore for MongoOutbox {
    type Session = ClientSession;

    async fn save(&self, event: &Event) -> Result<Saved> {
        let document = NewDocument::of(event)?;
        let failed = |error: Error| error.with_event(event.id());
        self.ready(SAVE).await.map_err(failed)?;
        match self.events.insert_one(&document.raw).await {
            Ok(_) => Ok(Saved::Stored),
            Err(error) if error::is_duplicate(&error) => Ok(Saved::Duplicate),
            Err(error) => Err(failed(self.error(SAVE)(error))),
        }
    }

    async fn save_all(&self, events: &[Event]) -> Result<Vec<Saved>> {
        if let [event] = events {
            return Ok(vec![self.save(event).await?]);
        }
        let documents = documents(events)?;
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        self.ready(SAVE_ALL).await?;
        self.insert_in_transaction(documents).await.map_err(self.error(SAVE_ALL))
    }

    async fn save_in_session(&self, event: &Event, session: &mut ClientSession) -> Result<Saved> {
        let document = NewDocument::of(event)?;
        let saved = self.insert_in_session(&[document], session, SAVE).await;
        Ok(saved.map_err(|error| error.with_event(event.id()))?[0])
    }

    async fn save_all_in_session(&self, events: &[Event], session: &mut ClientSession) -> Result<Vec<Saved>> {
        let documents = documents(events)?;
        self.insert_in_session(&documents, session, SAVE_ALL).await
    }

    async fn get_pending(&self, limit: usize) -> Result<Vec<Event>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.ready(FETCH).await?;
        self.fetch(limit).await.map_err(self.error(FETCH))
    }

    async fn acknowledge(&self, id: EventId) -> Result<()> {
        self.acknowledge_all(&[id]).await
    }

    async fn acknowledge_all(&self, ids: &[EventId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        self.ready(ACKNOWLEDGE).await?;
        for ids in ids.chunks(MAX_IDS) {
            let ids: Vec<String> = ids.iter().map(EventId::to_string).collect();
            let open = [PENDING, SCHEDULED, PARKED].as_slice();
            let filter = doc! { "eventId": { "$in": &ids }, "status": { "$in": open } };
            let delivered = doc! {
                "$set": { "status": DELIVERED }, "$currentDate": { "deliveredAt": true },
                "$unset": { "retryAt": "" },
            };
            let update = self.events.update_many(filter, delivered).hint(keys(ID_KEYS));
            update.await.map_err(self.error(ACKNOWLEDGE))?;
            let beside = self.beside().await.map_err(self.error(ACKNOWLEDGE))?;
            if beside.has_keys || !beside.leased.is_empty() {
                self.forget(&ids).await.map_err(self.error(ACKNOWLEDGE))?;
            }
        }
        Ok(())
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        if older_than > OLDEST {
            return Ok(0);
        }
        self.ready(PURGE).await?;
        let mut expired = doc! { "status": DELIVERED };
        if !older_than.is_zero() {
            // Rounded up: never early.
            let millis = i64::try_from(older_than.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
            expired.insert("deliveredAt", doc! { "$type": "date" });
            expired.insert("$expr", doc! { "$lte": ["$deliveredAt", { "$subtract": ["$$NOW", millis] }] });
        }
        let mut purged = 0;
        loop {
            let ids = self.find_ids(expired.clone(), DELIVERED_KEYS).await.map_err(self.error(PURGE))?;
            if !ids.is_empty() {
                let filter = doc! { "_id": { "$in": &ids }, "status": DELIVERED };
                purged += self.events.delete_many(filter).await.map_err(self.error(PURGE))?.deleted_count;
            }
            if ids.len() < BATCH {
                return Ok(purged);
            }
        }
    }
}

impl fmt::Debug for MongoOutbox {
    // Not the client: its options hold the address, and perhaps the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoOutbox").field("collection", &self.namespace()).finish_non_exhaustive()
    }
}

//! The store: what its methods mean.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::Duration,
};

use bson::{Document, RawDocumentBuf, doc};
use mongodb::{ClientSession, Collection, Database, error::Error as DriverError};
use outbox_traits::{Error, Event, EventId, OutboxStore, Result, Retention, Saved, async_trait};
use tokio::sync::Mutex;

use crate::{
    claims::{Held, Passed, Turn},
    collection::{self, KEYS, LEASES},
    document::{DELIVERED, NewDocument, PENDING, SCHEDULED},
    error,
    indexes::{DELIVERED_KEYS, ID_KEYS, keys},
    purge,
};

/// Documents that one command changes at most where the store looks for them first.
pub(crate) const BATCH: usize = 1000;
/// All that a question is for in one answer, up to its 16 MiB: a batch of just as many would leave the cursor open on the
/// server, which counts in 32 bits with a sign.
pub(crate) const ONE_ANSWER: u32 = 2_000_000_000;
/// What one command is about, roughly: it is a document itself, and ends at 16 MiB.
pub(crate) const COMMAND_BYTES: usize = 12_000_000;
/// Ids in one command: far below what a command may be long.
const MAX_IDS: usize = 50_000;
const DEFAULT_COLLECTION: &str = "outbox";

/// An outbox in a collection of MongoDB.
///
/// A clone is cheap and is the same outbox. By default its collection is `outbox`, and what was delivered
/// [stays until it is purged](Retention::UntilPurged).
///
/// # What the server is asked for
/// Whatever the client's or the database's own settings are, the store reads from the primary with read concern
/// `majority` and writes with write concern `majority`: what it hands out, and what it says was stored or
/// acknowledged, a fail-over does not take back. Only that a lease is gone whose events are marked as delivered is
/// written with less: who finds it again looks once more. In the caller's session the transaction's own settings hold, so
/// let those be `majority` too, which they are by default from MongoDB 5.0 on.
#[derive(Clone)]
pub struct MongoOutbox {
    pub(crate) database: Database,
    pub(crate) events: Collection<RawDocumentBuf>,
    /// One document for each claim whose leases are held, and the lock.
    pub(crate) leases: Collection<Document>,
    /// One document for each key with parked events.
    pub(crate) keys: Collection<Document>,
    /// Those of this process wait here, rather than to meet at the server, and take over the session that is theirs.
    pub(crate) turn: Arc<Mutex<Turn>>,
    pub(crate) retention: Retention,
    pub(crate) time_to_live: Option<Duration>,
    pub(crate) seen: Arc<Seen>,
}

/// What was seen of a collection.
#[derive(Default)]
pub(crate) struct Seen {
    /// Whether the collection and its indexes were seen to be there.
    pub(crate) is_ready: AtomicBool,
    /// Whether the last claim found nothing.
    pub(crate) is_idle: AtomicBool,
    /// How many events were leased when it was last looked: as many more are to be read to get past them.
    pub(crate) leased: AtomicUsize,
    pub(crate) passed: Passed,
}

impl MongoOutbox {
    /// An outbox in the collection `outbox` of this database.
    #[must_use]
    pub fn new(database: &Database) -> Self {
        Self::in_collection(database, DEFAULT_COLLECTION)
    }

    fn in_collection(database: &Database, name: &str) -> Self {
        let leases = collection::open(database, &format!("{name}{LEASES}"));
        Self {
            database: database.clone(),
            events: collection::open(database, name),
            turn: Turn::of(&leases),
            leases,
            keys: collection::open(database, &format!("{name}{KEYS}")),
            retention: Retention::default(),
            time_to_live: None,
            seen: Arc::default(),
        }
    }

    /// In another collection.
    ///
    /// # Errors
    /// [`Schema`](outbox_traits::ErrorKind::Schema) if no collection can have that name: it is empty or too long, contains a NUL or
    /// a `$`, begins with `system.` or a dot, or ends with a dot, `.leases` or `.keys`.
    pub fn with_collection(self, name: &str) -> Result<Self> {
        collection::check_name(&self.database, name)?;
        let Self { database, retention, time_to_live, .. } = self;
        Ok(Self { retention, time_to_live, ..Self::in_collection(&database, name) })
    }

    /// What becomes of delivered events. By default they stay until they are purged.
    #[must_use]
    pub fn with_retention(self, retention: Retention) -> Self {
        Self { retention, ..self }
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

    /// Makes delivered what is still to be delivered of these.
    async fn deliver(&self, ids: &[String]) -> Result<(), DriverError> {
        let beside = self.beside().await?;
        let (leased, free) = beside.part(ids);
        // What others wait for is delivered in one with the end of that wait, or not at all: nobody would come back to
        // end it.
        let is_waited_for = beside.has_keys || !leased.is_empty();
        if !free.is_empty() {
            // Nor is what was parked since.
            let these = doc! { "eventId": { "$in": free }, "status": { "$in": [PENDING, SCHEDULED] } };
            self.past_stalled(self.mark_acknowledged(these, None)).await?;
        }
        if is_waited_for {
            return self.deliver_waited_for(ids, &leased).await;
        }
        // A claim that has read them before is looked for after this, or looks again.
        if self.outdate_claims().await? {
            let beside = self.beside().await?;
            if beside.has_keys || !beside.part(ids).0.is_empty() {
                self.deliver_waited_for(ids, &leased).await?;
            }
        }
        Ok(())
    }

    /// In a transaction or each by itself.
    pub(crate) async fn mark_acknowledged(
        &self,
        these: Document,
        held: Option<&mut Held<'_>>,
    ) -> Result<(), DriverError> {
        match self.retention {
            Retention::UntilPurged => {
                let delivered = doc! {
                    "$set": { "status": DELIVERED }, "$currentDate": { "deliveredAt": true },
                    "$unset": { "retryAt": "" },
                };
                let update = self.events.update_many(these, delivered).hint(keys(ID_KEYS));
                match held {
                    Some(held) => update.session(&mut *held.session).await?,
                    None => update.await?,
                };
            }
            Retention::DeleteOnDelivery => {
                let delete = self.events.delete_many(these).hint(keys(ID_KEYS));
                match held {
                    Some(held) => delete.session(&mut *held.session).await?,
                    None => delete.await?,
                };
            }
        }
        Ok(())
    }

    pub(crate) fn namespace(&self) -> String {
        collection::namespace(&self.database, self.events.name())
    }

    pub(crate) fn error(&self, tried: &str) -> impl Fn(DriverError) -> Error {
        move |error| error::of(&self.namespace(), tried, error)
    }
}

pub(crate) fn as_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Cuts a list into runs that have no more than so many items and bytes; a long one is a run of its own.
pub(crate) fn runs<T>(
    items: &[T],
    max_items: usize,
    max_bytes: usize,
    bytes_of: impl Fn(&T) -> usize,
) -> Vec<&[T]> {
    let mut runs = Vec::new();
    for items in items.chunks(max_items) {
        let mut bytes = 0;
        runs.extend(items.chunk_by(|item, next| {
            bytes += bytes_of(item);
            let has_room = bytes + bytes_of(next) <= max_bytes;
            if !has_room {
                bytes = 0;
            }
            has_room
        }));
    }
    runs
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
        self.insert_in_transaction(&documents).await.map_err(self.error(SAVE_ALL))
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
            self.deliver(&ids).await.map_err(self.error(ACKNOWLEDGE))?;
        }
        Ok(())
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        self.ready(PURGE).await?;
        let delivered = doc! { "status": DELIVERED };
        let purged = purge::purge(&self.events, delivered, "deliveredAt", DELIVERED_KEYS, older_than);
        purged.await.map_err(self.error(PURGE))
    }
}

impl fmt::Debug for MongoOutbox {
    // Not the client: its options hold the address, and perhaps the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoOutbox").field("collection", &self.namespace()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(items: &[usize], max_items: usize, max_bytes: usize) -> Vec<usize> {
        runs(items, max_items, max_bytes, |bytes| *bytes).iter().map(|run| run.len()).collect()
    }

    #[test]
    fn a_run_has_as_many_items_and_bytes_as_it_may_and_a_long_item_is_one_of_its_own() {
        assert_eq!(lengths(&[1; 5], 2, usize::MAX), [2, 2, 1]);
        assert_eq!(lengths(&[1; 4], 2, usize::MAX), [2, 2]);
        assert_eq!(lengths(&[5; 6], 9, 15), [3, 3]);
        assert_eq!(lengths(&[5; 6], 9, 14), [2, 2, 2]);
        assert_eq!(lengths(&[1, 1, 50, 50, 1, 1], 9, 10), [2, 1, 1, 2]);
        assert_eq!(lengths(&[50, 1], 9, 10), [1, 1]);
        assert!(lengths(&[], 2, 2).is_empty());
    }
}

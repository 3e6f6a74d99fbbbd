//! The inbox: what each consumer has processed.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bson::{Document, RawDocumentBuf, doc};
use mongodb::{ClientSession, Collection, Database, error::Error as DriverError};
use outbox_traits::{
    Error, ErrorKind, EventId, InboxStore, Receipt, Result, SchemaReport, SchemaStore, async_trait,
    check_consumer,
};

use crate::{
    collection, error,
    indexes::{Index, PROCESSED_KEYS, seconds},
    purge,
    schema::{MIGRATE, VERIFY},
    session::is_in_transaction,
};

const DEFAULT_COLLECTION: &str = "inbox";

const PROCESS: &str = "mark an event as processed in";
const PURGE: &str = "purge marks from";

/// An inbox in a collection of MongoDB: what each consumer has processed.
///
/// A clone is cheap and is the same inbox. By default its collection is `inbox`, and marks stay until they are
/// purged. A mark is a document with the `_id` `{ consumer, event }`, a text and a UUID, and with `processedAt` by the
/// server's clock.
///
/// ```no_run
/// use mongodb::{Client, bson::{Document, doc}};
/// use outbox_mongo::{MongoInbox, mongodb};
/// use outbox_traits::{Event, InboxStore, SchemaStore};
///
/// # async fn example(event: Event) -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::with_uri_str("mongodb://localhost/?replicaSet=rs0").await?;
/// let billing = client.database("billing");
/// let inbox = MongoInbox::new(&billing);
/// inbox.migrate().await?;
///
/// let mut session = client.start_session().await?;
/// session.start_transaction().await?;
/// if inbox.process_once(&mut session, "invoices", event.id()).await?.is_new() {
///     let invoices = billing.collection::<Document>("invoices");
///     invoices.insert_one(doc! { "order": event.meta().resource_id.clone() }).session(&mut session).await?;
/// }
/// session.commit_transaction().await?;
/// # Ok(())
/// # }
/// ```
///
/// Of two transactions that are at the same event at once, the second to come gets a
/// [`Conflict`](ErrorKind::Conflict) with the driver's label `TransientTransactionError`: run it again, as the driver's
/// helper does with [`driver_error`](crate::driver_error). So does one that began before the first committed.
#[derive(Clone)]
pub struct MongoInbox {
    database: Database,
    marks: Collection<RawDocumentBuf>,
    time_to_live: Option<Duration>,
    /// Whether the collection and its index were seen to be there.
    is_ready: Arc<AtomicBool>,
}

impl MongoInbox {
    /// An inbox in the collection `inbox` of this database.
    #[must_use]
    pub fn new(database: &Database) -> Self {
        Self::in_collection(database, DEFAULT_COLLECTION)
    }

    fn in_collection(database: &Database, name: &str) -> Self {
        Self {
            database: database.clone(),
            marks: collection::open(database, name),
            time_to_live: None,
            is_ready: Arc::default(),
        }
    }

    /// In another collection.
    ///
    /// # Errors
    /// [`Schema`](ErrorKind::Schema) if no collection can have that name, by the same rules as for an
    /// [outbox](crate::MongoOutbox::with_collection).
    pub fn with_collection(self, name: &str) -> Result<Self> {
        collection::check_name(&self.database, name)?;
        let Self { database, time_to_live, .. } = self;
        Ok(Self { time_to_live, ..Self::in_collection(&database, name) })
    }

    /// Marks are deleted by the server itself, so long after they were made, with a TTL index: choose more than the
    /// longest after which an event may be delivered again. It takes effect with the next
    /// [`migrate`](SchemaStore::migrate), which also changes it, or removes it for an inbox without one. In whole
    /// seconds, rounded up; the server looks once a minute.
    #[must_use]
    pub fn with_ttl(self, after_processing: Duration) -> Self {
        Self { time_to_live: Some(after_processing), ..self }
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The name of the collection.
    #[must_use]
    pub fn collection_name(&self) -> &str {
        self.marks.name()
    }

    fn namespace(&self) -> String {
        collection::namespace(&self.database, self.marks.name())
    }

    fn error(&self, tried: &str) -> impl Fn(DriverError) -> Error {
        move |error| error::of(&self.namespace(), tried, error)
    }

    /// Refuses work on a collection that is not there, or that cannot be purged. Asked until it is there.
    async fn ready(&self, tried: &str) -> Result<()> {
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let found =
            collection::indexes(&self.database, self.marks.name()).await.map_err(self.error(tried))?;
        let index = Index::of(PROCESSED_KEYS);
        if !index.is_among(&found) {
            let missing = collection::missing(&self.database, self.marks.name(), &index);
            let message = format!("could not {tried} collection `{}`: {missing}", self.namespace());
            return Err(Error::new(ErrorKind::Schema, message));
        }
        self.is_ready.store(true, Ordering::Release);
        Ok(())
    }

    /// There is one index, whether the server deletes by it or not: two of the same keys cannot be.
    fn index(&self) -> Index {
        let index = Index::of(PROCESSED_KEYS);
        match self.time_to_live {
            Some(after) => index.with_seconds(after),
            None => index,
        }
    }

    async fn mark(
        &self,
        session: &mut ClientSession,
        consumer: &str,
        event: EventId,
    ) -> Result<Receipt, DriverError> {
        let this = doc! { "_id": { "consumer": consumer, "event": bson::Uuid::from_bytes(*event.as_uuid().as_bytes()) } };
        // One that is there keeps its time, and so is not written.
        let first = doc! { "$ifNull": ["$processedAt", "$$NOW"] };
        let mark = vec![doc! { "$set": { "processedAt": first } }];
        let marked = self.marks.update_one(this, mark).upsert(true).session(session).await?;
        Ok(if marked.upserted_id.is_some() { Receipt::New } else { Receipt::Duplicate })
    }

    async fn create_index(&self) -> Result<(), DriverError> {
        let (database, name) = (&self.database, self.marks.name());
        let mut found = collection::indexes(database, name).await?;
        let wanted = self.index();
        let is_old = |found: &Document| wanted.is_of(found) && seconds(found) != wanted.seconds;
        if let Some(old) = found.iter().position(is_old) {
            let old = found.swap_remove(old);
            let old_name = old.get_str("name")?;
            if seconds(&old).is_some() && wanted.seconds.is_some() {
                return collection::change_seconds(database, name, old_name, &wanted).await;
            }
            collection::drop_index(database, name, old_name).await?;
        }
        collection::create_indexes(database, name, &found, [wanted]).await
    }

    async fn problems(&self) -> Result<Vec<String>, DriverError> {
        let mut problems: Vec<String> =
            collection::deployment_problem(&self.database).await?.into_iter().collect();
        if let Some(problem) =
            collection::problem(&self.database, self.marks.name(), &collection::INBOX).await?
        {
            problems.push(problem);
            return Ok(problems);
        }
        let found = collection::indexes(&self.database, self.marks.name()).await?;
        let wanted = self.index();
        if !wanted.is_among(&found) {
            problems.push(collection::missing(&self.database, self.marks.name(), &wanted));
        }
        let of_ttl = wanted.seconds.is_some().then_some(&wanted);
        problems.extend(collection::ttl_problems(&self.namespace(), &found, of_ttl, PROCESSED_KEYS));
        Ok(problems)
    }
}

#[async_trait]
impl InboxStore for MongoInbox {
    type Session = ClientSession;

    async fn process_once(
        &self,
        session: &mut ClientSession,
        consumer: &str,
        event: EventId,
    ) -> Result<Receipt> {
        check_consumer(consumer)?;
        let failed = |error: Error| error.with_event(event);
        self.ready(PROCESS).await.map_err(failed)?;
        let is_open = is_in_transaction(session).await;
        if !is_open.map_err(|error| failed(self.error(PROCESS)(error)))? {
            let message = format!(
                "could not {PROCESS} collection `{}`: the session has no open transaction, and so the mark would \
                 not share the fate of the work; call `start_transaction` first",
                self.namespace()
            );
            return Err(failed(Error::new(ErrorKind::Backend, message)));
        }
        let marked = self.mark(session, consumer, event).await;
        marked.map_err(|error| failed(self.error(PROCESS)(error)))
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        self.ready(PURGE).await?;
        let purged = purge::purge(&self.marks, Document::new(), PROCESSED_KEYS, PROCESSED_KEYS, older_than);
        purged.await.map_err(self.error(PURGE))
    }
}

#[async_trait]
impl SchemaStore for MongoInbox {
    async fn migrate(&self) -> Result<()> {
        collection::create(&self.database, self.marks.name(), &collection::INBOX, self.error(MIGRATE))
            .await?;
        self.create_index().await.map_err(self.error(MIGRATE))
    }

    async fn verify(&self) -> Result<SchemaReport> {
        self.problems().await.map(SchemaReport::new).map_err(self.error(VERIFY))
    }
}

impl fmt::Debug for MongoInbox {
    // Not the client: its options hold the address, and perhaps the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoInbox").field("collection", &self.namespace()).finish_non_exhaustive()
    }
}

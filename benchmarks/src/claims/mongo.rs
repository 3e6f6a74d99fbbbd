//! Claims on `MongoDB`.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use chrono::Utc;
use outbox_mongo::{
    MongoOutbox,
    mongodb::{
        Client, Collection, Database, IndexModel,
        bson::{DateTime, Document, doc},
        options::IndexOptions,
    },
};
use outbox_traits::{
    ClaimStore, OutboxStore as _, OutboxStoreExt as _, Retention, Saved, SchemaStore as _, async_trait,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Amounts,
    measure::{self, Condition, Measured, Subject, Tables},
    queue::{Queue, Table, Taker, Way, all_new, events, fill_store, orders_by_fill},
};
use crate::{
    delivery::Poller,
    hand_written,
    job::{BATCH, Order},
    place::{Place, own_name, unless_interrupted},
};

/// The address of the server.
pub(crate) fn server() -> Result<String> {
    Place::server("OUTBOX_TEST_MONGODB_URL")
}

/// Measures.
pub(super) async fn measure(amounts: Amounts) -> Result<Measured> {
    let client = Client::with_uri_str(server()?).await?;
    let names =
        ["outbox", "hand"].map(|side| Condition::ALL.map(|c| own_name(&format!("{side}_{}", c.name()))));
    let outcome = unless_interrupted(async {
        let mut tables = Vec::new();
        for (index, condition) in Condition::ALL.into_iter().enumerate() {
            let [outbox, by_hand] = names.each_ref().map(|names| client.database(&names[index]));
            let outbox = Outbox::new(&client, &outbox).await?;
            let handle =
                |retention| Arc::new(outbox.store.clone().with_retention(retention)) as Arc<dyn ClaimStore>;
            let handles = vec![
                (Way::KEPT, handle(Retention::UntilPurged)),
                (Way::DELETED, handle(Retention::DeleteOnDelivery)),
            ];
            let by_hand = if condition.has_by_hand() {
                let by_hand = ByHand::new(&client, &by_hand).await?;
                let way = Way { aim: Some(30.0), ..Way::ONE_BY_ONE };
                let taker: Arc<dyn Taker> = Arc::new(OneByOne(by_hand.events.clone()));
                Some(Queue::by_hand(by_hand, vec![(way, taker)]))
            } else {
                None
            };
            tables.push(Tables { condition, outbox: Queue::outbox(outbox, handles), by_hand });
        }
        let description = describe(&client).await?;
        measure::run(Subject { title: "MongoDB", description, has_saves: true, tables }, amounts).await
    })
    .await;
    remove(&client, names.as_flattened()).await;
    outcome
}

/// Removes data bases.
pub(crate) async fn remove(client: &Client, names: &[String]) {
    for name in names {
        if let Err(error) = client.database(name).drop().await {
            eprintln!("bench: {name} could not be removed: {error}");
        }
    }
}

/// Its version, and what a commit waits for.
pub(crate) async fn describe(client: &Client) -> Result<String> {
    let admin = client.database("admin");
    let build = admin.run_command(doc! { "buildInfo": 1 }).await?;
    let hello = admin.run_command(doc! { "hello": 1 }).await?;
    let members = hello.get_array("hosts").map_or(0, Vec::len);
    Ok(format!(
        "MongoDB {}, replica set of {members}, writes acknowledged by the majority",
        build.get_str("version")?
    ))
}

/// The outbox.
pub(crate) struct Outbox {
    client: Client,
    pub(crate) store: MongoOutbox,
}

impl Outbox {
    pub(crate) async fn new(client: &Client, database: &Database) -> Result<Self> {
        database.create_collection("orders").await?;
        let store = MongoOutbox::new(database);
        store.migrate().await?;
        Ok(Self { client: client.clone(), store })
    }
}

#[async_trait(?Send)]
impl Table for Outbox {
    async fn save_one(&self, order: &Order) -> Result<()> {
        let mut session = self.client.start_session().await?;
        session.start_transaction().await?;
        let orders = self.store.database().collection("orders");
        orders.insert_one(business(order)).session(&mut session).await?;
        let saved = self.store.enqueue(order.event()?, &mut session).await?;
        session.commit_transaction().await?;
        all_new(&[saved])
    }

    async fn save_batch(&self, orders: &[Order]) -> Result<()> {
        let events = events(orders)?;
        let mut session = self.client.start_session().await?;
        session.start_transaction().await?;
        let saved: Vec<Saved> = self.store.save_all_in_session(&events, &mut session).await?;
        session.commit_transaction().await?;
        all_new(&saved)
    }

    async fn fill(&self, delivered: u32) -> Result<()> {
        fill_store(&self.store, delivered).await
    }

    async fn clear(&self) -> Result<()> {
        let database = self.store.database();
        for name in ["orders", "outbox", "outbox.leases", "outbox.keys"] {
            database.collection::<()>(name).drop().await?;
        }
        database.create_collection("orders").await?;
        // A handle of its own, which has not seen yet that the collection is there.
        Ok(MongoOutbox::new(database).migrate().await?)
    }

    async fn tidy(&self) -> Result<()> {
        Ok(())
    }
}

fn business(order: &Order) -> Document {
    doc! { "_id": order.number, "customer": order.customer(), "total": order.total() }
}

/// What a team writes for itself.
pub(crate) struct ByHand {
    client: Client,
    database: Database,
    events: Collection<Stored>,
}

/// Its event.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    event_id: String,
    #[serde(rename = "type")]
    kind: String,
    payload: Value,
    meta: hand_written::Meta,
    status: String,
    created_at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivered_at: Option<DateTime>,
}

impl Stored {
    fn of(order: &Order) -> Result<Self> {
        let hand_written::Event { id, kind, payload, meta } = hand_written::Event::of(order)?;
        let created_at = DateTime::from_millis(Utc::now().timestamp_millis());
        let (event_id, status) = (id.to_string(), "pending".to_owned());
        Ok(Self { event_id, kind, payload, meta, status, created_at, delivered_at: None })
    }
}

impl ByHand {
    pub(crate) async fn new(client: &Client, database: &Database) -> Result<Self> {
        let by_hand = Self {
            client: client.clone(),
            database: database.clone(),
            events: database.collection("events"),
        };
        by_hand.make().await?;
        Ok(by_hand)
    }

    /// Who looks for events now and then.
    pub(crate) fn poller(&self) -> Poll {
        Poll(self.events.clone())
    }

    async fn make(&self) -> Result<()> {
        self.database.create_collection("orders").await?;
        let unique = IndexOptions::builder().unique(true).build();
        let id = IndexModel::builder().keys(doc! { "eventId": 1 }).options(unique).build();
        let pending = IndexModel::builder().keys(doc! { "status": 1, "createdAt": 1 }).build();
        self.events.create_indexes([id, pending]).await?;
        Ok(())
    }
}

#[async_trait(?Send)]
impl Table for ByHand {
    async fn save_one(&self, order: &Order) -> Result<()> {
        let mut session = self.client.start_session().await?;
        session.start_transaction().await?;
        self.database.collection("orders").insert_one(business(order)).session(&mut session).await?;
        self.events.insert_one(Stored::of(order)?).session(&mut session).await?;
        Ok(session.commit_transaction().await?)
    }

    async fn save_batch(&self, orders: &[Order]) -> Result<()> {
        let events = orders.iter().map(Stored::of).collect::<Result<Vec<_>>>()?;
        let mut session = self.client.start_session().await?;
        session.start_transaction().await?;
        self.events.insert_many(events).session(&mut session).await?;
        Ok(session.commit_transaction().await?)
    }

    async fn fill(&self, delivered: u32) -> Result<()> {
        for orders in orders_by_fill(delivered) {
            let delivered = |order: &Order| {
                let event = Stored::of(order)?;
                let delivered_at = Some(event.created_at);
                Ok(Stored { status: "delivered".to_owned(), delivered_at, ..event })
            };
            self.events.insert_many(orders.iter().map(delivered).collect::<Result<Vec<_>>>()?).await?;
        }
        Ok(())
    }

    async fn clear(&self) -> Result<()> {
        self.database.drop().await?;
        self.make().await
    }

    async fn tidy(&self) -> Result<()> {
        Ok(())
    }
}

/// Finds what is pending, the oldest first, and marks each as delivered by itself.
#[derive(Debug)]
struct OneByOne(Collection<Stored>);

#[async_trait]
impl Taker for OneByOne {
    async fn take(&self, limit: usize) -> Result<usize> {
        let events = pending(&self.0, limit).await?;
        for event in &events {
            self.0.update_one(doc! { "eventId": &event.event_id }, delivered()).await?;
        }
        Ok(events.len())
    }
}

/// Looks for events now and then, and marks all that it finds as delivered at once.
pub(crate) struct Poll(Collection<Stored>);

#[async_trait]
impl Poller for Poll {
    async fn poll(&self, handle: &(dyn Fn(i64) + Send + Sync)) -> Result<()> {
        let events = pending(&self.0, BATCH).await?;
        if events.is_empty() {
            return Ok(());
        }
        for event in &events {
            handle(event.payload["number"].as_i64().context("an order has a number")?);
        }
        let ids: Vec<_> = events.iter().map(|event| event.event_id.as_str()).collect();
        self.0.update_many(doc! { "eventId": { "$in": ids } }, delivered()).await?;
        Ok(())
    }
}

/// The first pending events.
async fn pending(events: &Collection<Stored>, limit: usize) -> Result<Vec<Stored>> {
    let found = events.find(doc! { "status": "pending" }).sort(doc! { "createdAt": 1 });
    let mut found = found.limit(i64::try_from(limit)?).await?;
    let mut events = Vec::new();
    while found.advance().await? {
        events.push(found.deserialize_current().context("an event by hand cannot be read")?);
    }
    Ok(events)
}

/// The change that marks an event as delivered.
fn delivered() -> Document {
    let now = DateTime::from_millis(Utc::now().timestamp_millis());
    doc! { "$set": { "status": "delivered", "deliveredAt": now } }
}

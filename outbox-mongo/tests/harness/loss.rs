//! What somebody has dropped beside the events.

use std::time::Duration;

use mongodb::{
    Collection,
    bson::{Document, Timestamp, doc},
};
use outbox_conformance::{Loss, LossHarness};
use outbox_mongo::mongodb;
use outbox_traits::{Claim, ClaimStore, Event, Leased, OutboxStore, Settlement, async_trait};
use serde_json::json;

use super::MongoOf;

#[async_trait]
impl<const DELETES: bool> LossHarness for MongoOf<DELETES> {
    async fn lose(&self, way: usize) -> Option<Loss> {
        let keys: Collection<Document> = self.database().collection("outbox.keys");
        let drop_all = async || keys.drop().await.unwrap();
        let mut loss = Loss { name: "outbox.keys", is_seen_by_claims: true, keeps_what_waits: true };
        match way {
            // So a `migrate` left it that made an empty collection.
            0 => {
                keys.delete_many(doc! {}).await.unwrap();
                loss.is_seen_by_claims = false;
            }
            1 => drop_all().await,
            // And so one that got no further.
            2 => {
                drop_all().await;
                self.database().create_collection("outbox.keys").await.unwrap();
            }
            // A worker makes it by the way, for what it parks since.
            3 => {
                drop_all().await;
                self.park_others(1).await;
                assert_eq!(keys.count_documents(doc! {}).await.unwrap(), 1);
            }
            4 => {
                loss.name = "status_1_seq_1";
                self.outbox().drop_index(loss.name).await.unwrap();
            }
            5 => {
                loss = Loss { name: "outbox.leases", is_seen_by_claims: false, ..loss };
                self.database().collection::<Document>(loss.name).drop().await.unwrap();
            }
            // A `migrate` that was putting it back got no further than what came first.
            6 => {
                // As many as are looked at to see whether anything is lost.
                self.park_others(100).await;
                self.put_others_first().await;
                let known = self.outbox().distinct("partitionHash", of_others()).await.unwrap();
                keys.delete_many(doc! { "_id": { "$nin": known } }).await.unwrap();
                keys.drop_indexes().await.unwrap();
            }
            _ => return None,
        }
        Some(loss)
    }
}

impl<const DELETES: bool> MongoOf<DELETES> {
    /// Events of keys of their own, which wait for another try.
    async fn park_others(&self, count: usize) {
        let other =
            |index| Event::new(OTHER, json!(1)).unwrap().with_partition_key(format!("{OTHER} {index}"));
        self.store.save_all(&(0..count).map(other).collect::<Vec<_>>()).await.unwrap();
        let claim = Claim::new("w").with_types([OTHER]).with_limit(count);
        let leased = self.store.claim(&claim).await.unwrap();
        assert_eq!(leased.len(), count);
        let retry = |one: &Leased| Settlement::retry(one.lease, Duration::ZERO, "failed");
        let settled = self.store.settle(&leased.iter().map(retry).collect::<Vec<_>>()).await.unwrap();
        assert!(settled.iter().all(Result::is_ok));
    }

    /// Before all events that anybody saves.
    async fn put_others_first(&self) {
        for (place, id) in (1..).zip(self.outbox().distinct("_id", of_others()).await.unwrap()) {
            let first = doc! { "$set": { "seq": Timestamp { time: 1_000_000, increment: place } } };
            self.outbox().update_one(doc! { "_id": id }, first).await.unwrap();
        }
    }
}

/// The type of what is parked beside the events of the suite.
const OTHER: &str = "other";

fn of_others() -> Document {
    doc! { "type": OTHER }
}

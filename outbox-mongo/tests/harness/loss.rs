//! What somebody has dropped beside the events.

use std::time::Duration;

use mongodb::{
    Collection,
    bson::{Document, doc},
};
use outbox_conformance::{Loss, LossHarness};
use outbox_mongo::mongodb;
use outbox_traits::{Claim, ClaimStore, Event, OutboxStore, Settlement, async_trait};
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
                self.park_another().await;
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
            _ => return None,
        }
        Some(loss)
    }
}

impl<const DELETES: bool> MongoOf<DELETES> {
    /// An event of a key of its own, which waits for another try.
    async fn park_another(&self) {
        let event = Event::new("another", json!(1)).unwrap().with_partition_key("another");
        self.store.save(&event).await.unwrap();
        let leased = self.store.claim(&Claim::new("w").with_types(["another"])).await.unwrap();
        let retry = Settlement::retry(leased[0].lease, Duration::ZERO, "failed");
        assert!(self.store.settle(&[retry]).await.unwrap()[0].is_ok());
    }
}

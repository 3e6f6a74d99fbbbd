//! Dead letters that hold their keys, and are requeued or discarded.

use std::collections::{HashMap, HashSet};

use bson::{Bson, Document, doc};
use mongodb::error::Error as DriverError;

use super::{Conflicts, Held};
use crate::{
    MongoOutbox,
    dead_letter::Change,
    document::{self, HOLDS_KEY, Key, PENDING},
    indexes::keys,
};

impl MongoOutbox {
    /// Requeues or discards those of these dead letters that hold their keys, and returns how many.
    pub(crate) async fn change_holders(
        &self,
        these: &Document,
        index: &str,
        change: Change,
    ) -> Result<u64, DriverError> {
        let mut holders = these.clone();
        holders.insert(HOLDS_KEY, true);
        let any = self.events.find_one(holders.clone()).projection(doc! { "_id": 1 }).hint(keys(index));
        if any.await?.is_none() {
            return Ok(0);
        }
        let mut conflicts = Conflicts::new();
        loop {
            let changed = async {
                let mut turn = self.turn.lock().await;
                let mut held = self.hold(&mut turn).await?;
                let changed = self.change_holders_once(&mut held, &holders, index, change).await;
                held.end(changed).await
            };
            match changed.await {
                Ok(changed) => return Ok(changed),
                Err(error) => conflicts.wait(self, error).await?,
            }
        }
    }

    async fn change_holders_once(
        &self,
        held: &mut Held<'_>,
        holders: &Document,
        index: &str,
        change: Change,
    ) -> Result<u64, DriverError> {
        let find = self.events.find(holders.clone()).hint(keys(index));
        let find = find.projection(doc! { "eventId": 1, "partitionHash": 1 });
        let mut cursor = find.session(&mut *held.session).await?;
        let mut gone: HashMap<Key, HashSet<String>> = HashMap::new();
        let mut ids = Vec::new();
        while cursor.advance(&mut *held.session).await? {
            let raw = cursor.current();
            ids.extend(raw.get("_id")?.map(Bson::try_from).transpose()?);
            // One that another program wrote may have no id. It holds nothing, and is changed like any other.
            let event = raw.get_str("eventId").unwrap_or_default().to_owned();
            gone.entry(document::key(raw)).or_default().insert(event);
        }
        if gone.is_empty() {
            return Ok(0);
        }
        let mut left = self.holders(held, &gone.keys().cloned().collect()).await?;
        left.retain(|key, holders| {
            holders.retain(|event| !gone[key].contains(event));
            !holders.is_empty()
        });
        // What waits for a retry, or for another, it waits for still.
        let free: Vec<Key> = gone.into_keys().filter(|key| !left.contains_key(key)).collect();
        self.free_keys(held, free.into_iter()).await?;
        self.hold_keys(held, left).await?;
        if let Change::Requeue = change {
            return self.requeue_these(holders, index, Some(held)).await;
        }
        // Listeners are told of what becomes pending, and not of what goes; but what has waited for it can be claimed.
        let these = doc! { "_id": { "$in": ids } };
        let pending = self.events.update_many(these.clone(), doc! { "$set": { "status": PENDING } });
        pending.hint(keys("_id")).session(&mut *held.session).await?;
        let discarded = self.events.delete_many(these).hint(keys("_id"));
        Ok(discarded.session(&mut *held.session).await?.deleted_count)
    }
}

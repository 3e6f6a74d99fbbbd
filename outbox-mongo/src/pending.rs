//! The events that are pending, in their order.

use bson::{Bson, RawDocument, doc};
use mongodb::error::Error as DriverError;
use outbox_traits::Event;

use crate::{
    MongoOutbox,
    document::{self, PARKED, PENDING, SCHEDULED},
    error,
    indexes::{FIFO_KEYS, SCHEDULED_KEYS, keys},
    purge,
    store::{BATCH, ONE_ANSWER, as_limit},
};

/// How often one fetch sets undecodable documents aside and looks again.
const MAX_LOOKS: usize = 1000;

/// How many to read after some that could not be: where there is one there may be many, which must not cost a look
/// each. But it may be the only one, and these are whole events.
pub(crate) fn look_further(look: usize) -> usize {
    look.max(look.saturating_mul(2).min(BATCH))
}

impl MongoOutbox {
    /// What has become due takes its place in the order, which it has kept from its save on.
    pub(crate) async fn promote(&self) -> Result<(), DriverError> {
        loop {
            let due = doc! { "status": SCHEDULED, "$expr": { "$lte": ["$notBefore", "$$NOW"] } };
            let ids = purge::find_ids(&self.events, due, SCHEDULED_KEYS).await?;
            if !ids.is_empty() {
                let filter = doc! { "_id": { "$in": &ids }, "status": SCHEDULED };
                self.events.update_many(filter, doc! { "$set": { "status": PENDING } }).await?;
            }
            if ids.len() < BATCH {
                return Ok(());
            }
        }
    }

    pub(crate) async fn fetch(&self, limit: usize) -> Result<Vec<Event>, DriverError> {
        self.promote().await?;
        // Before the events: one that is settled in between was leased, and is not pending.
        let beside = self.beside().await?;
        let mut filter = doc! { "status": PENDING };
        if beside.has_keys {
            filter = doc! {
                "status": { "$in": [PENDING, PARKED] },
                // What has no such time is less than any; and it says something of what is parked alone, whoever wrote it.
                "$expr": { "$or": [{ "$eq": ["$status", PENDING] }, { "$lte": ["$retryAt", "$$NOW"] }] },
            };
        }
        let mut held = beside.leased;
        held.extend(beside.delivered);
        if !held.is_empty() {
            filter.insert("eventId", doc! { "$nin": held });
        }
        let mut events = Vec::new();
        let mut look = limit;
        for _ in 0..MAX_LOOKS {
            let find = self.events.find(filter.clone()).sort(doc! { "seq": 1 });
            let find = find.hint(keys(FIFO_KEYS)).limit(as_limit(look)).batch_size(ONE_ANSWER);
            let mut cursor = find.await?;
            events = Vec::new();
            let mut undecodable = Vec::new();
            while cursor.advance().await? {
                match document::event(cursor.current()) {
                    Ok(event) => events.push(event),
                    Err(reason) => undecodable.push((cursor.current().to_owned(), reason)),
                }
            }
            if undecodable.is_empty() {
                break;
            }
            for (raw, reason) in undecodable {
                self.set_aside(&raw, &reason).await?;
            }
            look = look_further(look);
        }
        events.truncate(limit);
        Ok(events)
    }

    pub(crate) async fn set_aside(&self, raw: &RawDocument, reason: &str) -> Result<(), DriverError> {
        let Some(id) = raw.get("_id")? else { return Ok(()) };
        let filter = doc! { "_id": Bson::try_from(id)?, "status": { "$in": [PENDING, PARKED] } };
        let [whole, without_reason, status] = document::set_aside(raw, reason);
        for change in [whole, without_reason] {
            match self.events.update_one(filter.clone(), change).await {
                Err(error) if error::is_too_large(&error) => {}
                done => return done.map(drop),
            }
        }
        self.events.update_one(filter, status).await.map(drop)
    }
}

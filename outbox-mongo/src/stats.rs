//! How much there is.

use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::error::Error as DriverError;
use outbox_traits::{Result, Stats, StatsStore, async_trait};

use crate::{
    MongoOutbox,
    document::{self, DEAD_LETTER, DELIVERED, PARKED, PENDING, SCHEDULED},
    indexes::{FIFO_KEYS, SCHEDULED_KEYS, key_document, keys as by_index},
};

const STATS: &str = "count events in";

/// Counted by the index, but for what is delivered: that is the rest of the server's own count of the collection,
/// which after a crash of the server may be off until it is validated. The age is in whole seconds of `seq`.
#[async_trait]
impl StatsStore for MongoOutbox {
    async fn stats(&self) -> Result<Stats> {
        self.ready(STATS).await?;
        self.counted().await.map_err(self.error(STATS))
    }
}

impl MongoOutbox {
    async fn counted(&self) -> Result<Stats, DriverError> {
        let leased = self.beside().await?.leased.len() as u64;
        let (pending, scheduled) = (self.count(PENDING).await?, self.count(SCHEDULED).await?);
        let (parked, dead) = (self.count(PARKED).await?, self.count(DEAD_LETTER).await?);
        let open = pending + scheduled + parked;
        let mut stats = Stats::default();
        stats.pending = open.saturating_sub(leased);
        stats.leased = leased;
        stats.dead = dead;
        stats.delivered = self.events.estimated_document_count().await?.saturating_sub(open + dead);
        stats.oldest_pending = self.oldest().await?;
        stats.oldest_due = self.oldest_due().await?;
        Ok(stats)
    }

    async fn count(&self, status: &str) -> Result<u64, DriverError> {
        let count = doc! {
            "count": self.events.name(), "query": { "status": status }, "hint": key_document(FIFO_KEYS),
            "readConcern": { "level": "majority" },
        };
        let answer = self.database.run_command(count).await?;
        let count = match answer.get("n") {
            Some(Bson::Int32(count)) => i64::from(*count),
            Some(Bson::Int64(count)) => *count,
            _ => 0,
        };
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// How long ago the first event that is still to be delivered was saved.
    async fn oldest(&self) -> Result<Option<Duration>, DriverError> {
        let open = doc! { "status": { "$in": [PENDING, SCHEDULED, PARKED] } };
        let find = self.events.find(open).sort(doc! { "seq": 1 }).hint(by_index(FIFO_KEYS)).limit(1);
        let mut cursor = find.projection(doc! { "seq": 1, "now": "$$NOW" }).batch_size(2).await?;
        if !cursor.advance().await? {
            return Ok(None);
        }
        let saved = document::position(cursor.current()) >> 32;
        let now: Document = cursor.current().try_into()?;
        let now = now.get_datetime("now")?.timestamp_millis() / 1000;
        // One that was written elsewhere says nothing of its time.
        let age = u64::try_from(now).unwrap_or(0).saturating_sub(saved);
        Ok(Some(Duration::from_secs(if saved == 0 { 0 } else { age })))
    }

    /// For how long the first event has been due: of those before which nothing of their keys is parked, of those that
    /// are, of those that are hidden, perhaps until a time that has come, and of those that are leased.
    async fn oldest_due(&self) -> Result<Option<Duration>, DriverError> {
        let now = doc! { "$set": { "now": "$$NOW" } };
        let events = self.events.name();
        let first = [
            doc! { "$match": { "status": PENDING } },
            doc! { "$sort": { "seq": 1 } },
            doc! { "$lookup": {
                "from": events, "localField": "partitionHash", "foreignField": "partitionHash", "as": "parked",
                "pipeline": [{ "$match": { "status": PARKED } }, { "$limit": 1 }],
            } },
            doc! { "$match": { "parked": [] } },
            doc! { "$limit": 1 },
            now.clone(),
        ];
        let hidden = [
            doc! { "$match": { "status": SCHEDULED } },
            doc! { "$sort": { "notBefore": 1 } },
            doc! { "$limit": 1 },
            now.clone(),
        ];
        let parked = [
            doc! { "$match": { "$expr": { "$lte": ["$readyAt", "$$NOW"] } } },
            doc! { "$sort": { "readyAt": 1 } },
            doc! { "$limit": FIRST_READY },
            doc! { "$lookup": {
                "from": events, "localField": "_id", "foreignField": "partitionHash", "as": "event",
                "pipeline": [
                    { "$match": { "status": PARKED } }, { "$sort": { "seq": 1 } }, { "$limit": 1 },
                ],
            } },
            doc! { "$unwind": "$event" },
            doc! { "$sort": { "event.seq": 1 } },
            doc! { "$limit": 1 },
            doc! { "$replaceWith": { "$mergeObjects": ["$event", { "since": "$readyAt" }] } },
            now.clone(),
        ];
        let leased = [
            doc! { "$match": { DELIVERED: { "$ne": true }, "$expr": { "$gt": ["$until", "$$NOW"] } } },
            doc! { "$unwind": "$entries" },
            doc! { "$match": { format!("entries.{DELIVERED}"): { "$ne": true } } },
            doc! { "$limit": FIRST_LEASED },
            doc! { "$lookup": {
                "from": events, "localField": "entries.event", "foreignField": "eventId", "as": "event",
            } },
            doc! { "$unwind": "$event" },
            doc! { "$match": { "event.status": { "$in": [PENDING, PARKED] } } },
            doc! { "$replaceWith": { "$mergeObjects": ["$event", { "since": "$claimedAt" }] } },
            now,
        ];
        let mut oldest = None;
        let by_order = self.events.aggregate(first).hint(by_index(FIFO_KEYS));
        let by_time = self.events.aggregate(hidden).hint(by_index(SCHEDULED_KEYS));
        for mut cursor in [
            by_order.await?,
            by_time.await?,
            self.keys.aggregate(parked).await?,
            self.leases.aggregate(leased).await?,
        ] {
            while cursor.advance().await? {
                oldest = oldest.max(due_for(&cursor.deserialize_current()?)?);
            }
        }
        Ok(oldest)
    }
}

/// Of so many leased events it is looked up since when they have been due.
const FIRST_LEASED: i32 = 100;
/// And of the first parked events of so many keys, those that have been ready for the longest time.
const FIRST_READY: i32 = 100;

/// For how long an event has been due, if it is.
fn due_for(event: &Document) -> Result<Option<Duration>, DriverError> {
    let millis = |name: &str| event.get_datetime(name).ok().map(|time| time.timestamp_millis());
    let saved = event.get_timestamp("seq").map_or(0, |seq| i64::from(seq.time) * 1000);
    let has_failed = event.get("lastFailedAt").is_some();
    let since = [Some(saved), millis("notBefore"), millis("since").filter(|_| has_failed)];
    let since = since.into_iter().flatten().max().unwrap_or(0);
    let now = event.get_datetime("now")?.timestamp_millis();
    // The time of a save is in whole seconds: one that was saved just now is due.
    let is_due = millis("notBefore").is_none_or(|time| time <= now);
    let age = u64::try_from(now.saturating_sub(since)).unwrap_or(0);
    Ok(is_due.then(|| Duration::from_millis(if saved == 0 { 0 } else { age })))
}

//! How much there is.

use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::error::Error as DriverError;
use outbox_traits::{Result, Stats, StatsStore, async_trait};

use crate::{
    MongoOutbox,
    document::{self, DEAD_LETTER, PARKED, PENDING, SCHEDULED},
    indexes::{FIFO_KEYS, key_document, keys},
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
        let find = self.events.find(open).sort(doc! { "seq": 1 }).hint(keys(FIFO_KEYS)).limit(1);
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
}

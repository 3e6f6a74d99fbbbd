//! How much there is.

use std::{num::NonZeroU32, time::Duration};

use bson::{Document, doc};
use mongodb::{ClientSession, error::Error as DriverError, options::ReadConcern};
use outbox_traits::{Result, Retention, Stats, StatsStore, async_trait};

use crate::{
    MongoOutbox,
    document::{self, DEAD_LETTER, DELIVERED, PARKED, PENDING, SCHEDULED},
    indexes::{FIFO_KEYS, ID_KEYS, SCHEDULED_KEYS, keys as by_index},
};

const STATS: &str = "count events in";

/// Counted by the index and at one moment, but for what is delivered: that is the rest of the server's own count of the
/// collection, which is taken a little earlier, and after a crash of the server may be off until it is validated. The
/// age is in whole seconds of `seq`. For the first event that is due, of those that are not parked, 1001 are looked at:
/// claims park what waits, where it is more than 1000 events.
#[async_trait]
impl StatsStore for MongoOutbox {
    async fn stats(&self) -> Result<Stats> {
        self.ready(STATS).await?;
        self.counted().await.map_err(self.error(STATS))
    }
}

impl MongoOutbox {
    async fn counted(&self) -> Result<Stats, DriverError> {
        let mut all = self.events.estimated_document_count().await?;
        let mut moment = self.moment().await?;
        let beside = self.beside_at(&mut moment).await?;
        let mut open = 0;
        for status in [PENDING, SCHEDULED, PARKED] {
            open += self.count(&mut moment, doc! { "status": status }, FIFO_KEYS).await?;
        }
        let dead = self.count(&mut moment, doc! { "status": DEAD_LETTER }, FIFO_KEYS).await?;
        if self.retention == Retention::DeleteOnDelivery {
            // What was delivered since all were counted is gone by now, and by the moment it may have been, too.
            all = all.min(self.events.estimated_document_count().await?);
        }
        if !beside.delivered.is_empty() {
            // Their own documents do not say so yet.
            let decided =
                doc! { "eventId": { "$in": &beside.delivered }, "status": { "$in": [PENDING, PARKED] } };
            let decided = self.count(&mut moment, decided, ID_KEYS).await?;
            open = open.saturating_sub(decided);
            if self.retention == Retention::DeleteOnDelivery {
                all = all.saturating_sub(decided);
            }
        }
        let mut stats = Stats::default();
        stats.leased = beside.leased.len() as u64;
        stats.pending = open.saturating_sub(stats.leased);
        stats.dead = dead;
        stats.delivered = all.saturating_sub(open + dead);
        stats.oldest_pending = self.oldest(&beside.delivered).await?;
        stats.oldest_due = self.oldest_due(&beside.delivered).await?;
        Ok(stats)
    }

    async fn count(
        &self,
        moment: &mut ClientSession,
        these: Document,
        index: &str,
    ) -> Result<u64, DriverError> {
        let count = doc! { "$group": { "_id": null, "count": { "$sum": 1_i64 } } };
        let question = [doc! { "$match": these }, count];
        let count = self.events.aggregate(question).hint(by_index(index));
        let count = count.read_concern(ReadConcern::snapshot());
        let mut cursor = count.session(&mut *moment).await?;
        // Of nothing there is no document.
        if !cursor.advance(moment).await? {
            return Ok(0);
        }
        Ok(cursor.deserialize_current()?.get_i64("count")?.unsigned_abs())
    }

    /// How long ago the first event that is still to be delivered was saved.
    async fn oldest(&self, delivered: &[String]) -> Result<Option<Duration>, DriverError> {
        let mut oldest = None;
        // Those that were written elsewhere have no place, and come before all others, or after them.
        for place in [document::without_place(), document::with_place(document::NO_PLACE)] {
            let status = doc! { "$in": [PENDING, SCHEDULED, PARKED] };
            let open = without(doc! { "status": status, "seq": place }, delivered);
            let find = self.events.find(open).sort(doc! { "seq": 1 }).hint(by_index(FIFO_KEYS)).limit(1);
            let mut cursor =
                find.projection(doc! { "seq": 1, "createdAt": 1, "now": "$$NOW" }).batch_size(2).await?;
            if cursor.advance().await? {
                let event: Document = cursor.current().try_into()?;
                let now = event.get_datetime("now")?.timestamp_millis();
                let age = saved_at(&event).map_or(0, |saved| now.saturating_sub(saved));
                // The place of an event has whole seconds.
                let age = Duration::from_secs(u64::try_from(age / 1000).unwrap_or(0));
                oldest = oldest.max(Some(age));
            }
        }
        Ok(oldest)
    }

    /// For how long the first event has been due: of those whose keys neither wait nor have parked events, of those that
    /// are parked, of those that are hidden, perhaps until a time that has come, and of those that are leased.
    async fn oldest_due(&self, delivered: &[String]) -> Result<Option<Duration>, DriverError> {
        // Not the events themselves, which may be large.
        let times = doc! { "$project": {
            "seq": 1, "createdAt": 1, "notBefore": 1, "lastFailedAt": 1, "since": 1, "now": "$$NOW",
        } };
        let still_parked = without(doc! { "status": PARKED }, delivered);
        let events = self.events.name();
        let first = [
            doc! { "$match": without(doc! { "status": PENDING }, delivered) },
            doc! { "$sort": { "seq": 1 } },
            doc! { "$limit": FIRST_PENDING },
            doc! { "$lookup": {
                "from": self.keys.name(), "localField": "partitionHash", "foreignField": "_id", "as": "waiting",
                "pipeline": [{ "$match": { "$expr": { "$gt": ["$readyAt", "$$NOW"] } } }],
            } },
            doc! { "$match": { "waiting": [] } },
            doc! { "$lookup": {
                "from": events, "localField": "partitionHash", "foreignField": "partitionHash", "as": "parked",
                "pipeline": [{ "$match": &still_parked }, { "$limit": 1 }],
            } },
            doc! { "$match": { "parked": [] } },
            doc! { "$limit": 1 },
            times.clone(),
        ];
        let hidden = [
            doc! { "$match": { "status": SCHEDULED } },
            doc! { "$sort": { "notBefore": 1 } },
            doc! { "$limit": 1 },
            times.clone(),
        ];
        let parked = [
            doc! { "$match": { "$expr": { "$lte": ["$readyAt", "$$NOW"] } } },
            doc! { "$sort": { "readyAt": 1 } },
            doc! { "$limit": FIRST_READY },
            doc! { "$lookup": {
                "from": events, "localField": "_id", "foreignField": "partitionHash", "as": "event",
                "pipeline": [
                    { "$match": still_parked }, { "$sort": { "seq": 1 } }, { "$limit": 1 },
                ],
            } },
            doc! { "$unwind": "$event" },
            doc! { "$sort": { "event.seq": 1 } },
            doc! { "$limit": 1 },
            doc! { "$replaceWith": { "$mergeObjects": ["$event", { "since": "$readyAt" }] } },
            times.clone(),
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
            times,
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
                oldest = oldest.max(due_for(&cursor.current().try_into()?)?);
            }
        }
        Ok(oldest)
    }
}

/// Of so many pending events it is looked up whether they are due. Where more than a thousand are not, claims park them.
const FIRST_PENDING: i64 = 1001;
/// Of so many leased events it is looked up since when they have been due.
const FIRST_LEASED: i32 = 100;
/// And of the first parked events of so many keys, those that have been ready for the longest time.
const FIRST_READY: i32 = 100;

/// Those that match but for these, of which their own documents do not say yet that they are delivered.
fn without(mut these: Document, delivered: &[String]) -> Document {
    if !delivered.is_empty() {
        these.insert("eventId", doc! { "$nin": delivered });
    }
    these
}

/// For how long an event has been due, if it is.
fn due_for(event: &Document) -> Result<Option<Duration>, DriverError> {
    let millis = |name: &str| event.get_datetime(name).ok().map(|time| time.timestamp_millis());
    let saved = saved_at(event);
    let has_failed = event.get_datetime("lastFailedAt").is_ok();
    let since = [saved, millis("notBefore"), millis("since").filter(|_| has_failed)];
    let since = since.into_iter().flatten().max().unwrap_or(0);
    let now = event.get_datetime("now")?.timestamp_millis();
    // The time of a save is in whole seconds: one that was saved just now is due.
    let is_due = millis("notBefore").is_none_or(|time| time <= now);
    let age = u64::try_from(now.saturating_sub(since)).unwrap_or(0);
    Ok(is_due.then(|| Duration::from_millis(saved.map_or(0, |_| age))))
}

/// When an event was saved, in milliseconds since 1970: by its place, to the second, or as it says itself if it was written
/// elsewhere; `None` if it does not say.
fn saved_at(event: &Document) -> Option<i64> {
    let seconds = event.get_timestamp("seq").ok().and_then(|seq| NonZeroU32::new(seq.time));
    let by_place = seconds.map(|seconds| i64::from(seconds.get()) * 1000);
    by_place.or_else(|| event.get_datetime("createdAt").ok().map(|time| time.timestamp_millis()))
}

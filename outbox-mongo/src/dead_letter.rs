//! Dead letters: listed, requeued, discarded.

use bson::{Bson, DateTime, Document, doc};
use chrono::Utc;
use mongodb::error::Error as DriverError;
use outbox_traits::{DeadLetterFilter, DeadLetterPage, DeadLetterStore, EventId, Result, async_trait};

use crate::{
    MongoOutbox,
    claims::Held,
    document::{self, DEAD_LETTER, HOLDS_KEY, PENDING, SCHEDULED},
    error,
    indexes::{FIFO_KEYS, ID_KEYS, keys},
    store::{BATCH, ONE_ANSWER, as_limit},
};

const LIST: &str = "list dead letters of";
const REQUEUE: &str = "requeue dead letters of";
const DISCARD: &str = "discard dead letters of";

/// What becomes of dead letters.
#[derive(Clone, Copy)]
pub(crate) enum Change {
    Requeue,
    Discard,
}

/// The raw content of a document that cannot be read is the whole document as relaxed Extended JSON. One without a
/// usable `eventId` gets an id of its own, in the field `standInId`. One that another program has set aside and that
/// has no `seq` gets it, and `deadAt` if it has no such date, when dead letters are next listed or changed together.
#[async_trait]
impl DeadLetterStore for MongoOutbox {
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        if filter.limit == 0 {
            return Ok(DeadLetterPage::new(Vec::new(), filter.after));
        }
        self.ready(LIST).await?;
        self.page(filter).await.map_err(self.error(LIST))
    }

    async fn requeue(&self, id: EventId) -> Result<bool> {
        self.ready(REQUEUE).await?;
        self.change_one(id, Change::Requeue).await.map_err(self.error(REQUEUE))
    }

    async fn requeue_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        self.ready(REQUEUE).await?;
        self.change_all(filter, Change::Requeue).await.map_err(self.error(REQUEUE))
    }

    async fn discard(&self, id: EventId) -> Result<bool> {
        self.ready(DISCARD).await?;
        self.change_one(id, Change::Discard).await.map_err(self.error(DISCARD))
    }

    async fn discard_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        self.ready(DISCARD).await?;
        self.change_all(filter, Change::Discard).await.map_err(self.error(DISCARD))
    }
}

impl MongoOutbox {
    async fn page(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage, DriverError> {
        self.give_places().await?;
        // One more than asked for says whether there is a next page.
        let wanted = filter.limit.saturating_add(1);
        let find = self.events.find(dead(filter, filter.after)).sort(doc! { "seq": 1 }).hint(keys(FIFO_KEYS));
        let mut cursor = find.limit(as_limit(wanted)).batch_size(ONE_ANSWER).await?;
        let mut letters = Vec::new();
        let mut last = None;
        while cursor.advance().await? {
            if letters.len() == filter.limit {
                return Ok(DeadLetterPage::new(letters, last));
            }
            last = Some(document::position(cursor.current()));
            letters.push(document::dead_letter(cursor.current()));
        }
        Ok(DeadLetterPage::new(letters, None))
    }

    /// Pages go by a place, which what another program has set aside may not have, nor a time.
    async fn give_places(&self) -> Result<(), DriverError> {
        let these = without_place();
        let any = self.events.find_one(these.clone()).projection(doc! { "_id": 1 }).hint(keys(FIFO_KEYS));
        if any.await?.is_none() {
            return Ok(());
        }
        // What says when it died did so before.
        let is_time = doc! { "$type": "date" };
        for (has_time, dead_at) in [(true, is_time.clone()), (false, doc! { "$not": is_time })] {
            let mut some = these.clone();
            some.insert("deadAt", dead_at);
            let now = doc! { "$currentDate": now(has_time) };
            match self.events.update_many(some, now).hint(keys(FIFO_KEYS)).await {
                // It ends the whole command.
                Err(error) if error::is_too_large(&error) => return self.give_places_one_by_one().await,
                done => drop(done?),
            }
        }
        Ok(())
    }

    /// Where some have hardly room for it, or none: such a one is found on the first page only.
    async fn give_places_one_by_one(&self) -> Result<(), DriverError> {
        let find = self.events.find(without_place()).hint(keys(FIFO_KEYS));
        let mut cursor = find.projection(doc! { "_id": 1, "deadAt": 1 }).await?;
        while cursor.advance().await? {
            let mut this = without_place();
            this.insert("_id", document::value(cursor.current(), "_id")?);
            let has_time = cursor.current().get_datetime("deadAt").is_ok();
            let whole = doc! { "$currentDate": now(has_time) };
            // Nothing goes by what makes room here.
            let place = doc! { "$currentDate": now(true), "$unset": { "createdAt": "" } };
            for change in [whole, place] {
                match self.events.update_one(this.clone(), change).hint(keys("_id")).await {
                    Err(error) if error::is_too_large(&error) => {}
                    done => {
                        done?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    async fn change_one(&self, id: EventId, change: Change) -> Result<bool, DriverError> {
        let of_event = doc! { "eventId": id.to_string(), "status": DEAD_LETTER };
        if self.change(&of_event, ID_KEYS, change).await? > 0 {
            return Ok(true);
        }
        // A search among the dead letters: only documents that the store did not write have such an id.
        let of_stand_in = doc! { "standInId": id.to_string(), "status": DEAD_LETTER };
        Ok(self.change(&of_stand_in, FIFO_KEYS, change).await? > 0)
    }

    /// Changes all dead letters that match, page by page and each once.
    async fn change_all(&self, filter: &DeadLetterFilter, change: Change) -> Result<u64, DriverError> {
        self.give_places().await?;
        let (mut changed, mut after) = (0, None);
        loop {
            let find = self.events.find(dead(filter, after)).sort(doc! { "seq": 1 }).hint(keys(FIFO_KEYS));
            let find = find.projection(doc! { "seq": 1 }).limit(as_limit(BATCH)).batch_size(ONE_ANSWER);
            let mut cursor = find.await?;
            let mut ids = Vec::new();
            while cursor.advance().await? {
                // Onwards even if it dies again at once.
                after = Some(document::position(cursor.current()));
                ids.extend(cursor.current().get("_id")?.map(Bson::try_from).transpose()?);
            }
            let count = ids.len();
            let these = doc! { "_id": { "$in": ids }, "status": DEAD_LETTER };
            changed += self.change(&these, "_id", change).await?;
            if count < BATCH {
                return Ok(changed);
            }
        }
    }

    /// Those that hold their keys are changed with these, under the lock of all claims.
    async fn change(&self, these: &Document, index: &str, change: Change) -> Result<u64, DriverError> {
        let mut others = these.clone();
        others.insert(HOLDS_KEY, doc! { "$exists": false });
        let changed = match change {
            Change::Requeue => self.requeue_these(&others, index, None).await?,
            Change::Discard => self.events.delete_many(others).hint(keys(index)).await?.deleted_count,
        };
        Ok(changed + self.change_holders(these, index, change).await?)
    }

    /// In a transaction or each by itself.
    pub(crate) async fn requeue_these(
        &self,
        these: &Document,
        index: &str,
        mut held: Option<&mut Held<'_>>,
    ) -> Result<u64, DriverError> {
        // Without the server's time, one that was to wait waits again for the next fetch, which goes by that. With
        // its key free, others would overtake it meanwhile.
        let mut waiting = these.clone();
        let is_to_wait = held.as_ref().map_or(doc! { "$type": "date" }, |held| doc! { "$gt": held.now });
        waiting.insert("notBefore", is_to_wait);
        let mut requeued = 0;
        for (filter, status) in [(waiting, SCHEDULED), (these.clone(), PENDING)] {
            let fresh = doc! {
                "$set": { "status": status },
                "$unset": {
                    "attempts": "", "failures": "", "firstFailedAt": "", "lastFailedAt": "",
                    "lastError": "", "deadAt": "", "standInId": "", HOLDS_KEY: "",
                },
            };
            let update = self.events.update_many(filter, fresh).hint(keys(index));
            let updated = match &mut held {
                Some(held) => update.session(&mut *held.session).await?,
                None => update.await?,
            };
            requeued += updated.modified_count;
        }
        Ok(requeued)
    }
}

/// Dead letters without a place, as two ranges of the index.
fn without_place() -> Document {
    doc! { "status": DEAD_LETTER, "seq": { "$not": { "$gte": document::seq(0) } } }
}

/// What of a dead letter is to be the server's time.
fn now(has_time: bool) -> Document {
    let mut now = doc! { "seq": { "$type": "timestamp" } };
    if !has_time {
        now.insert("deadAt", true);
    }
    now
}

fn dead(filter: &DeadLetterFilter, after: Option<u64>) -> Document {
    let mut dead = doc! { "status": DEAD_LETTER };
    if let Some(after) = after {
        dead.insert("seq", doc! { "$gt": document::seq(after) });
    }
    if let Some(event_type) = &filter.event_type {
        dead.insert("type", event_type);
    }
    let mut times = Document::new();
    if let Some(since) = filter.since {
        times.insert("$gte", up_to_millisecond(since));
    }
    if let Some(before) = filter.before {
        times.insert("$lt", up_to_millisecond(before));
    }
    if !times.is_empty() {
        dead.insert("deadAt", times);
    }
    dead
}

/// The store's times are whole milliseconds: none lies between a time and the next whole one.
fn up_to_millisecond(time: chrono::DateTime<Utc>) -> DateTime {
    let millis = time.timestamp_millis();
    DateTime::from_millis(millis + i64::from(!time.timestamp_subsec_nanos().is_multiple_of(1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server's times have no more: what died at a millisecond did so before what is a part of one later.
    #[test]
    fn a_time_within_a_millisecond_is_the_next_whole_one() {
        for (time, millis) in [
            ("1970-01-01T00:00:01.002Z", 1002),
            ("1970-01-01T00:00:01.002000001Z", 1003),
            ("1970-01-01T00:00:01.002999999Z", 1003),
            ("1969-12-31T23:59:59.998Z", -2),
            ("1969-12-31T23:59:59.998000001Z", -1),
        ] {
            assert_eq!(up_to_millisecond(time.parse().unwrap()).timestamp_millis(), millis, "{time}");
        }
    }
}

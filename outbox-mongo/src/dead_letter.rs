//! Dead letters: listed, requeued, discarded.

use bson::{Bson, DateTime, Document, doc};
use chrono::Utc;
use mongodb::error::Error as DriverError;
use outbox_traits::{DeadLetterFilter, DeadLetterPage, DeadLetterStore, EventId, Result, async_trait};

use crate::{
    MongoOutbox,
    claims::Held,
    document::{self, DEAD_LETTER, HOLDS_KEY, NO_TIME, PENDING, SCHEDULED},
    error,
    indexes::{FIFO_KEYS, ID_KEYS, keys},
    store::{BATCH, ONE_ANSWER, as_limit},
};

const LIST: &str = "list dead letters of";
const REQUEUE: &str = "requeue dead letters of";
const DISCARD: &str = "discard dead letters of";

/// An `eventId` by which its document is known.
const USABLE_ID: &str = r"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\z";

/// What becomes of dead letters.
#[derive(Clone, Copy)]
pub(crate) enum Change {
    Requeue,
    Discard,
}

/// The raw content of a document that cannot be read is the whole document as relaxed Extended JSON. One without a
/// usable `eventId` gets an id of its own, in the field `standInId`; where another program has set it aside, or it has no
/// room for that, the id is made of its `_id` each time. One that another program has set aside and that has no `seq` gets
/// it, and `deadAt` if it has no such date, when dead letters are next listed or changed together; one with a `seq` and
/// without such a date is shown with the first moment of 1970, and found by that.
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
        let are_some_left = self.give_places().await?;
        let after = filter.after.unwrap_or(0);
        let mut letters = Vec::new();
        let mut last = None;
        if are_some_left {
            for (number, id) in self.without_room(filter).await? {
                if number <= after {
                    continue;
                }
                // Two may have one number, behind which the next page begins.
                if letters.len() >= filter.limit && last != Some(number) {
                    return Ok(DeadLetterPage::new(letters, last));
                }
                last = Some(number);
                let find = self.events.find(doc! { "_id": id, "status": DEAD_LETTER }).hint(keys("_id"));
                let mut cursor = find.await?;
                while cursor.advance().await? {
                    letters.push(document::dead_letter(cursor.current()));
                }
            }
        }
        // One more than there is room for says whether there is a next page.
        let wanted = filter.limit.saturating_sub(letters.len()).saturating_add(1);
        let find = self.events.find(placed(filter, after)).sort(doc! { "seq": 1 }).hint(keys(FIFO_KEYS));
        let mut cursor = find.limit(as_limit(wanted)).batch_size(ONE_ANSWER).await?;
        while cursor.advance().await? {
            if letters.len() >= filter.limit {
                return Ok(DeadLetterPage::new(letters, last));
            }
            last = Some(document::position(cursor.current()));
            letters.push(document::dead_letter(cursor.current()));
        }
        Ok(DeadLetterPage::new(letters, None))
    }

    /// Those that have no room for a place, in an order that stays the same whatever becomes of others.
    async fn without_room(&self, filter: &DeadLetterFilter) -> Result<Vec<(u64, Bson)>, DriverError> {
        let mut these = dead(filter);
        these.insert("seq", document::without_place());
        let find = self.events.find(these).hint(keys(FIFO_KEYS)).projection(doc! { "_id": 1 });
        let mut cursor = find.await?;
        let mut found = Vec::new();
        while cursor.advance().await? {
            let raw = cursor.current();
            found.push((document::number(raw), document::value(raw, "_id")?));
        }
        found.sort_by_key(|(number, _)| *number);
        Ok(found)
    }

    /// Pages go by a place, which what another program has set aside may not have, nor a time. Returns whether some have
    /// no room for it, perhaps.
    async fn give_places(&self) -> Result<bool, DriverError> {
        let these = without_place();
        let any = self.events.find_one(these.clone()).projection(doc! { "_id": 1 }).hint(keys(FIFO_KEYS));
        if any.await?.is_none() {
            return Ok(false);
        }
        // What says when it died did so before.
        let is_time = doc! { "$type": "date" };
        for (has_time, dead_at) in [(true, is_time.clone()), (false, doc! { "$not": is_time })] {
            let mut some = these.clone();
            some.insert("deadAt", dead_at);
            let now = doc! { "$currentDate": now(has_time) };
            match self.events.update_many(some, now).hint(keys(FIFO_KEYS)).await {
                // It ends the whole command.
                Err(error) if error::is_too_large(&error) => {
                    self.give_places_one_by_one().await?;
                    return Ok(true);
                }
                done => drop(done?),
            }
        }
        Ok(false)
    }

    /// Where some have hardly room for it, or none: such a one comes before all that have places.
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
        let Some(this) = self.known_by(id).await? else { return Ok(false) };
        Ok(self.change(&doc! { "_id": this, "status": DEAD_LETTER }, "_id", change).await? > 0)
    }

    /// The `_id` of the dead letter that is shown by this id, which is not its own. A search among the dead letters: only
    /// documents that the store did not write have such an id.
    async fn known_by(&self, id: EventId) -> Result<Option<Bson>, DriverError> {
        let without_own = vec![
            doc! { "eventId": { "$not": { "$regex": USABLE_ID } } },
            // Of a list, an element is looked at.
            doc! { "eventId": { "$type": "array" } },
        ];
        let these = doc! { "status": DEAD_LETTER, "$or": without_own };
        let find = self.events.find(these).hint(keys(FIFO_KEYS));
        let mut cursor = find.projection(doc! { "eventId": 1, "standInId": 1 }).await?;
        while cursor.advance().await? {
            let raw = cursor.current();
            if document::shown_id(raw) == id {
                return Ok(Some(document::value(raw, "_id")?));
            }
        }
        Ok(None)
    }

    /// Changes all dead letters that match, page by page and each once.
    async fn change_all(&self, filter: &DeadLetterFilter, change: Change) -> Result<u64, DriverError> {
        self.give_places().await?;
        let (mut changed, mut after) = (0, None);
        loop {
            let these = after.map_or_else(|| dead(filter), |after| placed(filter, after));
            let find = self.events.find(these).sort(doc! { "seq": 1 }).hint(keys(FIFO_KEYS));
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
        // As another program may write it, too.
        others.insert(HOLDS_KEY, doc! { "$ne": true });
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
                    "lastError": "", "retryAt": "", "deadAt": "", "standInId": "", HOLDS_KEY: "",
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

/// Dead letters without a place.
fn without_place() -> Document {
    doc! { "status": DEAD_LETTER, "seq": document::without_place() }
}

/// What of a dead letter is to be the server's time.
fn now(has_time: bool) -> Document {
    let mut now = doc! { "seq": { "$type": "timestamp" } };
    if !has_time {
        now.insert("deadAt", true);
    }
    now
}

/// Dead letters that match and have a place, behind this one.
fn placed(filter: &DeadLetterFilter, after: u64) -> Document {
    let mut placed = dead(filter);
    placed.insert("seq", document::with_place(after));
    placed
}

/// Dead letters that match.
fn dead(filter: &DeadLetterFilter) -> Document {
    let mut dead = doc! { "status": DEAD_LETTER };
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
    if times.is_empty() {
        return dead;
    }
    let (begin, end) = (filter.since.unwrap_or(NO_TIME), filter.before);
    // One without a time is found by that which is shown.
    if begin <= NO_TIME && end.is_none_or(|end| NO_TIME < end) {
        let without_time = doc! { "deadAt": { "$not": { "$type": "date" } } };
        dead.insert("$or", vec![doc! { "deadAt": times }, without_time]);
    } else {
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

//! Keys whose documents are gone, mostly with their whole collection. What they said can be told from the events.

use std::collections::{HashMap, HashSet};

use bson::{Bson, doc};
use mongodb::{error::Error as DriverError, options::ReadConcern};

use super::{Conflicts, Held, is_held};
use crate::{
    MongoOutbox,
    document::{self, DEAD_LETTER, HOLDS_KEY, Key, PARKED},
    indexes::{FIFO_KEYS, PARTITION_KEYS, keys},
    store::{BATCH, ONE_ANSWER},
};

/// Of so many parked events, and of as many dead letters, the first ones, it is looked up whether their keys are known: what is stuck
/// comes first, in the end.
const FIRST: i32 = 100;

/// What tells what keys are to say.
#[derive(Clone, Copy)]
enum Lost<'a> {
    /// The `_id`s of dead letters that hold their keys.
    Holders(&'a [Bson]),
    /// Keys of parked events.
    Parked(&'a [Key]),
}

impl MongoOutbox {
    /// Whether one of the first parked events has a key without a document, and so is found by no claim, or one of the first dead
    /// letters is to hold its key, and holds nothing.
    pub(crate) async fn has_lost_keys(&self) -> Result<bool, DriverError> {
        let mut conflicts = Conflicts::new();
        loop {
            match self.meets_lost_key().await {
                Ok(is_lost) => return Ok(is_lost),
                Err(error) => conflicts.wait(self, error).await?,
            }
        }
    }

    /// At one moment: claims take away the documents of keys of which nothing is parked any more.
    async fn meets_lost_key(&self) -> Result<bool, DriverError> {
        // By another kind of hash nothing is found anyway.
        let known_hash = doc! { "$type": "binData" };
        let parked = (PARKED, doc! { "partitionHash": &known_hash });
        let holding = (DEAD_LETTER, doc! { "partitionHash": &known_hash, HOLDS_KEY: true });
        let mut moment = self.moment().await?;
        for (status, those) in [parked, holding] {
            let question = [
                doc! { "$match": { "status": status } },
                doc! { "$sort": { "seq": 1 } },
                doc! { "$limit": FIRST },
                doc! { "$match": those },
                doc! { "$project": { "eventId": 1, "partitionHash": 1 } },
                doc! { "$lookup": {
                    "from": self.keys.name(), "localField": "partitionHash", "foreignField": "_id", "as": "known",
                } },
                doc! { "$match": { "known": [] } },
            ];
            let question = self.events.aggregate(question).hint(keys(FIFO_KEYS));
            let question = question.read_concern(ReadConcern::snapshot());
            let mut cursor = question.session(&mut moment).await?;
            while cursor.advance(&mut moment).await? {
                // An event without a key may wait, but holds none, whatever another program says of it.
                if status == PARKED || !document::has_no_key(cursor.current()) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Gives all keys that wait the documents which they are to have. Each part is whole by itself, so that it can be cut
    /// off and done again; and a key that has its document, and perhaps more of it than is known here, keeps what holds it.
    pub(crate) async fn restore_keys(&self) -> Result<(), DriverError> {
        // First, so that no key which is held is ready meanwhile.
        let holders = doc! { "status": DEAD_LETTER, HOLDS_KEY: true };
        let find = self.events.find(holders).hint(keys(FIFO_KEYS)).projection(doc! { "_id": 1 });
        let mut cursor = find.await?;
        let mut holders = Vec::new();
        while cursor.advance().await? {
            holders.push(document::value(cursor.current(), "_id")?);
        }
        for some in holders.chunks(BATCH) {
            self.restore(Lost::Holders(some)).await?;
        }
        // By the index alone, however many events wait for each.
        let of_parked =
            [doc! { "$match": { "status": PARKED } }, doc! { "$group": { "_id": "$partitionHash" } }];
        let find = self.events.aggregate(of_parked).hint(keys(PARTITION_KEYS)).allow_disk_use(true);
        let mut cursor = find.await?;
        let mut parked: Vec<Key> = Vec::new();
        while cursor.advance().await? {
            parked.extend(cursor.current().get_binary("_id").ok().map(|key| key.bytes.to_vec()));
        }
        for some in parked.chunks(BATCH) {
            self.restore(Lost::Parked(some)).await?;
        }
        Ok(())
    }

    /// Under the lock, by what is so then.
    async fn restore(&self, lost: Lost<'_>) -> Result<(), DriverError> {
        let mut conflicts = Conflicts::new();
        loop {
            let restored = async {
                let mut turn = self.turn.lock().await;
                let mut held = self.hold(&mut turn).await?;
                let restored = match lost {
                    Lost::Holders(some) => self.restore_held(&mut held, some).await,
                    Lost::Parked(some) => self.restore_parked(&mut held, some).await,
                };
                held.end(restored).await
            };
            match restored.await {
                Ok(()) => return Ok(()),
                Err(error) => conflicts.wait(self, error).await?,
            }
        }
    }

    async fn restore_held(&self, held: &mut Held<'_>, ids: &[Bson]) -> Result<(), DriverError> {
        // Some may have been requeued or discarded meanwhile.
        let these = doc! { "_id": { "$in": ids }, "status": DEAD_LETTER, HOLDS_KEY: true };
        let find = self.events.find(these).hint(keys("_id")).batch_size(ONE_ANSWER);
        let find = find.projection(doc! { "eventId": 1, "partitionHash": 1 });
        let mut cursor = find.session(&mut *held.session).await?;
        let mut holding: HashMap<Key, HashSet<String>> = HashMap::new();
        while cursor.advance(&mut *held.session).await? {
            let raw = cursor.current();
            // What has no key holds none, whatever another program says of it.
            if document::has_no_key(raw) {
                continue;
            }
            if let Ok(event) = raw.get_str("eventId") {
                holding.entry(document::key(raw)).or_default().insert(event.to_owned());
            }
        }
        self.hold_also(held, holding).await
    }

    async fn restore_parked(&self, held: &mut Held<'_>, of: &[Key]) -> Result<(), DriverError> {
        let mut others: HashSet<Key> = of.iter().cloned().collect();
        for (key, ready_at) in self.keyed(held, &others).await? {
            if is_held(ready_at) {
                others.remove(&key);
            }
        }
        // Also where there is a document: one that was made since may not know of a retry of before.
        self.free_keys(held, others.into_iter()).await
    }
}

//! Where a claim looks for events: among the parked ones of ready keys, and the pending ones in their order.

use std::collections::{HashMap, HashSet};

use bson::{Bson, Document, RawDocument, doc};
use mongodb::error::Error as DriverError;
use outbox_traits::Claim;

use super::{Held, state::values};
use crate::{
    MongoOutbox,
    document::{self, Key, PARKED, PENDING},
    indexes::{FIFO_KEYS, PARKED_KEYS, READY_KEYS, keys},
    store::{as_batch, as_limit},
};

/// Ready keys whose parked events one command reads: the server merges so many, 200 at most, without sorting.
const KEYS: usize = 100;
/// Events that are stepped over, rather than parked, as long as there are no more of them.
const BUDGET: usize = 1000;
/// Events that one transaction parks, roughly: then it makes an end, so that none is long.
const MAX_PARKED: usize = 5000;
/// A page of the walk, at least and at most.
const PAGES: (usize, usize) = (100, 2000);

/// What an event is chosen by.
pub(super) struct Spot {
    pub(super) id: Bson,
    pub(super) event: Option<String>,
    pub(super) key: Key,
    pub(super) seq: u64,
}

impl Spot {
    pub(super) fn of(raw: &RawDocument) -> Result<Self, DriverError> {
        Ok(Self {
            id: raw.get("_id")?.map(Bson::try_from).transpose()?.unwrap_or(Bson::Null),
            event: raw.get_str("eventId").ok().map(str::to_owned),
            key: document::key(raw),
            seq: document::position(raw),
        })
    }

    pub(super) fn fields() -> Document {
        doc! { "eventId": 1, "partitionHash": 1, "seq": 1 }
    }
}

/// What stands in the way of a claim.
#[derive(Default)]
pub(super) struct Busy {
    pub(super) events: HashSet<String>,
    pub(super) keys: HashSet<Key>,
    /// Whether any key has a document.
    pub(super) has_keys: bool,
}

/// What a claim has found so far.
#[derive(Default)]
pub(super) struct Found {
    pub(super) spots: Vec<Spot>,
    /// Keys that have a document, and whose parked events were looked at.
    pub(super) ready: HashSet<Key>,
    /// Whether there may be more behind what was parked.
    pub(super) more: bool,
}

impl MongoOutbox {
    /// Finds the events to take, in order. All that is older than the last of them and of its key is among them:
    /// the walk has met so many pending events, or all, and the parked ones of each key are read from the first on.
    pub(super) async fn look(
        &self,
        held: &mut Held<'_>,
        claim: &Claim,
        limit: usize,
        busy: &mut Busy,
    ) -> Result<Found, DriverError> {
        let mut found = Found::default();
        if busy.has_keys {
            self.find_parked(held, claim, limit, busy, &mut found).await?;
        }
        self.find_pending(held, claim, limit, busy, &mut found).await?;
        found.spots.sort_by_key(|spot| spot.seq);
        found.spots.truncate(limit);
        Ok(found)
    }

    /// Finds parked events of keys that are ready.
    async fn find_parked(
        &self,
        held: &mut Held<'_>,
        claim: &Claim,
        limit: usize,
        busy: &Busy,
        found: &mut Found,
    ) -> Result<(), DriverError> {
        while found.spots.len() < limit {
            let seen = values(busy.keys.iter().chain(&found.ready));
            let due = doc! { "readyAt": { "$lte": held.now }, "_id": { "$nin": seen } };
            let find = self.keys.find(due).sort(doc! { "readyAt": 1 }).hint(keys(READY_KEYS));
            let find = find.limit(as_limit(KEYS)).batch_size(as_batch(KEYS));
            let mut cursor = find.session(&mut held.session).await?;
            let mut ready = HashSet::new();
            while cursor.advance(&mut held.session).await? {
                ready.insert(cursor.deserialize_current()?.get_binary_generic("_id")?.clone());
            }
            if ready.is_empty() {
                break;
            }
            let mut parked = doc! { "status": PARKED, "partitionHash": { "$in": values(&ready) } };
            of_types(&mut parked, claim);
            let find = self.events.find(parked).sort(doc! { "seq": 1 }).hint(keys(PARKED_KEYS));
            let find = find.projection(Spot::fields()).limit(as_limit(limit)).batch_size(as_batch(limit));
            let mut cursor = find.session(&mut held.session).await?;
            let (mut count, mut empty) = (0, ready.clone());
            while cursor.advance(&mut held.session).await? {
                let spot = Spot::of(cursor.current())?;
                empty.remove(&spot.key);
                count += 1;
                found.spots.push(spot);
            }
            if count < limit && claim.types.is_empty() && !empty.is_empty() {
                // Nothing of them is parked any more: they are keys like others.
                let these = doc! { "_id": { "$in": values(&empty) } };
                self.keys.delete_many(these).session(&mut held.session).await?;
            }
            let is_last = ready.len() < KEYS;
            found.ready.extend(ready);
            if is_last {
                break;
            }
        }
        Ok(())
    }

    /// Walks the pending events in order, past those of busy keys.
    async fn find_pending(
        &self,
        held: &mut Held<'_>,
        claim: &Claim,
        limit: usize,
        busy: &mut Busy,
        found: &mut Found,
    ) -> Result<(), DriverError> {
        let mut pending = doc! { "status": PENDING };
        of_types(&mut pending, claim);
        let mut page_size = limit.saturating_add(busy.events.len()).clamp(PAGES.0, PAGES.1);
        let (mut met, mut taken, mut parked) = (0, 0, 0);
        let mut stepped = Vec::new();
        loop {
            let page = self.page_of_pending(held, &pending, met - parked, page_size).await?;
            met += page.len();
            let is_last = page.len() < page_size;
            let end = page.last().map_or(0, |spot| spot.seq);
            let mut keyed = HashMap::new();
            if busy.has_keys {
                let keys = page.iter().map(|spot| spot.key.clone()).collect();
                keyed = self.keyed(held, &keys).await?;
            }
            for spot in page {
                if spot.event.as_ref().is_some_and(|event| busy.events.contains(event)) {
                    continue;
                }
                let waits = keyed.contains_key(&spot.key) && !found.ready.contains(&spot.key);
                if waits || busy.keys.contains(&spot.key) {
                    stepped.push(spot);
                    continue;
                }
                found.spots.push(spot);
                taken += 1;
                if taken == limit {
                    break;
                }
            }
            if stepped.len() > BUDGET {
                parked += stepped.len();
                self.park(held, &std::mem::take(&mut stepped)).await?;
                busy.has_keys = true;
            }
            if is_last || taken == limit {
                return Ok(());
            }
            if parked >= MAX_PARKED {
                found.more = true;
                // What is parked further on may have pending events before it that the walk has not met.
                found.spots.retain(|spot| spot.seq <= end);
                return Ok(());
            }
            page_size = PAGES.1;
        }
    }

    /// By how many come before, and not by the last one: some that were written elsewhere have no place.
    async fn page_of_pending(
        &self,
        held: &mut Held<'_>,
        pending: &Document,
        skip: usize,
        size: usize,
    ) -> Result<Vec<Spot>, DriverError> {
        let find = self.events.find(pending.clone()).sort(doc! { "seq": 1 }).hint(keys(FIFO_KEYS));
        let find = find.projection(Spot::fields()).skip(skip as u64);
        let find = find.limit(as_limit(size)).batch_size(as_batch(size));
        let mut cursor = find.session(&mut held.session).await?;
        let mut page = Vec::with_capacity(size);
        while cursor.advance(&mut held.session).await? {
            page.push(Spot::of(cursor.current())?);
        }
        Ok(page)
    }

    /// Takes events out of the order of all.
    async fn park(&self, held: &mut Held<'_>, spots: &[Spot]) -> Result<(), DriverError> {
        let ids: Vec<&Bson> = spots.iter().map(|spot| &spot.id).collect();
        // One that was written elsewhere has no hash, and none of its kind is ever stepped over: it is alone.
        let these = doc! { "_id": { "$in": ids }, "status": PENDING };
        let park = doc! { "$set": { "status": PARKED } };
        self.events.update_many(these, park).hint(keys("_id")).session(&mut held.session).await?;
        let now = held.now;
        self.add_keys(held, spots.iter().map(|spot| (spot.key.clone(), now)).collect()).await
    }
}

fn of_types(filter: &mut Document, claim: &Claim) {
    if !claim.types.is_empty() {
        filter.insert("type", doc! { "$in": &claim.types });
    }
}

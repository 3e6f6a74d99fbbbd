//! Where a claim looks for events: among the parked ones of ready keys, and the pending ones in their order.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use bson::{Bson, Document, RawDocument, doc};
use mongodb::{ClientSession, error::Error as DriverError, options::ReadConcern};
use outbox_traits::Claim;

use super::{Held, is_ready, state::values, view::View};
use crate::{
    MongoOutbox,
    document::{self, Key, PARKED, PENDING},
    indexes::{FIFO_KEYS, PARKED_KEYS, READY_KEYS, keys},
    store::{ONE_ANSWER, as_limit},
};

/// Ready keys whose parked events one command reads: the server merges so many, 200 at most, without sorting.
const KEYS: usize = 100;
/// Events that are stepped over, rather than parked, as long as there are no more of them.
pub(super) const BUDGET: usize = 1000;
/// Events that one transaction parks, roughly, so that none is long.
const MAX_PARKED: usize = 5000;
/// How many keys are passed over at once that have more than that.
const HOT: usize = 8;
/// A further page of the walk, at least and at most.
pub(super) const PAGES: (usize, usize) = (100, 2000);

/// What an event is chosen by.
pub(super) struct Spot {
    pub(super) id: Bson,
    pub(super) event: Option<String>,
    pub(super) key: Key,
    pub(super) seq: u64,
    /// Where it is whole in the page of the view, if it is.
    pub(super) in_page: Option<usize>,
}

impl Spot {
    pub(super) fn of(raw: &RawDocument) -> Result<Self, DriverError> {
        Ok(Self {
            id: document::value(raw, "_id")?,
            event: raw.get_str("eventId").ok().map(str::to_owned),
            key: document::key(raw),
            seq: document::position(raw),
            in_page: None,
        })
    }

    fn is_one_of(&self, events: &HashSet<String>) -> bool {
        self.event.as_ref().is_some_and(|event| events.contains(event))
    }

    pub(super) fn fields() -> Document {
        doc! { "eventId": 1, "partitionHash": 1, "seq": 1 }
    }
}

/// What stands in the way of a claim.
#[derive(Default)]
pub(super) struct Busy {
    /// Leased, or delivered and still to be marked so.
    pub(super) events: HashSet<String>,
    pub(super) keys: HashSet<Key>,
    /// Whether the claim has parked its share of what stands there, and is to pass over the rest.
    pub(super) is_passed: bool,
}

/// What a claim has found so far.
#[derive(Default)]
pub(super) struct Found {
    pub(super) spots: Vec<Spot>,
    /// Keys that have a document, and whose parked events were looked at.
    pub(super) ready: HashSet<Key>,
    /// Those of them that have no parked events any more: they are keys like others.
    pub(super) empty: HashSet<Key>,
    /// Pending events that were stepped over.
    pub(super) stepped: Vec<Spot>,
}

impl MongoOutbox {
    /// Finds the events to take, in order. All that is older than the last of them and of its key is among them:
    /// the walk has met so many pending events, or all, and the parked ones of each key are read from the first on.
    pub(super) async fn look(
        &self,
        moment: &mut ClientSession,
        view: &View,
        claim: &Claim,
        limit: usize,
        busy: &Busy,
    ) -> Result<Found, DriverError> {
        let mut found = Found::default();
        if !view.keys.is_empty() {
            self.find_parked(moment, view, claim, limit, busy, &mut found).await?;
        }
        self.find_pending(moment, view, claim, limit, busy, &mut found).await?;
        found.spots.sort_by_key(|spot| spot.seq);
        found.spots.truncate(limit);
        Ok(found)
    }

    /// Keys that are ready, and neither busy nor known as such; not all, where there are many.
    async fn find_ready(
        &self,
        moment: &mut ClientSession,
        view: &View,
        busy: &Busy,
        known: &HashSet<Key>,
    ) -> Result<HashSet<Key>, DriverError> {
        let is_new = |key: &&Key| !busy.keys.contains(*key) && !known.contains(*key);
        if view.has_all_keys {
            let mut due: Vec<_> =
                view.keys.iter().filter(|(_, ready_at)| is_ready(**ready_at, view.now)).collect();
            due.sort_by_key(|(_, ready_at)| **ready_at);
            return Ok(due.into_iter().map(|(key, _)| key).filter(is_new).take(KEYS).cloned().collect());
        }
        let seen = values(busy.keys.iter().chain(known));
        let due = doc! { "readyAt": { "$lte": view.now }, "_id": { "$nin": seen } };
        let find = self.keys.find(due).sort(doc! { "readyAt": 1 }).hint(keys(READY_KEYS));
        let mut cursor = find
            .limit(as_limit(KEYS))
            .batch_size(ONE_ANSWER)
            .read_concern(ReadConcern::snapshot())
            .session(&mut *moment)
            .await?;
        let mut ready = HashSet::new();
        while cursor.advance(moment).await? {
            ready.insert(cursor.deserialize_current()?.get_binary_generic("_id")?.clone());
        }
        Ok(ready)
    }

    /// Finds parked events of keys that are ready.
    async fn find_parked(
        &self,
        moment: &mut ClientSession,
        view: &View,
        claim: &Claim,
        limit: usize,
        busy: &Busy,
        found: &mut Found,
    ) -> Result<(), DriverError> {
        while found.spots.len() < limit {
            let ready = self.find_ready(moment, view, busy, &found.ready).await?;
            if ready.is_empty() {
                break;
            }
            let mut parked = doc! { "status": PARKED, "partitionHash": { "$in": values(&ready) } };
            of_types(&mut parked, claim);
            // Some may be delivered already.
            let asked = limit.saturating_add(busy.events.len());
            let find = self.events.find(parked).sort(doc! { "seq": 1 }).hint(keys(PARKED_KEYS));
            let find = find.projection(Spot::fields()).limit(as_limit(asked)).batch_size(ONE_ANSWER);
            let mut cursor = find.read_concern(ReadConcern::snapshot()).session(&mut *moment).await?;
            let (mut count, mut empty) = (0, ready.clone());
            while cursor.advance(moment).await? {
                let spot = Spot::of(cursor.current())?;
                empty.remove(&spot.key);
                count += 1;
                if !spot.is_one_of(&busy.events) {
                    found.spots.push(spot);
                }
            }
            if count < asked {
                // Of other types there may be some.
                if !claim.types.is_empty() {
                    empty = self.without_parked(moment, &empty).await?;
                }
                found.empty.extend(empty);
            }
            let is_last = ready.len() < KEYS;
            found.ready.extend(ready);
            if is_last {
                break;
            }
        }
        Ok(())
    }

    /// Which of these keys have no parked events of any type.
    async fn without_parked(
        &self,
        moment: &mut ClientSession,
        of: &HashSet<Key>,
    ) -> Result<HashSet<Key>, DriverError> {
        let mut found = HashSet::new();
        if of.is_empty() {
            return Ok(found);
        }
        let question = [
            doc! { "$match": { "_id": { "$in": values(of) } } },
            doc! { "$lookup": {
                "from": self.events.name(), "localField": "_id", "foreignField": "partitionHash", "as": "parked",
                "pipeline": [{ "$match": { "status": PARKED } }, { "$limit": 1 }, { "$project": { "_id": 1 } }],
            } },
            doc! { "$match": { "parked": [] } },
            doc! { "$project": { "_id": 1 } },
        ];
        let without = self.keys.aggregate(question).read_concern(ReadConcern::snapshot());
        let mut cursor = without.session(&mut *moment).await?;
        while cursor.advance(moment).await? {
            found.insert(cursor.current().get_binary("_id")?.bytes.to_vec());
        }
        Ok(found)
    }

    /// Walks the pending events in order, past those of busy keys. Where these are too many to be parked at once it passes over
    /// those of the keys that have most of them, if it has parked its share.
    async fn find_pending(
        &self,
        moment: &mut ClientSession,
        view: &View,
        claim: &Claim,
        limit: usize,
        busy: &Busy,
        found: &mut Found,
    ) -> Result<(), DriverError> {
        let (mut met, mut hot) = (0, Vec::new());
        let mut keys_of_leased = Vec::new();
        let enough = found.spots.len().saturating_add(limit);
        let mut page_size = view.page_size;
        let mut page = Vec::with_capacity(view.page.len());
        for (index, raw) in view.page.iter().enumerate() {
            page.push(Spot { in_page: view.is_whole.then_some(index), ..Spot::of(raw)? });
        }
        loop {
            met += page.len();
            let is_last = page.len() < page_size;
            let mut have_documents = HashSet::new();
            if !view.has_all_keys {
                let keys = page.iter().map(|spot| spot.key.clone()).filter(|key| !busy.keys.contains(key));
                have_documents = self.have_documents(moment, &keys.collect()).await?;
            }
            for spot in page {
                if spot.is_one_of(&busy.events) {
                    keys_of_leased.push(spot.key);
                    continue;
                }
                let has_document = view.keys.contains_key(&spot.key) || have_documents.contains(&spot.key);
                if busy.keys.contains(&spot.key) || has_document && !found.ready.contains(&spot.key) {
                    found.stepped.push(spot);
                    continue;
                }
                found.spots.push(spot);
                if found.spots.len() >= enough {
                    return Ok(());
                }
            }
            let are_many = found.stepped.len() >= MAX_PARKED;
            if is_last || are_many && !(busy.is_passed && hot.is_empty()) {
                return Ok(());
            }
            if are_many {
                hot = hot_keys(&found.stepped);
                let left_out = found.stepped.iter().map(|spot| &spot.key).chain(&keys_of_leased);
                met -= left_out.filter(|key| hot.contains(key)).count();
            }
            page_size = page_size.saturating_mul(2).clamp(PAGES.0, PAGES.1);
            page = self.page_of_pending(moment, claim, &hot, met, page_size).await?;
        }
    }

    /// By how many come before, and not by the last one: some that were written elsewhere have no place.
    async fn page_of_pending(
        &self,
        moment: &mut ClientSession,
        claim: &Claim,
        but_for: &[Key],
        skip: usize,
        size: usize,
    ) -> Result<Vec<Spot>, DriverError> {
        let mut these = pending(claim);
        if !but_for.is_empty() {
            these.insert("partitionHash", doc! { "$nin": values(but_for) });
        }
        let find = self.events.find(these).sort(doc! { "seq": 1 }).hint(keys(FIFO_KEYS));
        let find = find.projection(Spot::fields()).skip(skip as u64);
        let mut cursor = find
            .limit(as_limit(size))
            .batch_size(ONE_ANSWER)
            .read_concern(ReadConcern::snapshot())
            .session(&mut *moment)
            .await?;
        let mut page = Vec::with_capacity(size);
        while cursor.advance(moment).await? {
            page.push(Spot::of(cursor.current())?);
        }
        Ok(page)
    }

    /// Takes events out of the order of all.
    pub(super) async fn park(&self, held: &mut Held<'_>, spots: &[Spot]) -> Result<(), DriverError> {
        let ids: Vec<&Bson> = spots.iter().map(|spot| &spot.id).collect();
        // One that was written elsewhere has no hash, and none of its kind is ever stepped over: it is alone.
        let these = doc! { "_id": { "$in": ids }, "status": PENDING };
        let park = doc! { "$set": { "status": PARKED } };
        self.events.update_many(these, park).hint(keys("_id")).session(&mut *held.session).await?;
        let now = held.now;
        self.add_keys(held, spots.iter().map(|spot| (spot.key.clone(), now)).collect()).await
    }
}

/// The keys that have most of these events.
fn hot_keys(events: &[Spot]) -> Vec<Key> {
    let mut counts: HashMap<&Key, usize> = HashMap::new();
    for event in events {
        *counts.entry(&event.key).or_default() += 1;
    }
    let mut keys: Vec<(&Key, usize)> = counts.into_iter().collect();
    keys.sort_unstable_by_key(|(_, events)| Reverse(*events));
    keys.into_iter().take(HOT).map(|(key, _)| key.clone()).collect()
}

/// The pending events that a claim wants.
pub(super) fn pending(claim: &Claim) -> Document {
    let mut pending = doc! { "status": PENDING };
    of_types(&mut pending, claim);
    pending
}

fn of_types(filter: &mut Document, claim: &Claim) {
    if !claim.types.is_empty() {
        filter.insert("type", doc! { "$in": &claim.types });
    }
}

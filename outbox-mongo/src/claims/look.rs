//! Where a claim looks for events: among the parked ones of ready keys, and the pending ones in their order.

use std::collections::{HashMap, HashSet};

use bson::{Bson, Document, RawDocument, doc};
use mongodb::{ClientSession, error::Error as DriverError, options::ReadConcern};
use outbox_traits::Claim;

use super::{Held, choose::Effort, is_ready, passed::Start, state::values, view::View};
use crate::{
    MongoOutbox,
    document::{self, Key, PARKED, PENDING},
    indexes::{FIFO_KEYS, PARTITION_KEYS, READY_KEYS, keys},
    store::{ONE_ANSWER, as_limit},
};

/// Ready keys whose parked events one command reads: the server merges so many, 200 at most, without sorting.
const KEYS: usize = 100;
/// Events that are stepped over, rather than parked, as long as there are no more of them.
pub(super) const BUDGET: usize = 1000;
/// Events that one transaction parks at most, so that none is long.
pub(super) const MAX_PARKED: usize = 2000;
/// A key is passed over that has so many of more than these; not one that happens to be busy with a few.
const HOT: usize = 100;
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
    /// Where the next claim may begin, if this one has passed over many.
    pub(super) passed: Option<Start>,
}

impl MongoOutbox {
    /// Finds the events to take, in order. All that is older than the last of them and of its key is among them:
    /// the walk has met so many pending events, or all, and the parked ones of each key are read from the first on; and what
    /// stands before the start, if it has one, is found by key. `None` if it is to be looked for in front.
    pub(super) async fn look(
        &self,
        moment: &mut ClientSession,
        view: &View,
        claim: &Claim,
        effort: &Effort,
        busy: &Busy,
    ) -> Result<Option<Found>, DriverError> {
        let mut found = Found::default();
        if !view.keys.is_empty() {
            self.find_parked(moment, view, claim, effort.look, busy, &mut found).await?;
        }
        if let Some(start) = &effort.start
            && !self.are_blocked(moment, view, busy, &found.ready, &start.keys).await?
        {
            return Ok(None);
        }
        self.find_pending(moment, view, claim, effort, busy, &mut found).await?;
        if let Some(start) = &effort.start {
            let is_all =
                self.find_in_front(moment, (claim, start), view, busy, effort.look, &mut found).await?;
            if !is_all {
                return Ok(None);
            }
        }
        found.spots.sort_by_key(|spot| spot.seq);
        found.spots.truncate(effort.look);
        Ok(Some(found))
    }

    /// Whether all of these keys are busy or wait.
    async fn are_blocked(
        &self,
        moment: &mut ClientSession,
        view: &View,
        busy: &Busy,
        ready: &HashSet<Key>,
        all: &[Key],
    ) -> Result<bool, DriverError> {
        let others: HashSet<Key> = all.iter().filter(|key| !busy.keys.contains(*key)).cloned().collect();
        if !others.is_disjoint(ready) {
            return Ok(false);
        }
        if view.has_all_keys {
            return Ok(others.iter().all(|key| view.keys.contains_key(key)));
        }
        Ok(self.have_documents(moment, &others).await?.len() == others.len())
    }

    /// Finds what stands in front of the start, of the keys of what was found behind it or among the parked events; or, where that
    /// is nothing, of all keys but those that it is about. Whether that is all that can be taken there.
    async fn find_in_front(
        &self,
        moment: &mut ClientSession,
        (claim, start): (&Claim, &Start),
        view: &View,
        busy: &Busy,
        limit: usize,
        found: &mut Found,
    ) -> Result<bool, DriverError> {
        let is_nothing = found.spots.is_empty();
        let mut in_front = pending(claim, None);
        if is_nothing {
            in_front.insert("partitionHash", doc! { "$nin": values(&start.keys) });
            // What has no place is there too.
            in_front.insert("seq", doc! { "$not": { "$gt": document::seq(start.after) } });
        } else {
            let of: HashSet<&Key> = found.spots.iter().map(|spot| &spot.key).collect();
            in_front.insert("partitionHash", doc! { "$in": values(of) });
            in_front.insert("seq", doc! { "$lte": document::seq(start.after) });
        }
        // Some may be delivered already, and some wait.
        let asked = limit.saturating_add(busy.events.len()).saturating_add(BUDGET);
        let page = self.spots(moment, in_front, PARTITION_KEYS, 0, asked).await?;
        let is_all = page.len() < asked;
        self.sort_out(moment, view, busy, page, usize::MAX, found).await?;
        Ok(is_all || !found.spots.is_empty())
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
            let parked = self.spots(moment, parked, PARTITION_KEYS, 0, asked).await?;
            let (count, mut empty) = (parked.len(), ready.clone());
            for spot in parked {
                empty.remove(&spot.key);
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
    /// those of the keys that have many of them, if it has parked its share.
    async fn find_pending(
        &self,
        moment: &mut ClientSession,
        view: &View,
        claim: &Claim,
        effort: &Effort,
        busy: &Busy,
        found: &mut Found,
    ) -> Result<(), DriverError> {
        let enough = found.spots.len().saturating_add(effort.look);
        let (mut met, mut hot) = (Vec::new(), HashSet::new());
        let mut page_size = view.page_size;
        let mut page = Vec::with_capacity(view.page.len());
        for (index, raw) in view.page.iter().enumerate() {
            page.push(Spot { in_page: view.is_whole.then_some(index), ..Spot::of(raw)? });
        }
        loop {
            met.extend(page.iter().map(|spot| spot.key.clone()));
            let is_last = page.len() < page_size;
            self.sort_out(moment, view, busy, page, enough, found).await?;
            let are_many = found.stepped.len() >= MAX_PARKED;
            if found.spots.len() >= enough || is_last || are_many && !busy.is_passed {
                return Ok(());
            }
            if are_many {
                // Never fewer: what was passed over is stepped over already.
                hot = hot_keys(&found.stepped);
            }
            let mut these = pending(claim, effort.start.as_ref());
            if !hot.is_empty() {
                these.insert("partitionHash", doc! { "$nin": values(&hot) });
            }
            // By how many come before, and not by the last one: some that were written elsewhere have no place.
            let before = met.iter().filter(|key| !hot.contains(*key)).count();
            page_size = page_size.saturating_mul(2).clamp(PAGES.0, PAGES.1);
            page = self.spots(moment, these, FIFO_KEYS, before, page_size).await?;
            // What a claim that began behind comes past, the next one in front does too.
            if are_many && effort.start.is_none() {
                let is_free = |spot: &&Spot| !busy.keys.contains(&spot.key);
                let after = match (page.iter().find(is_free), page.last()) {
                    (Some(free), _) => free.seq.saturating_sub(1),
                    (None, Some(last)) => last.seq,
                    (None, None) => self.last_place(moment).await?,
                };
                let keys = hot.iter().cloned().collect();
                found.passed = Some(Start { types: claim.types.clone(), keys, after });
            }
        }
    }

    /// Puts what can be taken to what is found, until that is enough, and what comes before to what is in the way.
    async fn sort_out(
        &self,
        moment: &mut ClientSession,
        view: &View,
        busy: &Busy,
        page: Vec<Spot>,
        enough: usize,
        found: &mut Found,
    ) -> Result<(), DriverError> {
        let mut have_documents = HashSet::new();
        if !view.has_all_keys {
            let keys = page.iter().map(|spot| spot.key.clone()).filter(|key| !busy.keys.contains(key));
            have_documents = self.have_documents(moment, &keys.collect()).await?;
        }
        for spot in page.into_iter().filter(|spot| !spot.is_one_of(&busy.events)) {
            let has_document = view.keys.contains_key(&spot.key) || have_documents.contains(&spot.key);
            if busy.keys.contains(&spot.key) || has_document && !found.ready.contains(&spot.key) {
                found.stepped.push(spot);
                continue;
            }
            found.spots.push(spot);
            if found.spots.len() >= enough {
                break;
            }
        }
        Ok(())
    }

    /// The place of the last pending event, or before all others.
    async fn last_place(&self, moment: &mut ClientSession) -> Result<u64, DriverError> {
        let last = self.events.find_one(doc! { "status": PENDING }).sort(doc! { "seq": -1 });
        let last =
            last.projection(Spot::fields()).hint(keys(FIFO_KEYS)).read_concern(ReadConcern::snapshot());
        let last = last.session(&mut *moment).await?;
        Ok(last.map_or(0, |last| document::position(&last)))
    }

    /// The first of these events, but for so many.
    async fn spots(
        &self,
        moment: &mut ClientSession,
        these: Document,
        index: &str,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Spot>, DriverError> {
        let find =
            self.events.find(these).sort(doc! { "seq": 1 }).hint(keys(index)).projection(Spot::fields());
        let find = find.skip(skip as u64).limit(as_limit(limit)).batch_size(ONE_ANSWER);
        let mut cursor = find.read_concern(ReadConcern::snapshot()).session(&mut *moment).await?;
        let mut spots = Vec::new();
        while cursor.advance(moment).await? {
            spots.push(Spot::of(cursor.current())?);
        }
        Ok(spots)
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

/// The keys that have many of these events.
fn hot_keys(events: &[Spot]) -> HashSet<Key> {
    let mut counts: HashMap<&Key, usize> = HashMap::new();
    for event in events {
        *counts.entry(&event.key).or_default() += 1;
    }
    counts.into_iter().filter(|(_, events)| *events >= HOT).map(|(key, _)| key.clone()).collect()
}

/// The pending events that a claim wants, from there on.
pub(super) fn pending(claim: &Claim, start: Option<&Start>) -> Document {
    let mut pending = doc! { "status": PENDING };
    if let Some(start) = start {
        pending.insert("seq", doc! { "$gt": document::seq(start.after) });
    }
    of_types(&mut pending, claim);
    pending
}

fn of_types(filter: &mut Document, claim: &Claim) {
    if !claim.types.is_empty() {
        filter.insert("type", doc! { "$in": &claim.types });
    }
}

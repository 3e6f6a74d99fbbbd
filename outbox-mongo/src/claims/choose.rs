//! What a claim takes: from leases that ran out to its own.

use bson::{Bson, Document, doc};
use mongodb::error::Error as DriverError;
use outbox_traits::{Claim, Event, Lease, Leased};

use super::{
    Held, end,
    look::{Busy, Spot},
    state::{Entry, Leases},
};
use crate::{
    MongoOutbox,
    document::{self, Key, PARKED, PENDING},
    indexes::{ID_KEYS, keys},
    store::{BATCH, as_batch},
};

/// How often one claim sets undecodable events aside and looks again.
const MAX_LOOKS: usize = 100;

impl MongoOutbox {
    /// What it leases; `None` where it has made way, and found nothing yet.
    pub(super) async fn claim_once(
        &self,
        held: &mut Held<'_>,
        claim: &Claim,
    ) -> Result<Option<Vec<Leased>>, DriverError> {
        let limit = claim.limit.min(Claim::MAX_LIMIT);
        let mut leases = self.leases(held, Document::new()).await?;
        self.expire(held, &mut leases).await?;
        let mut busy = Busy { has_keys: self.has_keys(held).await?, ..Busy::default() };
        for entry in leases.into_iter().flat_map(|leases| leases.entries) {
            busy.events.insert(entry.event);
            busy.keys.insert(entry.key);
        }
        let mut look = limit;
        for _ in 0..MAX_LOOKS {
            let found = self.look(held, claim, look, &mut busy).await?;
            let is_over = found.spots.is_empty();
            let Some(mut chosen) = self.read(held, found.spots).await? else {
                // Where there is one there may be many: they must not cost a look each.
                look = limit.max(BATCH);
                continue;
            };
            chosen.truncate(limit);
            if is_over {
                return Ok((!found.more).then(Vec::new));
            }
            let entries = chosen
                .iter()
                .map(|(key, event, _, _)| Entry { event: event.id().to_string(), key: key.clone() });
            let leases = Leases::new(&claim.worker, end(held.now, claim.lease), entries.collect());
            self.add_leases(held, &leases).await?;
            let token = leases.token();
            let leased = chosen.into_iter().map(|(_, event, attempts, failures)| {
                let lease = Lease::new(event.id(), token);
                Leased::new(event, lease, attempts.saturating_add(1), failures)
            });
            return Ok(Some(leased.collect()));
        }
        Ok(None)
    }

    async fn has_keys(&self, held: &mut Held<'_>) -> Result<bool, DriverError> {
        let find = self.keys.find_one(doc! {}).projection(doc! { "_id": 1 });
        Ok(find.session(&mut held.session).await?.is_some())
    }

    /// Ends leases that ran out: each of their events has one more started attempt.
    async fn expire(&self, held: &mut Held<'_>, leases: &mut Vec<Leases>) -> Result<(), DriverError> {
        let (expired, active): (Vec<_>, Vec<_>) =
            std::mem::take(leases).into_iter().partition(|leases| leases.until <= held.now);
        *leases = active;
        if expired.is_empty() {
            return Ok(());
        }
        let events: Vec<&str> =
            expired.iter().flat_map(|leases| &leases.entries).map(|entry| entry.event.as_str()).collect();
        let these = doc! { "eventId": { "$in": events }, "status": { "$in": [PENDING, PARKED] } };
        let attempt = doc! { "$inc": { "attempts": 1 } };
        self.events.update_many(these, attempt).hint(keys(ID_KEYS)).session(&mut held.session).await?;
        let ids: Vec<&Bson> = expired.iter().map(|leases| &leases.id).collect();
        self.leases.delete_many(doc! { "_id": { "$in": ids } }).session(&mut held.session).await?;
        Ok(())
    }

    /// Reads the events themselves, in order; `None` where some could not be, and were set aside.
    #[allow(clippy::type_complexity, reason = "a row, taken apart at once")]
    async fn read(
        &self,
        held: &mut Held<'_>,
        spots: Vec<Spot>,
    ) -> Result<Option<Vec<(Key, Event, u32, u32)>>, DriverError> {
        let mut read = Vec::with_capacity(spots.len());
        let mut undecodable = Vec::new();
        for spots in spots.chunks(BATCH) {
            let ids: Vec<&Bson> = spots.iter().map(|spot| &spot.id).collect();
            let find = self.events.find(doc! { "_id": { "$in": ids } }).hint(keys("_id"));
            let find = find.batch_size(as_batch(spots.len()));
            let mut cursor = find.session(&mut held.session).await?;
            while cursor.advance(&mut held.session).await? {
                let raw = cursor.current();
                match document::event(raw) {
                    Ok(event) => {
                        let counts = (document::count(raw, "attempts"), document::count(raw, "failures"));
                        let position = document::position(raw);
                        read.push((position, (document::key(raw), event, counts.0, counts.1)));
                    }
                    Err(reason) => undecodable.push((raw.to_owned(), reason)),
                }
            }
        }
        if undecodable.is_empty() {
            read.sort_by_key(|(position, _)| *position);
            return Ok(Some(read.into_iter().map(|(_, read)| read).collect()));
        }
        for (raw, reason) in undecodable {
            let Some(id) = raw.get("_id")? else { continue };
            let this = doc! { "_id": Bson::try_from(id)? };
            let aside = document::set_aside(&raw, &reason);
            self.events.update_one(this, aside).session(&mut held.session).await?;
        }
        Ok(None)
    }
}

//! Settlements as delivered and released, which need no transaction.
//!
//! That an event is delivered is written into the document of its lease first, by one change that holds only while
//! the lease does. From then on it is so, whatever happens: its own document follows, and at last the lease goes.
//! Who finds such a lease in between takes its events for delivered, and one that has run out is followed up by the
//! claim that finds it. A transaction over the events themselves would take several times as long.

use std::collections::{HashMap, HashSet};

use bson::{Bson, doc};
use mongodb::{
    error::Error as DriverError,
    options::{ReadConcern, WriteConcern},
};
use outbox_traits::{Outcome, Result, Retention, Settlement};

use super::{
    counts::{NO_COUNT, tidy},
    state::{Entry, Leases},
};
use crate::{
    MongoOutbox,
    document::{DELIVERED, PARKED, PENDING},
    error,
    indexes::keys,
};

/// Events that one command marks or deletes.
const AT_ONCE: usize = 5000;

/// What one lease says is delivered, before the events do.
#[derive(Debug)]
pub(super) struct Decided {
    /// Of the lease.
    pub(super) id: Bson,
    pub(super) entries: Vec<Entry>,
    /// Whether nothing else is left of the lease.
    pub(super) is_all: bool,
}

/// Whether settlements can be written without a transaction.
pub(super) fn is_simple(settlements: &[Settlement]) -> bool {
    settlements.iter().all(|one| matches!(one.outcome, Outcome::Delivered | Outcome::Released))
}

impl MongoOutbox {
    pub(super) async fn settle_simply(
        &self,
        settlements: &[Settlement],
    ) -> Result<Vec<Result<()>>, DriverError> {
        let mut of_tokens: HashMap<String, HashMap<String, bool>> = HashMap::new();
        for Settlement { lease, outcome } in settlements {
            let of_token = of_tokens.entry(lease.token().to_string()).or_default();
            // The first of two of the same counts.
            of_token.entry(lease.event().to_string()).or_insert(matches!(outcome, Outcome::Delivered));
        }
        let mut took = HashSet::new();
        for (token, of_token) in of_tokens {
            let (taken, decided) = self.decide(&token, &of_token).await?;
            took.extend(taken.into_iter().map(|event| (token.clone(), event)));
            for decided in &decided {
                self.follow_up(decided).await?;
            }
        }
        let answer = |Settlement { lease, .. }: &Settlement| {
            // Each is there once, so that a second one of the same finds nothing.
            let name = (lease.token().to_string(), lease.event().to_string());
            if took.remove(&name) { Ok(()) } else { Err(lease.lost()) }
        };
        Ok(settlements.iter().map(answer).collect())
    }

    /// Writes into leases what becomes of their events: whether each is delivered, or released. Returns those that
    /// they have.
    async fn decide(
        &self,
        token: &str,
        settled: &HashMap<String, bool>,
    ) -> Result<(Vec<String>, Vec<Decided>), DriverError> {
        let (mut taken, mut decided) = (Vec::new(), Vec::new());
        'again: loop {
            // A renewal of some makes two of one. Read as they are: they are written only as long as they are so, and after an
            // election what the majority has may for a moment be older than what it had.
            let find = self.leases.find(doc! { "token": token, "$expr": { "$gt": ["$until", "$$NOW"] } });
            let mut cursor = find.read_concern(ReadConcern::local()).await?;
            while cursor.advance().await? {
                let leases = Leases::of(cursor.current())?;
                match self.decide_on(leases, settled).await? {
                    Some((of_this, one)) => {
                        taken.extend(of_this);
                        decided.extend(one);
                    }
                    // Somebody has changed it, or it ran out.
                    None => continue 'again,
                }
            }
            return Ok((taken, decided));
        }
    }

    async fn decide_on(
        &self,
        mut leases: Leases,
        settled: &HashMap<String, bool>,
    ) -> Result<Option<(Vec<String>, Option<Decided>)>, DriverError> {
        let (mut taken, mut delivered, mut again) = (Vec::new(), Vec::new(), Vec::new());
        let count = leases.entries.len();
        leases.entries.retain_mut(|entry| match settled.get(&entry.event) {
            Some(is_delivered) if !entry.is_delivered => {
                taken.push(entry.event.clone());
                entry.is_delivered = *is_delivered;
                if *is_delivered {
                    delivered.push(entry.clone());
                }
                *is_delivered
            }
            // By a call that was cut off before it was done: this one does the rest.
            Some(true) => {
                again.push(entry.clone());
                true
            }
            _ => true,
        });
        let are_all = delivered.len() == count;
        delivered.append(&mut again);
        let is_all = leases.entries.len() == delivered.len();
        let decided = Decided { id: leases.id.clone(), entries: delivered, is_all };
        let decided = (!decided.entries.is_empty()).then_some(decided);
        if taken.is_empty() {
            return Ok(Some((taken, decided)));
        }
        let mut this = leases.unchanged();
        this.insert("$expr", doc! { "$gt": ["$until", "$$NOW"] });
        let is_written = if leases.entries.is_empty() {
            self.past_stalled(self.leases.delete_one(this).into_future()).await?.deleted_count == 1
        } else {
            let set = if are_all {
                doc! { DELIVERED: true }
            } else {
                doc! { "entries": leases.entries()? }
            };
            let update = doc! { "$set": set, "$inc": { "revision": 1_i64 } };
            self.past_stalled(self.leases.update_one(this, update).into_future()).await?.matched_count == 1
        };
        Ok(is_written.then_some((taken, decided)))
    }

    /// Makes delivered what a lease says is so, and takes it from the lease.
    pub(super) async fn follow_up(&self, decided: &Decided) -> Result<(), DriverError> {
        self.mark_delivered(&decided.entries).await?;
        // Nothing hangs on it: who finds the lease again only looks once more.
        let soon = WriteConcern::nodes(1);
        let this = doc! { "_id": &decided.id };
        if decided.is_all {
            let done = self.leases.delete_one(this).write_concern(soon);
            done.await?;
            return Ok(());
        }
        let events: Vec<&str> = decided.entries.iter().map(|entry| entry.event.as_str()).collect();
        let rest = doc! {
            "$pull": { "entries": { "event": { "$in": events }, DELIVERED: true } }, "$inc": { "revision": 1_i64 },
        };
        self.leases.update_one(this, rest).write_concern(soon).await?;
        Ok(())
    }

    /// As often as one likes: it changes only what is open, and that of no event which was saved anew. It would not have
    /// to wait for the majority, since the lease ends later; but the next claim would meet all these events then.
    pub(super) async fn mark_delivered(&self, entries: &[Entry]) -> Result<(), DriverError> {
        for entries in entries.chunks(AT_ONCE) {
            // A server changes one after the other: each half by a command of its own takes two thirds of the time.
            let (first, rest) = entries.split_at(entries.len().div_ceil(2));
            self.past_stalled(async { tokio::try_join!(self.mark(first), self.mark(rest)) }).await?;
        }
        Ok(())
    }

    async fn mark(&self, entries: &[Entry]) -> Result<(), DriverError> {
        if entries.is_empty() {
            return Ok(());
        }
        let ids: Vec<&Bson> = entries.iter().map(|entry| &entry.id).collect();
        let these = || doc! { "_id": { "$in": &ids }, "status": { "$in": [PENDING, PARKED] } };
        if self.retention == Retention::DeleteOnDelivery {
            self.events.delete_many(these()).hint(keys("_id")).await?;
            return Ok(());
        }
        let delivered = || {
            doc! {
                "$set": { "status": DELIVERED }, "$currentDate": { "deliveredAt": true },
                "$inc": { "attempts": 1 }, "$unset": { "retryAt": "" },
            }
        };
        let mark = || self.events.update_many(these(), delivered()).hint(keys("_id"));
        match mark().await {
            Err(error) if error::code(&error).is_some_and(|code| NO_COUNT.contains(&code)) => {
                self.events.update_many(these(), tidy()).hint(keys("_id")).await?;
                mark().await?;
            }
            marked => drop(marked?),
        }
        Ok(())
    }
}

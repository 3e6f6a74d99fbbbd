//! Renewals, settlements, and what an acknowledgement ends.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use mongodb::error::Error as DriverError;
use outbox_traits::{Lease, Outcome, Result, Settlement};
use uuid::Uuid;

use super::{
    Held,
    counts::{is_tidy, tidy},
    deliver::Decided,
    end, is_held, is_ready, later,
    state::{Entry, Leases, values},
};
use crate::{
    MongoOutbox,
    document::{self, DEAD_LETTER, HOLDS_KEY, Key, PARKED, PENDING, key_value, reason},
    indexes::{ID_KEYS, RETRY_KEYS, key_document, keys},
    store::{BATCH, COMMAND_BYTES, ONE_ANSWER, runs},
};

/// How deliveries failed: what is the same of many is written by one command.
#[derive(Clone, PartialEq, Eq, Hash)]
enum End<'a> {
    /// With the hash, where the document has none: what waits is found by it.
    Waiting(DateTime, &'a str, Option<Key>),
    /// And whether it holds its key, and whether it has a place in the order.
    Dead(&'a str, bool, bool),
}

impl End<'_> {
    fn error(&self) -> String {
        let (Self::Waiting(_, error, _) | Self::Dead(error, ..)) = self;
        reason(error)
    }

    fn update(&self, now: DateTime) -> Document {
        let mut set = doc! {};
        let mut update = doc! {};
        match self {
            Self::Waiting(retry_at, _, hash) => {
                set.extend(doc! { "status": PARKED, "retryAt": *retry_at });
                if let Some(key) = hash {
                    set.insert("partitionHash", key_value(key));
                }
            }
            Self::Dead(_, holds_key, has_place) => {
                set.extend(doc! { "status": DEAD_LETTER, "deadAt": now });
                if *holds_key {
                    set.insert(HOLDS_KEY, true);
                }
                if !has_place {
                    // Pages of dead letters go by it.
                    update.insert("$currentDate", doc! { "seq": { "$type": "timestamp" } });
                }
                update.insert("$unset", doc! { "retryAt": "" });
            }
        }
        set.extend(doc! { "lastFailedAt": now, "lastError": self.error() });
        // Where there is none, it is set.
        update.insert("$min", doc! { "firstFailedAt": now });
        update.insert("$inc", doc! { "attempts": 1, "failures": 1 });
        update.insert("$set", set);
        update
    }
}

/// Of an event that is still to be delivered.
#[expect(clippy::struct_excessive_bools, reason = "each is about another field of the document")]
struct Open {
    key: Key,
    has_hash: bool,
    has_no_key: bool,
    has_place: bool,
    is_tidy: bool,
}

impl MongoOutbox {
    /// The leases with these tokens that did not run out.
    async fn held_leases(
        &self,
        held: &mut Held<'_>,
        of: impl Iterator<Item = Lease>,
    ) -> Result<Vec<Leases>, DriverError> {
        let tokens: HashSet<String> = of.map(|lease| lease.token().to_string()).collect();
        let filter = doc! {
            "token": { "$in": tokens.into_iter().collect::<Vec<_>>() }, "until": { "$gt": held.now },
        };
        self.leases(held, filter).await
    }

    pub(super) async fn renew_once(
        &self,
        held: &mut Held<'_>,
        leases: &[Lease],
        length: Duration,
    ) -> Result<Vec<Result<()>>, DriverError> {
        let until = end(held.now, length);
        let wanted: HashSet<(String, String)> = leases.iter().map(name).collect();
        let mut renewed = HashSet::new();
        for mut old in self.held_leases(held, leases.iter().copied()).await? {
            let (again, rest): (Vec<Entry>, Vec<Entry>) =
                std::mem::take(&mut old.entries).into_iter().partition(|entry| {
                    !entry.is_delivered && wanted.contains(&(old.token.clone(), entry.event.clone()))
                });
            renewed.extend(again.iter().map(|entry| (old.token.clone(), entry.event.clone())));
            if rest.is_empty() {
                self.keep_leases(held, &Leases { until, entries: again, ..old }).await?;
            } else if !again.is_empty() {
                let id = Bson::String(Uuid::new_v4().to_string());
                let new = Leases { id, until, entries: again, ..old.clone() };
                self.add_leases(held, &new).await?;
                self.keep_leases(held, &Leases { entries: rest, ..old }).await?;
            }
        }
        let answer = |lease: &Lease| if renewed.contains(&name(lease)) { Ok(()) } else { Err(lease.lost()) };
        Ok(leases.iter().map(answer).collect())
    }

    /// Beside the answers, what is delivered and to be marked so after the commit.
    pub(super) async fn settle_once(
        &self,
        held: &mut Held<'_>,
        settlements: &[Settlement],
    ) -> Result<(Vec<Result<()>>, Vec<Decided>), DriverError> {
        let leases = self.held_leases(held, settlements.iter().map(|settlement| settlement.lease)).await?;
        let mut names: HashSet<(String, String)> = leases
            .iter()
            .flat_map(|leases| {
                let open = leases.entries.iter().filter(|entry| !entry.is_delivered);
                open.map(|entry| (leases.token.clone(), entry.event.clone()))
            })
            .collect();
        // Each takes its lease away, so that a second one of the same finds nothing.
        let valid: Vec<bool> =
            settlements.iter().map(|settlement| names.remove(&name(&settlement.lease))).collect();
        let valid = || settlements.iter().zip(&valid);
        let ids = valid().filter(|(_, is_valid)| **is_valid).map(|(one, _)| one.lease.event().to_string());
        let open = self.open(held, ids.collect()).await?;

        let (mut ends, mut waiting): (HashMap<End<'_>, Vec<String>>, HashMap<Key, DateTime>) =
            (HashMap::new(), HashMap::new());
        let mut holding: HashMap<Key, HashSet<String>> = HashMap::new();
        let mut answers = Vec::with_capacity(settlements.len());
        let (mut delivered, mut untidy) = (HashSet::new(), Vec::new());
        for (Settlement { lease, outcome }, is_valid) in valid() {
            let id = lease.event().to_string();
            let Some(event) = open.get(&id).filter(|_| *is_valid) else {
                answers.push(Err(lease.lost()));
                continue;
            };
            answers.push(Ok(()));
            let end = match outcome {
                Outcome::Delivered => {
                    delivered.insert(name(lease));
                    continue;
                }
                Outcome::DeadLetter { error, holds_key } => {
                    let holds_key = *holds_key && !event.has_no_key;
                    if holds_key {
                        holding.entry(event.key.clone()).or_default().insert(id.clone());
                    }
                    End::Dead(error, holds_key, event.has_place)
                }
                Outcome::Retry { after, error } => {
                    let retry_at = later(held.now, *after);
                    let last = waiting.entry(event.key.clone()).or_insert(retry_at);
                    *last = retry_at.max(*last);
                    End::Waiting(retry_at, error, (!event.has_hash).then(|| event.key.clone()))
                }
                // An outcome of a later version of the contract is none that this one could write.
                _ => continue,
            };
            if !event.is_tidy {
                untidy.push(id.clone());
            }
            ends.entry(end).or_default().push(id);
        }
        self.write_ends(held, ends, untidy).await?;
        let is_delivery = |one: &&Settlement| matches!(one.outcome, Outcome::Delivered);
        let asked: HashSet<_> = settlements.iter().filter(is_delivery).map(|one| name(&one.lease)).collect();
        let mut decided = Vec::new();
        for mut leases in leases {
            let mut of_these = Vec::new();
            let token = leases.token.clone();
            leases.entries.retain_mut(|entry| {
                let name = (token.clone(), entry.event.clone());
                entry.is_delivered |= delivered.contains(&name);
                // Also what a call had decided that was cut off before it was done.
                if entry.is_delivered && asked.contains(&name) {
                    of_these.push(entry.clone());
                }
                entry.is_delivered || names.contains(&name)
            });
            self.keep_leases(held, &leases).await?;
            if !of_these.is_empty() {
                let is_all = leases.entries.len() == of_these.len();
                decided.push(Decided { id: leases.id, entries: of_these, is_all });
            }
        }
        if !waiting.is_empty() {
            self.add_keys(held, waiting).await?;
        }
        self.hold_also(held, holding).await?;
        Ok((answers, decided))
    }

    /// Many with one command: where the times of retries differ, hardly two are the same.
    async fn write_ends(
        &self,
        held: &mut Held<'_>,
        ends: HashMap<End<'_>, Vec<String>>,
        untidy: Vec<String>,
    ) -> Result<(), DriverError> {
        let now = held.now;
        let update = |(ids, change): (Vec<String>, Bson)| {
            let these = doc! { "eventId": { "$in": ids }, "status": { "$in": [PENDING, PARKED] } };
            RawDocumentBuf::try_from(&doc! {
                "q": these, "u": change, "multi": true, "hint": key_document(ID_KEYS),
            })
        };
        let before = (!untidy.is_empty()).then(|| (untidy, tidy().into()));
        let ends = ends.into_iter().map(|(end, ids)| (ids, end.update(now).into()));
        let updates: Vec<RawDocumentBuf> =
            before.into_iter().chain(ends).map(update).collect::<Result<_, _>>()?;
        for some in runs(&updates, BATCH, COMMAND_BYTES, |update| update.as_bytes().len()) {
            self.update(held, self.events.name(), some).await?;
        }
        Ok(())
    }

    /// Those of the events that are still to be delivered.
    async fn open(
        &self,
        held: &mut Held<'_>,
        ids: Vec<String>,
    ) -> Result<HashMap<String, Open>, DriverError> {
        let these = doc! { "eventId": { "$in": ids }, "status": { "$in": [PENDING, PARKED] } };
        let find = self.events.find(these).hint(keys(ID_KEYS)).batch_size(ONE_ANSWER);
        let find = find.projection(doc! {
            "eventId": 1, "partitionHash": 1, "seq": 1, "attempts": 1, "failures": 1, "firstFailedAt": 1,
        });
        let mut cursor = find.session(&mut *held.session).await?;
        let mut open = HashMap::new();
        while cursor.advance(&mut *held.session).await? {
            let raw = cursor.current();
            let event = Open {
                key: document::key(raw),
                has_hash: document::stored_key(raw).is_some(),
                has_no_key: document::has_no_key(raw),
                has_place: raw.get_timestamp("seq").is_ok(),
                is_tidy: is_tidy(raw),
            };
            open.insert(raw.get_str("eventId")?.to_owned(), event);
        }
        Ok(open)
    }

    pub(super) async fn deliver_once(
        &self,
        held: &mut Held<'_>,
        ids: &[String],
        leased: &[&String],
    ) -> Result<(), DriverError> {
        let gone: HashSet<&str> = ids.iter().map(String::as_str).collect();
        for mut leases in self.leases(held, Document::new()).await? {
            let count = leases.entries.len();
            leases.entries.retain(|entry| !gone.contains(entry.event.as_str()));
            if leases.entries.len() != count {
                self.keep_leases(held, &leases).await?;
            }
        }
        let mut these = doc! { "eventId": { "$in": ids } };
        let find = self.events.find(these.clone()).hint(keys(ID_KEYS)).batch_size(ONE_ANSWER);
        let find = find.projection(doc! { "eventId": 1, "partitionHash": 1 });
        let mut cursor = find.session(&mut *held.session).await?;
        let mut changed = HashSet::new();
        while cursor.advance(&mut *held.session).await? {
            changed.insert(document::key(cursor.current()));
        }
        // The others are delivered already: one of their names that is pending was saved anew.
        let of_leases = doc! { "status": PENDING, "eventId": { "$in": leased } };
        these.insert("$or", [doc! { "status": PARKED }, of_leases]);
        self.mark_acknowledged(these, Some(&mut *held)).await?;
        self.replace_keys(held, &changed).await
    }

    /// Of keys that are not ready yet, when they are, after something of them has ceased to wait.
    async fn replace_keys(&self, held: &mut Held<'_>, changed: &HashSet<Key>) -> Result<(), DriverError> {
        let mut known: HashMap<Key, DateTime> = self.keyed(held, changed).await?;
        known.retain(|_, ready_at| !is_ready(*ready_at, held.now) && !is_held(*ready_at));
        self.free_keys(held, known.into_keys()).await
    }

    /// Says of keys when they are ready: when nothing of them waits for a retry any more.
    pub(super) async fn free_keys(
        &self,
        held: &mut Held<'_>,
        free: impl Iterator<Item = Key>,
    ) -> Result<(), DriverError> {
        let mut ready: HashMap<Key, DateTime> = free.map(|key| (key, held.now)).collect();
        if ready.is_empty() {
            return Ok(());
        }
        let waiting = doc! {
            "status": PARKED, "partitionHash": { "$in": values(ready.keys()) },
            "retryAt": { "$gt": held.now },
        };
        let find = self.events.find(waiting).hint(keys(RETRY_KEYS));
        let find = find.projection(doc! { "partitionHash": 1, "retryAt": 1 });
        let mut cursor = find.session(&mut *held.session).await?;
        while cursor.advance(&mut *held.session).await? {
            let raw = cursor.current();
            let retry_at = raw.get_datetime("retryAt")?;
            if let Some(time) = ready.get_mut(&document::key(raw)) {
                *time = retry_at.max(*time);
            }
        }
        self.place_keys(held, ready).await
    }
}

/// A lease as the documents name it.
fn name(lease: &Lease) -> (String, String) {
    (lease.token().to_string(), lease.event().to_string())
}

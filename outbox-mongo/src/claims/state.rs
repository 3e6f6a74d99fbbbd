//! Leases and keys as they are stored.

use std::collections::{HashMap, HashSet};

use bson::{
    Bson, DateTime, Document, RawArrayBuf, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, doc, raw::CStr,
    rawdoc,
};
use mongodb::{ClientSession, error::Error as DriverError, options::ReadConcern};
use uuid::Uuid;

use super::{Held, LOCK, NEVER, stalled::SESSIONS};
use crate::{
    MongoOutbox,
    document::{self, DELIVERED, Key, key_value},
    store::ONE_ANSWER,
};

/// Of a key: the dead letters that hold it.
const HELD_BY: &str = "heldBy";

/// Leases of one claim that end together.
#[derive(Clone, Debug)]
pub(super) struct Leases {
    pub(super) id: Bson,
    pub(super) token: String,
    pub(super) worker: String,
    pub(super) until: DateTime,
    /// Counts the changes of the document, for who changes it by what it has read.
    pub(super) revision: i64,
    pub(super) entries: Vec<Entry>,
}

/// A leased event.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The `_id` of its document.
    pub(super) id: Bson,
    pub(super) event: String,
    pub(super) key: Key,
    /// Whether it is settled as delivered, whatever its own document says yet.
    pub(super) is_delivered: bool,
}

impl Entry {
    fn of(document: &RawDocument, is_delivered: bool) -> Result<Self, DriverError> {
        Ok(Self {
            id: document::value(document, "id")?,
            event: document.get_str("event")?.to_owned(),
            key: document.get_binary("key")?.bytes.to_vec(),
            is_delivered: is_delivered || document.get_bool(DELIVERED).unwrap_or(false),
        })
    }

    fn document(&self) -> Result<RawDocumentBuf, DriverError> {
        let id = RawBson::try_from(self.id.clone())?;
        let mut document = rawdoc! { "event": self.event.as_str(), "key": key_value(&self.key), "id": id };
        if self.is_delivered {
            document.append(<&CStr>::try_from(DELIVERED)?, true);
        }
        Ok(document)
    }
}

/// What is beside the events, for those that have no lock.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// The ids of leased events.
    pub(crate) leased: Vec<String>,
    /// The ids of events that are settled as delivered, whatever their documents say yet.
    pub(crate) delivered: Vec<String>,
    /// Whether there are, perhaps, parked events.
    pub(crate) has_keys: bool,
}

impl Beside {
    /// Those of these events that are leased, and the others.
    pub(crate) fn part<'a>(&self, ids: &'a [String]) -> (Vec<&'a String>, Vec<&'a String>) {
        let leased: HashSet<&String> = self.leased.iter().collect();
        ids.iter().partition(|id| leased.contains(id))
    }

    fn add(&mut self, document: &RawDocument) -> Result<(), DriverError> {
        if document.get("token")?.is_none() {
            self.has_keys = true;
            return Ok(());
        }
        let is_over = document.get_bool("isOver")?;
        for entry in Leases::of(document)?.entries {
            if entry.is_delivered {
                self.delivered.push(entry.event);
            } else if !is_over {
                self.leased.push(entry.event);
            }
        }
        Ok(())
    }
}

impl Leases {
    /// Of a new claim.
    pub(super) fn new(worker: &str, until: DateTime, entries: Vec<Entry>) -> Self {
        let token = Uuid::new_v4().to_string();
        let id = Bson::String(token.clone());
        Self { id, token, worker: document::reason(worker), until, revision: 0, entries }
    }

    pub(super) fn token(&self) -> Uuid {
        self.token.parse().unwrap_or_default()
    }

    pub(super) fn of(document: &RawDocument) -> Result<Self, DriverError> {
        let are_delivered = document.get_bool(DELIVERED).unwrap_or(false);
        let mut entries = Vec::new();
        for entry in document.get_array("entries")? {
            if let RawBsonRef::Document(entry) = entry? {
                entries.push(Entry::of(entry, are_delivered)?);
            }
        }
        Ok(Self {
            id: document::value(document, "_id")?,
            token: document.get_str("token")?.to_owned(),
            worker: document.get_str("worker")?.to_owned(),
            until: document.get_datetime("until")?,
            revision: document.get_i64("revision")?,
            entries,
        })
    }

    /// As a claim writes them.
    pub(super) fn document(&self, now: DateTime) -> Result<RawDocumentBuf, DriverError> {
        Ok(rawdoc! {
            "_id": RawBson::try_from(self.id.clone())?, "token": self.token.as_str(),
            "worker": self.worker.as_str(), "until": self.until, "claimedAt": now, "revision": self.revision,
            "entries": self.list()?,
        })
    }

    fn list(&self) -> Result<RawArrayBuf, DriverError> {
        self.entries.iter().map(Entry::document).collect()
    }

    /// The list as a part of a larger change.
    pub(super) fn entries(&self) -> Result<Bson, DriverError> {
        Ok(Bson::try_from(RawBson::Array(self.list()?))?)
    }

    /// This document, if nobody has changed it since it was read.
    pub(super) fn unchanged(&self) -> Document {
        doc! { "_id": &self.id, "revision": self.revision }
    }
}

pub(super) fn values<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Vec<Bson> {
    keys.into_iter().map(|key| Bson::Binary(key_value(key))).collect()
}

impl MongoOutbox {
    /// The collections beside the events, each with a question for a document there that no outbox has.
    pub(crate) fn others_beside(&self) -> [(&str, Vec<Document>); 2] {
        let of_leases = [
            doc! { "token": { "$type": "string" }, "entries": { "$type": "array" } },
            doc! { "_id": LOCK, "version": { "$type": "number" } },
            doc! { "_id": SESSIONS, "sessions": { "$type": "array" } },
        ];
        let of_keys = doc! { "_id": { "$type": "binData" }, "readyAt": { "$type": "date" } };
        let other = |ours: &[Document]| doc! { "$match": { "$nor": ours } };
        // There may be many keys. But an `_id` of another kind comes before or after all of them.
        let end = |order: i32| vec![doc! { "$sort": { "_id": order } }, doc! { "$limit": 1 }];
        let mut ends = end(1);
        ends.push(doc! { "$unionWith": { "coll": self.keys.name(), "pipeline": end(-1) } });
        ends.push(other(&[of_keys]));
        [(self.leases.name(), vec![other(&of_leases), doc! { "$limit": 1 }]), (self.keys.name(), ends)]
    }

    /// What is leased, and whether something is parked, in one question.
    pub(crate) async fn beside(&self) -> Result<Beside, DriverError> {
        let mut cursor = self.leases.aggregate(self.beside_question()).await?;
        let mut beside = Beside::default();
        while cursor.advance().await? {
            beside.add(cursor.current())?;
        }
        Ok(beside)
    }

    /// At one moment with other questions.
    pub(crate) async fn beside_at(&self, moment: &mut ClientSession) -> Result<Beside, DriverError> {
        let question = self.leases.aggregate(self.beside_question()).read_concern(ReadConcern::snapshot());
        let mut cursor = question.session(&mut *moment).await?;
        let mut beside = Beside::default();
        while cursor.advance(moment).await? {
            beside.add(cursor.current())?;
        }
        Ok(beside)
    }

    fn beside_question(&self) -> [Document; 3] {
        [
            doc! { "$match": { "token": { "$exists": true } } },
            doc! { "$addFields": { "isOver": { "$lte": ["$until", "$$NOW"] } } },
            doc! { "$unionWith": { "coll": self.keys.name(), "pipeline": [{ "$limit": 1 }] } },
        ]
    }

    /// The leases that match, those that ran out included.
    pub(super) async fn leases(
        &self,
        held: &mut Held<'_>,
        mut filter: Document,
    ) -> Result<Vec<Leases>, DriverError> {
        filter.insert("_id", doc! { "$nin": [LOCK, SESSIONS] });
        let mut cursor = self.leases.find(filter).session(&mut *held.session).await?;
        let mut leases = Vec::new();
        while cursor.advance(&mut *held.session).await? {
            leases.push(Leases::of(cursor.current())?);
        }
        Ok(leases)
    }

    pub(super) async fn add_leases(&self, held: &mut Held<'_>, leases: &Leases) -> Result<(), DriverError> {
        let document = leases.document(held.now)?;
        let leases = self.leases.clone_with_type::<RawDocumentBuf>();
        leases.insert_one(document).session(&mut *held.session).await?;
        Ok(())
    }

    /// Writes what is left of them; nothing of them is nothing.
    pub(super) async fn keep_leases(&self, held: &mut Held<'_>, leases: &Leases) -> Result<(), DriverError> {
        let this = doc! { "_id": &leases.id };
        if leases.entries.is_empty() {
            self.leases.delete_one(this).session(&mut *held.session).await?;
        } else {
            let left = doc! {
                "$set": { "until": leases.until, "entries": leases.entries()? }, "$inc": { "revision": 1_i64 },
            };
            self.leases.update_one(this, left).session(&mut *held.session).await?;
        }
        Ok(())
    }

    /// Which of these keys have a document.
    pub(super) async fn have_documents(
        &self,
        moment: &mut ClientSession,
        keys: &HashSet<Key>,
    ) -> Result<HashSet<Key>, DriverError> {
        let mut found = HashSet::new();
        if keys.is_empty() {
            return Ok(found);
        }
        let these = doc! { "_id": { "$in": values(keys) } };
        let find = self.keys.find(these).projection(doc! { "_id": 1 }).batch_size(ONE_ANSWER);
        let mut cursor = find.read_concern(ReadConcern::snapshot()).session(&mut *moment).await?;
        while cursor.advance(moment).await? {
            found.insert(cursor.deserialize_current()?.get_binary_generic("_id")?.clone());
        }
        Ok(found)
    }

    /// Which of these keys have a document, and when they are ready.
    pub(super) async fn keyed(
        &self,
        held: &mut Held<'_>,
        keys: &HashSet<Key>,
    ) -> Result<HashMap<Key, DateTime>, DriverError> {
        let mut found = HashMap::new();
        if keys.is_empty() {
            return Ok(found);
        }
        let these = doc! { "_id": { "$in": values(keys) } };
        let mut cursor = self.keys.find(these).session(&mut *held.session).await?;
        while cursor.advance(&mut *held.session).await? {
            let document = cursor.deserialize_current()?;
            found.insert(document.get_binary_generic("_id")?.clone(), *document.get_datetime("readyAt")?);
        }
        Ok(found)
    }

    /// Gives keys documents, or moves theirs to a later time, never to an earlier one.
    pub(super) async fn add_keys(
        &self,
        held: &mut Held<'_>,
        mut ready: HashMap<Key, DateTime>,
    ) -> Result<(), DriverError> {
        let old = self.keyed(held, &ready.keys().cloned().collect()).await?;
        ready.retain(|key, time| old.get(key).is_none_or(|old| old < time));
        self.place_keys(held, ready).await
    }

    /// By which dead letters these keys are held, where any are.
    pub(super) async fn holders(
        &self,
        held: &mut Held<'_>,
        keys: &HashSet<Key>,
    ) -> Result<HashMap<Key, HashSet<String>>, DriverError> {
        let these = doc! { "_id": { "$in": values(keys) }, HELD_BY: { "$exists": true } };
        let mut cursor = self.keys.find(these).session(&mut *held.session).await?;
        let mut found = HashMap::new();
        while cursor.advance(&mut *held.session).await? {
            let document = cursor.deserialize_current()?;
            let holders = document.get_array(HELD_BY)?.iter().filter_map(Bson::as_str).map(str::to_owned);
            found.insert(document.get_binary_generic("_id")?.clone(), holders.collect());
        }
        Ok(found)
    }

    /// Makes keys wait for these dead letters too, beside those that hold them already.
    pub(super) async fn hold_also(
        &self,
        held: &mut Held<'_>,
        mut by: HashMap<Key, HashSet<String>>,
    ) -> Result<(), DriverError> {
        if by.is_empty() {
            return Ok(());
        }
        for (key, others) in self.holders(held, &by.keys().cloned().collect()).await? {
            by.entry(key).or_default().extend(others);
        }
        self.hold_keys(held, by).await
    }

    /// Makes keys wait until all of these dead letters are gone.
    pub(super) async fn hold_keys(
        &self,
        held: &mut Held<'_>,
        by: HashMap<Key, HashSet<String>>,
    ) -> Result<(), DriverError> {
        if by.is_empty() {
            return Ok(());
        }
        let these = doc! { "_id": { "$in": values(by.keys()) } };
        self.keys.delete_many(these).session(&mut *held.session).await?;
        let new = by.iter().map(|(key, events)| {
            let events: Vec<&String> = events.iter().collect();
            doc! { "_id": key_value(key), "readyAt": NEVER, HELD_BY: events }
        });
        self.keys.insert_many(new.collect::<Vec<_>>()).session(&mut *held.session).await?;
        Ok(())
    }

    /// Says of keys when they are ready.
    pub(super) async fn place_keys(
        &self,
        held: &mut Held<'_>,
        ready: HashMap<Key, DateTime>,
    ) -> Result<(), DriverError> {
        if ready.is_empty() {
            return Ok(());
        }
        // Two commands, however many they are.
        let these = doc! { "_id": { "$in": values(ready.keys()) } };
        self.keys.delete_many(these).session(&mut *held.session).await?;
        let new = ready.iter().map(|(key, time)| doc! { "_id": key_value(key), "readyAt": *time });
        self.keys.insert_many(new.collect::<Vec<_>>()).session(&mut *held.session).await?;
        Ok(())
    }
}

//! What the journal says, played back.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use outbox_traits::{Event, EventId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One line of the journal: all that one commit changed.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Entry {
    pub(crate) saved: Vec<Row>,
    pub(crate) rows: Vec<String>,
    pub(crate) delivered: Vec<EventId>,
    pub(crate) delivered_at: Option<DateTime<Utc>>,
    pub(crate) purged: Vec<EventId>,
    pub(crate) dead: Vec<EventId>,
}

impl Entry {
    pub(crate) fn is_empty(&self) -> bool {
        self.saved.is_empty()
            && self.rows.is_empty()
            && self.delivered.is_empty()
            && self.purged.is_empty()
            && self.dead.is_empty()
    }
}

/// An event as it stands in the journal. It is decoded when it is read, so that a bad one harms no other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) id: EventId,
    pub(crate) key: Option<String>,
    pub(crate) not_before: Option<DateTime<Utc>>,
    pub(crate) event: Value,
}

impl Row {
    pub(crate) fn new(event: &Event) -> serde_json::Result<Self> {
        Ok(Self {
            id: event.id(),
            key: event.meta().idempotency_key.clone(),
            // How the store is to treat the event is no part of its JSON: it is kept beside it.
            not_before: event.not_before(),
            event: serde_json::to_value(event)?,
        })
    }

    fn decode(&self) -> serde_json::Result<Event> {
        let event = Event::deserialize(&self.event)?;
        Ok(match self.not_before {
            Some(time) => event.with_not_before(time),
            None => event,
        })
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    last_seq: u64,
    by_seq: BTreeMap<u64, Row>,
    seq_of: HashMap<EventId, u64>,
    keys: HashSet<String>,
    pending: BTreeSet<u64>,
    /// By the time of the delivery, so that a purge finds the old ones at once.
    delivered: BTreeSet<(DateTime<Utc>, u64)>,
    rows: Vec<String>,
}

impl State {
    pub(crate) fn apply(&mut self, entry: Entry) {
        for row in entry.saved {
            self.last_seq += 1;
            self.seq_of.insert(row.id, self.last_seq);
            self.keys.extend(row.key.clone());
            self.pending.insert(self.last_seq);
            self.by_seq.insert(self.last_seq, row);
        }
        self.rows.extend(entry.rows);
        for seq in entry.delivered.iter().filter_map(|id| self.seq_of.get(id)) {
            self.pending.remove(seq);
            self.delivered.extend(entry.delivered_at.map(|at| (at, *seq)));
        }
        for seq in entry.dead.iter().filter_map(|id| self.seq_of.get(id)) {
            self.pending.remove(seq);
        }
        let purged: HashSet<u64> = entry.purged.iter().filter_map(|id| self.seq_of.remove(id)).collect();
        for row in purged.iter().filter_map(|seq| self.by_seq.remove(seq)) {
            row.key.map(|key| self.keys.remove(&key));
        }
        while self.delivered.first().is_some_and(|(_, seq)| purged.contains(seq)) {
            self.delivered.pop_first();
        }
    }

    pub(crate) fn rows(&self) -> &[String] {
        &self.rows
    }

    pub(crate) fn is_taken(&self, event: &Event) -> bool {
        let key = event.meta().idempotency_key.as_ref();
        self.seq_of.contains_key(&event.id()) || key.is_some_and(|key| self.keys.contains(key))
    }

    /// The first events that are due, and the rows on the way that are no events.
    pub(crate) fn pending(&self, limit: usize, now: DateTime<Utc>) -> (Vec<Event>, Vec<EventId>) {
        let (mut events, mut undecodable) = (Vec::new(), Vec::new());
        for row in self.pending.iter().filter_map(|seq| self.by_seq.get(seq)) {
            if events.len() == limit {
                break;
            }
            if row.not_before.is_some_and(|time| time > now) {
                continue;
            }
            match row.decode() {
                Ok(event) => events.push(event),
                Err(_) => undecodable.push(row.id),
            }
        }
        (events, undecodable)
    }

    /// Those of the ids that are still pending, each once.
    pub(crate) fn undelivered(&self, ids: &[EventId]) -> Vec<EventId> {
        let seqs: BTreeSet<&u64> = ids.iter().filter_map(|id| self.seq_of.get(id)).collect();
        let pending = seqs.into_iter().filter(|seq| self.pending.contains(seq));
        pending.filter_map(|seq| self.by_seq.get(seq)).map(|row| row.id).collect()
    }

    pub(crate) fn delivered_until(&self, until: DateTime<Utc>) -> Vec<EventId> {
        let old = self.delivered.iter().take_while(|(at, _)| *at <= until);
        old.filter_map(|(_, seq)| self.by_seq.get(seq)).map(|row| row.id).collect()
    }
}

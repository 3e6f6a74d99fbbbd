//! Those who save: in transactions that commit, roll back, are dropped or are cut off.

use std::sync::atomic::Ordering::Relaxed;

use outbox_traits::{Event, EventId, OutboxStore, Result, Saved};
use serde_json::json;

use crate::{
    engine::{Engine, SessionOf},
    history::{Answer, Call, Saving},
    shared::Part,
};

/// A few keys that are always busy, and more that are not.
const HOT_KEYS: u32 = 6;
const KEYS: u32 = 60;

impl<E: Engine> Part<E> {
    pub(crate) async fn write(mut self) {
        // To be saved again, as an application does that runs its transaction again.
        let mut again = Vec::new();
        let mut idempotency_keys: Vec<String> = Vec::new();
        while !self.shared.is_stopped() {
            self.pause(0, 40).await;
            if self.shared.is_full.load(Relaxed) {
                continue;
            }
            let events = match std::mem::take(&mut again) {
                events if events.is_empty() => self.new_events(&mut idempotency_keys),
                events => events,
            };
            if !self.unit_of_work(&events).await && self.chance(30) {
                again = events;
            }
        }
    }

    /// It returns whether a commit was tried: events of one that was not may be saved again without a doubt.
    async fn unit_of_work(&mut self, events: &[Event]) -> bool {
        let Ok(mut transaction) = self.engine.begin().await else { return false };
        let session = self.shared.next_session();
        let row_first = self.rng.bool();
        let engine = self.engine.clone();
        let mut is_written = !row_first || engine.write_row(session, &mut transaction).await.is_ok();
        let mut rest = events;
        while is_written && !rest.is_empty() {
            let (batch, left) = rest.split_at(self.rng.usize(1..=rest.len()));
            rest = left;
            is_written = self.save(session, batch, engine.session(&mut transaction)).await;
        }
        if is_written && self.chance(10) {
            // What it has saved already is a duplicate.
            is_written = self.save(session, &events[..1], engine.session(&mut transaction)).await;
        }
        is_written = is_written && (row_first || engine.write_row(session, &mut transaction).await.is_ok());
        if self.chance(5) {
            // The transaction stays open.
            self.pause(50, 300).await;
        }
        let fate = self.rng.u32(0..100);
        if !is_written || fate < 20 {
            let op = self.shared.record.begin(Call::Rollback { session });
            if fate < 10 {
                drop(transaction);
            } else {
                engine.rollback(transaction).await.ok();
            }
            self.shared.record.end(op, Answer::Done);
            return false;
        }
        let op = self.shared.record.begin(Call::Commit { session });
        let commit = engine.commit(transaction);
        let outcome = if fate < 25 {
            let patience = self.millis(0, 3);
            tokio::time::timeout(patience, commit).await
        } else {
            Ok(commit.await)
        };
        match outcome {
            Ok(Ok(())) => self.shared.record.end(op, Answer::Done),
            Ok(Err(error)) => {
                let answer = Answer::Failed { error: format!("{error:#}"), is_retryable: true };
                self.shared.record.end(op, answer);
            }
            // Cut off: it has no end.
            Err(_) => {}
        }
        true
    }

    async fn save(&mut self, session: u64, events: &[Event], into: &mut SessionOf<E>) -> bool {
        let saving = |event: &Event| Saving {
            event: event.id(),
            key: event.partition_key().map(str::to_owned),
            idempotency_key: event.meta().idempotency_key.clone(),
        };
        let events_of_it = events.iter().map(saving).collect();
        let op = self.shared.record.begin(Call::Save { session, events: events_of_it });
        let store = self.engine.store();
        let saved: Result<Vec<Saved>> = match events {
            [one] => store.save_in_session(one, into).await.map(|saved| vec![saved]),
            all => store.save_all_in_session(all, into).await,
        };
        let stored =
            |saved: &Vec<Saved>| Answer::Saved(saved.iter().map(|one| *one == Saved::Stored).collect());
        self.shared.record.end_of(op, saved, stored).is_some()
    }

    fn new_events(&mut self, idempotency_keys: &mut Vec<String>) -> Vec<Event> {
        (0..self.rng.usize(1..=6)).map(|_| self.new_event(idempotency_keys)).collect()
    }

    fn new_event(&mut self, idempotency_keys: &mut Vec<String>) -> Event {
        let id = EventId::new();
        let event = Event::new("stress.happened", json!({ "id": id })).expect("a valid event").with_id(id);
        let event = match self.rng.u32(0..10) {
            0..2 => event,
            2..7 => event.with_partition_key(format!("hot {}", self.rng.u32(0..HOT_KEYS))),
            _ => event.with_partition_key(format!("key {}", self.rng.u32(0..KEYS))),
        };
        match self.rng.u32(0..10) {
            // One that was saved before, perhaps in a transaction that came to nothing.
            0 if !idempotency_keys.is_empty() => {
                let index = self.rng.usize(..idempotency_keys.len());
                event.with_idempotency_key(idempotency_keys[index].clone())
            }
            1 | 2 => {
                if idempotency_keys.len() == 50 {
                    idempotency_keys.remove(0);
                }
                let key = EventId::new().to_string();
                idempotency_keys.push(key.clone());
                event.with_idempotency_key(key)
            }
            _ => event,
        }
    }
}

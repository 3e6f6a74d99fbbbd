//! Per-key order with any number of workers, under failures, dead workers and leases that run out, as a check of
//! a recorded history.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use outbox_traits::{ClaimStore, Event, EventId, OutboxStore, Settlement};

use super::{LEASE, claim_by, keyed, settle_by};
use crate::{
    Harness,
    support::{events, kept, pending, save_all},
};

const KEYS: usize = 12;
const EVENTS: usize = 1500;
const WORKERS: usize = 5;
/// After so many rounds of all workers in which nothing is delivered nothing is to be had.
const IN_VAIN: usize = 20;

/// What workers did, in the order in which they did it.
#[derive(Debug, Default)]
struct History {
    /// Where each event stands among those of its key.
    place: HashMap<EventId, (String, usize)>,
    /// How many of each key were accepted.
    accepted: HashMap<String, usize>,
    published: HashMap<EventId, usize>,
}

impl History {
    /// A publish begins: all before it in its key must have been accepted.
    fn begin(&self, event: &Event) {
        if let Some((key, place)) = self.place.get(&event.id()) {
            let accepted = self.accepted.get(key).copied().unwrap_or(0);
            assert!(*place <= accepted, "event {place} of {key} is published, and {accepted} were accepted");
        }
    }

    fn accept(&mut self, event: &Event) {
        *self.published.entry(event.id()).or_insert(0) += 1;
        if let Some((key, place)) = self.place.get(&event.id()) {
            let accepted = self.accepted.entry(key.clone()).or_insert(0);
            *accepted = (*accepted).max(place + 1);
        }
    }
}

/// 7.2, 7.3, 7.5 and 7.7: every event is delivered, and those of a key in their order, whatever becomes of workers.
pub async fn a_history_of_many_workers_keeps_the_order_of_each_key<H: Harness>(h: Arc<H>)
where
    H::Store: ClaimStore,
{
    history_keeps_the_order_of_each_key(h, Vec::new()).await;
}

/// The first workers have handles of their own.
pub(crate) async fn history_keeps_the_order_of_each_key<H: Harness>(h: Arc<H>, handles: Vec<H::Store>)
where
    H::Store: ClaimStore,
{
    let handles = Arc::new(handles);
    let mut all: Vec<Event> = (0..EVENTS)
        .map(|index| keyed(&format!("key {}", (index * 7 + index / 5) % KEYS), &format!("{index}")))
        .collect();
    all.extend(events(200));
    let mut history = History::default();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for event in &all {
        if let Some(key) = event.partition_key() {
            let count = counts.entry(key.to_owned()).or_insert(0);
            history.place.insert(event.id(), (key.to_owned(), *count));
            *count += 1;
        }
    }
    let history = Arc::new(Mutex::new(history));
    let writer = tokio::spawn({
        let (h, all) = (Arc::clone(&h), all.clone());
        async move {
            for batch in all.chunks(40) {
                save_all(&h, batch).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let mut writer = Some(writer);
    // As many as it takes, on a busy machine too: a dead worker holds up many keys until a round is over.
    let (mut delivered, mut in_vain) = (0, 0);
    for round in 0_u64.. {
        let before = delivered;
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..WORKERS {
            let dice = Dice(round * 31 + worker as u64 + 1);
            let (h, handles, history) = (Arc::clone(&h), Arc::clone(&handles), Arc::clone(&history));
            workers.spawn(async move {
                let store = handles.get(worker).unwrap_or_else(|| h.store());
                work(store, &history, dice).await
            });
        }
        while let Some(worked) = workers.join_next().await {
            delivered += worked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        }
        if round == 0 {
            writer.take().expect("the first round").await.expect("the writer");
        }
        // What dead workers hold runs out, and what failed is due.
        h.advance(LEASE * 2).await;
        in_vain = if delivered == before { in_vain + 1 } else { 0 };
        if delivered >= all.len() || in_vain == IN_VAIN {
            break;
        }
    }
    assert_eq!(delivered, all.len(), "each is settled as delivered once");
    assert!(pending(&h).await.is_empty());
    assert_eq!(h.store().purge(Duration::ZERO).await.expect("purge"), kept(&h, all.len() as u64));
    let history = history.lock().expect("nobody panicked");
    for event in &all {
        assert!(history.published.contains_key(&event.id()), "{} was never published", event.id());
    }
}

/// A few claims, until there is nothing to claim or the worker dies. It returns how many it settled as delivered.
async fn work<S: ClaimStore>(store: &S, history: &Mutex<History>, mut dice: Dice) -> usize {
    let mut delivered = 0;
    let mut misses = 0;
    while misses < 3 {
        let limit = 1 + usize::try_from(dice.roll(60)).expect("small");
        let leased = claim_by(store, limit).await;
        if leased.is_empty() {
            misses += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let dies_at = (dice.roll(12) == 0).then(|| dice.roll(leased.len() as u64));
        let mut failed_keys = Vec::new();
        let mut settlements = Vec::new();
        for (index, one) in (0_u64..).zip(&leased) {
            if dies_at == Some(index) {
                // Somewhere between a publish and its settlement.
                return delivered;
            }
            let key = one.event.partition_key().map(str::to_owned);
            if key.is_some() && failed_keys.contains(&key) {
                settlements.push(Settlement::released(one.lease));
                continue;
            }
            history.lock().expect("nobody panicked").begin(&one.event);
            if dice.roll(3) == 0 {
                tokio::task::yield_now().await;
            }
            if dice.roll(10) == 0 {
                failed_keys.push(key);
                let after = if dice.roll(2) == 0 { Duration::ZERO } else { LEASE };
                settlements.push(Settlement::retry(one.lease, after, "failed"));
            } else {
                history.lock().expect("nobody panicked").accept(&one.event);
                settlements.push(Settlement::delivered(one.lease));
            }
        }
        for (answer, settlement) in settle_by(store, &settlements).await.into_iter().zip(&settlements) {
            answer.unwrap_or_else(|error| panic!("no time has passed, and {settlement:?} is lost: {error}"));
            delivered += usize::from(settlement.outcome == outbox_traits::Outcome::Delivered);
        }
    }
    delivered
}

/// The same numbers in each run (xorshift).
struct Dice(u64);

impl Dice {
    /// A number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides.max(1)
    }
}

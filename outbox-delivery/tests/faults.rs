//! Relays of every kind whose transport and store fail, in simulated time and under a seeded schedule.
//!
//! Events come before a run and in it. Some are hidden until later, workers have died with some, and some are set aside
//! and requeued. The transport is down for all, or whenever it is given one of them, and fails in every other way; the store
//! fails beside it, where there are claims. At some time that comes to an end. What is checked:
//!
//! - every event is delivered in the end;
//! - a publish of a key begins only after the one before it was accepted and while no other of its key goes on; in strict
//!   mode one of any event after all those before it;
//! - on claims, a publish begins only while its own worker holds the lease;
//! - there is no busy loop.
//!
//! Where one of them is broken, the seed is printed, and `case` with that seed shows it again.

mod support;

use std::{ops::Range, time::Duration};

use chrono::TimeDelta;
use outbox_delivery::{CancellationToken, Decision, Failed, Relay};
use outbox_traits::{
    ErrorKind, Event, EventId, OutboxStore, PublishError, PublishErrorKind, Published, Transport, async_trait,
};
use tokio::time::{Instant, sleep};

use self::support::{
    consumer::{Consumer, Ending},
    event,
    remote::{Call, Fate, Remote},
    seeded,
};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    OnClaims,
    TwoOnClaims,
    Strict,
    PublishPending,
    SingleWorker,
}

/// The way to a consumer, which now and then is down for the whole of a batch.
#[derive(Clone, Debug)]
struct Connection {
    consumer: Consumer,
    /// Of a hundred batches.
    down: u8,
    /// It breaks whenever this one is sent.
    poison: Option<EventId>,
    /// When it begins to work.
    until: Instant,
}

impl Connection {
    fn to(consumer: &Consumer, events: &[Event], until: Instant) -> Self {
        let poison = fastrand::choice(events).filter(|_| fastrand::bool()).map(Event::id);
        let down = if fastrand::bool() { 0 } else { fastrand::u8(..60) };
        Self { consumer: consumer.clone(), down, poison, until }
    }
}

#[async_trait]
impl Transport for Connection {
    async fn publish(&self, _: &Event) -> Result<(), PublishError> {
        unreachable!("a relay publishes batches")
    }

    async fn publish_all(&self, events: &[Event]) -> Vec<Published> {
        let is_poisoned = events.iter().any(|event| Some(event.id()) == self.poison);
        if Instant::now() < self.until && (is_poisoned || fastrand::u8(..100) < self.down) {
            let down =
                |event: &Event| Published { id: event.id(), result: Err(PublishError::unavailable("down")) };
            return events.iter().map(down).collect();
        }
        self.consumer.publish_all(events).await
    }
}

/// Some with keys, which several may share, and some without, and where it is not strict some that are hidden at first.
fn events(kind: Kind, store: &Remote) -> Vec<Event> {
    let keys = fastrand::usize(1..8);
    let new = |n: usize| {
        let event_type = format!("e{n}");
        let event = match fastrand::usize(..keys + 2) {
            key if key < keys => event(&event_type, &key.to_string()),
            _ => Event::new(event_type, serde_json::json!({})).unwrap(),
        };
        if kind == Kind::Strict || fastrand::u8(..8) > 0 {
            return event;
        }
        event.with_not_before(store.now() + TimeDelta::seconds(fastrand::i64(1..60)))
    };
    (0..fastrand::usize(3..30)).map(new).collect()
}

/// What is to come in which order. What is hidden at first comes at some time.
fn consumer_of(kind: Kind, events: &[Event]) -> Consumer {
    if kind == Kind::Strict {
        return Consumer::of_all_in_order(events);
    }
    let visible: Vec<_> = events.iter().filter(|event| event.not_before().is_none()).cloned().collect();
    Consumer::of(&visible)
}

/// Workers die with some of these, one after the other.
async fn die_with_some(store: &Remote, events: &[Event]) {
    for event in events {
        if fastrand::u8(..5) == 0 {
            for _ in 0..fastrand::usize(1..6) {
                store.die_with(event.event_type()).await;
            }
        }
    }
}

fn fail_until(until: Instant, kind: Kind, store: &Remote, consumer: &Consumer) {
    let heaviness = fastrand::u8(1..10);
    consumer.decide(move |_| match fastrand::u8(..40) {
        _ if Instant::now() >= until => Ending::Accepted,
        n if n < heaviness => Ending::Unavailable,
        33 => Ending::NotAttempted,
        34 => Ending::AnswerIsLost,
        35 => Ending::Failed,
        36 => Ending::Rejected,
        37 => Ending::Takes(SECOND * fastrand::u32(..8)),
        38 if fastrand::bool() => Ending::Panics,
        39 if fastrand::bool() => Ending::Hangs,
        _ => Ending::Accepted,
    });
    if fastrand::bool() {
        return;
    }
    store.decide(move |_| match fastrand::u8(..24) {
        _ if Instant::now() >= until => Fate::Works,
        0 | 1 => Fate::Fails(ErrorKind::Unavailable),
        // What a claim has leased that nobody knows of is gone past.
        _ if kind == Kind::Strict => Fate::Works,
        2 => Fate::AnswerIsLost,
        3 => Fate::Takes(SECOND * fastrand::u32(..2)),
        4 => Fate::AnswersAfter(SECOND * fastrand::u32(..2)),
        5 if fastrand::bool() => Fate::Hangs,
        6 if fastrand::u8(..4) == 0 => Fate::Panics,
        _ => Fate::Works,
    });
}

fn on_claims(name: &str, store: &Remote, connection: &Connection) -> Relay {
    let consumer = connection.consumer.for_worker(name, store);
    Relay::new(store.clone(), Connection { consumer, ..connection.clone() })
        .with_name(name)
        .with_batch_size(fastrand::usize(1..12))
        .with_concurrency(fastrand::usize(1..6))
        .with_lease(SECOND * fastrand::u32(2..12))
        .with_publish_timeout(SECOND * fastrand::u32(1..12))
        .with_wakeups(store.clone())
        .with_retry_policy(|failed: &Failed<'_>| match failed.error.kind() {
            PublishErrorKind::Rejected => Decision::HoldKey,
            _ => Decision::Retry { after: SECOND * fastrand::u32(..100) / 50 },
        })
        .with_max_crashes(u32::MAX)
}

/// Relays of this kind are at work until they are told to stop.
async fn work(kind: Kind, store: &Remote, connection: &Connection, shutdown: &CancellationToken) {
    let on_claims = |name: &str| on_claims(name, store, connection);
    match kind {
        Kind::OnClaims => drop(on_claims("a").run(shutdown.clone()).await.unwrap()),
        Kind::TwoOnClaims => {
            let (a, b) = (on_claims("a"), on_claims("b"));
            let (a, b) = tokio::join!(a.run(shutdown.clone()), b.run(shutdown.clone()));
            assert!(a.is_ok() && b.is_ok(), "{a:?}, {b:?}");
        }
        Kind::SingleWorker => {
            let relay = Relay::single_worker(store.clone(), connection.clone());
            let relay = relay.with_publish_timeout(SECOND * fastrand::u32(1..12));
            let relay = relay.with_batch_size(fastrand::usize(1..12));
            drop(relay.run(shutdown.clone()).await.unwrap());
        }
        Kind::Strict | Kind::PublishPending => {
            while !shutdown.is_cancelled() {
                if kind == Kind::Strict {
                    on_claims("a").with_strict().run(shutdown.clone()).await.unwrap();
                } else {
                    // It ends at each error of the store.
                    let _ = on_claims("a").publish_pending().await;
                }
                sleep(SECOND).await;
            }
        }
    }
}

/// Saves these one by one, and waits until all are delivered.
async fn save_and_wait(store: &Remote, events: &[Event], all: usize) {
    for event in events {
        sleep(SECOND * fastrand::u32(..20) / 10).await;
        store.save(event).await.unwrap();
    }
    let started = Instant::now();
    while store.counts().await.delivered < all as u64 {
        assert!(started.elapsed() < 20_000 * SECOND, "not delivered: {:?}", store.counts().await);
        sleep(SECOND / 10).await;
        store.requeue_one().await;
    }
}

fn case(seed: u64, kind: Kind) {
    let work = async {
        let store = Remote::new().with_turns(2);
        let events = events(kind, &store);
        let (first, later) = events.split_at(fastrand::usize(1..=events.len()));
        store.save_all(first).await.unwrap();
        store.requeue_now_and_then();
        if kind != Kind::SingleWorker {
            die_with_some(&store, first).await;
        }
        let consumer = consumer_of(kind, &events).with_turns(2);
        consumer.watch(&store);
        let until = Instant::now() + SECOND * fastrand::u32(1..100);
        fail_until(until, kind, &store, &consumer);
        let connection = Connection::to(&consumer, &events, until);
        let (started, shutdown) = (Instant::now(), CancellationToken::new());
        let driving = async {
            save_and_wait(&store, later, events.len()).await;
            shutdown.cancel();
        };
        tokio::join!(work(kind, &store, &connection, &shutdown), driving);
        consumer.check(&store, &events);
        let (claims, seconds) = (store.count(Call::Claim), started.elapsed().as_secs());
        assert!((claims as u64) < 2000 + 50 * seconds, "{claims} claims in {seconds} s");
    };
    seeded(seed, &kind, work);
}

fn cases(seeds: Range<u64>, kind: Kind) {
    for seed in seeds {
        case(seed, kind);
    }
}

#[test]
fn a_relay_on_claims_delivers_all_and_keeps_the_order() {
    cases(0..100, Kind::OnClaims);
}

#[test]
fn two_relays_on_claims_deliver_all_and_keep_the_order() {
    cases(1100..1200, Kind::TwoOnClaims);
}

#[test]
fn in_strict_mode_all_is_delivered_in_the_order_of_all_events() {
    cases(2000..2100, Kind::Strict);
}

#[test]
fn publish_pending_delivers_all_and_keeps_the_order() {
    cases(3000..3100, Kind::PublishPending);
}

#[test]
fn a_single_worker_delivers_all_and_keeps_the_order() {
    cases(4000..4100, Kind::SingleWorker);
}

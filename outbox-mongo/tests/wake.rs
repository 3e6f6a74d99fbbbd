//! Wake-ups by a change stream: what they cost, and what ends one.

mod harness;

use std::time::Duration;

use harness::Mongo;
use mongodb::bson::{Document, doc};
use outbox_conformance::{Harness, require};
use outbox_mongo::mongodb;
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, Event, OutboxStore, SchemaStore, Settlement,
    WakeStore, Wakeups,
};
use serde_json::json;
use tokio::time::timeout;

fn events(count: usize) -> Vec<Event> {
    (0..count).map(|number| Event::new("t", json!(number)).unwrap()).collect()
}

/// How often it is woken until it is not for a while.
async fn wakeups(listener: &mut Box<dyn Wakeups>) -> usize {
    let mut count = 0;
    while timeout(Duration::from_millis(500), listener.wait()).await.is_ok() {
        count += 1;
    }
    count
}

#[tokio::test]
async fn a_listener_asks_the_server_seldom_where_nothing_happens() {
    let Some(h) = require("wake::idle", Mongo::open().await) else { return };
    h.database().run_command(doc! { "profile": 2 }).await.unwrap();
    let mut listener = h.store.wakeups().await.unwrap();
    let woken = timeout(Duration::from_secs(4), listener.wait()).await;
    h.database().run_command(doc! { "profile": 0 }).await.unwrap();
    drop(listener);
    assert!(woken.is_err(), "nothing was saved");
    let asked = doc! { "op": { "$in": ["getmore", "query", "command"] }, "ns": { "$regex": "outbox$" } };
    let profile = h.database().collection::<Document>("system.profile");
    let asked = profile.count_documents(asked).await.unwrap();
    assert!(asked <= 6, "{asked} commands in four seconds");
    h.close().await;
}

#[tokio::test]
async fn a_burst_is_few_wake_ups() {
    let Some(h) = require("wake::burst", Mongo::open().await) else { return };
    let mut listener = h.store.wakeups().await.unwrap();
    assert!(format!("{listener:?}").contains(&format!("{}.outbox", h.database().name())), "{listener:?}");
    h.store.save_all(&events(3000)).await.unwrap();
    let count = wakeups(&mut listener).await;
    assert!((1..=10).contains(&count), "{count}");
    h.close().await;
}

#[tokio::test]
async fn what_is_pending_again_wakes_and_what_is_delivered_does_not() {
    let Some(h) = require("wake::again", Mongo::open().await) else { return };
    let events = events(3);
    h.store.save_all(&events).await.unwrap();
    let mut listener = h.store.wakeups().await.unwrap();
    let leased = h.store.claim(&Claim::new("w").with_limit(9)).await.unwrap();
    let settlements = [
        Settlement::delivered(leased[0].lease),
        Settlement::dead_letter(leased[1].lease, "failed"),
        Settlement::retry(leased[2].lease, Duration::from_hours(1), "failed"),
    ];
    assert!(h.store.settle(&settlements).await.unwrap().iter().all(Result::is_ok));
    h.store.purge(Duration::ZERO).await.unwrap();
    assert_eq!(wakeups(&mut listener).await, 0);
    assert!(outbox_traits::DeadLetterStore::requeue(&h.store, leased[1].event.id()).await.unwrap());
    assert!(wakeups(&mut listener).await > 0);
    h.close().await;
}

#[tokio::test]
async fn what_has_waited_for_a_dead_letter_that_is_discarded_wakes() {
    let Some(h) = require("wake::discarded", Mongo::open().await) else { return };
    let events: Vec<_> = events(4).into_iter().map(|event| event.with_partition_key("k")).collect();
    h.store.save_all(&events).await.unwrap();
    let leased = h.store.claim(&Claim::new("w").with_limit(3)).await.unwrap();
    let settlements = [
        Settlement::dead_letter(leased[0].lease, "failed"),
        Settlement::dead_letter_holding_key(leased[1].lease, "failed"),
        Settlement::dead_letter_holding_key(leased[2].lease, "failed"),
    ];
    assert!(h.store.settle(&settlements).await.unwrap().iter().all(Result::is_ok));
    let mut listener = h.store.wakeups().await.unwrap();
    assert!(h.store.discard(leased[0].event.id()).await.unwrap());
    assert_eq!(wakeups(&mut listener).await, 0, "nothing has waited for it");
    assert_eq!(h.store.discard_all(&DeadLetterFilter::new()).await.unwrap(), 2);
    assert!(wakeups(&mut listener).await > 0);
    assert_eq!(h.store.claim(&Claim::new("w")).await.unwrap()[0].event.id(), events[3].id());
    assert_eq!(h.outbox().count_documents(doc! {}).await.unwrap(), 1);
    h.close().await;
}

/// The stream ends with its collection.
#[tokio::test]
async fn a_listener_outlives_its_collection() {
    let Some(h) = require("wake::dropped", Mongo::open().await) else { return };
    let mut listener = h.store.wakeups().await.unwrap();
    for _ in 0..2 {
        h.outbox().drop().await.unwrap();
        h.store.migrate().await.unwrap();
        let lost = wakeups(&mut listener).await;
        assert!(lost <= 10, "{lost} wake-ups for nothing");
        h.store.save(&events(1)[0]).await.unwrap();
        timeout(Duration::from_secs(30), listener.wait()).await.expect("nobody was woken");
        wakeups(&mut listener).await;
    }
    h.close().await;
}

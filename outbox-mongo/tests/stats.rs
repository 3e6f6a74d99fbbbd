//! What `stats` says, and what it asks for that.

mod harness;

use std::time::Duration;

use harness::Mongo;
use mongodb::bson::{Bson, DateTime, Document, doc};
use outbox_conformance::{Harness, require};
use outbox_mongo::mongodb;
use outbox_traits::{Claim, ClaimStore, Event, EventId, OutboxStore, Settlement, Stats, StatsStore};
use serde_json::json;

fn of_one_key(count: usize) -> Vec<Event> {
    (0..count).map(|number| Event::new("t", json!(number)).unwrap().with_partition_key("k")).collect()
}

fn counts(stats: &Stats) -> (u64, u64, u64, u64) {
    (stats.pending, stats.leased, stats.delivered, stats.dead)
}

#[tokio::test]
async fn what_waits_for_a_dead_letter_that_holds_its_key_is_not_due() {
    let Some(h) = require("stats::held", Mongo::open().await) else { return };
    h.store.save_all(&of_one_key(3)).await.unwrap();
    let leased = h.store.claim(&Claim::new("w").with_limit(1)).await.unwrap();
    let holding = Settlement::dead_letter_holding_key(leased[0].lease, "failed");
    assert!(h.store.settle(&[holding]).await.unwrap()[0].is_ok());
    h.advance(Duration::from_hours(1)).await;
    assert!(h.store.claim(&Claim::new("w")).await.unwrap().is_empty());
    assert_eq!(h.store.stats().await.unwrap().oldest_due, None);
    // Another is, behind them.
    h.store.save(&Event::new("t", json!(0)).unwrap()).await.unwrap();
    assert!(h.store.stats().await.unwrap().oldest_due.is_some_and(|due| due < Duration::from_mins(1)));
    h.close().await;
}

/// It has no place in the order, and comes before all others.
#[tokio::test]
async fn what_was_written_elsewhere_has_the_age_that_it_says_and_hides_no_other() {
    let Some(h) = require("stats::elsewhere", Mongo::open().await) else { return };
    h.store.save(&Event::new("t", json!(1)).unwrap()).await.unwrap();
    h.advance(Duration::from_hours(1)).await;
    let written = async |minutes: i64| {
        let id = EventId::new().to_string();
        let at = DateTime::from_millis(DateTime::now().timestamp_millis() - minutes * 60_000);
        let row = doc! { "eventId": &id, "type": "t", "payload": {}, "meta": { "id": &id, "timestamp": at },
        "status": "pending", "createdAt": at };
        h.outbox().insert_one(row).await.unwrap();
    };
    let minutes = |age: Option<Duration>| age.unwrap().as_secs() / 60;
    written(10).await;
    let stats = h.store.stats().await.unwrap();
    assert_eq!((minutes(stats.oldest_pending), minutes(stats.oldest_due)), (60, 10), "{stats:?}");
    h.outbox().delete_one(doc! { "seq": { "$exists": false } }).await.unwrap();
    written(120).await;
    let stats = h.store.stats().await.unwrap();
    assert_eq!((minutes(stats.oldest_pending), minutes(stats.oldest_due)), (120, 120), "{stats:?}");
    h.close().await;
}

/// Whatever another program has put into its place.
#[tokio::test]
async fn what_has_something_else_in_its_place_has_an_age_too() {
    let Some(h) = require("stats::something_else", Mongo::open().await) else { return };
    h.store.save(&Event::new("t", json!(1)).unwrap()).await.unwrap();
    for seq in [Bson::Null, Bson::Int32(7), "first".into(), Bson::MaxKey] {
        let id = EventId::new().to_string();
        let at = DateTime::from_millis(DateTime::now().timestamp_millis() - 125 * 60_000);
        let row = doc! { "eventId": &id, "type": "t", "payload": {}, "meta": { "id": &id, "timestamp": at },
        "status": "pending", "createdAt": at, "seq": &seq };
        h.outbox().insert_one(row).await.unwrap();
        let oldest = h.store.stats().await.unwrap().oldest_pending.unwrap();
        assert_eq!(oldest.as_secs() / 3600, 2, "{seq}: {oldest:?}");
        h.outbox().delete_one(doc! { "eventId": id }).await.unwrap();
    }
    h.close().await;
}

/// It is asked again and again, however many wait.
#[tokio::test]
async fn the_search_for_the_first_that_is_due_has_an_end() {
    let Some(h) = require("stats::bounds", Mongo::open().await) else { return };
    h.store.save_all(&of_one_key(5000)).await.unwrap();
    let leased = h.store.claim(&Claim::new("w").with_limit(1)).await.unwrap();
    let retry = Settlement::retry(leased[0].lease, Duration::from_hours(1), "failed");
    assert!(h.store.settle(&[retry]).await.unwrap()[0].is_ok());
    h.database().run_command(doc! { "profile": 2 }).await.unwrap();
    let stats = h.store.stats().await.unwrap();
    h.database().run_command(doc! { "profile": 0 }).await.unwrap();
    assert_eq!((stats.oldest_due, counts(&stats)), (None, (5000, 0, 0, 0)));
    let profile = h.database().collection::<Document>("system.profile");
    let mut profile = profile.find(doc! {}).await.unwrap();
    let mut plans = Vec::new();
    while profile.advance().await.unwrap() {
        let entry: Document = profile.deserialize_current().unwrap();
        assert!(entry.get_i32("docsExamined").unwrap_or(0) <= 2100, "{entry}");
        plans.extend(entry.get_str("planSummary").map(str::to_owned));
    }
    assert_eq!(
        plans.iter().filter(|plan| *plan == "COUNT_SCAN { status: 1, seq: 1 }").count(),
        4,
        "{plans:?}"
    );
    h.close().await;
}

/// The driver would take `{"$oid": …}` for what it is in Extended JSON, where it reads whole documents by way of serde.
#[tokio::test]
async fn a_payload_that_looks_like_extended_json_is_counted_like_any_other() {
    let Some(h) = require("stats::extended_json", Mongo::open().await) else { return };
    let event = Event::new("t", json!({ "reference": { "$oid": "order-17" } })).unwrap();
    h.store.save(&event.clone().with_partition_key("k")).await.unwrap();
    assert_eq!(counts(&h.store.stats().await.unwrap()), (1, 0, 0, 0));
    let leased = h.store.claim(&Claim::new("w")).await.unwrap();
    assert_eq!(counts(&h.store.stats().await.unwrap()), (0, 1, 0, 0));
    let again = Settlement::retry(leased[0].lease, Duration::ZERO, "failed");
    assert!(h.store.settle(&[again]).await.unwrap()[0].is_ok());
    assert!(h.store.stats().await.unwrap().oldest_due.is_some());
    h.close().await;
}

/// A settlement is written into the lease first.
#[tokio::test]
async fn what_a_lease_says_is_delivered_counts_so_before_its_own_document_says_it() {
    let Some(h) = require("stats::decided", Mongo::open().await) else { return };
    let event = |number| Event::new("t", json!(number)).unwrap();
    h.store.save_all(&(0..5).map(event).collect::<Vec<_>>()).await.unwrap();
    let leased = h.store.claim(&Claim::new("w").with_limit(2)).await.unwrap();
    let leases = h.database().collection::<Document>("outbox.leases");
    let decided = doc! { "$set": { "delivered": true }, "$inc": { "revision": 1_i64 } };
    leases.update_one(doc! { "token": leased[0].lease.token().to_string() }, decided).await.unwrap();
    assert_eq!(counts(&h.store.stats().await.unwrap()), (3, 0, 2, 0));
    h.close().await;
}

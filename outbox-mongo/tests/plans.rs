//! How the server runs the store's own commands, by its profiler.

mod harness;

use std::time::Duration;

use harness::Mongo;
use mongodb::bson::{Document, doc};
use outbox_conformance::{Harness, require};
use outbox_mongo::mongodb;
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, Event, EventId, OutboxStore, Settlement, StatsStore,
};
use serde_json::json;

fn events(count: usize) -> Vec<Event> {
    let event =
        |number| Event::new("t", json!(number)).unwrap().with_idempotency_key(format!("k{}", EventId::new()));
    (0..count).map(event).collect()
}

fn ids(events: &[Event]) -> Vec<EventId> {
    events.iter().map(Event::id).collect()
}

#[tokio::test]
async fn every_command_goes_by_its_index_and_sorts_nothing() {
    let Some(h) = require("plans::commands", Mongo::open().await) else { return };
    let far = chrono::Utc::now() + chrono::TimeDelta::days(1);
    let (delivered, backlog) = (events(3000), events(2000));
    let hidden: Vec<_> = events(500).into_iter().map(|event| event.with_not_before(far)).collect();
    for events in [&delivered, &backlog, &hidden] {
        h.store.save_all(events).await.unwrap();
    }
    h.store.acknowledge_all(&ids(&delivered)).await.unwrap();
    h.advance(Duration::from_hours(1)).await;

    h.database().run_command(doc! { "profile": 2 }).await.unwrap();
    assert_eq!(h.store.get_pending(10).await.unwrap().len(), 10);
    h.store.acknowledge_all(&ids(&backlog[..5])).await.unwrap();
    assert_eq!(h.store.purge(Duration::from_hours(2)).await.unwrap(), 0);
    assert_eq!(h.store.purge(Duration::from_mins(30)).await.unwrap(), 3000);
    assert_eq!(h.store.purge(Duration::ZERO).await.unwrap(), 5);
    h.store.dead_letters(&DeadLetterFilter::new()).await.unwrap();
    h.store.requeue_all(&DeadLetterFilter::new()).await.unwrap();
    h.store.requeue(backlog[9].id()).await.unwrap();
    h.store.discard(backlog[9].id()).await.unwrap();
    h.store.save_all(&backlog[5..15]).await.unwrap();
    h.database().run_command(doc! { "profile": 0 }).await.unwrap();

    let mut profile = h.database().collection::<Document>("system.profile").find(doc! {}).await.unwrap();
    let mut seen = Vec::new();
    while profile.advance().await.unwrap() {
        let entry: Document = profile.deserialize_current().unwrap();
        let Ok(plan) = entry.get_str("planSummary") else { continue };
        if !entry.get_str("ns").unwrap().ends_with(".outbox") {
            continue;
        }
        assert!(plan.starts_with("IXSCAN") || plan.starts_with("IDHACK"), "{plan}: {entry}");
        assert!(!plan.contains("COLLSCAN") && !entry.contains_key("hasSortStage"), "{plan}: {entry}");
        let number = |name: &str| entry.get_i32(name).unwrap_or(0);
        // No more is looked at than is wanted: bounds, not filters.
        let found = [number("nreturned"), number("nMatched"), number("ndeleted")].into_iter().max().unwrap();
        let wanted = found.max(20);
        assert!(number("docsExamined") <= wanted + 1, "{plan}: {entry}");
        assert!(number("keysExamined") <= 2 * wanted + 2, "{plan}: {entry}");
        seen.push((entry.get_str("op").unwrap().to_owned(), plan.to_owned()));
    }
    for wanted in [
        ("query", "IXSCAN { status: 1, seq: 1 }"),
        ("query", "IXSCAN { status: 1, notBefore: 1 }"),
        ("query", "IXSCAN { status: 1, deliveredAt: 1 }"),
        ("query", "IXSCAN { eventId: 1 }, IXSCAN { idempotencyKey: 1 }"),
        ("update", "IXSCAN { eventId: 1 }"),
        ("remove", "IXSCAN { eventId: 1 }"),
        ("remove", "IXSCAN { _id: 1 }"),
    ] {
        assert!(
            seen.iter().any(|(op, plan)| (op.as_str(), plan.as_str()) == wanted),
            "{wanted:?} in {seen:#?}"
        );
    }
    h.close().await;
}

/// Keys that wait and keys that are leased, each with events behind it, and parked ones.
#[tokio::test]
async fn claims_go_by_their_indexes() {
    let Some(h) = require("plans::claims", Mongo::open().await) else { return };
    let keyed = |count: usize, keys: usize| -> Vec<Event> {
        let key = |(number, event): (usize, Event)| event.with_partition_key(format!("k{}", number % keys));
        events(count).into_iter().enumerate().map(key).collect()
    };
    let claim = async |limit| h.store.claim(&Claim::new("w").with_limit(limit)).await.unwrap();
    let hot = keyed(2000, 1);
    h.store.save_all(&hot).await.unwrap();
    let waiting = claim(2).await;
    h.store.save_all(&keyed(600, 300)).await.unwrap();
    // What is behind the hot key is parked here.
    let leased = claim(50).await;
    assert_eq!(leased.len(), 50);
    h.store.settle(&[Settlement::retry(waiting[0].lease, Duration::ZERO, "failed")]).await.unwrap();

    h.database().run_command(doc! { "profile": 2 }).await.unwrap();
    assert_eq!(claim(20).await.len(), 20);
    h.store.settle(&[Settlement::retry(waiting[1].lease, Duration::from_hours(1), "failed")]).await.unwrap();
    h.store.acknowledge(waiting[1].event.id()).await.unwrap();
    let again = claim(30).await;
    assert_eq!(again[0].event.id(), waiting[0].event.id());
    let settlements: Vec<_> = again.iter().map(|one| Settlement::delivered(one.lease)).collect();
    assert!(h.store.settle(&settlements).await.unwrap().iter().all(Result::is_ok));
    assert_eq!(h.store.get_pending(10).await.unwrap().len(), 10);
    let stats = h.store.stats().await.unwrap();
    assert_eq!((stats.pending, stats.leased, stats.delivered), (2500 - 1, 70, 31));
    // More keys than a claim reads at once.
    let key = |(number, event): (usize, Event)| event.with_partition_key(format!("m{number}"));
    h.store.save_all(&events(450).into_iter().enumerate().map(key).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(claim(1).await[0].event.partition_key(), Some("k0"), "the hot key would be all");
    let failed: Vec<_> =
        claim(450).await.iter().map(|one| Settlement::retry(one.lease, Duration::ZERO, "failed")).collect();
    assert!(h.store.settle(&failed).await.unwrap().iter().all(Result::is_ok));
    assert_eq!(claim(20).await.len(), 20);
    h.database().run_command(doc! { "profile": 0 }).await.unwrap();

    let mut profile = h.database().collection::<Document>("system.profile").find(doc! {}).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    while profile.advance().await.unwrap() {
        let entry: Document = profile.deserialize_current().unwrap();
        let Ok(plan) = entry.get_str("planSummary") else { continue };
        let is_stats = plan.starts_with("COUNT_SCAN");
        // All leases are read in the order in which they come, and one key, whichever, for whether there is one.
        let is_events = entry.get_str("ns").unwrap().ends_with(".outbox");
        assert!(!is_events || !plan.contains("COLLSCAN"), "{plan}: {entry}");
        // The oldest of the events at the heads of some ready keys, for `stats`, is found by sorting them.
        let may_sort = entry.get_document("command").is_ok_and(|command| command.contains_key("aggregate"))
            && !is_events;
        assert!(may_sort || !entry.contains_key("hasSortStage"), "{plan}: {entry}");
        let examined = |name: &str| entry.get_i32(name).unwrap_or(0);
        assert!(examined("docsExamined") <= if is_events { 1300 } else { 101 }, "{plan}: {entry}");
        assert!(is_stats || examined("keysExamined") <= 1500, "{plan}: {entry}");
        // A scan of several ranges names its index once for each.
        seen.insert(plan.split_inclusive(" }").next().unwrap().to_owned());
    }
    for wanted in [
        "IXSCAN { status: 1, partitionHash: 1, seq: 1 }",
        "IXSCAN { partitionHash: 1, retryAt: 1 }",
        "IXSCAN { status: 1, seq: 1 }",
        "COUNT_SCAN { status: 1, seq: 1 }",
        "IXSCAN { readyAt: 1 }",
        "IXSCAN { eventId: 1 }",
    ] {
        assert!(seen.contains(wanted), "{wanted:?} in {seen:#?}");
    }
    h.close().await;
}

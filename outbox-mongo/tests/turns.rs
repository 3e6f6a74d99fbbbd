//! The lock of claims, and the sessions that take it, beside futures that are dropped and outboxes that go.

mod harness;

use std::time::{Duration, Instant};

use harness::Mongo;
use mongodb::bson::{Document, doc};
use outbox_conformance::{Harness, SchemaHarness, require};
use outbox_mongo::mongodb;
use outbox_traits::{Claim, ClaimStore, Event, OutboxStore, Settlement};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{self, sleep, timeout},
};

/// For how long a transaction that nobody goes on with holds up others, at least.
const STALL: Duration = Duration::from_secs(3);

async fn in_leases(h: &Mongo, id: &str) -> Document {
    let leases = h.database().collection::<Document>("outbox.leases");
    leases.find_one(doc! { "_id": id }).await.unwrap().unwrap_or_default()
}

async fn version(h: &Mongo) -> i64 {
    in_leases(h, "lock").await.get_i64("version").unwrap()
}

async fn listed(h: &Mongo) -> usize {
    in_leases(h, "sessions").await.get_array("sessions").map_or(0, Vec::len)
}

/// If what changes nothing took it on, those that want to change something would look again without end.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_came_too_late_leaves_the_version_of_the_lock_as_it_is() {
    let Some(h) = require("turns::version", Mongo::open().await) else { return };
    let busy = |number| Event::new("t", json!(number)).unwrap().with_partition_key("busy");
    h.store.save(&busy(0)).await.unwrap();
    assert_eq!(h.store.claim(&Claim::new("w")).await.unwrap().len(), 1);
    let behind: Vec<Event> = (1..3000).map(busy).collect();
    h.store.save_all(&behind).await.unwrap();
    let before = version(&h).await;
    let mut claims = JoinSet::new();
    for _ in 0..12 {
        let store = h.unmigrated("outbox");
        claims.spawn(async move { store.claim(&Claim::new("w")).await.unwrap().len() });
    }
    assert_eq!(claims.join_all().await.into_iter().sum::<usize>(), 0);
    // One of them has parked what is behind, all of it.
    assert_eq!(version(&h).await, before + 1);
    h.close().await;
}

/// Wherever it was: before the first command was answered, the driver takes the transaction for one that never began.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_dropped_leaves_no_lock_behind() {
    let Some(h) = require("turns::dropped", Mongo::open().await) else { return };
    let events: Vec<Event> = (0..200).map(|number| Event::new("t", json!(number)).unwrap()).collect();
    h.store.save_all(&events).await.unwrap();
    let other = h.unmigrated("outbox");
    let claim = Claim::new("w").with_limit(1);
    let leased = h.store.claim(&claim).await.unwrap();
    assert_eq!(other.claim(&claim).await.unwrap().len(), 1);
    let again: Vec<_> = leased.iter().map(|one| one.lease).collect();
    let mut longest = Duration::ZERO;
    for round in 0..120 {
        let after = Duration::from_micros(100 * (round % 40));
        match round % 3 {
            0 => drop(timeout(after, h.store.claim(&claim)).await),
            1 => drop(timeout(after, h.store.renew(&again, Duration::from_mins(9))).await),
            _ => {
                let retry = leased.iter().map(|one| Settlement::retry(one.lease, Duration::ZERO, "no"));
                drop(timeout(after, h.store.settle(&retry.collect::<Vec<_>>())).await);
            }
        }
        // Another process, which has no other way than to wait.
        let started = Instant::now();
        let leased = other.claim(&claim).await.unwrap();
        longest = longest.max(started.elapsed());
        let settlements: Vec<_> = leased.iter().map(|one| Settlement::released(one.lease)).collect();
        other.settle(&settlements).await.unwrap();
    }
    assert!(longest < STALL, "a claim waited for {longest:?}");
    assert_eq!(listed(&h).await, 2, "each process goes on with the session that it has");
    h.close().await;
}

/// The list keeps the last hundred, and has those that died on it still.
#[tokio::test]
async fn a_process_that_lives_for_long_comes_to_the_end_of_the_list_again() {
    let Some(h) = require("turns::long", Mongo::open().await) else { return };
    let sessions = async || in_leases(&h, "sessions").await.get_array("sessions").unwrap().clone();
    let claim = async || {
        h.store.save(&Event::new("t", json!(1)).unwrap()).await.unwrap();
        let leased = h.store.claim(&Claim::new("w")).await.unwrap();
        assert_eq!(leased.len(), 1);
        assert!(h.store.settle(&[Settlement::delivered(leased[0].lease)]).await.unwrap()[0].is_ok());
    };
    claim().await;
    let own = sessions().await;
    assert_eq!(own.len(), 1);
    let others: Vec<i32> = (0..100).collect();
    let others = doc! { "$set": { "sessions": others } };
    let leases = h.database().collection::<Document>("outbox.leases");
    leases.update_one(doc! { "_id": "sessions" }, others).await.unwrap();
    claim().await;
    assert!(!sessions().await.contains(&own[0]), "each claim would be a round trip longer");

    // A minute, for which nobody waits. The driver takes its server for lost then, and looks for it at once.
    time::pause();
    time::advance(Duration::from_secs(61)).await;
    time::resume();
    sleep(Duration::from_secs(1)).await;
    h.outbox().count_documents(doc! {}).await.unwrap();
    claim().await;
    let listed = sessions().await;
    assert_eq!((listed.len(), listed.last()), (100, own.last()));
    h.close().await;
}

/// Its session serves others after it, and their transactions may take their time.
#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_goes_takes_its_session_from_the_list() {
    let Some(h) = require("turns::unlisted", Mongo::open().await) else { return };
    for number in 0..2 {
        h.store.save(&Event::new("t", json!(number)).unwrap()).await.unwrap();
    }
    let claim = Claim::new("w").with_limit(1);
    assert_eq!(h.store.claim(&claim).await.unwrap().len(), 1);
    let other = h.unmigrated("outbox");
    assert_eq!(other.claim(&claim).await.unwrap().len(), 1);
    assert_eq!(listed(&h).await, 2);
    drop(other);
    let started = Instant::now();
    while listed(&h).await != 1 {
        assert!(started.elapsed() < Duration::from_secs(20), "it is listed still");
        sleep(Duration::from_millis(20)).await;
    }
    h.close().await;
}

//! A server that fails when it is told to: what is tried again, what is an error, and what is left behind.

mod replica_set;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mongodb::{
    Client, Database,
    bson::{DateTime, Document, doc},
    event::{EventHandler, command::CommandEvent},
    options::ClientOptions,
};
use outbox_conformance::require;
use outbox_mongo::{MongoOutbox, mongodb};
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, ErrorKind, Event, EventId, Lease, OutboxStore,
    Saved, SchemaStore, Settlement,
};
use replica_set::ReplicaSet;
use serde_json::json;

/// Codes of the server: what nobody who tries again has more luck with, and what was over before it was done.
const UNAUTHORIZED: i32 = 13;
const INDEX_NOT_FOUND: i32 = 27;
const MAX_TIME_EXPIRED: i32 = 50;
const WRITE_CONFLICT: i32 = 112;
/// A guard against hanging, and below the minute after which the server itself ends a transaction.
const PATIENCE: Duration = Duration::from_secs(20);

async fn outbox(set: &ReplicaSet) -> (Database, MongoOutbox) {
    let shop = set.client().database("shop");
    let store = MongoOutbox::new(&shop);
    store.migrate().await.unwrap();
    store.get_pending(1).await.unwrap();
    (shop, store)
}

fn once() -> Document {
    doc! { "times": 1 }
}

fn refuse(command: &str, code: i32) -> Document {
    doc! { "failCommands": [command], "errorCode": code }
}

async fn save_and_claim(store: &MongoOutbox, count: usize) -> Vec<Lease> {
    let events: Vec<Event> = (0..count).map(|number| Event::new("t", json!(number)).unwrap()).collect();
    store.save_all(&events).await.unwrap();
    let leased = store.claim(&Claim::new("w").with_limit(count)).await.unwrap();
    assert_eq!(leased.len(), count);
    leased.iter().map(|one| one.lease).collect()
}

/// The same outbox, and how often its client asks for commits.
async fn counted(set: &ReplicaSet) -> (MongoOutbox, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let mut options = ClientOptions::parse(set.uri()).await.unwrap();
    let of_client = Arc::clone(&count);
    options.command_event_handler = Some(EventHandler::callback(move |event| {
        if let CommandEvent::Started(event) = event
            && event.command_name == "commitTransaction"
        {
            of_client.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let store = MongoOutbox::new(&Client::with_options(options).unwrap().database("shop"));
    store.get_pending(1).await.unwrap();
    (store, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_fate_is_unknown_is_asked_for_three_times_and_any_other_once() {
    let Some(set) = require("faults::commits", ReplicaSet::start(1).await) else { return };
    let (_, other) = outbox(&set).await;
    let (store, commits) = counted(&set).await;
    let leases = save_and_claim(&store, 1).await;
    let renew = async || {
        commits.store(0, Ordering::Relaxed);
        let renewed = store.renew(&leases, Duration::from_mins(5)).await;
        (renewed, commits.load(Ordering::Relaxed))
    };
    set.fail(doc! { "times": 2 }, refuse("commitTransaction", MAX_TIME_EXPIRED)).await;
    let (renewed, count) = renew().await;
    assert!(renewed.unwrap()[0].is_ok());
    assert_eq!(count, 3);

    for (code, kind, expected) in
        [(MAX_TIME_EXPIRED, ErrorKind::Unavailable, 3), (UNAUTHORIZED, ErrorKind::Backend, 1)]
    {
        set.fail("alwaysOn", refuse("commitTransaction", code)).await;
        let (renewed, count) = renew().await;
        assert_eq!((renewed.unwrap_err().kind(), count), (kind, expected));
        set.fail("off", doc! {}).await;
        // And it holds up nobody.
        other.save(&Event::new("t", json!(2)).unwrap()).await.unwrap();
        assert_eq!(other.claim(&Claim::new("w")).await.unwrap().len(), 1);
    }
}

/// Neither what it did nor that it gives up arrives, so that the server has a transaction which nobody goes on with.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_end_did_not_arrive_is_ended_all_the_same() {
    let Some(set) = require("faults::abort", ReplicaSet::start(1).await) else { return };
    let (shop, store) = outbox(&set).await;
    let leases = save_and_claim(&store, 1).await;
    let lost = doc! { "failCommands": ["update", "abortTransaction"], "closeConnection": true };
    // The driver asks for the end of a transaction once more by itself.
    set.fail(doc! { "times": 3 }, lost).await;
    let error = store.renew(&leases, Duration::from_mins(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let lock = shop.collection::<Document>("outbox.leases");
    let next = doc! { "$inc": { "version": 1_i64 } };
    lock.find_one_and_update(doc! { "_id": "lock" }, next)
        .max_time(PATIENCE)
        .await
        .expect("the lock is free");
    assert!(store.renew(&leases, Duration::from_mins(5)).await.unwrap()[0].is_ok());
}

/// The first of two writes is done: what was delivered is so, and what was given back is free.
#[tokio::test]
async fn of_a_settlement_that_is_cut_off_in_the_middle_each_event_is_what_its_lease_says() {
    let Some(set) = require("faults::settlement", ReplicaSet::start(1).await) else { return };
    let (shop, store) = outbox(&set).await;
    let leases = save_and_claim(&store, 3).await;
    let settlements =
        [Settlement::delivered(leases[0]), Settlement::released(leases[1]), Settlement::delivered(leases[2])];
    set.fail(doc! { "skip": 1 }, refuse("update", UNAUTHORIZED)).await;
    let error = store.settle(&settlements).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend, "{error:?}");
    set.fail("off", doc! {}).await;
    let free = store.claim(&Claim::new("w")).await.unwrap();
    assert_eq!(free.iter().map(|one| one.event.id()).collect::<Vec<_>>(), [leases[1].event()]);
    // Who finds the rest of the lease does what was left to be done.
    let over = doc! { "$set": { "until": DateTime::from_millis(0) } };
    let of_first = doc! { "token": leases[0].token().to_string() };
    shop.collection::<Document>("outbox.leases").update_one(of_first, over).await.unwrap();
    assert!(store.claim(&Claim::new("w")).await.unwrap().is_empty());
    assert_eq!(store.purge(Duration::ZERO).await.unwrap(), 2);
}

#[tokio::test]
async fn an_error_that_no_other_try_helps_is_returned_at_once() {
    let Some(set) = require("faults::errors", ReplicaSet::start(1).await) else { return };
    let (shop, store) = outbox(&set).await;
    save_and_claim(&store, 1).await;
    set.fail(once(), refuse("findAndModify", UNAUTHORIZED)).await;
    let error = store.acknowledge(EventId::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend, "{error:?}");

    // It is set aside with less only where there is no room.
    let broken = doc! { "eventId": EventId::new().to_string(), "type": "broken", "status": "pending" };
    shop.collection::<Document>("outbox").insert_one(broken).await.unwrap();
    set.fail(once(), refuse("update", UNAUTHORIZED)).await;
    let error = store.get_pending(9).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend, "{error:?}");
    assert!(store.get_pending(9).await.unwrap().is_empty());
    let dead = store.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters;
    assert!(dead[0].reason.contains("payload"), "{dead:?}");
}

#[tokio::test]
async fn what_another_has_done_meanwhile_is_no_error_of_migrate_and_what_it_may_not_do_is_one() {
    let Some(set) = require("faults::migrate", ReplicaSet::start(1).await) else { return };
    let (_, store) = outbox(&set).await;
    let next = store.clone().with_collection("next").unwrap();
    set.fail(once(), refuse("create", UNAUTHORIZED)).await;
    assert_eq!(next.migrate().await.unwrap_err().kind(), ErrorKind::Backend);
    next.migrate().await.unwrap();

    let with_ttl = store.clone().with_ttl(Duration::from_hours(1));
    with_ttl.migrate().await.unwrap();
    set.fail(once(), refuse("dropIndexes", UNAUTHORIZED)).await;
    assert_eq!(store.migrate().await.unwrap_err().kind(), ErrorKind::Backend);
    set.fail(once(), refuse("dropIndexes", INDEX_NOT_FOUND)).await;
    store.migrate().await.unwrap();
}

/// The index of the keys says that all of them have what was lost, and so comes after that.
#[tokio::test]
async fn a_migrate_that_is_cut_off_before_it_has_put_back_the_keys_is_not_taken_for_done() {
    let Some(set) = require("faults::lost_keys", ReplicaSet::start(1).await) else { return };
    let (shop, store) = outbox(&set).await;
    let leases = save_and_claim(&store, 2).await;
    let failed = leases.iter().map(|lease| Settlement::retry(*lease, Duration::ZERO, "failed"));
    assert!(store.settle(&failed.collect::<Vec<_>>()).await.unwrap().iter().all(Result::is_ok));
    shop.collection::<Document>("outbox.keys").drop().await.unwrap();
    set.fail(once(), refuse("insert", UNAUTHORIZED)).await;
    assert_eq!(store.migrate().await.unwrap_err().kind(), ErrorKind::Backend);
    let report = store.verify().await.unwrap();
    assert!(report.to_string().contains("outbox.keys"), "{report}");
    store.migrate().await.unwrap();
    assert!(store.verify().await.unwrap().problems().is_empty());
    assert_eq!(store.claim(&Claim::new("w")).await.unwrap().len(), 2);
}

/// The driver's own helper would try for two minutes.
#[tokio::test]
async fn a_batch_that_is_saved_by_itself_is_given_up_after_a_minute_of_conflicts_at_most() {
    let Some(set) = require("faults::batch", ReplicaSet::start(1).await) else { return };
    let (_, store) = outbox(&set).await;
    let events = [1, 2].map(|number| Event::new("t", json!(number)).unwrap());
    let mut conflict = refuse("insert", WRITE_CONFLICT);
    conflict.insert("errorLabels", ["TransientTransactionError"]);
    set.fail("alwaysOn", conflict).await;
    let saved = tokio::time::timeout(Duration::from_mins(1), store.save_all(&events)).await;
    set.fail("off", doc! {}).await;
    let error = saved.expect("it tries for more than a minute").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert_eq!(store.save_all(&events).await.unwrap(), [Saved::Stored; 2]);
}

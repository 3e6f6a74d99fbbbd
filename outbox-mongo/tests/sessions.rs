//! Transactions: the caller's, the driver's helper for them, and what goes wrong in one.

mod harness;

use std::{error::Error as _, sync::Arc, time::Duration};

use harness::Mongo;
use mongodb::{
    Client,
    bson::{Document, doc},
    error::TRANSIENT_TRANSACTION_ERROR,
    options::{Acknowledgment, ClientOptions, ReadConcern, ReadPreference, WriteConcern},
};
use outbox_conformance::{Harness, require};
use outbox_mongo::{MongoInbox, MongoOutbox, driver_error, mongodb};
use outbox_traits::{
    Claim, ClaimStore, Error, ErrorKind, Event, EventId, InboxStore, OutboxStore, OutboxStoreExt, Saved,
    SchemaStore, Settlement, StatsStore,
};
use serde_json::json;

fn event() -> Event {
    Event::new("t", json!({})).unwrap()
}

fn keyed() -> Event {
    event().with_idempotency_key("k")
}

#[track_caller]
fn assert_from_driver(error: &Error, kind: ErrorKind) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.source().is_some_and(<dyn std::error::Error>::is::<mongodb::error::Error>), "{error:?}");
}

/// Saved by another after this transaction took its view of the data: it can see no duplicate, and must not make one.
#[tokio::test]
async fn what_another_saves_meanwhile_is_a_conflict_with_the_driver_s_labels() {
    let Some(h) = require("sessions::conflict", Mongo::open().await) else { return };
    let ours = keyed();
    for (theirs, is_batch) in [(keyed(), false), (event().with_id(ours.id()), true)] {
        let mut session = h.begin().await;
        h.outbox().find_one(doc! {}).session(&mut session).await.unwrap();
        h.store.save(&theirs).await.unwrap();
        let saved = if is_batch {
            h.store.save_all_in_session(&[event(), ours.clone()], &mut session).await.map(|saved| saved[1])
        } else {
            h.store.save_in_session(&ours, &mut session).await
        };
        let error = saved.unwrap_err();
        assert_from_driver(&error, ErrorKind::Conflict);
        assert!(driver_error(error).contains_label(TRANSIENT_TRANSACTION_ERROR));
        // The same in a new transaction.
        let mut session = h.begin().await;
        assert_eq!(h.store.save_in_session(&ours, &mut session).await.unwrap(), Saved::Duplicate);
        h.commit(session).await;
        assert_eq!(h.store.get_pending(9).await.unwrap(), [theirs]);
        h.outbox().delete_many(doc! {}).await.unwrap();
    }
    h.close().await;
}

#[tokio::test]
async fn the_driver_s_helper_runs_a_transaction_again_after_a_conflict() {
    let Some(h) = require("sessions::helper", Mongo::open().await) else { return };
    let (ours, theirs) = (keyed(), keyed());
    let mut session = h.database().client().start_session().await.unwrap();
    let (store, rows, mut runs) = (&h.store, h.outbox(), 0);
    let saved = session
        .start_transaction()
        .and_run2(async |session| {
            runs += 1;
            rows.find_one(doc! {}).session(&mut *session).await?;
            if runs == 1 {
                store.save(&theirs).await.map_err(driver_error)?;
            }
            store.enqueue(&ours, session).await.map_err(driver_error)
        })
        .await;
    assert_eq!(saved.unwrap(), Saved::Duplicate);
    assert_eq!(runs, 2);
    assert_eq!(h.store.get_pending(9).await.unwrap(), [theirs]);

    // What no retry helps comes back as it was.
    let mut bad = event();
    bad.meta_mut().extra.insert("id".to_owned(), json!(1));
    let failed = session
        .start_transaction()
        .and_run2(async |session| store.enqueue(&bad, session).await.map_err(driver_error))
        .await
        .unwrap_err();
    assert_eq!(failed.get_custom::<Error>().unwrap().kind(), ErrorKind::InvalidEvent);
    h.close().await;
}

/// Writers of the same few ids and keys, in batches: each event once, and no error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_meet_are_run_again() {
    let Some(h) = require("sessions::batches", Mongo::open().await) else { return };
    let all: Arc<Vec<Event>> =
        Arc::new((0..12).map(|n| event().with_idempotency_key(format!("k{n}"))).collect());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..6 {
        let (store, all) = (h.store.clone(), Arc::clone(&all));
        writers.spawn(async move {
            let mut batch = all[writer..writer + 6].to_vec();
            if writer % 2 == 0 {
                batch.reverse();
            }
            let saved = store.save_all(&batch).await.unwrap();
            saved.iter().filter(|saved| **saved == Saved::Stored).count()
        });
    }
    assert_eq!(writers.join_all().await.iter().sum::<usize>(), 11);
    assert_eq!(h.store.get_pending(99).await.unwrap().len(), 11);
    h.close().await;
}

/// What the client prefers for the application's own reads is nothing to the outbox.
#[tokio::test]
async fn a_client_that_prefers_secondaries_is_served() {
    let Some(h) = require("sessions::secondaries", Mongo::open().await) else { return };
    let mut options = ClientOptions::parse(harness::server().unwrap()).await.unwrap();
    options.selection_criteria = Some(ReadPreference::SecondaryPreferred { options: None }.into());
    options.read_concern = Some(ReadConcern::local());
    options.write_concern = Some(Acknowledgment::Nodes(1).into());
    let database = Client::with_options(options).unwrap().database(h.database().name());
    let store = MongoOutbox::new(&database);
    store.migrate().await.unwrap();
    store.save(&event()).await.unwrap();
    store.save_all(&[event(), event()]).await.unwrap();
    let leased = store.claim(&Claim::new("a worker")).await.unwrap();
    let ends = leased.iter().map(|one| Settlement::delivered(one.lease)).collect::<Vec<_>>();
    assert_eq!(ends.len(), 3);
    for answer in store.settle(&ends).await.unwrap() {
        answer.unwrap();
    }
    assert_eq!(store.stats().await.unwrap().delivered, 3);

    let mut session = database.client().start_session().await.unwrap();
    session.start_transaction().write_concern(WriteConcern::majority()).await.unwrap();
    let batch = [event(), event()];
    assert_eq!(store.save_in_session(&batch[0], &mut session).await.unwrap(), Saved::Stored);
    let saved = store.save_all_in_session(&batch, &mut session).await.unwrap();
    assert_eq!(saved, [Saved::Duplicate, Saved::Stored]);
    session.commit_transaction().await.unwrap();
    assert_eq!(store.get_pending(9).await.unwrap(), batch);
    h.close().await;
}

/// Without one, the event would be written at once and for good.
#[tokio::test]
async fn a_session_without_a_transaction_is_refused() {
    let Some(h) = require("sessions::none", Mongo::open().await) else { return };
    let mut session = h.database().client().start_session().await.unwrap();
    for _ in 0..2 {
        let error = h.store.enqueue(event(), &mut session).await.unwrap_err();
        assert!(error.to_string().contains("start_transaction"), "{error}");
        h.store.save_all_in_session(&[event()], &mut session).await.unwrap_err();
        assert_eq!(h.outbox().count_documents(doc! {}).await.unwrap(), 0);
    }
    // It is as good as before.
    session.start_transaction().await.unwrap();
    h.store.enqueue(event(), &mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
    h.store.enqueue(event(), &mut session).await.unwrap_err();
    session.start_transaction().await.unwrap();
    h.store.enqueue(event(), &mut session).await.unwrap();
    session.abort_transaction().await.unwrap();
    assert_eq!(h.store.get_pending(9).await.unwrap().len(), 1);

    // Nor does the session of another client serve.
    let stranger = Mongo::open().await.unwrap();
    let mut session = stranger.begin().await;
    assert_from_driver(&h.store.enqueue(event(), &mut session).await.unwrap_err(), ErrorKind::Backend);
    stranger.rollback(session).await;
    stranger.close().await;
    h.close().await;
}

/// A commit whose answer was lost is repeated; what comes in between, by mistake, must not make that impossible.
#[tokio::test]
async fn a_save_after_a_commit_is_refused_and_the_commit_can_still_be_repeated() {
    let Some(h) = require("sessions::repeated", Mongo::open().await) else { return };
    let mut session = h.begin().await;
    let saved = event();
    h.store.enqueue(saved.clone(), &mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
    h.store.enqueue(event(), &mut session).await.unwrap_err();
    h.store.save_all_in_session(&[event(), event()], &mut session).await.unwrap_err();
    h.inbox.process_once(&mut session, "c", saved.id()).await.unwrap_err();
    session.commit_transaction().await.unwrap();
    assert_eq!(h.store.get_pending(9).await.unwrap(), [saved]);
    h.close().await;
}

/// It has no transactions: what is written in it would be written at once.
#[tokio::test]
async fn a_session_of_a_snapshot_is_refused() {
    let Some(h) = require("sessions::snapshot", Mongo::open().await) else { return };
    let mut session = h.database().client().start_session().snapshot(true).await.unwrap();
    assert_from_driver(&h.store.enqueue(event(), &mut session).await.unwrap_err(), ErrorKind::Backend);
    let marked = h.inbox.process_once(&mut session, "c", EventId::new()).await;
    assert_from_driver(&marked.unwrap_err(), ErrorKind::Backend);
    for collection in ["outbox", "inbox"] {
        let collection = h.database().collection::<Document>(collection);
        assert_eq!(collection.count_documents(doc! {}).await.unwrap(), 0);
    }
    h.close().await;
}

/// The year 0 too, which the suite lets an engine refuse.
#[tokio::test]
async fn extreme_times_come_back() {
    let Some(h) = require("sessions::times", Mongo::open().await) else { return };
    let times = ["0000-02-29T00:00:00Z", "0001-02-03T04:05:06.789Z", "1969-12-31T23:59:59.999Z"];
    let due = times.map(|time| event().with_not_before(time.parse().unwrap()));
    h.store.save_all(&due).await.unwrap();
    let never = event().with_not_before("9999-12-31T23:59:59.999Z".parse().unwrap());
    h.store.save(&never).await.unwrap();
    assert_eq!(h.store.get_pending(9).await.unwrap(), due);
    h.close().await;
}

#[tokio::test]
async fn a_store_and_an_inbox_say_which_collection_they_are_and_keep_the_password() {
    let options = ClientOptions::parse("mongodb://someone:secret-word@127.0.0.1:1/").await.unwrap();
    let shop = Client::with_options(options).unwrap().database("shop");
    let (store, inbox) = (MongoOutbox::new(&shop), MongoInbox::new(&shop));
    assert_eq!((store.collection_name(), inbox.collection_name()), ("outbox", "inbox"));
    let store = store.with_collection("Order Events").unwrap();
    let inbox = inbox.with_collection("Seen by billing").unwrap();
    assert_eq!((store.collection_name(), inbox.collection_name()), ("Order Events", "Seen by billing"));
    assert_eq!((store.database().name(), inbox.database().name()), ("shop", "shop"));
    for (text, name) in
        [(format!("{store:?}"), "shop.Order Events"), (format!("{inbox:?}"), "shop.Seen by billing")]
    {
        assert!(text.contains(name) && !text.contains("secret"), "{text}");
    }
}

/// Nobody listens there. The password does not appear in what is said about it.
#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let mut options =
        ClientOptions::parse("mongodb://someone:secret-word@127.0.0.1:1/?replicaSet=rs").await.unwrap();
    options.server_selection_timeout = Some(Duration::from_millis(100));
    let client = Client::with_options(options).unwrap();
    let store = MongoOutbox::new(&client.database("shop"));
    let errors = [
        store.save(&event()).await.unwrap_err(),
        store.save_all(&[event(), event()]).await.unwrap_err(),
        store.get_pending(1).await.unwrap_err(),
        store.acknowledge(EventId::new()).await.unwrap_err(),
        store.purge(Duration::ZERO).await.unwrap_err(),
        store.purge(Duration::MAX).await.unwrap_err(),
        outbox_traits::SchemaStore::migrate(&store).await.unwrap_err(),
        MongoInbox::new(&client.database("shop"))
            .with_collection("outbox")
            .unwrap()
            .migrate()
            .await
            .unwrap_err(),
    ];
    for error in &errors {
        assert!(error.to_string().contains("`shop.outbox`"), "{error}");
        assert_from_driver(error, ErrorKind::Unavailable);
        assert!(!format!("{error} {error:?} {store:?}").contains("secret"), "{error:?}");
    }
    client.shutdown().immediate(true).await;
    assert_from_driver(&store.save(&event()).await.unwrap_err(), ErrorKind::Unavailable);
}

//! Names, indexes and what `migrate` meets.

mod harness;

use std::time::Duration;

use harness::Mongo;
use mongodb::bson::{Document, doc};
use outbox_conformance::{Harness, NamesHarness, SchemaHarness, require};
use outbox_mongo::mongodb;
use outbox_traits::{ErrorKind, Event, InboxStore, OutboxStore, Retention, SchemaReport, SchemaStore};
use serde_json::json;

fn current() -> SchemaReport {
    SchemaReport::default()
}

/// The server itself deletes by this index: it must hold nothing but what is delivered.
#[tokio::test]
async fn the_ttl_index_is_of_delivered_events_only_and_follows_its_owner() {
    let Some(h) = require("schema::ttl", Mongo::open().await) else { return };
    let ttl = async || {
        let mut found = h.outbox().list_indexes().await.unwrap();
        let mut ttl = Vec::new();
        while found.advance().await.unwrap() {
            let index = found.deserialize_current().unwrap();
            let options = index.options.unwrap();
            if let Some(after) = options.expire_after {
                assert_eq!(index.keys, doc! { "deliveredAt": 1 });
                assert_eq!(options.partial_filter_expression, Some(doc! { "status": "delivered" }));
                ttl.push(after.as_secs());
            }
        }
        ttl
    };
    let with = |after| h.store.clone().with_ttl(after);
    assert!(ttl().await.is_empty());
    for (after, seconds) in [
        (Duration::from_hours(1), 3600),
        (Duration::from_hours(2), 7200),
        (Duration::from_millis(1), 1),
        (Duration::MAX, u64::from(i32::MAX.unsigned_abs())),
    ] {
        let problems = with(after).verify().await.unwrap();
        assert!(problems.to_string().contains("TTL"), "{problems}");
        for _ in 0..2 {
            with(after).migrate().await.unwrap();
            assert_eq!(ttl().await, [seconds]);
        }
        assert_eq!(with(after).verify().await.unwrap(), current());
    }
    assert!(h.store.verify().await.unwrap().to_string().contains("TTL"));
    let event = Event::new("t", json!({})).unwrap();
    with(Duration::ZERO).save(&event).await.unwrap();
    h.store.migrate().await.unwrap();
    assert!(ttl().await.is_empty());
    assert_eq!(h.store.verify().await.unwrap(), current());
    h.close().await;
}

#[tokio::test]
async fn what_is_missing_is_named_and_put_back() {
    let Some(h) = require("schema::missing", Mongo::open().await) else { return };
    let event = Event::new("t", json!({})).unwrap();
    h.store.save(&event).await.unwrap();
    for index in ["eventId_1", "status_1_seq_1"] {
        h.outbox().drop_index(index).await.unwrap();
    }
    h.database().collection::<Document>("outbox.leases").drop().await.unwrap();
    // An index of that name which is another.
    h.outbox().drop_index("idempotencyKey_1").await.unwrap();
    let other = mongodb::IndexModel::builder().keys(doc! { "idempotencyKey": 1 }).build();
    h.outbox().create_index(other).await.unwrap();
    let report = h.store.verify().await.unwrap();
    for missing in ["eventId_1", "status_1_seq_1", "idempotencyKey_1", "outbox.leases"] {
        assert!(report.to_string().contains(missing), "{report}");
    }
    assert_eq!(report.problems().len(), 4, "{report}");
    // A store that has not looked yet refuses to work without them, one that has is told by the server.
    let error = h.unmigrated("outbox").save(&event).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    let error = h.store.get_pending(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    assert!(error.to_string().contains("run `migrate`"), "{error}");

    // What somebody else made is theirs to drop.
    let error = h.store.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    assert!(error.to_string().contains("drop it"), "{error}");
    h.outbox().drop_index("idempotencyKey_1").await.unwrap();
    h.store.migrate().await.unwrap();
    assert_eq!(h.store.verify().await.unwrap(), current());
    assert_eq!(h.store.get_pending(9).await.unwrap(), [event]);
    h.close().await;
}

/// The suite asks for the meaning; these are the words.
#[tokio::test]
async fn what_is_not_an_outbox_is_refused_in_these_words() {
    let Some(h) = require("schema::foreign", Mongo::open().await) else { return };
    for name in h.make_others().await {
        let error = h.unmigrated(&name).migrate().await.unwrap_err();
        assert!(error.to_string().contains("choose another name"), "{error}");
    }
    h.close().await;
}

#[tokio::test]
async fn another_collection_is_one_with_the_same_settings() {
    let Some(h) = require("schema::settings", Mongo::open().await) else { return };
    // Whatever is known of the first collection is not known of the second.
    h.store.get_pending(1).await.unwrap();
    let store = h.store.clone().with_ttl(Duration::from_mins(1)).with_retention(Retention::DeleteOnDelivery);
    let store = store.with_collection("other").unwrap();
    let event = Event::new("t", json!({})).unwrap();
    assert_eq!(store.save(&event).await.unwrap_err().kind(), ErrorKind::Schema);
    store.migrate().await.unwrap();
    assert!(h.unmigrated("other").verify().await.unwrap().to_string().contains("TTL"));
    store.save(&event).await.unwrap();
    store.acknowledge(event.id()).await.unwrap();
    assert_eq!(h.database().collection::<Document>("other").count_documents(doc! {}).await.unwrap(), 0);

    h.inbox.purge(Duration::ZERO).await.unwrap();
    let inbox = h.inbox.clone().with_ttl(Duration::from_mins(1)).with_collection("seen").unwrap();
    assert_eq!(inbox.purge(Duration::ZERO).await.unwrap_err().kind(), ErrorKind::Schema);
    inbox.migrate().await.unwrap();
    let without = h.inbox.clone().with_collection("seen").unwrap();
    assert!(without.verify().await.unwrap().to_string().contains("TTL"));
    h.close().await;
}

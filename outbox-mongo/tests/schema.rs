//! Names, indexes and what `migrate` meets.

mod harness;

use std::time::Duration;

use harness::Mongo;
use mongodb::{
    IndexModel,
    bson::{Bson, DateTime, Document, doc, oid::ObjectId, spec::BinarySubtype},
    options::{Collation, IndexOptions, TimeseriesOptions},
};
use outbox_conformance::{Harness, NamesHarness, SchemaHarness, require};
use outbox_mongo::mongodb;
use outbox_traits::{
    Claim, ClaimStore, ErrorKind, Event, InboxStore, OutboxStore, Retention, Saved, SchemaReport,
    SchemaStore, Settlement,
};
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
    let other = IndexModel::builder().keys(doc! { "idempotencyKey": 1 }).build();
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

/// Somebody's own that is the same but for deleting is theirs to drop, and one that deletes by another rule goes.
#[tokio::test]
async fn what_is_in_the_way_of_a_time_to_live_is_told_of_or_goes() {
    let Some(h) = require("schema::time_to_live", Mongo::open().await) else { return };
    let filter = doc! { "status": "delivered" };
    let options = IndexOptions::builder().partial_filter_expression(filter).build();
    let plain = IndexModel::builder().keys(doc! { "deliveredAt": 1 }).options(options).build();
    h.outbox().create_index(plain).await.unwrap();
    let store = h.unmigrated("outbox").with_ttl(Duration::from_secs(60));
    let error = store.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    assert!(error.to_string().contains("drop it"), "{error}");
    h.outbox().drop_index("deliveredAt_1").await.unwrap();
    store.migrate().await.unwrap();
    assert_eq!(store.verify().await.unwrap(), current());

    let options = IndexOptions::builder().expire_after(Duration::from_secs(3600)).build();
    let other = IndexModel::builder().keys(doc! { "deliveredAt": 1 }).options(options).build();
    h.outbox().create_index(other).await.unwrap();
    assert!(!store.verify().await.unwrap().is_current());
    store.migrate().await.unwrap();
    assert_eq!(store.verify().await.unwrap(), current());
    h.close().await;
}

/// Of documents in which there is any, null too.
#[tokio::test]
async fn the_index_of_keys_as_it_was_at_first_is_as_good() {
    let Some(h) = require("schema::former", Mongo::open().await) else { return };
    h.outbox().drop_index("idempotencyKey_1").await.unwrap();
    let filter = doc! { "idempotencyKey": { "$exists": true } };
    let options = IndexOptions::builder().unique(true).partial_filter_expression(filter).build();
    let former = IndexModel::builder().keys(doc! { "idempotencyKey": 1 }).options(options).build();
    h.outbox().create_index(former).await.unwrap();
    assert_eq!(h.store.verify().await.unwrap(), current());
    h.store.migrate().await.unwrap();
    let event = || Event::new("t", json!({})).unwrap().with_idempotency_key("k");
    let outbox = h.unmigrated("outbox");
    assert_eq!(outbox.save(&event()).await.unwrap(), Saved::Stored);
    assert_eq!(outbox.save(&event()).await.unwrap(), Saved::Duplicate);
    h.close().await;
}

async fn all_keys(h: &Mongo) -> Vec<Document> {
    let keys = h.database().collection::<Document>("outbox.keys");
    let mut found = keys.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
    let mut all = Vec::new();
    while found.advance().await.unwrap() {
        all.push(found.deserialize_current().unwrap());
    }
    all
}

/// It is done each time a process starts.
#[tokio::test]
async fn very_many_keys_are_put_back_and_where_none_was_lost_little_is_read() {
    let Some(h) = require("schema::many_keys", Mongo::open().await) else { return };
    let event =
        |number: usize| Event::new("t", json!(number)).unwrap().with_partition_key(format!("k{number}"));
    h.store.save_all(&(0..2200).map(event).collect::<Vec<_>>()).await.unwrap();
    let leased = h.store.claim(&Claim::new("w").with_limit(2200)).await.unwrap();
    for (number, some) in leased.chunks(550).enumerate() {
        let failed = some.iter().map(|one| match number % 2 {
            0 => Settlement::retry(one.lease, Duration::from_hours(1), "failed"),
            _ => Settlement::dead_letter_holding_key(one.lease, "failed"),
        });
        assert!(h.store.settle(&failed.collect::<Vec<_>>()).await.unwrap().iter().all(Result::is_ok));
    }
    let before = all_keys(&h).await;
    assert_eq!(before.len(), 2200);
    h.database().collection::<Document>("outbox.keys").drop().await.unwrap();
    let report = h.store.verify().await.unwrap();
    assert_eq!(report.problems().len(), 1, "{report}");
    assert!(report.to_string().contains("outbox.keys"), "{report}");
    h.store.migrate().await.unwrap();
    assert!(all_keys(&h).await == before, "another time, or another that holds it");

    h.database().run_command(doc! { "profile": 2 }).await.unwrap();
    h.store.migrate().await.unwrap();
    h.database().run_command(doc! { "profile": 0 }).await.unwrap();
    let ours = doc! { "ns": { "$regex": format!("^{}[.]outbox", h.database().name()) } };
    let mut profile = h.database().collection::<Document>("system.profile").find(ours).await.unwrap();
    while profile.advance().await.unwrap() {
        let entry: Document = profile.deserialize_current().unwrap();
        assert!(!["insert", "update", "remove"].contains(&entry.get_str("op").unwrap()), "{entry}");
        for count in ["docsExamined", "keysExamined"] {
            assert!(entry.get_i32(count).unwrap_or(0) <= 500, "{entry}");
        }
    }
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

fn key(byte: u8) -> Bson {
    Bson::Binary(mongodb::bson::Binary { subtype: BinarySubtype::Generic, bytes: vec![byte; 16] })
}

/// Documents that no outbox has in these collections beside it.
fn documents_of_others() -> Vec<(&'static str, Document)> {
    let keys = [
        doc! { "_id": "api-key-1", "owner": "app" },
        doc! { "_id": "api-key-2", "readyAt": DateTime::now() },
        doc! { "_id": ObjectId::new(), "readyAt": DateTime::now() },
        doc! { "_id": key(7), "owner": "app" },
    ];
    let leases = [
        doc! { "_id": "flat-7" },
        doc! { "_id": "x", "token": "abc" },
        doc! { "_id": "x", "token": 7, "entries": [] },
        doc! { "_id": "lock", "holder": "app" },
        doc! { "_id": "sessions", "user": "somebody" },
    ];
    let of = |ending, documents: Vec<Document>| documents.into_iter().map(move |one| (ending, one));
    of(".keys", keys.to_vec()).chain(of(".leases", leases.to_vec())).collect()
}

/// Makes all kinds of what is in the way of an outbox, and tells the names of the outbox and of what that is.
async fn make_others_beside(h: &Mongo) -> Vec<(String, String)> {
    let (database, mut made) = (h.database(), Vec::new());
    for (number, (ending, document)) in documents_of_others().into_iter().enumerate() {
        let outbox = format!("documents{number}");
        let beside = format!("{outbox}{ending}");
        database.collection::<Document>(&beside).insert_one(document).await.unwrap();
        made.push((outbox, beside));
    }
    for ending in [".keys", ".leases"] {
        let outboxes = ["capped", "view", "german", "series"].map(|name| format!("{name}_{}", &ending[1..]));
        let beside = outboxes.each_ref().map(|name| format!("{name}{ending}"));
        database.create_collection(&beside[0]).capped(true).size(4096).await.unwrap();
        database.create_collection(&beside[1]).view_on("business").await.unwrap();
        let german = Collation::builder().locale("de").build();
        database.create_collection(&beside[2]).collation(german).await.unwrap();
        let times = TimeseriesOptions::builder().time_field("at").build();
        database.create_collection(&beside[3]).timeseries(times).await.unwrap();
        made.extend(outboxes.into_iter().zip(beside));
    }
    made
}

#[tokio::test]
async fn what_has_the_name_of_a_collection_beside_and_is_something_else_is_left_alone() {
    let Some(h) = require("schema::beside", Mongo::open().await) else { return };
    let made = make_others_beside(&h).await;
    let all = async || {
        let mut names = h.database().list_collection_names().await.unwrap();
        names.sort();
        names
    };
    let before = all().await;
    for (outbox, beside) in made {
        let store = h.unmigrated(&outbox);
        for _ in 0..2 {
            let error = store.migrate().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Schema, "{beside}: {error}");
            let report = store.verify().await.unwrap();
            for told in [error.to_string(), report.to_string()] {
                assert!(told.contains(&format!(".{beside}`")), "{beside}: {told}");
                assert!(told.contains("choose another name"), "{beside}: {told}");
                assert!(!told.contains("run `migrate`"), "it would be in vain for {beside}: {told}");
            }
        }
        let found = h.database().run_command(doc! { "listIndexes": &beside }).await;
        let indexes = found
            .map_or(0, |found| found.get_document("cursor").unwrap().get_array("firstBatch").unwrap().len());
        assert!(indexes <= 1, "{beside} has an index more");
    }
    assert_eq!(all().await, before, "something was made");
    h.close().await;
}

/// As where an earlier version took it for its own, or somebody has come later.
#[tokio::test]
async fn what_somebody_else_keeps_in_the_collections_beside_is_told_of() {
    let Some(h) = require("schema::guests", Mongo::open().await) else { return };
    let keys = h.database().collection::<Document>("outbox.keys");
    keys.insert_many((1..9).map(|byte| doc! { "_id": key(2 * byte), "readyAt": DateTime::now() }))
        .await
        .unwrap();
    h.store.save(&Event::new("t", json!({})).unwrap()).await.unwrap();
    assert_eq!(h.store.claim(&Claim::new("w")).await.unwrap().len(), 1);
    assert_eq!(h.store.verify().await.unwrap(), current());
    // A lock that is there already is the outbox's own; and of keys, which may be many, some are looked at.
    let is_looked_for = |id: &Bson| !["lock", "sessions"].map(Bson::from).contains(id) && *id != key(7);
    for (ending, guest) in documents_of_others() {
        let id = guest.get("_id").unwrap().clone();
        if !is_looked_for(&id) {
            continue;
        }
        let beside = h.database().collection::<Document>(&format!("outbox{ending}"));
        beside.insert_one(&guest).await.unwrap();
        let report = h.store.verify().await.unwrap();
        assert!(report.to_string().contains(&format!("outbox{ending}` holds something else")), "{report}");
        assert_eq!(h.store.migrate().await.unwrap_err().kind(), ErrorKind::Schema);
        assert_eq!(beside.find_one(doc! { "_id": &id }).await.unwrap(), Some(guest));
        beside.delete_one(doc! { "_id": id }).await.unwrap();
    }
    assert_eq!(h.store.verify().await.unwrap(), current());
    h.close().await;
}

/// Whatever it keeps beside its events, at any time.
#[tokio::test]
async fn an_outbox_in_use_is_as_it_is_to_be() {
    let Some(h) = require("schema::in_use", Mongo::open().await) else { return };
    let fine = async |when: &str| {
        assert_eq!(h.store.verify().await.unwrap(), current(), "{when}");
        h.store.migrate().await.unwrap_or_else(|error| panic!("{when}: {error}"));
    };
    let event =
        |number: usize| Event::new("t", json!(number)).unwrap().with_partition_key(format!("k{number}"));
    h.store.save_all(&(0..9).map(event).collect::<Vec<_>>()).await.unwrap();
    let leased = h.store.claim(&Claim::new("w")).await.unwrap();
    fine("after a claim").await;
    assert!(h.store.renew(&[leased[8].lease], Duration::from_hours(1)).await.unwrap()[0].is_ok());
    fine("after a renewal of some").await;
    let settlements = [
        Settlement::retry(leased[0].lease, Duration::from_hours(1), "failed"),
        Settlement::retry(leased[1].lease, Duration::ZERO, "failed"),
        Settlement::dead_letter_holding_key(leased[2].lease, "failed"),
        Settlement::delivered(leased[3].lease),
    ];
    assert!(h.store.settle(&settlements).await.unwrap().iter().all(Result::is_ok));
    fine("after failures").await;
    // As one leaves it that dies then.
    let leases = h.database().collection::<Document>("outbox.leases");
    let decided = doc! { "$set": { "delivered": true }, "$inc": { "revision": 1_i64 } };
    leases.update_one(doc! { "token": leased[4].lease.token().to_string() }, decided).await.unwrap();
    fine("after half a settlement").await;
    h.store.acknowledge(leased[8].event.id()).await.unwrap();
    h.advance(Duration::from_hours(2)).await;
    fine("after the end of all leases").await;
    assert_eq!(h.store.claim(&Claim::new("w")).await.unwrap().len(), 2);
    fine("at last").await;
    // The first claim of all makes it so.
    leases.delete_one(doc! { "_id": "lock" }).await.unwrap();
    leases.insert_one(doc! { "_id": "lock", "version": 0_i64 }).await.unwrap();
    fine("with a new lock").await;
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

//! The documents, as a reader of the TypeScript shape and the server see them.

mod harness;

use std::collections::HashSet;

use harness::{Mongo, elsewhere::fill};
use mongodb::bson::{Bson, DateTime, Document, Timestamp, doc};
use outbox_conformance::{Harness, require};
use outbox_mongo::mongodb;
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, ErrorKind, Event, EventId, OutboxStore, Saved,
    Settlement,
};
use serde_json::{Value, json};

async fn stored(h: &Mongo, event: &Event) -> Document {
    let filter = doc! { "eventId": event.id().to_string() };
    h.stored(filter).await.expect("it is there")
}

#[tokio::test]
async fn a_document_has_the_shape_of_the_typescript_outbox() {
    let Some(h) = require("shape::a_document", Mongo::open().await) else { return };
    let payload =
        json!({ "total": 4200, "big": 1_i64 << 40, "price": 9.5, "lines": [{ "sku": "a" }], "note": null });
    let event = Event::new("order.placed", payload)
        .unwrap()
        .with_timestamp("2024-02-29T12:00:00.001Z".parse().unwrap())
        .with_resource("order", "17")
        .with_idempotency_key("k-17")
        .with_header("tenant", "acme");
    h.store.save(&event).await.unwrap();
    let found = stored(&h, &event).await;
    let id = event.id().to_string();
    let expected = doc! {
        "total": 4200, "big": 1_i64 << 40, "price": 9.5, "lines": [{ "sku": "a" }], "note": null,
    };
    // By name: the order of a JSON object is not the event's.
    assert_eq!(by_name(found.get_document("payload").unwrap()), by_name(&expected));
    let meta = doc! {
        "id": &id, "timestamp": "2024-02-29T12:00:00.001Z", "resource": "order", "resourceId": "17",
        "idempotencyKey": "k-17", "headers": { "tenant": "acme" },
    };
    assert_eq!(by_name(found.get_document("meta").unwrap()), by_name(&meta));
    for (field, value) in [
        ("eventId", id.as_str()),
        ("type", "order.placed"),
        ("status", "pending"),
        ("idempotencyKey", "k-17"),
    ] {
        assert_eq!(found.get_str(field).unwrap(), value);
    }
    found.get_object_id("_id").unwrap();
    found.get_datetime("createdAt").unwrap();
    assert!(found.get_timestamp("seq").unwrap().time > 1_700_000_000, "the server's own");
    assert_eq!(found.get_binary_generic("partitionHash").unwrap().len(), 16);
    for absent in ["deliveredAt", "notBefore", "payloadJson", "metaJson", "deadAt", "lastError", "lane"] {
        assert!(!found.contains_key(absent), "{absent}");
    }

    // Delivered as such a relay does it, or as this store does.
    let other = Event::new("order.placed", json!({})).unwrap();
    h.store.save(&other).await.unwrap();
    h.store.acknowledge(other.id()).await.unwrap();
    let delivered = doc! { "$set": { "status": "delivered", "deliveredAt": DateTime::now() } };
    h.outbox().update_one(doc! { "eventId": &id }, delivered).await.unwrap();
    assert!(h.store.get_pending(9).await.unwrap().is_empty());
    for event in [&event, &other] {
        let found = stored(&h, event).await;
        assert_eq!(found.get_str("status").unwrap(), "delivered");
        found.get_datetime("deliveredAt").unwrap();
    }
    assert_eq!(h.store.purge(std::time::Duration::ZERO).await.unwrap(), 2);
    h.close().await;
}

fn by_name(document: &Document) -> std::collections::BTreeMap<&str, &Bson> {
    document.iter().map(|(name, value)| (name.as_str(), value)).collect()
}

#[tokio::test]
async fn what_a_typescript_writer_saved_is_read() {
    let Some(h) = require("shape::written_elsewhere", Mongo::open().await) else { return };
    let id = EventId::new();
    let row = doc! {
        "eventId": id.to_string(),
        "type": "order.placed",
        "payload": {
            "total": 4200.0, "placedAt": DateTime::from_millis(1), "tags": ["a"],
            // A whole number of more than 32 bits is written so by the driver of JavaScript.
            "number": 1_700_000_000_000.0, "less": -4_294_967_296.0, "no": 4_294_967_296.5, "far": 1e17,
        },
        "meta": { "id": id.to_string(), "timestamp": DateTime::from_millis(1_709_208_000_001) },
        "status": "pending",
        "createdAt": DateTime::now(),
    };
    h.outbox().insert_one(row).await.unwrap();
    let ours = Event::new("order.placed", json!({})).unwrap();
    h.store.save(&ours).await.unwrap();
    let read = h.store.get_pending(9).await.unwrap();
    assert_eq!(
        json!(read[0]),
        json!({
            "type": "order.placed",
            "payload": {
                "total": 4200.0, "placedAt": "1970-01-01T00:00:00.001Z", "tags": ["a"],
                "number": 1_700_000_000_000_i64, "less": -4_294_967_296_i64, "no": 4_294_967_296.5, "far": 1e17,
            },
            "meta": { "id": id, "timestamp": "2024-02-29T12:00:00.001Z" },
        })
    );
    assert_eq!(read[1], ours);
    assert_eq!(h.store.save(&ours.with_id(id)).await.unwrap(), Saved::Duplicate);
    h.store.acknowledge(id).await.unwrap();
    assert_eq!(h.store.get_pending(9).await.unwrap().len(), 1);
    h.close().await;
}

/// What BSON cannot hold has a text beside it, and only that.
#[tokio::test]
async fn a_text_is_kept_only_where_bson_is_not_exact() {
    let Some(h) = require("shape::texts", Mongo::open().await) else { return };
    let long = Value::Array(vec![json!(0); 1_400_000]);
    let cases = [
        (json!(null), false),
        (json!(-0.0), false),
        (json!({ "$set": { "a.b": 1 }, "": {}, "$oid": "x", "_id": [1] }), false),
        (json!({ "$ref": 1, "$id": { "$db": 2 } }), false),
        (json!({ "$oid": "0123456789abcdef01234567" }), false),
        (json!({ "$numberLong": "7", "$date": "2024-01-01T00:00:00Z" }), false),
        (json!({ "i": i64::MIN, "f": 1e308 }), false),
        (json!({ "n": u64::MAX, "name": "x" }), true),
        (json!({ "a\u{0}b": 1 }), true),
        // It would come back as a whole number.
        (json!({ "f": 1.7e12 }), true),
        // As BSON it is beyond 16 MiB.
        (long, true),
    ];
    let mut saved = Vec::new();
    for (payload, has_text) in cases {
        let event = Event::new("t", payload).unwrap();
        assert_eq!(h.store.save(&event).await.unwrap(), Saved::Stored);
        let found = stored(&h, &event).await;
        assert_eq!(found.contains_key("payloadJson"), has_text, "{:.100}", event.payload().to_string());
        assert!(!found.contains_key("metaJson"));
        saved.push(event);
    }
    let approximate = stored(&h, &saved[7]).await;
    assert_eq!(approximate.get_document("payload").unwrap().get_str("name").unwrap(), "x");
    let mut extra = Event::new("t", json!({})).unwrap();
    extra.meta_mut().extra.insert("limit".to_owned(), json!(u64::MAX));
    extra.meta_mut().extra.insert("$set".to_owned(), json!({ "$inc": 1 }));
    h.store.save(&extra).await.unwrap();
    let found = stored(&h, &extra).await;
    assert!(found.contains_key("metaJson") && !found.contains_key("payloadJson"));
    saved.push(extra);
    let mut large = Event::new("t", json!({})).unwrap();
    large.meta_mut().extra.insert("long".to_owned(), Value::Array(vec![json!(0); 1_400_000]));
    h.store.save(&large).await.unwrap();
    assert_eq!(stored(&h, &large).await.get_document("meta").unwrap().len(), 2);
    saved.push(large);
    assert_eq!(h.store.get_pending(99).await.unwrap(), saved);

    // Its own copy beside its own text: that is beyond a document.
    let refused = Event::new("t", json!({})).unwrap().with_idempotency_key("k".repeat(8_380_000));
    let error = h.store.save(&refused).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidEvent, "{error}");

    // The server changes such documents without a complaint.
    let ids: Vec<EventId> = saved.iter().map(Event::id).collect();
    h.store.acknowledge_all(&ids).await.unwrap();
    assert_eq!(h.store.purge(std::time::Duration::ZERO).await.unwrap(), ids.len() as u64);
    h.close().await;
}

/// Documents that nobody who knows the outbox can have written.
#[tokio::test]
async fn anything_in_the_collection_is_set_aside_and_can_be_named() {
    let Some(h) = require("shape::set_aside", Mongo::open().await) else { return };
    let seq = Timestamp { time: 0, increment: 0 };
    let id = EventId::new();
    let broken = [
        doc! { "status": "pending", "seq": seq, "hello": "world" },
        doc! { "status": "pending", "eventId": 7 },
        doc! { "status": "pending", "eventId": id.to_string().to_uppercase(), "type": "t", "seq": "first" },
        doc! { "status": "pending", "eventId": id.to_string(), "type": "t", "payload": Bson::MaxKey, "meta": {}, "seq": seq },
        doc! { "status": "scheduled", "eventId": "x", "notBefore": "yesterday", "type": "t", "seq": seq },
    ];
    h.outbox().insert_many(&broken).await.unwrap();
    let good = Event::new("t", json!({})).unwrap();
    h.store.save(&good).await.unwrap();
    assert_eq!(h.store.get_pending(1).await.unwrap(), [good]);
    let page = h.store.dead_letters(&DeadLetterFilter::new()).await.unwrap();
    assert_eq!(page.letters.len(), broken.len());
    assert!(
        page.letters.iter().any(|letter| letter.content.as_ref().unwrap_err().contains(r#""hello":"world""#))
    );
    assert!(page.letters.iter().any(|letter| letter.id == id && letter.reason.contains("no form in JSON")));
    for letter in &page.letters {
        assert!(h.store.requeue(letter.id).await.unwrap(), "{letter:?}");
        assert!(!h.store.requeue(letter.id).await.unwrap());
    }
    assert_eq!(h.store.get_pending(9).await.unwrap().len(), 1);
    let mut read = Vec::new();
    let mut after = None;
    loop {
        let filter = DeadLetterFilter::new().with_limit(2).with_after(after);
        let page = h.store.dead_letters(&filter).await.unwrap();
        read.extend(page.letters);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(read.len(), broken.len());
    for letter in read {
        assert!(h.store.discard(letter.id).await.unwrap());
    }
    assert_eq!(h.outbox().count_documents(doc! {}).await.unwrap(), 1);
    h.close().await;
}

/// As the published shape lets it: such a one has no place in the order, and perhaps no time.
#[tokio::test]
async fn what_another_program_has_set_aside_is_found_page_by_page() {
    let Some(h) = require("shape::set_aside_elsewhere", Mongo::open().await) else { return };
    let long_ago = DateTime::from_millis(1_709_208_000_001);
    let row = |status: &str| {
        let id = EventId::new().to_string();
        doc! {
            "eventId": &id, "type": "order.placed", "payload": {}, "status": status, "createdAt": DateTime::now(),
            "meta": { "id": id, "timestamp": DateTime::now() },
        }
    };
    let dead = |number| {
        let mut row = row("dead_letter");
        row.insert("type", "set.aside");
        match number % 3 {
            0 => row.extend(doc! { "deadAt": long_ago }),
            1 => row.extend(doc! { "seq": null, "deadAt": null }),
            _ => row.extend(doc! { "seq": "first" }),
        }
        row
    };
    // One that the store itself has set aside, and one without a place that is pending.
    let own = Event::new("t", json!({})).unwrap();
    h.store.save(&own).await.unwrap();
    let leased = h.store.claim(&Claim::new("w")).await.unwrap();
    assert!(h.store.settle(&[Settlement::dead_letter(leased[0].lease, "failed")]).await.unwrap()[0].is_ok());
    h.outbox().insert_one(row("pending")).await.unwrap();
    let before = others(&h).await;
    h.outbox().insert_many((0..1500).map(dead)).await.unwrap();

    let hour_ago = chrono::Utc::now() - chrono::TimeDelta::hours(1);
    let of_now = DeadLetterFilter::new().with_since(hour_ago).with_limit(2000);
    assert_eq!(h.store.dead_letters(&of_now).await.unwrap().letters.len(), 1001);
    let of_then = DeadLetterFilter::new().with_before(hour_ago).with_limit(2000);
    assert_eq!(h.store.dead_letters(&of_then).await.unwrap().letters.len(), 500);
    // What had its place and its time has kept them.
    let after = others(&h).await;
    assert_eq!((after.len(), after), (2, before));
    assert_eq!(h.outbox().count_documents(doc! { "deadAt": long_ago }).await.unwrap(), 500);

    assert_eq!(in_pages(&h, 400).await.len(), 1501);

    // Where all have their places, it is a look at one end of the index.
    h.database().run_command(doc! { "profile": 2 }).await.unwrap();
    h.store.dead_letters(&DeadLetterFilter::new().with_limit(2)).await.unwrap();
    h.database().run_command(doc! { "profile": 0 }).await.unwrap();
    let of_outbox = doc! { "ns": format!("{}.outbox", h.database().name()) };
    let mut profile = h.database().collection::<Document>("system.profile").find(of_outbox).await.unwrap();
    let mut looks = 0;
    while profile.advance().await.unwrap() {
        let entry: Document = profile.deserialize_current().unwrap();
        assert_eq!(entry.get_str("op").unwrap(), "query", "{entry}");
        assert!(entry.get_i32("keysExamined").unwrap() <= 4, "{entry}");
        looks += 1;
    }
    assert_eq!(looks, 2);

    assert_eq!(h.store.requeue_all(&DeadLetterFilter::new()).await.unwrap(), 1501);
    let lost = doc! { "$set": { "status": "dead_letter" }, "$unset": { "seq": "" } };
    h.outbox().update_many(doc! {}, lost).await.unwrap();
    assert_eq!(h.store.discard_all(&DeadLetterFilter::new()).await.unwrap(), 1502);
    h.close().await;
}

/// What nobody else has set aside.
async fn others(h: &Mongo) -> Vec<Document> {
    let these = doc! { "type": { "$ne": "set.aside" } };
    let mut found = h.outbox().find(these).sort(doc! { "_id": 1 }).await.unwrap();
    let mut others = Vec::new();
    while found.advance().await.unwrap() {
        others.push(found.deserialize_current().unwrap());
    }
    others
}

/// The ids of all dead letters, each of which comes once.
async fn in_pages(h: &Mongo, limit: usize) -> HashSet<EventId> {
    let mut ids = HashSet::new();
    let mut filter = DeadLetterFilter::new().with_limit(limit);
    loop {
        let page = h.store.dead_letters(&filter).await.unwrap();
        assert!(page.letters.len() <= limit, "{} on a page of {limit}", page.letters.len());
        for letter in page.letters {
            assert!(ids.insert(letter.id), "it came twice: {}", letter.id);
        }
        if page.next.is_none() {
            return ids;
        }
        filter = filter.with_after(page.next);
    }
}

/// Also where there is no room for a place.
#[tokio::test]
async fn what_another_program_has_set_aside_and_is_full_is_found_as_well() {
    let Some(h) = require("shape::full_elsewhere", Mongo::open().await) else { return };
    for (room, has_created_at) in [(Some(3), true), (Some(3), false), (None, true)] {
        let mut row = doc! { "eventId": EventId::new().to_string(), "status": "dead_letter" };
        if has_created_at {
            row.insert("createdAt", DateTime::now());
        }
        if let Some(room) = room {
            fill(&mut row, room);
        }
        h.outbox().insert_one(row).await.unwrap();
    }
    assert_eq!(in_pages(&h, 1).await.len(), 3);
    let placed = doc! { "seq": { "$type": "timestamp" } };
    assert_eq!(h.outbox().count_documents(placed).await.unwrap(), 2);
    assert_eq!(h.store.discard_all(&DeadLetterFilter::new()).await.unwrap(), 3);
    h.close().await;
}

/// A dead letter as another program may write it, but for its place, which is the server's.
fn dead_elsewhere() -> Document {
    let id = EventId::new().to_string();
    doc! {
        "eventId": &id, "type": "order.placed", "payload": {}, "status": "dead_letter", "createdAt": DateTime::now(),
        "meta": { "id": &id, "timestamp": DateTime::now() },
        "deadAt": DateTime::now(), "seq": Timestamp { time: 0, increment: 0 },
    }
}

#[tokio::test]
async fn what_another_program_has_set_aside_without_a_usable_id_goes_by_the_id_that_is_shown() {
    let Some(h) = require("shape::shown_ids", Mongo::open().await) else { return };
    let id = || EventId::new().to_string();
    let ids = [
        Some(Bson::from(id().to_uppercase())),
        Some(format!("{}\n", id()).into()),
        Some("x".into()),
        Some(Bson::Int32(7)),
        Some(vec![id()].into()),
        // An index lets one have none.
        None,
    ];
    for (number, event_id) in ids.into_iter().enumerate() {
        let mut row = dead_elsewhere();
        match event_id {
            Some(event_id) => drop(row.insert("eventId", event_id)),
            None => drop(row.remove("eventId")),
        }
        match number {
            0 => drop(row.remove("seq")),
            1 => drop(row.insert("holdsKey", true)),
            _ => {}
        }
        h.outbox().insert_one(row).await.unwrap();
    }
    let shown = in_pages(&h, 4).await;
    assert_eq!(shown.len(), 6);
    for id in &shown {
        assert!(h.store.requeue(*id).await.unwrap(), "{id}");
        assert!(!h.store.requeue(*id).await.unwrap(), "{id} is no dead letter any more");
    }
    assert_eq!(h.outbox().count_documents(doc! { "status": "pending" }).await.unwrap(), 6);
    // It has an id as before where the store sets it aside.
    assert!(h.store.get_pending(9).await.unwrap().is_empty());
    assert_eq!(in_pages(&h, 4).await, shown);
    for id in shown {
        assert!(h.store.discard(id).await.unwrap(), "{id}");
    }
    assert_eq!(h.outbox().count_documents(doc! {}).await.unwrap(), 0);
    h.close().await;
}

#[tokio::test]
async fn a_dead_letter_that_says_that_it_holds_no_key_is_requeued_and_discarded() {
    let Some(h) = require("shape::holds_no_key", Mongo::open().await) else { return };
    for holds_key in [Bson::Boolean(false), Bson::Null] {
        for _ in 0..4 {
            let mut row = dead_elsewhere();
            row.insert("holdsKey", &holds_key);
            h.outbox().insert_one(row).await.unwrap();
        }
        let letters = h.store.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters;
        assert_eq!(letters.iter().filter(|letter| !letter.holds_key).count(), 4);
        assert!(h.store.requeue(letters[0].id).await.unwrap(), "{holds_key}");
        assert!(h.store.discard(letters[1].id).await.unwrap(), "{holds_key}");
        assert_eq!(h.store.get_pending(9).await.unwrap()[0].id(), letters[0].id);
        assert_eq!(h.store.requeue_all(&DeadLetterFilter::new()).await.unwrap(), 2, "{holds_key}");
        let again = doc! { "$set": { "status": "dead_letter", "holdsKey": &holds_key } };
        h.outbox().update_many(doc! {}, again).await.unwrap();
        assert_eq!(h.store.discard_all(&DeadLetterFilter::new()).await.unwrap(), 3, "{holds_key}");
    }
    assert_eq!(h.outbox().count_documents(doc! {}).await.unwrap(), 0);
    h.close().await;
}

#[tokio::test]
async fn a_dead_letter_without_a_time_is_found_by_the_time_that_is_shown() {
    let Some(h) = require("shape::no_time", Mongo::open().await) else { return };
    for dead_at in [None, Some(Bson::Null), Some("yesterday".into())] {
        let mut row = dead_elsewhere();
        row.remove("deadAt");
        row.extend(dead_at.map(|dead_at| ("deadAt".to_owned(), dead_at)));
        h.outbox().insert_one(row).await.unwrap();
    }
    // And one that says it.
    h.outbox().insert_one(dead_elsewhere()).await.unwrap();
    let epoch = chrono::DateTime::UNIX_EPOCH;
    let hour_ago = chrono::Utc::now() - chrono::TimeDelta::hours(1);
    let all = h.store.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters;
    assert_eq!(all.iter().filter(|letter| letter.dead_at == epoch).count(), 3);
    let filter = DeadLetterFilter::new;
    for (filter, count) in [
        (filter().with_before(hour_ago), 3),
        (filter().with_before(epoch), 0),
        (filter().with_since(epoch), 4),
        (filter().with_since(epoch).with_before(hour_ago), 3),
        (filter().with_since(hour_ago), 1),
    ] {
        let found = h.store.dead_letters(&filter).await.unwrap().letters;
        assert_eq!(found.len(), count, "{filter:?}");
    }
    assert_eq!(h.store.discard_all(&filter().with_before(hour_ago)).await.unwrap(), 3);
    assert_eq!(h.outbox().count_documents(doc! {}).await.unwrap(), 1);
    h.close().await;
}

/// It is written elsewhere: what the store writes itself leaves room.
#[tokio::test]
async fn a_document_that_is_nearly_full_is_set_aside_without_the_reason() {
    let Some(h) = require("shape::full", Mongo::open().await) else { return };
    for room in [30, 3] {
        let mut full = doc! {
            "eventId": EventId::new().to_string(), "type": "t", "meta": [],
            "status": "pending", "createdAt": DateTime::now(), "seq": Timestamp { time: 0, increment: 0 },
        };
        fill(&mut full, room);
        h.outbox().insert_one(full).await.unwrap();
    }
    // It could be read, but nothing could be noted in it.
    let id = EventId::new().to_string();
    let mut full = doc! {
        "eventId": &id, "type": "t", "meta": { "id": &id, "timestamp": DateTime::now() },
        "status": "pending", "createdAt": DateTime::now(), "seq": Timestamp { time: 0, increment: 0 },
    };
    fill(&mut full, 43);
    h.outbox().insert_one(full).await.unwrap();
    let good = Event::new("t", json!({})).unwrap();
    h.store.save(&good).await.unwrap();
    let leased = h.store.claim(&Claim::new("w")).await.unwrap();
    assert_eq!(leased.iter().map(|one| one.event.id()).collect::<Vec<_>>(), [good.id()]);
    assert!(h.store.settle(&[Settlement::released(leased[0].lease)]).await.unwrap()[0].is_ok());
    assert_eq!(h.store.get_pending(9).await.unwrap(), [good]);
    let dead = h.outbox().count_documents(doc! { "status": "dead_letter" }).await.unwrap();
    assert_eq!(dead, 3);
    h.close().await;
}

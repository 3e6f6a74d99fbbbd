//! What the store asks of the server, as the driver tells of it.

mod harness;

use std::{
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use harness::{Mongo, server};
use mongodb::{
    Client,
    bson::{DateTime, Document, doc},
    event::{EventHandler, command::CommandEvent},
    options::ClientOptions,
};
use outbox_conformance::{Harness, require};
use outbox_mongo::{MongoOutbox, mongodb};
use outbox_traits::{Claim, ClaimStore, Event, EventId, OutboxStore, Settlement};
use serde_json::json;

/// The commands that were answered, by name, with their answers.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<Vec<(String, Document)>>>);

impl Answers {
    /// Of the outbox of a harness, with a store that tells them.
    async fn of(h: &Mongo) -> (Self, MongoOutbox) {
        let answers = Self::default();
        let mut options = ClientOptions::parse(server().unwrap()).await.unwrap();
        let of_store = answers.clone();
        options.command_event_handler = Some(EventHandler::callback(move |event| {
            if let CommandEvent::Succeeded(event) = event {
                of_store.0.lock().unwrap().push((event.command_name, event.reply));
            }
        }));
        let client = Client::with_options(options).unwrap();
        let store = MongoOutbox::new(&client.database(h.database().name()));
        // It looks once whether all is there.
        store.get_pending(1).await.unwrap();
        answers.take();
        (answers, store)
    }

    fn take(&self) -> Vec<(String, Document)> {
        mem::take(&mut self.0.lock().unwrap())
    }

    /// The names of the commands.
    fn names(&self) -> Vec<String> {
        self.take().into_iter().map(|(name, _)| name).collect()
    }

    /// How often something was looked for in a collection.
    fn finds(&self, collection: &str) -> usize {
        let is_in = |answer: &Document| {
            let cursor = answer.get_document("cursor").unwrap();
            cursor.get_str("ns").unwrap().ends_with(&format!(".{collection}"))
        };
        self.take().iter().filter(|(name, answer)| name == "find" && is_in(answer)).count()
    }

    /// How many documents came back.
    fn documents(&self) -> usize {
        let batch = |(_, reply): &(String, Document)| {
            let cursor = reply.get_document("cursor").ok()?;
            Some(cursor.get_array("firstBatch").or_else(|_| cursor.get_array("nextBatch")).ok()?.len())
        };
        self.take().iter().filter_map(batch).sum()
    }
}

/// Under the lock: each question more holds up all other claims.
#[tokio::test]
async fn failures_of_one_settlement_are_written_by_one_command() {
    let Some(h) = require("commands::failures", Mongo::open().await) else { return };
    let events: Vec<Event> = (0..120).map(|number| Event::new("t", json!(number)).unwrap()).collect();
    h.store.save_all(&events).await.unwrap();
    let (answers, store) = Answers::of(&h).await;
    let leased = store.claim(&Claim::new("w").with_limit(120)).await.unwrap();
    assert_eq!(leased.len(), 120);
    answers.take();
    // As after a jitter, each has a time of its own.
    let settlement = |(number, one): (u64, &outbox_traits::Leased)| match number % 3 {
        0 => Settlement::dead_letter(one.lease, format!("dead {number}")),
        _ => Settlement::retry(one.lease, Duration::from_millis(number), format!("failed {number}")),
    };
    let settlements: Vec<_> = (0..).zip(&leased).map(settlement).collect();
    assert!(store.settle(&settlements).await.unwrap().iter().all(Result::is_ok));
    let commands = answers.names();
    assert!(commands.len() < 12, "{commands:?}");
    let waiting = doc! { "status": "parked", "lastError": "failed 118", "attempts": 1, "failures": 1 };
    assert_eq!(h.outbox().count_documents(waiting).await.unwrap(), 1);
    let dead = doc! { "status": "dead_letter", "lastError": { "$regex": "^dead" } };
    assert_eq!(h.outbox().count_documents(dead).await.unwrap(), 40);
    h.close().await;
}

#[tokio::test]
async fn failures_whose_texts_are_too_long_for_one_command_are_written_by_several() {
    let Some(h) = require("commands::long", Mongo::open().await) else { return };
    let events: Vec<Event> = (0..30).map(|number| Event::new("t", json!(number)).unwrap()).collect();
    h.store.save_all(&events).await.unwrap();
    let leased = h.store.claim(&Claim::new("w").with_limit(30)).await.unwrap();
    let retry = |(number, one): (u64, &outbox_traits::Leased)| {
        Settlement::retry(one.lease, Duration::from_millis(number), "x".repeat(1_000_000))
    };
    let settlements: Vec<_> = (0..).zip(&leased).map(retry).collect();
    assert!(h.store.settle(&settlements).await.unwrap().iter().all(Result::is_ok));
    assert_eq!(h.outbox().count_documents(doc! { "status": "parked" }).await.unwrap(), 30);
    h.close().await;
}

/// Whole events are read, and may be large.
#[tokio::test]
async fn one_document_that_cannot_be_read_makes_nobody_read_many() {
    let Some(h) = require("commands::undecodable", Mongo::open().await) else { return };
    let events: Vec<Event> = (0..300).map(|number| Event::new("t", json!(number)).unwrap()).collect();
    let (answers, store) = Answers::of(&h).await;
    let mut broken = Vec::new();
    for _ in 0..2 {
        let id = EventId::new();
        broken.push(doc! {
            "eventId": id.to_string(), "type": "broken", "payload": {}, "meta": [], "status": "pending",
            "createdAt": DateTime::now(),
        });
    }
    h.outbox().insert_one(&broken[0]).await.unwrap();
    h.store.save_all(&events).await.unwrap();
    assert_eq!(store.claim(&Claim::new("w").with_limit(1)).await.unwrap().len(), 1);
    let read = answers.documents();
    assert!(read < 30, "a claim read {read}");
    h.outbox().insert_one(&broken[1]).await.unwrap();
    assert_eq!(store.get_pending(1).await.unwrap().len(), 1);
    let read = answers.documents();
    assert!(read < 30, "a fetch read {read}");
    h.close().await;
}

#[tokio::test]
async fn a_worker_that_waits_for_work_and_a_purge_of_nothing_ask_one_question() {
    let Some(h) = require("commands::idle", Mongo::open().await) else { return };
    let (answers, store) = Answers::of(&h).await;
    assert!(store.claim(&Claim::new("w")).await.unwrap().is_empty());
    answers.take();
    for _ in 0..2 {
        assert!(store.claim(&Claim::new("w")).await.unwrap().is_empty());
        assert_eq!(answers.names(), ["find"]);
    }
    assert_eq!(store.purge(Duration::ZERO).await.unwrap(), 0);
    assert_eq!(answers.names(), ["find"]);
    h.close().await;
}

/// And so whether the time of a hidden one has come.
#[tokio::test]
async fn a_claim_with_nothing_in_its_way_reads_events_by_the_very_look_that_finds_them() {
    let Some(h) = require("commands::whole", Mongo::open().await) else { return };
    let (answers, store) = Answers::of(&h).await;
    for number in 0..2 {
        h.store.save(&Event::new("t", json!(number)).unwrap()).await.unwrap();
    }
    // The first one makes the lock.
    let first = store.claim(&Claim::new("w").with_limit(1)).await.unwrap();
    assert!(store.settle(&[Settlement::delivered(first[0].lease)]).await.unwrap()[0].is_ok());
    answers.take();
    assert_eq!(store.claim(&Claim::new("w")).await.unwrap().len(), 1);
    assert_eq!(answers.finds("outbox"), 0);
    h.close().await;
}

/// Which are found among more keys than a claim reads at once, or are just as many as are wanted.
#[tokio::test]
async fn a_claim_looks_once_for_the_keys_that_are_ready_and_once_for_their_events() {
    let Some(h) = require("commands::ready", Mongo::open().await) else { return };
    let (answers, store) = Answers::of(&h).await;
    let key = |number: usize| format!("k{number}");
    let event = |number| Event::new("t", json!(number)).unwrap().with_partition_key(key(number));
    h.store.save_all(&(0..255).map(event).collect::<Vec<_>>()).await.unwrap();
    let fail = async |limit, count, after: fn(usize) -> Duration| {
        let leased = store.claim(&Claim::new("w").with_limit(limit)).await.unwrap();
        assert_eq!(leased.len(), count);
        let retry = |(number, one): (usize, &outbox_traits::Leased)| {
            Settlement::retry(one.lease, after(number), "failed")
        };
        let retries: Vec<_> = leased.iter().enumerate().map(retry).collect();
        assert!(store.settle(&retries).await.unwrap().iter().all(Result::is_ok));
    };
    fail(255, 255, |number| if number < 5 { Duration::ZERO } else { Duration::from_hours(1) }).await;
    answers.take();
    fail(50, 5, |_| Duration::from_hours(1)).await;
    assert_eq!(answers.finds("outbox.keys"), 1 + 1, "one in the claim, one in the settlement");

    h.outbox().delete_many(doc! {}).await.unwrap();
    h.database().collection::<Document>("outbox.keys").delete_many(doc! {}).await.unwrap();
    h.store.save_all(&(0..150).map(event).collect::<Vec<_>>()).await.unwrap();
    fail(150, 150, |_| Duration::ZERO).await;
    answers.take();
    assert_eq!(store.claim(&Claim::new("w").with_limit(100)).await.unwrap().len(), 100);
    assert_eq!(answers.finds("outbox"), 2, "what is ready, and the events themselves");
    h.close().await;
}

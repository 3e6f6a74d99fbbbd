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
    let commands: Vec<String> = answers.take().into_iter().map(|(name, _)| name).collect();
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

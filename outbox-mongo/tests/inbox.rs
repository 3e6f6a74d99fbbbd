//! The inbox on MongoDB: transactions that meet, its index, its documents.

mod harness;

use std::{error::Error as _, time::Duration};

use harness::Mongo;
use mongodb::{
    bson::{Document, doc, spec::BinarySubtype},
    error::TRANSIENT_TRANSACTION_ERROR,
};
use outbox_conformance::{Harness, require};
use outbox_mongo::{MongoInbox, driver_error, mongodb};
use outbox_traits::{ErrorKind, EventId, InboxStore, Receipt, SchemaReport, SchemaStore};

fn marks(h: &Mongo) -> mongodb::Collection<Document> {
    h.database().collection("inbox")
}

/// The one commits before or after the other asks; the other has its view of the data from before.
#[tokio::test]
async fn of_two_at_once_one_gets_a_conflict_with_the_driver_s_labels() {
    let Some(h) = require("inbox::conflict", Mongo::open().await) else { return };
    for commits_first in [true, false] {
        let event = EventId::new();
        let mut late = h.begin().await;
        h.outbox().find_one(doc! {}).session(&mut late).await.unwrap();
        let mut early = h.begin().await;
        assert!(h.inbox.process_once(&mut early, "c", event).await.unwrap().is_new());
        let mut early = Some(early);
        if commits_first {
            h.commit(early.take().unwrap()).await;
        }
        let error = h.inbox.process_once(&mut late, "c", event).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        assert!(error.is_retryable() && error.source().is_some());
        assert!(driver_error(error).contains_label(TRANSIENT_TRANSACTION_ERROR));
        if let Some(early) = early {
            h.commit(early).await;
        }
        let mut again = h.begin().await;
        assert_eq!(h.inbox.process_once(&mut again, "c", event).await.unwrap(), Receipt::Duplicate);
        h.commit(again).await;
    }
    h.close().await;
}

#[tokio::test]
async fn the_driver_s_helper_runs_the_work_again_after_a_conflict() {
    let Some(h) = require("inbox::helper", Mongo::open().await) else { return };
    let event = EventId::new();
    let mut session = h.database().client().start_session().await.unwrap();
    let (inbox, rows, mut runs) = (&h.inbox, h.outbox(), 0);
    let receipt = session
        .start_transaction()
        .and_run2(async |session| {
            runs += 1;
            rows.find_one(doc! {}).session(&mut *session).await?;
            if runs == 1 {
                let mut other = h.begin().await;
                inbox.process_once(&mut other, "c", event).await.map_err(driver_error)?;
                h.commit(other).await;
            }
            inbox.process_once(session, "c", event).await.map_err(driver_error)
        })
        .await;
    assert_eq!((receipt.unwrap(), runs), (Receipt::Duplicate, 2));
    h.close().await;
}

/// Without one, the mark would be there for good, and the work perhaps not.
#[tokio::test]
async fn a_session_without_a_transaction_is_refused() {
    let Some(h) = require("inbox::none", Mongo::open().await) else { return };
    let mut session = h.database().client().start_session().await.unwrap();
    let error = h.inbox.process_once(&mut session, "c", EventId::new()).await.unwrap_err();
    assert!(error.to_string().contains("start_transaction"), "{error}");
    assert_eq!(marks(&h).count_documents(doc! {}).await.unwrap(), 0);
    h.close().await;
}

#[tokio::test]
async fn a_mark_is_one_document_by_the_server_s_clock_and_a_duplicate_writes_nothing() {
    let Some(h) = require("inbox::shape", Mongo::open().await) else { return };
    let event = EventId::new();
    let mut found = Vec::new();
    h.database().run_command(doc! { "profile": 2 }).await.unwrap();
    for _ in 0..2 {
        let mut session = h.begin().await;
        h.inbox.process_once(&mut session, " Käse ", event).await.unwrap();
        h.commit(session).await;
        let by_id = mongodb::options::Hint::Keys(doc! { "_id": 1 });
        found.push(marks(&h).find_one(doc! {}).hint(by_id).await.unwrap().unwrap());
    }
    h.inbox.purge(Duration::from_hours(1)).await.unwrap();
    h.database().run_command(doc! { "profile": 0 }).await.unwrap();
    assert_eq!(found[0], found[1]);
    let id = found[0].get_document("_id").unwrap();
    assert_eq!(id.get_str("consumer").unwrap(), " Käse ");
    let mongodb::bson::Bson::Binary(uuid) = id.get("event").unwrap() else { panic!("{id}") };
    assert_eq!(uuid.subtype, BinarySubtype::Uuid);
    assert_eq!(uuid.bytes, event.as_uuid().as_bytes());
    found[0].get_datetime("processedAt").unwrap();

    let ours = doc! { "ns": format!("{}.inbox", h.database().name()), "planSummary": { "$exists": true } };
    let mut profile = h.database().collection::<Document>("system.profile").find(ours).await.unwrap();
    let mut seen = Vec::new();
    while profile.advance().await.unwrap() {
        let entry = profile.deserialize_current().unwrap();
        let (op, plan) = (entry.get_str("op").unwrap(), entry.get_str("planSummary").unwrap());
        assert_ne!(plan, "COLLSCAN", "{entry}");
        seen.push(format!("{op} {plan}"));
    }
    for wanted in ["update IDHACK", "query IXSCAN { processedAt: 1 }"] {
        assert!(seen.iter().any(|plan| plan == wanted), "{wanted} in {seen:?}");
    }
    h.close().await;
}

#[tokio::test]
async fn the_index_follows_the_time_to_live() {
    let Some(h) = require("inbox::ttl", Mongo::open().await) else { return };
    let event = EventId::new();
    let mut session = h.begin().await;
    h.inbox.process_once(&mut session, "c", event).await.unwrap();
    h.commit(session).await;
    let seconds = async || {
        let mut found = marks(&h).list_indexes().await.unwrap();
        let mut seconds = Vec::new();
        while found.advance().await.unwrap() {
            let index = found.deserialize_current().unwrap();
            if index.keys == doc! { "processedAt": 1 } {
                seconds.push(index.options.unwrap().expire_after.map(|after| after.as_secs()));
            }
        }
        seconds
    };
    assert_eq!(seconds().await, [None]);
    let hours = |hours| Some(Duration::from_hours(hours));
    for after in [hours(1), hours(1), hours(2), None, None, hours(3)] {
        let inbox = match after {
            Some(after) => h.inbox.clone().with_ttl(after),
            None => h.inbox.clone(),
        };
        if seconds().await != [after.map(|after| after.as_secs())] {
            assert!(inbox.verify().await.unwrap().to_string().contains("TTL"));
        }
        inbox.migrate().await.unwrap();
        assert_eq!(seconds().await, [after.map(|after| after.as_secs())]);
        assert_eq!(inbox.verify().await.unwrap(), SchemaReport::default());
    }
    // One that has not looked yet works with either.
    let inbox = MongoInbox::new(h.database());
    let mut session = h.begin().await;
    assert_eq!(inbox.process_once(&mut session, "c", event).await.unwrap(), Receipt::Duplicate);
    h.commit(session).await;
    assert_eq!(inbox.purge(Duration::ZERO).await.unwrap(), 1);
    h.close().await;
}

#[tokio::test]
async fn an_inbox_that_is_not_there_is_named() {
    let Some(h) = require("inbox::missing", Mongo::open().await) else { return };
    for name in ["", "a$b", "system.inbox", "a.keys"] {
        assert_eq!(h.inbox.clone().with_collection(name).unwrap_err().kind(), ErrorKind::Schema);
    }
    let inbox = h.inbox.clone().with_collection("Seen by billing").unwrap();
    assert!(inbox.verify().await.unwrap().to_string().contains("Seen by billing"));
    for _ in 0..2 {
        let mut session = h.begin().await;
        let error = inbox.process_once(&mut session, "c", EventId::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        assert!(error.to_string().contains("run `migrate`"), "{error}");
        assert_eq!(inbox.purge(Duration::ZERO).await.unwrap_err().kind(), ErrorKind::Schema);
    }
    inbox.migrate().await.unwrap();
    assert_eq!(inbox.verify().await.unwrap(), SchemaReport::default());
    let mut session = h.begin().await;
    let event = EventId::new();
    assert!(inbox.process_once(&mut session, "c", event).await.unwrap().is_new());
    assert!(h.inbox.process_once(&mut session, "c", event).await.unwrap().is_new(), "another inbox");
    h.commit(session).await;
    h.close().await;
}

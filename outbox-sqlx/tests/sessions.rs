//! What serves as a session, and what goes wrong in one, on each engine.

mod harness;

use std::{error::Error as _, time::Duration};

use outbox_conformance::{Harness, require};
use outbox_sqlx::{Dialect, SqlxOutbox};
use outbox_traits::{Error, ErrorKind, Event, EventId, OutboxStore, OutboxStoreExt, Saved};
use serde_json::json;
use sqlx::Connection;

use harness::{mysql::My, postgres::Pg, sqlite::Lite};

fn event() -> Event {
    Event::new("t", json!({})).unwrap()
}

fn assert_from_driver(error: &Error, kind: ErrorKind) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.source().is_some_and(<dyn std::error::Error>::is::<sqlx::Error>), "{error:?}");
}

/// A transaction, a savepoint that is rolled back or kept, a pooled and a plain connection.
async fn every_kind_of_session_serves<H, DB>(h: &H)
where
    DB: Dialect,
    H: Harness<Store = SqlxOutbox<DB>>,
{
    let store = h.store();
    let kept = [event(), event(), event(), event()];

    let mut transaction = store.pool().begin().await.unwrap();
    store.enqueue(&kept[0], &mut transaction).await.unwrap();
    let mut savepoint = (*transaction).begin().await.unwrap();
    store.enqueue(event(), &mut savepoint).await.unwrap();
    savepoint.rollback().await.unwrap();
    let mut savepoint = (*transaction).begin().await.unwrap();
    store.enqueue(&kept[1], &mut savepoint).await.unwrap();
    assert_eq!(store.save_in_session(&kept[0], &mut savepoint).await.unwrap(), Saved::Duplicate);
    savepoint.commit().await.unwrap();
    transaction.commit().await.unwrap();

    let mut pooled = store.pool().acquire().await.unwrap();
    store.enqueue(&kept[2], &mut pooled).await.unwrap();
    let mut plain = pooled.detach();
    store.enqueue(&kept[3], &mut plain).await.unwrap();
    plain.close().await.unwrap();

    assert_eq!(store.get_pending(10).await.unwrap(), kept);
}

/// The first and last times that an event may have, and times before 1970.
async fn extreme_times_come_back<H, DB>(h: &H)
where
    DB: Dialect,
    H: Harness<Store = SqlxOutbox<DB>>,
{
    let store = h.store();
    let before = store.get_pending(100).await.unwrap().len();
    let times = ["0001-01-01T00:00:00Z", "0001-02-03T04:05:06.789Z", "0999-12-31T23:59:59.999Z"];
    let times = times.into_iter().chain(["1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00Z"]);
    let events: Vec<_> = times.map(|time| event().with_not_before(time.parse().unwrap())).collect();
    store.save(&events[0]).await.unwrap();
    store.save_all(&events[1..]).await.unwrap();
    assert_eq!(store.get_pending(100).await.unwrap()[before..], events);
    let last = event().with_not_before("9999-12-31T23:59:59.999Z".parse().unwrap());
    store.save_all(&[last.clone(), last.with_id(EventId::new())]).await.unwrap();
    assert_eq!(store.get_pending(100).await.unwrap()[before..], events);
    // Taken as it is, or refused.
    let year_0 = event().with_not_before("0000-02-29T00:00:00Z".parse().unwrap());
    match store.save(&year_0).await {
        Ok(_) => assert_eq!(store.get_pending(100).await.unwrap().last(), Some(&year_0)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidEvent, "{error}"),
    }
}

async fn a_closed_pool_is_unavailable<H, DB>(h: &H)
where
    DB: Dialect,
    H: Harness<Store = SqlxOutbox<DB>>,
{
    let store = h.store();
    store.pool().close().await;
    let id = event().id();
    assert_from_driver(&store.save(&event()).await.unwrap_err(), ErrorKind::Unavailable);
    assert_from_driver(&store.save_all(&[event(), event()]).await.unwrap_err(), ErrorKind::Unavailable);
    assert_from_driver(&store.get_pending(1).await.unwrap_err(), ErrorKind::Unavailable);
    assert_from_driver(&store.acknowledge(id).await.unwrap_err(), ErrorKind::Unavailable);
    assert_from_driver(&store.purge(Duration::ZERO).await.unwrap_err(), ErrorKind::Unavailable);
    assert_eq!(store.purge(Duration::MAX).await.unwrap(), 0, "nothing is as old as that");
}

/// Reads, so that the transaction has its view of the data, and saves what another has saved meanwhile.
async fn save_what_another_saved<H, DB>(h: &H, begin: &'static str) -> (Result<Saved, Error>, bool)
where
    DB: Dialect,
    H: Harness<Store = SqlxOutbox<DB>>,
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
{
    let mut transaction = h.store().pool().begin_with(begin).await.unwrap();
    let table = if DB::NAME == "SQLite" { "outbox" } else { "information_schema.tables" };
    let read = format!("SELECT count(*) FROM {table}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(read)).execute(&mut *transaction).await.unwrap();
    let theirs = event().with_idempotency_key("k");
    h.store().save(&theirs).await.unwrap();
    let ours = event().with_idempotency_key("k");
    let saved = h.store().save_in_session(&ours, &mut transaction).await;
    (saved, transaction.commit().await.is_ok())
}

#[tokio::test]
async fn postgres_sessions() {
    let Some(h) = require("sessions::postgres", Pg::open().await) else { return };
    every_kind_of_session_serves(&h).await;
    extreme_times_come_back(&h).await;
    for begin in ["BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE"] {
        let (saved, _) = save_what_another_saved(&h, begin).await;
        assert_from_driver(&saved.unwrap_err(), ErrorKind::Conflict);
        h.run("DELETE FROM {s}.outbox").await;
    }
    h.close().await;
    a_closed_pool_is_unavailable(&h).await;
}

#[tokio::test]
async fn mysql_sessions() {
    let Some(h) = require("sessions::mysql", My::open().await) else { return };
    every_kind_of_session_serves(&h).await;
    extreme_times_come_back(&h).await;
    // It tells the duplicate even where the transaction does not see it.
    let (saved, commits) = save_what_another_saved(&h, "START TRANSACTION WITH CONSISTENT SNAPSHOT").await;
    assert_eq!((saved.unwrap(), commits), (Saved::Duplicate, true));

    // Somebody else's duplicate is an error, and not taken for one of the outbox.
    h.run("CREATE TABLE {s}.audit (x INT UNIQUE); INSERT INTO {s}.audit VALUES (1)").await;
    h.run("CREATE TRIGGER {s}.audit AFTER INSERT ON {s}.outbox FOR EACH ROW INSERT INTO audit VALUES (1)")
        .await;
    assert_from_driver(&h.store.save(&event()).await.unwrap_err(), ErrorKind::Backend);
    h.close().await;
    a_closed_pool_is_unavailable(&h).await;
}

#[tokio::test]
async fn sqlite_sessions() {
    let Some(h) = require("sessions::sqlite", Lite::open().await) else { return };
    every_kind_of_session_serves(&h).await;
    extreme_times_come_back(&h).await;
    // A transaction that has read cannot write once another has.
    let (saved, _) = save_what_another_saved(&h, "BEGIN").await;
    assert_from_driver(&saved.unwrap_err(), ErrorKind::Conflict);
    a_closed_pool_is_unavailable(&h).await;
}

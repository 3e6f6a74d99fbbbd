//! What serves as a session, and what goes wrong in one, on each engine.

mod harness;

use std::{error::Error as _, time::Duration};

use outbox_conformance::{Harness, require};
use outbox_sqlx::{Dialect, SqlxOutbox};
use outbox_traits::{
    Claim, ClaimStore, Error, ErrorKind, Event, EventId, InboxStore, OutboxStore, OutboxStoreExt, Saved,
};
use serde_json::json;
use sqlx::Connection;

use harness::{Engine, Sql, mysql::My, postgres::Pg, sqlite::Lite};

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
    // It tells the duplicate even where the transaction does not see it.
    let (saved, commits) = save_what_another_saved(&h, "START TRANSACTION WITH CONSISTENT SNAPSHOT").await;
    assert_eq!((saved.unwrap(), commits), (Saved::Duplicate, true));

    // To look for what is not there keeps no other session from saving beside it, also where reading locks.
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let mut open = Vec::new();
        for _ in 0..4 {
            let mut session = h.pool().acquire().await.unwrap();
            let begin = format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}; START TRANSACTION");
            sqlx::raw_sql(sqlx::AssertSqlSafe(begin)).execute(&mut *session).await.unwrap();
            open.push(session);
        }
        for _ in 0..3 {
            for session in &mut open {
                let saved = h
                    .store
                    .save_in_session(&event().with_idempotency_key(EventId::new().to_string()), session)
                    .await;
                assert_eq!(saved.unwrap(), Saved::Stored, "{level}");
                let saved = h.store.save_all_in_session(&[event(), event()], session).await;
                assert_eq!(saved.unwrap(), [Saved::Stored; 2], "{level}");
            }
        }
        for mut session in open {
            sqlx::raw_sql("COMMIT").execute(&mut *session).await.unwrap();
            session.close().await.unwrap();
        }
    }

    // What another session has saved and takes back is no duplicate, also where a transaction reads what is not committed.
    let shared = event();
    let (mut first, mut second) = (h.begin().await, h.pool().acquire().await.unwrap());
    h.store.save_in_session(&shared, h.session(&mut first)).await.unwrap();
    let begin = "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED; START TRANSACTION";
    sqlx::raw_sql(begin).execute(&mut *second).await.unwrap();
    let (saved, ()) = tokio::join!(h.store.save_in_session(&shared, &mut second), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        h.rollback(first).await;
    });
    assert_eq!(saved.unwrap(), Saved::Stored);
    sqlx::raw_sql("COMMIT").execute(&mut *second).await.unwrap();
    second.close().await.unwrap();

    // Somebody else's duplicate is an error, and not taken for one of the outbox.
    for key in ["x", "audit_outbox_id", "outbox_id"] {
        h.run(&format!("CREATE TABLE {{s}}.audit (x INT, UNIQUE KEY {key} (x))")).await;
        h.run("INSERT INTO {s}.audit VALUES (1)").await;
        h.run(
            "CREATE TRIGGER {s}.audit AFTER INSERT ON {s}.outbox FOR EACH ROW INSERT INTO audit VALUES (1)",
        )
        .await;
        assert_from_driver(&h.store.save(&event()).await.unwrap_err(), ErrorKind::Backend);
        assert_from_driver(&h.store.save_all(&[event(), event()]).await.unwrap_err(), ErrorKind::Backend);
        h.run("DROP TABLE {s}.audit; DROP TRIGGER {s}.audit").await;
    }
    h.close().await;
    a_closed_pool_is_unavailable(&h).await;
}

#[tokio::test]
async fn sqlite_sessions() {
    let Some(h) = require("sessions::sqlite", Lite::open().await) else { return };
    every_kind_of_session_serves(&h).await;
    // Somebody else's duplicate is an error, and not taken for one of the outbox.
    for table in ["audit", "audit_outbox"] {
        h.run(&format!("CREATE TABLE {table} (id INT UNIQUE); INSERT INTO {table} VALUES (1)")).await;
        h.run(&format!(
            "CREATE TRIGGER of_{table} AFTER INSERT ON outbox BEGIN INSERT INTO {table} VALUES (1); END"
        ))
        .await;
        assert_from_driver(&h.store.save(&event()).await.unwrap_err(), ErrorKind::Backend);
        assert_from_driver(&h.store.save_all(&[event(), event()]).await.unwrap_err(), ErrorKind::Backend);
        h.run(&format!("DROP TRIGGER of_{table}")).await;
    }
    // A transaction that has read cannot write once another has.
    let (saved, _) = save_what_another_saved(&h, "BEGIN").await;
    assert_from_driver(&saved.unwrap_err(), ErrorKind::Conflict);
    a_closed_pool_is_unavailable(&h).await;
}

/// As after the clock of the engine was set back.
async fn a_purge_of_all_takes_also_what_lies_in_the_future<E: Engine>(h: &Sql<E, false>, later: &str) {
    let table = |name| E::ROWS.replace("business", name);
    let one = event();
    h.store.save(&one).await.unwrap();
    h.store.acknowledge(one.id()).await.unwrap();
    h.run(&format!("UPDATE {} SET delivered_at = {later}", table("outbox"))).await;
    assert_eq!(h.store.purge(Duration::from_micros(1)).await.unwrap(), 0);
    assert_eq!(h.store.purge(Duration::ZERO).await.unwrap(), 1);

    let mut session = h.inbox.pool().acquire().await.unwrap();
    h.inbox.process_once(&mut session, "consumer", one.id()).await.unwrap();
    drop(session);
    h.run(&format!("UPDATE {} SET processed_at = {later}", table("inbox"))).await;
    assert_eq!(h.inbox.purge(Duration::from_micros(1)).await.unwrap(), 0);
    assert_eq!(h.inbox.purge(Duration::ZERO).await.unwrap(), 1);
}

#[tokio::test]
async fn a_purge_of_all_takes_also_what_lies_in_the_future_on_each_engine() {
    if let Some(h) = require("sessions::future_postgres", Pg::open().await) {
        a_purge_of_all_takes_also_what_lies_in_the_future(&h, "now() + interval '1 hour'").await;
        h.close().await;
    }
    if let Some(h) = require("sessions::future_mysql", My::open().await) {
        a_purge_of_all_takes_also_what_lies_in_the_future(&h, "UTC_TIMESTAMP(6) + INTERVAL 1 HOUR").await;
        h.close().await;
    }
    let h = Lite::open().await.unwrap();
    a_purge_of_all_takes_also_what_lies_in_the_future(&h, "253370764800000").await;
}

/// The store begins its transactions in a task, which is nobody's business.
#[tokio::test]
async fn a_panic_of_the_pools_own_hooks_comes_to_the_caller() {
    let pool = sqlx::sqlite::SqlitePoolOptions::new().before_acquire(|_, _| panic!("out of the hook"));
    let store = SqlxOutbox::<sqlx::Sqlite>::new(pool.connect("sqlite::memory:").await.unwrap());
    let call = tokio::spawn(async move { store.claim(&Claim::new("worker")).await });
    let panic = call.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"out of the hook"));
}

#[test]
fn a_call_is_unavailable_once_its_runtime_is_gone() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(async {
        SqlxOutbox::<sqlx::Sqlite>::new(sqlx::SqlitePool::connect("sqlite::memory:").await.unwrap())
    });
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    let error = handle.block_on(store.claim(&Claim::new("worker"))).unwrap_err();
    assert_from_driver(&error, ErrorKind::Unavailable);
}

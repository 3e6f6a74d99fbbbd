//! What the suite does not ask of an inbox: its names and files, and what its sessions meet on each engine.

mod harness;

use std::{error::Error as _, time::Duration};

use outbox_conformance::{Harness, SchemaHarness, require};
use outbox_sqlx::{
    Dialect, MySqlInbox, SqlxInbox, SqlxOutbox,
    sqlx::{self, mysql::MySqlPoolOptions},
};
use outbox_traits::{Error, ErrorKind, EventId, InboxStore, Receipt, SchemaStore};

use harness::{mysql::My, postgres::Pg, sqlite::Lite};

fn assert_from_driver(error: &Error, kind: ErrorKind) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.source().is_some_and(<dyn std::error::Error>::is::<sqlx::Error>), "{error:?}");
}

async fn process<DB: Dialect>(inbox: &SqlxInbox<DB>, event: EventId) -> Result<Receipt, Error> {
    let mut connection = inbox.pool().acquire().await.unwrap();
    inbox.process_once(&mut connection, "consumer", event).await
}

/// An outbox is no inbox, nor the other way round, although either has a table of versions.
async fn an_outbox_is_refused_and_left_as_it_is<H, DB>(h: &H, inbox: &SqlxInbox<DB>)
where
    DB: Dialect,
    H: SchemaHarness + Harness<Store = SqlxOutbox<DB>>,
{
    let (outboxes, inboxes) = (h.unmigrated("inbox"), inbox.clone().with_table("outbox").unwrap());
    for store in [&outboxes as &dyn SchemaStore, &inboxes] {
        let error = store.migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        assert!(error.to_string().contains("choose another name"), "{error}");
        assert_eq!(store.verify().await.unwrap().problems().len(), 1);
    }
    assert!(h.store().verify().await.unwrap().is_current());
    assert!(inbox.verify().await.unwrap().is_current());
}

async fn a_closed_pool_is_unavailable<DB: Dialect>(inbox: &SqlxInbox<DB>) {
    inbox.pool().close().await;
    assert_from_driver(&inbox.purge(Duration::ZERO).await.unwrap_err(), ErrorKind::Unavailable);
    assert_from_driver(&inbox.migrate().await.unwrap_err(), ErrorKind::Unavailable);
    assert_from_driver(&inbox.verify().await.unwrap_err(), ErrorKind::Unavailable);
}

/// Reads, so that the transaction has its view of the data, and asks for what another has marked meanwhile.
async fn ask_for_what_another_marked<DB>(
    inbox: &SqlxInbox<DB>,
    begin: &'static str,
) -> (Result<Receipt, Error>, bool)
where
    DB: Dialect,
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
{
    let mut transaction = inbox.pool().begin_with(begin).await.unwrap();
    let table = if DB::NAME == "SQLite" { "inbox" } else { "information_schema.tables" };
    let read = format!("SELECT count(*) FROM {table}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(read)).execute(&mut *transaction).await.unwrap();
    let event = EventId::new();
    assert_eq!(process(inbox, event).await.unwrap(), Receipt::New);
    let asked = inbox.process_once(&mut transaction, "consumer", event).await;
    (asked, transaction.commit().await.is_ok())
}

fn shipped(engine: &str) -> String {
    let path = format!("{}/migrations/{engine}/inbox_0001.sql", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn without_comments(sql: &str) -> String {
    sql.split_inclusive('\n').filter(|line| !line.trim_start().starts_with("--")).collect()
}

#[tokio::test]
async fn postgres_inboxes() {
    let Some(h) = require("inbox::postgres", Pg::open().await) else { return };
    an_outbox_is_refused_and_left_as_it_is(&h, &h.inbox).await;
    let (asked, commits) = ask_for_what_another_marked(&h.inbox, "BEGIN").await;
    assert_eq!((asked.unwrap(), commits), (Receipt::Duplicate, true));
    for begin in ["BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE"] {
        let (asked, _) = ask_for_what_another_marked(&h.inbox, begin).await;
        assert_from_driver(&asked.unwrap_err(), ErrorKind::Conflict);
    }
    h.run("DROP TABLE {s}.inbox, {s}.inbox_version").await;
    for _ in 0..2 {
        h.run(&format!("SET LOCAL search_path = {{s}}; {}", shipped("postgres"))).await;
    }
    assert!(h.inbox.verify().await.unwrap().is_current());
    assert_eq!(
        outbox_sqlx::PgInbox::new(h.pool().clone()).migration_sql(),
        without_comments(&shipped("postgres"))
    );
    h.close().await;
    a_closed_pool_is_unavailable(&h.inbox).await;
}

#[tokio::test]
async fn mysql_inboxes() {
    let Some(h) = require("inbox::mysql", My::open().await) else { return };
    an_outbox_is_refused_and_left_as_it_is(&h, &h.inbox).await;
    // It tells the duplicate even where the transaction does not see it, except where MariaDB has such transactions change
    // nothing that is newer than what they see, as it does since 11.6.
    let sql = "SHOW VARIABLES LIKE 'innodb_snapshot_isolation'";
    let is_known = !sqlx::raw_sql(sql).fetch_all(h.pool()).await.unwrap().is_empty();
    for is_strict in [false, true].into_iter().take(1 + usize::from(is_known)) {
        let set = format!("SET SESSION innodb_snapshot_isolation = {is_strict}");
        let options = MySqlPoolOptions::new().after_connect(move |connection, _| {
            let set = set.clone();
            Box::pin(async move {
                if is_known {
                    sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(connection).await?;
                }
                Ok(())
            })
        });
        let pool = options.connect_lazy_with(h.pool().connect_options().as_ref().clone());
        let inbox = MySqlInbox::new(pool).with_schema(&h.place).unwrap();
        let (asked, commits) =
            ask_for_what_another_marked(&inbox, "START TRANSACTION WITH CONSISTENT SNAPSHOT").await;
        if is_strict {
            assert_from_driver(&asked.unwrap_err(), ErrorKind::Conflict);
        } else {
            assert_eq!((asked.unwrap(), commits), (Receipt::Duplicate, true));
        }
        inbox.pool().close().await;
    }

    // What a trigger writes beside it, and its ids, are not taken for the inbox's own.
    h.run("CREATE TABLE {s}.audit (id INT AUTO_INCREMENT PRIMARY KEY, x INT)").await;
    h.run(
        "CREATE TRIGGER {s}.audit AFTER INSERT ON {s}.inbox FOR EACH ROW INSERT INTO audit (x) VALUES (1), (2)",
    )
    .await;
    let event = EventId::new();
    assert_eq!(process(&h.inbox, event).await.unwrap(), Receipt::New);
    assert_eq!(process(&h.inbox, event).await.unwrap(), Receipt::Duplicate);
    h.run("DROP TRIGGER {s}.audit; TRUNCATE {s}.audit; INSERT INTO {s}.audit VALUES (1, 1)").await;
    h.run("CREATE TRIGGER {s}.audit AFTER INSERT ON {s}.inbox FOR EACH ROW INSERT INTO audit VALUES (1, 1)")
        .await;
    assert_from_driver(&process(&h.inbox, EventId::new()).await.unwrap_err(), ErrorKind::Backend);

    h.run("DROP TABLE {s}.inbox, {s}.inbox_version").await;
    let mut connection = h.pool().acquire().await.unwrap().detach();
    for sql in [format!("USE {}", h.place), shipped("mysql"), shipped("mysql")] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
    assert!(h.inbox.verify().await.unwrap().is_current());
    assert_eq!(MySqlInbox::new(h.pool().clone()).migration_sql(), without_comments(&shipped("mysql")));
    h.close().await;
    a_closed_pool_is_unavailable(&h.inbox).await;
}

#[tokio::test]
async fn sqlite_inboxes() {
    let Some(h) = require("inbox::sqlite", Lite::open().await) else { return };
    an_outbox_is_refused_and_left_as_it_is(&h, &h.inbox).await;
    // A transaction that has read cannot write once another has.
    let (asked, _) = ask_for_what_another_marked(&h.inbox, "BEGIN").await;
    assert_from_driver(&asked.unwrap_err(), ErrorKind::Conflict);
    h.run("DROP TABLE inbox; DROP TABLE inbox_version").await;
    h.run(&shipped("sqlite").repeat(2)).await;
    assert!(h.inbox.verify().await.unwrap().is_current());
    assert_eq!(h.inbox.migration_sql(), without_comments(&shipped("sqlite")));
    a_closed_pool_is_unavailable(&h.inbox).await;
}

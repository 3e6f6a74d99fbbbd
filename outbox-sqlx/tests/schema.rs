//! Names, the shipped SQL files and what `migrate` meets, on each engine.

mod harness;

use outbox_conformance::{Harness, NamesHarness, SchemaHarness, require};
use outbox_sqlx::{Dialect, PgOutbox, SqlxOutbox, sqlx::PgPool};
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, ErrorKind, Event, OutboxStore, Saved, SchemaStore,
    Settlement,
};
use serde_json::json;
use std::time::Duration;

use harness::{mysql::My, postgres::Pg, sqlite::Lite};

/// The name of an index of the suite's own outbox.
async fn a_taken_name_is_refused<H, DB>(h: &H)
where
    DB: Dialect,
    H: SchemaHarness + Harness<Store = SqlxOutbox<DB>>,
{
    let error = h.unmigrated("outbox_fifo").migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
}

/// The suite asks for the meaning; these are the words.
async fn what_is_wrong_is_said_in_these_words<H, DB>(h: &H)
where
    DB: Dialect,
    H: NamesHarness + Harness<Store = SqlxOutbox<DB>>,
{
    let mut taken = h.make_others().await;
    for (index, ending) in h.endings().iter().enumerate() {
        h.unmigrated(&format!("shared{index}{ending}")).migrate().await.unwrap();
        taken.push(format!("shared{index}"));
    }
    for name in taken {
        let store = h.unmigrated(&name);
        let error = store.migrate().await.unwrap_err();
        assert!(error.to_string().contains("choose another name"), "{error}");
        let report = store.verify().await.unwrap();
        assert!(report.to_string().contains("choose another name"), "{report}");
        assert!(!report.to_string().contains("run `migrate`"), "it has just refused: {report}");
    }
    let newer = h.unmigrated("newer");
    newer.migrate().await.unwrap();
    assert!(h.make_newer("newer").await);
    let error = newer.migrate().await.unwrap_err();
    assert!(error.to_string().contains("upgrade the library"), "{error}");
    let report = newer.verify().await.unwrap();
    assert!(report.to_string().contains("upgrade the library"), "{report}");
    let missing = h.unmigrated("missing");
    missing.migrate().await.unwrap();
    h.take_parts_away("missing").await;
    let report = missing.verify().await.unwrap();
    assert!(report.to_string().contains("migrations/"), "{report}");
}

#[tokio::test]
async fn what_is_wrong_is_said_in_these_words_on_each_engine() {
    if let Some(h) = require("schema::words_postgres", Pg::open().await) {
        what_is_wrong_is_said_in_these_words(&h).await;
        h.close().await;
    }
    if let Some(h) = require("schema::words_mysql", My::open().await) {
        what_is_wrong_is_said_in_these_words(&h).await;
        h.close().await;
    }
    what_is_wrong_is_said_in_these_words(&Lite::open().await.unwrap()).await;
}

#[tokio::test]
async fn the_name_of_an_index_is_refused_where_tables_and_indexes_share_their_names() {
    if let Some(h) = require("schema::postgres", Pg::open().await) {
        a_taken_name_is_refused(&h).await;
        h.close().await;
    }
    a_taken_name_is_refused(&Lite::open().await.unwrap()).await;
}

/// SQLite does not tell upper from lower case.
#[tokio::test]
async fn sqlite_takes_a_name_in_another_case_for_the_same() {
    let h = Lite::open().await.unwrap();
    let loud = h.unmigrated("OUTBOX");
    let event = Event::new("t", json!(1)).unwrap().with_idempotency_key("k");
    assert_eq!(loud.save(&event).await.unwrap(), Saved::Stored);
    assert_eq!(loud.save(&event).await.unwrap(), Saved::Duplicate);
    assert!(loud.verify().await.unwrap().is_current());
    assert_eq!(h.store.get_pending(9).await.unwrap(), [event]);
}

fn shipped(engine: &str, file: &str) -> String {
    let path = format!("{}/migrations/{engine}/{file}.sql", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn without_comments(sql: &str) -> String {
    sql.split_inclusive('\n').filter(|line| !line.trim_start().starts_with("--")).collect()
}

/// As a client program applies them, twice.
#[tokio::test]
async fn the_shipped_files_are_what_migrate_runs() {
    let file = |engine: &str| ["0001_outbox", "0002_claims"].map(|file| shipped(engine, file)).concat();
    if let Some(h) = require("schema::postgres", Pg::open().await) {
        let file = |engine| file(engine) + &shipped(engine, "0003_lease_storage");
        assert_eq!(
            outbox_sqlx::PgOutbox::new(h.pool().clone()).migration_sql(),
            without_comments(&file("postgres"))
        );
        h.drop_outbox().await;
        for _ in 0..2 {
            h.run(&format!("SET LOCAL search_path = {{s}}; {}", file("postgres"))).await;
        }
        assert_eq!(h.store.verify().await.unwrap().problems(), <[String; 0]>::default());
        h.close().await;
    }
    if let Some(h) = require("schema::mysql", My::open().await) {
        assert_eq!(
            outbox_sqlx::MySqlOutbox::new(h.pool().clone()).migration_sql(),
            without_comments(&file("mysql"))
        );
        h.drop_outbox().await;
        let mut connection = h.pool().acquire().await.unwrap().detach();
        for sql in [format!("USE {}", h.place), file("mysql"), file("mysql")] {
            let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
            sql.execute(&mut connection).await.unwrap();
        }
        assert_eq!(h.store.verify().await.unwrap().problems(), <[String; 0]>::default());
        h.close().await;
    }
    let h = Lite::open().await.unwrap();
    assert_eq!(h.store.migration_sql(), without_comments(&file("sqlite")));
    h.drop_outbox().await;
    h.run(&file("sqlite").repeat(2)).await;
    assert_eq!(h.store.verify().await.unwrap().problems(), <[String; 0]>::default());
}

const BLOB: &str = "X'%'";

/// Rows as version 1 of the schema holds them, of every status, without the columns that say when.
async fn upgrade<H, DB>(h: &H, table: &str, id: &str, now: &str)
where
    DB: Dialect,
    H: Harness<Store = SqlxOutbox<DB>>,
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
{
    let mut all = Vec::new();
    for (number, status) in
        ["pending", "scheduled", "delivered", "dead_letter", "pending", "pending"].iter().enumerate()
    {
        let event = Event::new("t", json!(number)).unwrap();
        let row = format!(
            "INSERT INTO {table} (id, type, payload, meta, status, not_before, partition_hash, lane, created_at,
                delivered_at, dead_at, attempts)
            VALUES ({}, 't', '{number}', '{}', '{status}', {}, {}, 0, {now}, {}, {}, 3)",
            id.replace('%', &event.id().as_uuid().simple().to_string()),
            serde_json::to_string(event.meta()).unwrap(),
            if *status == "scheduled" { now } else { "NULL" },
            if DB::NAME == "PostgreSQL" { "'\\x000102030405060708090a0b0c0d0e0f'" } else { "X'000102030405060708090a0b0c0d0e0f'" },
            if *status == "delivered" { now } else { "NULL" },
            if *status == "dead_letter" { now } else { "NULL" },
        );
        let mut connection = h.store().pool().acquire().await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(row)).execute(&mut *connection).await.unwrap();
        all.push(event.id());
    }
    let store = h.store();
    let newest = if DB::NAME == "PostgreSQL" { 3 } else { 2 };
    assert!(store.verify().await.unwrap().to_string().contains(&format!("version 1, not {newest}")));
    store.migrate().await.unwrap();
    store.migrate().await.unwrap();
    assert_eq!(store.verify().await.unwrap().problems(), <[String; 0]>::default());
    let open = [all[0], all[1], all[4], all[5]];
    let pending = store.get_pending(9).await.unwrap();
    assert_eq!(pending.iter().map(Event::id).collect::<Vec<_>>(), open);
    assert_eq!(store.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters[0].id, all[3]);
    assert_eq!(store.purge(Duration::ZERO).await.unwrap(), 1);
    let leased = store.claim(&Claim::new("w")).await.unwrap();
    assert_eq!(leased.iter().map(|one| one.event.id()).collect::<Vec<_>>(), open);
    assert!(leased.iter().all(|one| one.attempts == 4));
    for answer in store
        .settle(&leased.iter().map(|one| Settlement::delivered(one.lease)).collect::<Vec<_>>())
        .await
        .unwrap()
    {
        answer.unwrap();
    }
}

#[tokio::test]
async fn an_outbox_of_version_1_is_upgraded_and_loses_nothing() {
    if let Some(h) = require("schema::postgres", Pg::open().await) {
        h.drop_outbox().await;
        h.run(&format!("SET LOCAL search_path = {{s}}; {}", shipped("postgres", "0001_outbox"))).await;
        upgrade(&h, &format!("{}.outbox", h.place), "'%'", "now()").await;
        h.close().await;
    }
    if let Some(h) = require("schema::mysql", My::open().await) {
        h.drop_outbox().await;
        let mut connection = h.pool().acquire().await.unwrap().detach();
        for sql in [format!("USE {}", h.place), shipped("mysql", "0001_outbox")] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
        upgrade(&h, &format!("{}.outbox", h.place), BLOB, "UTC_TIMESTAMP(6)").await;
        h.close().await;
    }
    let h = Lite::open().await.unwrap();
    h.drop_outbox().await;
    h.run(&shipped("sqlite", "0001_outbox")).await;
    upgrade(&h, "outbox", BLOB, "0").await;
}

/// A table of somebody else's is passed over by `IF NOT EXISTS`, and would be taken for the outbox's own.
#[tokio::test]
async fn an_upgrade_that_meets_a_foreign_table_is_refused_and_undone() {
    let h = Lite::open().await.unwrap();
    h.drop_outbox().await;
    h.run(&shipped("sqlite", "0001_outbox")).await;
    h.run("CREATE TABLE outbox_lease (x INT)").await;
    for _ in 0..2 {
        let error = h.store.migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        assert!(error.to_string().contains("choose another name"), "{error}");
        assert!(h.store.verify().await.unwrap().to_string().contains("version 1, not 2"));
    }
    h.run("DROP TABLE outbox_lease").await;
    h.store.migrate().await.unwrap();
    assert!(h.store.verify().await.unwrap().is_current());
}

#[tokio::test]
async fn postgres_refuses_a_database_that_is_not_utf_8() {
    let Some(h) = require("schema::latin1", Pg::open().await) else { return };
    let name = format!("{}_latin1", h.place);
    h.run(&format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")).await;
    let outbox =
        PgOutbox::new(PgPool::connect_lazy_with(h.pool().connect_options().as_ref().clone().database(&name)));
    let error = outbox.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    assert!(error.to_string().contains("the encoding UTF8"), "{error}");
    let report = outbox.verify().await.unwrap();
    assert!(report.problems().iter().any(|problem| problem.contains("LATIN1")), "{report}");
    outbox.pool().close().await;
    h.run(&format!("DROP DATABASE {name}")).await;
    h.close().await;
}

#[tokio::test]
async fn leases_outlive_the_upgrade_from_version_2_on_postgresql() {
    let Some(h) = require("schema::postgres", Pg::open().await) else { return };
    h.drop_outbox().await;
    let files = ["0001_outbox", "0002_claims"].map(|file| shipped("postgres", file)).concat();
    h.run(&format!("SET LOCAL search_path = {{s}}; {files}")).await;
    let event = Event::new("t", json!(1)).unwrap();
    h.store.save(&event).await.unwrap();
    let lease = h.store.claim(&Claim::new("w")).await.unwrap()[0].lease;

    h.store.migrate().await.unwrap();

    assert_eq!(h.store.verify().await.unwrap().problems(), <[String; 0]>::default());
    assert_eq!(h.store.claim(&Claim::new("w")).await.unwrap().len(), 0);
    for answer in h.store.settle(&[Settlement::delivered(lease)]).await.unwrap() {
        answer.unwrap();
    }
    let storage = format!(
        "SELECT attstorage::text FROM pg_attribute
        WHERE attrelid = '{}.outbox_lease'::regclass AND attname = 'entries'",
        h.place
    );
    let storage: String = sqlx::query_scalar(sqlx::AssertSqlSafe(storage)).fetch_one(h.pool()).await.unwrap();
    assert_eq!(storage, "e", "lists of leases are not compressed");
    h.close().await;
}

/// Many connections open a file that does not exist yet, and migrate it.
#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_file_is_migrated_by_many_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("fresh.db");
    let tasks = (0..16).map(|_| {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file).create_if_missing(true);
        tokio::spawn(async move {
            let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
            outbox_sqlx::SqliteOutbox::new(pool).migrate().await.unwrap();
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Its lock is that of the table's name, and of whether it is an outbox or an inbox.
#[tokio::test]
async fn a_migration_waits_for_one_of_its_own_name_alone_on_postgresql() {
    let Some(h) = require("schema::postgres", Pg::open().await) else { return };
    let mut other = h.begin().await;
    let locks = "SELECT pg_advisory_xact_lock(hashtextextended('outbox mine', 0)),
        pg_advisory_xact_lock(hashtextextended('inbox another', 0))";
    sqlx::raw_sql(locks).execute(&mut *other).await.unwrap();
    h.unmigrated("another").migrate().await.unwrap();
    let mine = h.unmigrated("mine");
    let mut migration = std::pin::pin!(mine.migrate());
    let a_while = tokio::time::timeout(Duration::from_millis(200), migration.as_mut()).await;
    assert!(a_while.is_err(), "another is at it");
    h.rollback(other).await;
    migration.await.unwrap();
    h.close().await;
}

/// A program that starts where all is well waits for nobody.
#[tokio::test]
async fn a_whole_outbox_is_migrated_without_the_lock_on_postgresql() {
    let Some(h) = require("schema::postgres", Pg::open().await) else { return };
    let mut other = h.begin().await;
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('outbox outbox', 0))";
    sqlx::raw_sql(lock).execute(&mut *other).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), h.store.migrate()).await.expect("it waits").unwrap();
    // Where a part was lost, it does.
    h.run("DROP TABLE {s}.outbox_parked").await;
    let mut migration = std::pin::pin!(h.store.migrate());
    let a_while = tokio::time::timeout(Duration::from_millis(200), migration.as_mut()).await;
    assert!(a_while.is_err(), "another is at it");
    h.rollback(other).await;
    migration.await.unwrap();
    h.close().await;
}

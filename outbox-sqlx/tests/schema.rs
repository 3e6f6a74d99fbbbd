//! Names, the shipped SQL files and what `migrate` meets, on each engine.

mod harness;

use outbox_conformance::{Harness, SchemaHarness, require};
use outbox_sqlx::{Dialect, SqlxOutbox};
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterStore, ErrorKind, Event, EventId, OutboxStore, Saved,
    SchemaStore, Settlement,
};
use serde_json::json;
use std::time::Duration;

use harness::{mysql::My, postgres::Pg, sqlite::Lite};

/// Each is a whole table name on every engine.
fn odd_names() -> Vec<String> {
    let names = [
        "select",
        "Order Events",
        "o\"ut`b'ox",
        "100%; DROP TABLE outbox; --",
        "käse_箱",
        "{age}$1?",
        "\"",
        "`",
        " x",
        "x\n; DROP TABLE outbox; COMMIT; --",
        "/* x",
    ];
    // As long as the strictest engine allows.
    names.iter().map(|name| (*name).to_owned()).chain(["n".repeat(63), "é".repeat(31)]).collect()
}

async fn works_under_odd_names<H, DB>(h: &H)
where
    DB: Dialect,
    H: SchemaHarness + Harness<Store = SqlxOutbox<DB>>,
{
    for name in odd_names() {
        let store = h.unmigrated(&name);
        let error = store.get_pending(1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{name}: {error}");
        assert!(error.to_string().contains("migrate"), "{error}");
        store.migrate().await.unwrap();
        store.migrate().await.unwrap();
        assert_eq!(store.verify().await.unwrap().problems(), <[String; 0]>::default(), "{name}");

        let events =
            [1, 2, 3].map(|n| Event::new("t", json!(n)).unwrap().with_idempotency_key(format!("k{n}")));
        assert_eq!(store.save(&events[0]).await.unwrap(), Saved::Stored, "{name}");
        let saved = store.save_all(&events).await.unwrap();
        assert_eq!(saved, [Saved::Duplicate, Saved::Stored, Saved::Stored], "{name}");
        assert_eq!(store.get_pending(9).await.unwrap(), events, "{name}");
        store.acknowledge(events[0].id()).await.unwrap();
        assert_eq!(store.purge(Duration::ZERO).await.unwrap(), 1, "{name}");
        assert!(store.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters.is_empty());
        assert!(!store.requeue(EventId::new()).await.unwrap());
        assert_eq!(store.discard_all(&DeadLetterFilter::new()).await.unwrap(), 0);
    }
    // The suite's own outbox is what it was.
    assert_eq!(h.store().verify().await.unwrap().problems(), <[String; 0]>::default());
}

/// The name of an index of the suite's own outbox.
async fn a_taken_name_is_refused<H, DB>(h: &H)
where
    DB: Dialect,
    H: SchemaHarness + Harness<Store = SqlxOutbox<DB>>,
{
    let error = h.unmigrated("outbox_fifo").migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
}

/// A name whose parts are another outbox's is refused, and not half taken.
async fn outboxes_that_share_a_part_of_their_names_are_refused<H, DB>(h: &H)
where
    DB: Dialect,
    H: SchemaHarness + Harness<Store = SqlxOutbox<DB>>,
{
    for (index, suffix) in ["lease", "key", "parked", "version"].iter().enumerate() {
        let (short, long) = (format!("shared{index}"), format!("shared{index}_{suffix}"));
        h.unmigrated(&long).migrate().await.unwrap();
        let error = h.unmigrated(&short).migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        assert!(error.to_string().contains("choose another name"), "{error}");
        assert!(h.unmigrated(&long).verify().await.unwrap().is_current());
    }
}

async fn a_foreign_table_is_refused<H, DB>(h: &H)
where
    DB: Dialect,
    H: SchemaHarness + Harness<Store = SqlxOutbox<DB>>,
{
    for name in ["business", "other"] {
        let error = h.unmigrated(name).migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        assert!(error.to_string().contains("choose another name"), "{error}");
        assert!(!h.unmigrated(name).verify().await.unwrap().is_current());
    }
}

async fn a_newer_schema_is_refused<H, DB>(h: &H)
where
    DB: Dialect,
    H: Harness<Store = SqlxOutbox<DB>>,
{
    let error = h.store().migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
    assert!(error.to_string().contains("upgrade the library"), "{error}");
    let report = h.store().verify().await.unwrap();
    assert!(report.to_string().contains("upgrade the library"), "{report}");
}

async fn what_is_missing_is_named<H, DB>(h: &H, index: &str)
where
    DB: Dialect,
    H: Harness<Store = SqlxOutbox<DB>>,
{
    let report = h.store().verify().await.unwrap();
    for missing in ["`last_error`", index, "migrations/"] {
        assert!(report.to_string().contains(missing), "{report}");
    }
    assert_eq!(report.problems().len(), 2, "{report}");
}

#[tokio::test]
async fn postgres_takes_any_name_and_refuses_what_is_not_its_own() {
    let Some(h) = require("schema::postgres", Pg::open().await) else { return };
    works_under_odd_names(&h).await;
    outboxes_that_share_a_part_of_their_names_are_refused(&h).await;
    a_taken_name_is_refused(&h).await;
    h.run("CREATE TABLE {s}.other_version (x int)").await;
    a_foreign_table_is_refused(&h).await;
    h.run("INSERT INTO {s}.outbox_version VALUES (999, now())").await;
    a_newer_schema_is_refused(&h).await;
    h.run("DELETE FROM {s}.outbox_version WHERE version = 999; DROP INDEX {s}.outbox_scheduled").await;
    h.run("ALTER TABLE {s}.outbox DROP COLUMN last_error").await;
    what_is_missing_is_named(&h, "`outbox_scheduled`").await;
    h.close().await;
}

#[tokio::test]
async fn mysql_takes_any_name_and_refuses_what_is_not_its_own() {
    let Some(h) = require("schema::mysql", My::open().await) else { return };
    works_under_odd_names(&h).await;
    outboxes_that_share_a_part_of_their_names_are_refused(&h).await;
    h.run("CREATE TABLE {s}.other_version (x int)").await;
    a_foreign_table_is_refused(&h).await;
    h.run("INSERT INTO {s}.outbox_version VALUES (999, UTC_TIMESTAMP(6))").await;
    a_newer_schema_is_refused(&h).await;
    h.run("DELETE FROM {s}.outbox_version WHERE version = 999").await;
    h.run("ALTER TABLE {s}.outbox DROP COLUMN last_error, DROP KEY outbox_scheduled").await;
    what_is_missing_is_named(&h, "`outbox_scheduled`").await;
    for name in ["ends with a space ", "beyond 𝄞"] {
        assert_eq!(h.store.clone().with_table(name).unwrap_err().kind(), ErrorKind::Schema);
    }
    h.close().await;
}

#[tokio::test]
async fn sqlite_takes_any_name_and_refuses_what_is_not_its_own() {
    let Some(h) = require("schema::sqlite", Lite::open().await) else { return };
    // SQLite does not tell upper from lower case.
    let loud = h.unmigrated("OUTBOX");
    let event = Event::new("t", json!(1)).unwrap().with_idempotency_key("k");
    assert_eq!(loud.save(&event).await.unwrap(), Saved::Stored);
    assert_eq!(loud.save(&event).await.unwrap(), Saved::Duplicate);
    assert!(loud.verify().await.unwrap().is_current());
    loud.acknowledge(event.id()).await.unwrap();
    loud.purge(Duration::ZERO).await.unwrap();
    works_under_odd_names(&h).await;
    outboxes_that_share_a_part_of_their_names_are_refused(&h).await;
    a_taken_name_is_refused(&h).await;
    h.run("CREATE TABLE other_version (x int)").await;
    a_foreign_table_is_refused(&h).await;
    h.run("INSERT INTO outbox_version VALUES (999, 0)").await;
    a_newer_schema_is_refused(&h).await;
    h.run("DELETE FROM outbox_version WHERE version = 999; DROP INDEX outbox_scheduled").await;
    h.run("ALTER TABLE outbox DROP COLUMN last_error").await;
    what_is_missing_is_named(&h, "`outbox_scheduled`").await;
    h.close().await;
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
        h.run(DROP_ALL).await;
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
        h.run(DROP_ALL).await;
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
    for table in ["outbox", "outbox_version", "outbox_lease", "outbox_key", "outbox_parked"] {
        h.run(&format!("DROP TABLE {table}")).await;
    }
    h.run(&file("sqlite").repeat(2)).await;
    assert_eq!(h.store.verify().await.unwrap().problems(), <[String; 0]>::default());
}

const DROP_ALL: &str =
    "DROP TABLE {s}.outbox, {s}.outbox_version, {s}.outbox_lease, {s}.outbox_key, {s}.outbox_parked";
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
        h.run(DROP_ALL).await;
        h.run(&format!("SET LOCAL search_path = {{s}}; {}", shipped("postgres", "0001_outbox"))).await;
        upgrade(&h, &format!("{}.outbox", h.place), "'%'", "now()").await;
        h.close().await;
    }
    if let Some(h) = require("schema::mysql", My::open().await) {
        h.run(DROP_ALL).await;
        let mut connection = h.pool().acquire().await.unwrap().detach();
        for sql in [format!("USE {}", h.place), shipped("mysql", "0001_outbox")] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
        upgrade(&h, &format!("{}.outbox", h.place), BLOB, "UTC_TIMESTAMP(6)").await;
        h.close().await;
    }
    let h = Lite::open().await.unwrap();
    for table in ["outbox", "outbox_version", "outbox_lease", "outbox_key", "outbox_parked"] {
        h.run(&format!("DROP TABLE {table}")).await;
    }
    h.run(&shipped("sqlite", "0001_outbox")).await;
    upgrade(&h, "outbox", BLOB, "0").await;
}

/// A table of somebody else's is passed over by `IF NOT EXISTS`, and would be taken for the outbox's own.
#[tokio::test]
async fn an_upgrade_that_meets_a_foreign_table_is_refused_and_undone() {
    let h = Lite::open().await.unwrap();
    for table in ["outbox", "outbox_version", "outbox_lease", "outbox_key", "outbox_parked"] {
        h.run(&format!("DROP TABLE {table}")).await;
    }
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
async fn leases_outlive_the_upgrade_from_version_2_on_postgresql() {
    let Some(h) = require("schema::postgres", Pg::open().await) else { return };
    h.run(DROP_ALL).await;
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

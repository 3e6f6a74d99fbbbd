//! What somebody has dropped or altered: `migrate` puts it back, or says what is to be done, on each engine.

mod harness;

use std::time::Duration;

use outbox_conformance::{Harness, require};
use outbox_sqlx::{
    Dialect, MySqlOutbox, PgOutbox, SqlxOutbox,
    sqlx::{self, MySql, PgPool},
};
use outbox_traits::{Claim, ClaimStore, ErrorKind, Event, OutboxStore, Saved, SchemaStore, Settlement};
use serde_json::json;

use harness::{Engine, Sql, TABLES, mysql::My, postgres::Pg, sqlite::Lite};

/// The statements that the shipped files make an index by, of its own, are run again; those within a table are not.
const PUT_BACK: &str = "run `migrate`";
const BY_HAND: &str = "create it as the files";

/// Somebody has dropped a table, and an index where that comes by a statement of its own.
async fn what_was_lost_is_put_back<E: Engine>(h: &Sql<E, false>)
where
    Sql<E, false>: Harness<Store = SqlxOutbox<E>>,
{
    let events: Vec<Event> = (0..3).map(|number| Event::new("t", json!(number)).unwrap()).collect();
    h.store.save_all(&events).await.unwrap();
    let mut tables = vec!["outbox_lease", "outbox_parked"];
    if E::INDEXES_ARE_AMONG_TABLES {
        tables.insert(0, "outbox_version");
    }
    let mut lost: Vec<_> = tables.iter().map(|table| format!("the table `{table}` is missing")).collect();
    for table in tables {
        h.run(&format!("DROP TABLE {}", E::table(&h.place, table))).await;
    }
    if E::INDEXES_ARE_AMONG_TABLES {
        h.run(&E::drop_index(&h.place, "outbox", "outbox_idempotency")).await;
        lost.insert(1, "the table `outbox` has no index `outbox_idempotency`".to_owned());
    }

    let report = h.store.verify().await.unwrap();
    assert_eq!(report.problems().len(), lost.len(), "{report}");
    for (problem, lost) in report.problems().iter().zip(lost) {
        assert!(problem.starts_with(&lost) && problem.contains(PUT_BACK), "{problem}");
        assert!(!problem.contains("apply the files"), "they would make it empty: {problem}");
    }
    let error = h.store.claim(&Claim::new("w")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    assert!(error.to_string().contains(PUT_BACK), "{error}");

    for _ in 0..2 {
        h.store.migrate().await.unwrap();
        assert_eq!(h.store.verify().await.unwrap().problems(), <[String; 0]>::default());
    }
    assert_eq!(h.store.get_pending(9).await.unwrap(), events);
    let leased = h.store.claim(&Claim::new("w")).await.unwrap();
    assert_eq!(leased.into_iter().map(|one| one.event).collect::<Vec<_>>(), events);
}

/// Two events of a key, of which the first waits for a retry, and the other is parked behind it.
async fn one_that_waits(h: &My) -> [Event; 2] {
    let events =
        ["first", "second"].map(|name| Event::new("t", json!(name)).unwrap().with_partition_key("k"));
    h.store.save_all(&events).await.unwrap();
    let leased = h.store.claim(&Claim::new("w").with_limit(1)).await.unwrap();
    let failed = Settlement::retry(leased[0].lease, Duration::from_secs(3600), "failed");
    assert!(h.store.settle(&[failed]).await.unwrap()[0].is_ok());
    assert_eq!(h.store.claim(&Claim::new("w")).await.unwrap().len(), 0);
    events
}

/// A migration makes both pending.
async fn both_are_made_pending(h: &My, events: &[Event]) {
    h.store.migrate().await.unwrap();
    assert!(h.store.verify().await.unwrap().is_current());
    assert_eq!(h.store.get_pending(9).await.unwrap(), events);
    let leased = h.store.claim(&Claim::new("w")).await.unwrap();
    assert_eq!(leased.into_iter().map(|one| one.event).collect::<Vec<_>>(), events);
}

/// On MySQL and MariaDB the rows of a table come after it, and those of the versions are the lock of the claims.
#[tokio::test]
async fn a_lost_table_of_versions_is_put_back_by_hand_on_mysql() {
    let Some(h) = require("lost::versions_mysql", My::open().await) else { return };
    let events = one_that_waits(&h).await;
    for table in ["outbox_version", "outbox_parked"] {
        h.run(&format!("DROP TABLE {}", MySql::table(&h.place, table))).await;
    }
    let before = h.store.verify().await.unwrap();
    assert_eq!(before.problems().len(), 2, "{before}");
    assert!(before.problems()[0].contains("`outbox_version` is missing: stop"), "{before}");
    for _ in 0..2 {
        let error = h.store.migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        assert!(error.to_string().contains("`outbox_version` is missing: stop"), "{error}");
        assert_eq!(h.store.verify().await.unwrap(), before);
    }
    let first_file = include_str!("../migrations/mysql/0001_outbox.sql");
    sqlx::raw_sql(first_file).execute(h.pool()).await.unwrap();
    both_are_made_pending(&h, &events).await;
    h.close().await;
}

/// On MySQL and MariaDB a table is there at once, whatever becomes of what belongs to it.
#[tokio::test]
async fn a_migration_that_fails_half_way_is_made_the_next_time_on_mysql() {
    let Some(h) = require("lost::half_way_mysql", My::open().await) else { return };
    let events = one_that_waits(&h).await;
    h.run(&format!("DROP TABLE {}", MySql::table(&h.place, "outbox_key"))).await;

    // Somebody is at the events for longer than the migration waits.
    let mut other = h.begin().await;
    sqlx::raw_sql("SELECT id FROM outbox FOR UPDATE").execute(&mut *other).await.unwrap();
    let impatient = sqlx::mysql::MySqlPoolOptions::new()
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::raw_sql("SET innodb_lock_wait_timeout = 1").execute(connection).await.map(drop)
            })
        })
        .connect_lazy_with(h.pool().connect_options().as_ref().clone());
    let error = MySqlOutbox::new(impatient.clone()).migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    impatient.close().await;
    h.rollback(other).await;
    assert!(!h.store.verify().await.unwrap().is_current(), "half of it is taken for the whole");

    both_are_made_pending(&h, &events).await;
    h.close().await;
}

/// A part that no migration makes again: the error names it, and nothing else is made before it is there.
async fn what_is_put_back_by_hand_is_said<E: Engine>(h: &Sql<E, false>, part: &str, lose: &str, make: &str)
where
    Sql<E, false>: Harness<Store = SqlxOutbox<E>>,
{
    let event = Event::new("t", json!(1)).unwrap();
    h.store.save(&event).await.unwrap();
    h.run(lose).await;
    h.run(&format!("DROP TABLE {}", E::table(&h.place, "outbox_key"))).await;
    let before = h.store.verify().await.unwrap();
    assert_eq!(before.problems().len(), 2, "{before}");
    assert!(before.problems()[0].contains(part) && before.problems()[0].contains(BY_HAND), "{before}");
    assert!(!before.problems()[0].contains(PUT_BACK), "it would not: {before}");
    for _ in 0..2 {
        let error = h.store.migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        assert!(error.to_string().contains(part) && error.to_string().contains(BY_HAND), "{error}");
        assert!(!error.to_string().contains(PUT_BACK), "that has just failed: {error}");
        assert_eq!(h.store.verify().await.unwrap(), before);
    }
    h.run(make).await;
    h.store.migrate().await.unwrap();
    assert_eq!(h.store.verify().await.unwrap().problems(), <[String; 0]>::default());
    assert_eq!(h.store.get_pending(9).await.unwrap(), [event]);
}

#[tokio::test]
async fn what_was_lost_is_put_back_or_said_on_each_engine() {
    if let Some(h) = require("lost::lost_postgres", Pg::open().await) {
        what_was_lost_is_put_back(&h).await;
        h.close().await;
    }
    if let Some(h) = require("lost::lost_mysql", My::open().await) {
        what_was_lost_is_put_back(&h).await;
        h.close().await;
    }
    let h = Lite::open().await.unwrap();
    what_was_lost_is_put_back(&h).await;

    let (lose, make) =
        ("ALTER TABLE {s}.outbox DROP last_error", "ALTER TABLE {s}.outbox ADD last_error text");
    if let Some(h) = require("lost::lost_postgres", Pg::open().await) {
        what_is_put_back_by_hand_is_said(&h, "no column `last_error`", lose, make).await;
        h.close().await;
        let h = Pg::open().await.unwrap();
        let lose = "ALTER TABLE {s}.outbox DROP CONSTRAINT outbox_id";
        let make = "ALTER TABLE {s}.outbox ADD CONSTRAINT outbox_id PRIMARY KEY (id)";
        what_is_put_back_by_hand_is_said(&h, "no index `outbox_id`", lose, make).await;
        h.close().await;
    }
    if let Some(h) = require("lost::lost_mysql", My::open().await) {
        what_is_put_back_by_hand_is_said(&h, "no column `last_error`", lose, make).await;
        h.close().await;
        let h = My::open().await.unwrap();
        let lose = "DROP INDEX outbox_scheduled ON {s}.outbox";
        let make = "CREATE INDEX outbox_scheduled ON {s}.outbox (status, not_before)";
        what_is_put_back_by_hand_is_said(&h, "no index `outbox_scheduled`", lose, make).await;
        h.close().await;
    }
    let (lose, make) = (&*lose.replace("{s}.", ""), &*make.replace("{s}.", ""));
    let h = Lite::open().await.unwrap();
    what_is_put_back_by_hand_is_said(&h, "no column `last_error`", lose, make).await;
}

/// An index has the name and is of another kind: without it nobody is told of a duplicate.
async fn an_index_of_another_kind_is_named<E: Engine>(
    h: &Sql<E, false>,
    index: &str,
    spoil: &str,
    then: [&str; 2],
) where
    Sql<E, false>: Harness<Store = SqlxOutbox<E>>,
{
    h.run(spoil).await;
    let before = h.store.verify().await.unwrap();
    let amiss = format!("the index `{index}` of the table `outbox` is not unique");
    assert_eq!(before.problems().len(), 1, "{before}");
    assert!(before.problems()[0].starts_with(&amiss), "{before}");
    assert!(before.problems()[0].contains("drop it, and"), "{before}");
    for _ in 0..2 {
        let error = h.store.migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        assert!(error.to_string().contains(&amiss), "{error}");
        assert_eq!(h.store.verify().await.unwrap(), before);
    }
    let [drop, make] = then;
    h.run(drop).await;
    if make.is_empty() {
        h.store.migrate().await.unwrap();
    } else {
        h.run(make).await;
    }
    assert_eq!(h.store.verify().await.unwrap().problems(), <[String; 0]>::default());
    let event = Event::new("t", json!(1)).unwrap().with_idempotency_key(index);
    assert_eq!(h.store.save(&event).await.unwrap(), Saved::Stored);
    assert_eq!(h.store.save(&event).await.unwrap(), Saved::Duplicate);
}

#[tokio::test]
async fn an_index_of_another_kind_is_named_on_each_engine() {
    let key = "CREATE INDEX outbox_idempotency ON {s}.outbox (idempotency_hash)";
    let id = "CREATE INDEX outbox_id ON {s}.outbox (id)";
    if let Some(h) = require("lost::kinds_postgres", Pg::open().await) {
        let drop = "DROP INDEX {s}.outbox_idempotency";
        let spoil = format!("{drop}; {key}");
        an_index_of_another_kind_is_named(&h, "outbox_idempotency", &spoil, [drop, ""]).await;
        let spoil = format!("ALTER TABLE {{s}}.outbox DROP CONSTRAINT outbox_id; {id}");
        let make = "ALTER TABLE {s}.outbox ADD CONSTRAINT outbox_id PRIMARY KEY (id)";
        an_index_of_another_kind_is_named(&h, "outbox_id", &spoil, ["DROP INDEX {s}.outbox_id", make]).await;
        h.close().await;
    }
    if let Some(h) = require("lost::kinds_mysql", My::open().await) {
        for (index, made) in [("outbox_idempotency", key), ("outbox_id", id)] {
            let drop = format!("DROP INDEX {index} ON {{s}}.outbox");
            let make = made.replace("CREATE INDEX", "CREATE UNIQUE INDEX");
            an_index_of_another_kind_is_named(&h, index, &format!("{drop}; {made}"), [&drop, &make]).await;
        }
        h.close().await;
    }
    let h = Lite::open().await.unwrap();
    for (index, made) in [("outbox_idempotency", key), ("outbox_id", id)] {
        let drop = format!("DROP INDEX {index}");
        let spoil = format!("{drop}; {}", made.replace("{s}.", ""));
        an_index_of_another_kind_is_named(&h, index, &spoil, [&drop, ""]).await;
    }
}

/// No index can be made unique before they are gone.
#[tokio::test]
async fn duplicates_that_keep_an_index_from_being_put_back_are_said() {
    let h = Lite::open().await.unwrap();
    h.run("DROP INDEX outbox_id; CREATE INDEX outbox_id ON outbox (id)").await;
    let event = Event::new("t", json!(1)).unwrap();
    for _ in 0..2 {
        assert_eq!(h.store.save(&event).await.unwrap(), Saved::Stored, "nothing tells of it");
    }
    h.run("DROP INDEX outbox_id").await;
    let error = h.store.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    assert!(error.to_string().contains("has no index `outbox_id`"), "{error}");
    assert!(error.to_string().contains("delete all but one"), "{error}");
    h.run("DELETE FROM outbox WHERE seq = (SELECT MAX(seq) FROM outbox)").await;
    h.store.migrate().await.unwrap();
    assert_eq!(h.store.get_pending(9).await.unwrap(), std::slice::from_ref(&event));
    assert_eq!(h.store.save(&event).await.unwrap(), Saved::Duplicate);
}

/// Where something else has the name of an index, `IF NOT EXISTS` passes it over.
#[tokio::test]
async fn an_index_whose_name_is_taken_is_not_put_back() {
    let h = Lite::open().await.unwrap();
    h.run("DROP INDEX outbox_fifo; CREATE INDEX outbox_fifo ON business (name)").await;
    for _ in 0..2 {
        let error = h.store.migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        assert!(error.to_string().contains("has no index `outbox_fifo`"), "{error}");
        assert!(error.to_string().contains("something else has its name"), "{error}");
        assert!(!error.to_string().contains(PUT_BACK), "that has just failed: {error}");
    }
    h.run("DROP INDEX outbox_fifo").await;
    h.store.migrate().await.unwrap();
    assert_eq!(h.store.verify().await.unwrap().problems(), <[String; 0]>::default());
}

/// New and empty tables would hide the ones in which the events are.
#[tokio::test]
async fn nothing_is_put_back_elsewhere_than_where_the_outbox_is() {
    if let Some(h) = require("lost::elsewhere_postgres", Pg::open().await) {
        let first = format!("{}_first", h.place);
        h.run(&format!("CREATE SCHEMA {first}")).await;
        let along = |path: String| {
            let options = h.pool().connect_options().as_ref().clone().options([("search_path", path)]);
            PgOutbox::new(PgPool::connect_lazy_with(options))
        };
        let (outbox, at_home) = (along(format!("{first},{}", h.place)), along(h.place.clone()));
        nothing_is_put_back_elsewhere(&outbox, &at_home).await;
        for outbox in [outbox, at_home] {
            outbox.pool().close().await;
        }
        h.run(&format!("DROP SCHEMA {first}")).await;
        h.close().await;
    }
    let (h, main) = (Lite::open().await.unwrap(), Lite::open().await.unwrap());
    let options = main.pool().connect_options().as_ref().clone();
    let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options);
    let drops = TABLES.map(|table| format!("DROP TABLE {table}; ")).concat();
    let sql = format!("{drops}ATTACH '{}' AS shop", h.place);
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    nothing_is_put_back_elsewhere(&outbox_sqlx::SqliteOutbox::new(pool), &h.store).await;
}

async fn nothing_is_put_back_elsewhere<DB: Dialect>(outbox: &SqlxOutbox<DB>, at_home: &SqlxOutbox<DB>)
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
{
    assert_eq!(outbox.verify().await.unwrap().problems(), <[String; 0]>::default());
    outbox.migrate().await.unwrap();
    let event = Event::new("t", json!(1)).unwrap();
    at_home.save(&event).await.unwrap();
    let mut connection = at_home.pool().acquire().await.unwrap();
    sqlx::raw_sql("DROP TABLE outbox_parked").execute(&mut *connection).await.unwrap();
    drop(connection);
    let before = outbox.verify().await.unwrap();
    for _ in 0..2 {
        let error = outbox.migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        assert!(error.to_string().contains("`outbox_parked` is missing"), "{error}");
        assert!(error.to_string().contains("elsewhere"), "{error}");
        assert_eq!(outbox.verify().await.unwrap(), before, "another is found there");
    }
    at_home.migrate().await.unwrap();
    for outbox in [outbox, at_home] {
        assert_eq!(outbox.verify().await.unwrap().problems(), <[String; 0]>::default());
        assert_eq!(outbox.get_pending(9).await.unwrap(), std::slice::from_ref(&event));
    }
}

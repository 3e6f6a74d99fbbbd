//! Tests: how the engines run the store's statements.

use std::{env, fmt::Write, future::Future};

use outbox_conformance::{Skip, require};
use outbox_traits::{Event, EventId, InboxStore, OutboxStore, SchemaStore};
use serde_json::json;
use sqlx::{AssertSqlSafe, Column, MySql, Pool, Postgres, Row, Sqlite, sqlite::SqlitePoolOptions};

use crate::{
    SqlxInbox, SqlxOutbox,
    claims::{CHUNK, sql},
    dialect::Dialect,
    names::{KEY, LEASE, Names, PARKED, VERSION},
};

/// Every statement that must not search the table, and the index that it is to use.
fn statements<DB: Dialect>(names: &Names, ids: &[EventId]) -> Vec<(String, &'static str)> {
    let mut statements = sql::statements::<DB>(names, &ids[..ids.len().min(CHUNK)]);
    statements.extend([
        (DB::pending(names, 100), "fifo"),
        (DB::pending(names, 5000), "fifo"),
        (sql::newest::<DB>(names, 64), "fifo"),
        (sql::committed::<DB>(names, &ids[..ids.len().min(CHUNK)]), "id"),
        (DB::due(names, 1000), "scheduled"),
        (DB::expired(names, 0, 1000), "delivered"),
        (DB::expired(names, 1_000_000, 1000), "delivered"),
        (DB::promote(names, ids), "id"),
        (DB::acknowledge(names, ids, ""), "id"),
        (DB::acknowledge(names, ids, &sql::if_free(names)), "id"),
        (sql::acknowledge_and_delete::<DB>(names, ids, ""), "id"),
        (sql::acknowledge_and_delete::<DB>(names, ids, &sql::if_free(names)), "id"),
        (sql::one_open::<DB>(names, ids), "id"),
        (sql::purge::<DB>(names, ids), "id"),
        (DB::requeue(names, ids), "id"),
        (sql::discard::<DB>(names, ids), "id"),
    ]);
    statements
}

/// Many delivered events before a few pending ones, without and with statistics of the table.
async fn check<DB: Dialect, F>(pool: Pool<DB>, table: &str, plan: fn(Pool<DB>, String) -> F, analyze: &str)
where
    F: Future<Output = String>,
{
    let store = SqlxOutbox::<DB>::new(pool.clone()).with_table(table).unwrap();
    store.migrate().await.unwrap();
    let mut ids = vec![EventId::new()];
    for (statement, index) in statements::<DB>(&store.names, &ids) {
        check_plan(&plan(pool.clone(), statement).await, &store.names.index(index), "while empty");
    }
    check_counts(&pool, &store.names, plan, "while empty").await;
    let event = |number| Event::new("t", json!(number)).unwrap();
    store.save_all(&(0..10_000).map(event).collect::<Vec<_>>()).await.unwrap();
    ids = store.get_pending(9000).await.unwrap().iter().map(Event::id).collect();
    store.acknowledge_all(&ids).await.unwrap();
    for when in ["without statistics", "with statistics"] {
        for (statement, index) in statements::<DB>(&store.names, &ids[..1000]) {
            check_plan(&plan(pool.clone(), statement).await, &store.names.index(index), when);
        }
        check_counts(&pool, &store.names, plan, when).await;
        let mut connection = pool.acquire().await.unwrap();
        DB::rows(&mut connection, format!("{analyze} {}", store.names.quoted_table())).await.unwrap();
    }
    let names = &store.names;
    check_marks(&pool, table, plan, analyze).await;
    let mut connection = pool.acquire().await.unwrap();
    let parts = [VERSION, LEASE, KEY, PARKED].map(|part| names.quoted_part(part));
    for table in parts.into_iter().chain([names.quoted_table()]) {
        DB::execute(&mut connection, format!("DROP TABLE {table}")).await.unwrap();
    }
}

/// A purge of an inbox finds what is old by its index, and deletes it without searching.
async fn check_marks<DB: Dialect, F>(
    pool: &Pool<DB>,
    table: &str,
    plan: fn(Pool<DB>, String) -> F,
    analyze: &str,
) where
    F: Future<Output = String>,
{
    let inbox = SqlxInbox::<DB>::new(pool.clone()).with_table(&format!("{table}_inbox")).unwrap();
    inbox.migrate().await.unwrap();
    let names = Names::new(&DB::RULES, &DB::INBOX).with_table(&format!("{table}_inbox")).unwrap();
    let mut transaction = pool.begin().await.unwrap();
    for _ in 0..1000 {
        inbox.process_once(&mut transaction, "consumer", EventId::new()).await.unwrap();
    }
    transaction.commit().await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    for when in ["without statistics", "with statistics"] {
        for age in [0, 1_000_000] {
            drop(connection);
            let plan = plan(pool.clone(), DB::purge_marks(&names, age, 100)).await;
            check_plan(&plan, &names.index("processed"), when);
            // The rows to be deleted: by their place, or one by one by their key.
            let deletes = ["Tid Scan", "eq_ref", "PRIMARY KEY (consumer=? AND event_id=?)"];
            assert!(deletes.iter().any(|way| plan.contains(way)), "{when}, a search in {plan}");
            connection = pool.acquire().await.unwrap();
        }
        DB::rows(&mut connection, format!("{analyze} {}", names.quoted_table())).await.unwrap();
    }
    for table in [names.quoted_table(), names.quoted_part(VERSION)] {
        DB::execute(&mut connection, format!("DROP TABLE {table}")).await.unwrap();
    }
}

/// What counts, and looks for the first that is due, reads an index and, but for what is scheduled or parked, nothing else.
async fn check_counts<DB: Dialect, F>(
    pool: &Pool<DB>,
    names: &Names,
    plan: fn(Pool<DB>, String) -> F,
    when: &str,
) where
    F: Future<Output = String>,
{
    for (statement, index) in sql::counts::<DB>(names).into_iter().chain(sql::due::<DB>(names)) {
        let plan = plan(pool.clone(), format!("{}{statement}", DB::BY_INDEX)).await;
        assert!(plan.contains(&names.index(index)), "{when}, no {index} in {plan}");
        // All of what is parked is read, so that in its own table there is nothing to search for.
        let searched = plan.replace(&format!("Seq Scan on {}", names.part(PARKED)), "");
        for bad in BAD {
            assert!(!searched.contains(bad), "{when}, {bad} in {plan}");
        }
        let is_covered =
            ["Index Only Scan", "COVERING INDEX", "Using index"].iter().any(|word| plan.contains(word));
        assert!(is_covered || !statement.contains("COUNT(*)"), "{when}, rows are read in {plan}");
    }
}

const BAD: [&str; 6] = ["Seq Scan", "Sort", "Bitmap", "filesort", "temporary", "TEMP B-TREE"];

/// How the engines say that they find pending events by their places.
const BY_PLACE: [&str; 3] = ["_fifo", "PRIMARY", "INTEGER PRIMARY KEY"];

#[track_caller]
fn check_plan(plan: &str, index: &str, when: &str) {
    // MariaDB and MySQL look into the index of ids before they make a plan.
    let found_none =
        ["Impossible WHERE noticed after reading const tables", "no matching row in const table"];
    if found_none.iter().any(|way| plan.starts_with(way)) {
        return;
    }
    let is_by_place = index.ends_with(sql::PLACE) && BY_PLACE.iter().any(|way| plan.contains(way));
    assert!(is_by_place || plan.contains(index), "{when}, no {index} in {plan}");
    for bad in BAD {
        assert!(!plan.contains(bad), "{when}, {bad} in {plan}");
    }
    // What is due or old enough is searched for, and not filtered out: as PostgreSQL, MySQL and SQLite say it.
    if index.ends_with("scheduled") || index.ends_with("delivered") {
        let is_searched = ["Index Cond", "range", "<?)"].iter().any(|word| plan.contains(word));
        assert!(is_searched, "{when}, a filter in {plan}");
    }
    // SQLite calls it a scan, too, when it walks along an index.
    // What it scans under this name is the few rows of a subquery.
    // Whether there are leases, parked events and keys that have some is looked up in the smallest index that they have.
    for scan in plan.lines().filter(|line| line.contains("SCAN ") && line.trim() != "SCAN h") {
        let is_of_few = ["lease", "key", "parked"].map(|part| format!("_{part} USING COVERING INDEX"));
        let is_good = scan.contains("USING INDEX") || is_of_few.iter().any(|of| scan.contains(of.as_str()));
        assert!(is_good, "{when}, a scan of the table in {plan}");
    }
}

/// The columns of an explanation as lines.
fn text<R: Row>(rows: &[R], cell: impl Fn(&R, usize) -> Option<String>) -> String {
    rows.iter().fold(String::new(), |mut text, row| {
        for column in row.columns() {
            if let Some(cell) = cell(row, column.ordinal()) {
                write!(text, "{cell} ").unwrap();
            }
        }
        text + "\n"
    })
}

fn server(variable: &str) -> Result<String, Skip> {
    env::var(variable).map_err(|_| Skip::new(format!("set {variable}")))
}

async fn explain_postgres(pool: Pool<Postgres>, statement: String) -> String {
    let (settings, statement) = statement.rsplit_once("; ").unwrap();
    let sql = format!("{settings}; EXPLAIN (COSTS OFF) {statement}");
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&pool).await.unwrap();
    text(&rows, |row, index| row.get(index))
}

async fn explain_mysql(pool: Pool<MySql>, statement: String) -> String {
    let statement = statement.rsplit_once("; ").map_or(&*statement, |(_, statement)| statement);
    let sql = format!("EXPLAIN FORMAT = TRADITIONAL {statement}");
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&pool).await.unwrap();
    // Of its columns these say how: those of the keys that were possible say nothing.
    text(&rows, |row, index| match row.column(index).name() {
        "key" | "type" | "Extra" => row.get(index),
        _ => None,
    })
}

async fn explain_sqlite(pool: Pool<Sqlite>, statement: String) -> String {
    let sql = format!("EXPLAIN QUERY PLAN {statement}");
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&pool).await.unwrap();
    text(&rows, |row, index| if index == 3 { row.get(index) } else { None })
}

#[tokio::test]
async fn postgres_goes_by_the_index_whatever_the_statistics_say() {
    let Some(url) = require("plans::postgres", server("OUTBOX_TEST_POSTGRES_URL")) else { return };
    let table = format!("outbox_plans_{}", std::process::id());
    check(Pool::<Postgres>::connect(&url).await.unwrap(), &table, explain_postgres, "ANALYZE").await;
}

#[tokio::test]
async fn mysql_goes_by_the_index_whatever_the_statistics_say() {
    let Some(url) = require("plans::mysql", server("OUTBOX_TEST_MYSQL_URL")) else { return };
    let table = format!("outbox_plans_{}", std::process::id());
    check(Pool::<MySql>::connect(&url).await.unwrap(), &table, explain_mysql, "ANALYZE TABLE").await;
}

#[tokio::test]
async fn sqlite_goes_by_the_index_whatever_the_statistics_say() {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    check(pool, "outbox_plans", explain_sqlite, "ANALYZE").await;
}

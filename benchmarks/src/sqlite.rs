//! `SQLite`.

use std::sync::Arc;

use anyhow::Result;
use outbox_traits::async_trait;
use sqlx::{
    AssertSqlSafe, Pool, QueryBuilder, Row as _, Sqlite, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
    types::Json,
};
use uuid::Uuid;

use crate::{
    claims::{Taker, Way},
    engine::{Engine, explained},
    hand_written::{Event, HandWritten, Meta},
    job::Order,
    place::Place,
};

impl Engine for Sqlite {
    const TITLE: &'static str = "SQLite";

    const ANALYZE: &'static str = "ANALYZE outbox";

    async fn open(place: &Place, name: &str, connections: u32) -> Result<SqlitePool> {
        let options = SqliteConnectOptions::new()
            .filename(place.file(name))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        Ok(SqlitePoolOptions::new().max_connections(connections).connect_with(options).await?)
    }

    async fn remove(_name: &str) -> Result<()> {
        // Its file vanishes with the directory.
        Ok(())
    }

    async fn run(pool: &SqlitePool, sql: &'static str) -> Result<()> {
        sqlx::raw_sql(sql).execute(pool).await?;
        Ok(())
    }

    async fn describe(pool: &SqlitePool) -> Result<String> {
        let (version, journal): (String, String) =
            sqlx::query_as("SELECT sqlite_version(), journal_mode FROM pragma_journal_mode")
                .fetch_one(pool)
                .await?;
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(pool).await?;
        Ok(format!("SQLite {version}, journal_mode {journal}, synchronous {synchronous} (2 is FULL)"))
    }

    async fn multiply(pool: &SqlitePool, columns: &str, rows: u32) -> Result<()> {
        let sql = format!(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows}),
                copies (n, id) AS (SELECT n, printf('%012x%020x', n, n) FROM numbers)
            INSERT INTO outbox (id, type, payload, meta, status, {columns} created_at, delivered_at)
            SELECT unhex(copies.id), type, payload,
                replace(meta, coalesce(meta ->> '$.id', 'no id'), copies.id),
                status, {columns} created_at, delivered_at - n
            FROM outbox CROSS JOIN copies"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await?;
        Ok(())
    }

    async fn explain(pool: &SqlitePool, message: &str) -> Result<String> {
        let sql = explained(message, "EXPLAIN QUERY PLAN");
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(pool).await?;
        let lines = rows.iter().map(|row| row.try_get::<String, _>(3)).collect::<sqlx::Result<Vec<_>>>()?;
        Ok(lines.join("\n"))
    }

    async fn reads(_pool: &SqlitePool) -> Result<Vec<(String, i64)>> {
        Ok(Vec::new())
    }
}

impl HandWritten for Sqlite {
    // It will write: one that began by reading could be refused.
    const BEGIN: &'static str = "BEGIN IMMEDIATE";

    const BUSINESS: &'static str =
        "CREATE TABLE orders (number INTEGER NOT NULL, customer TEXT NOT NULL, total INTEGER NOT NULL)";

    const SCHEMA: &'static str = "
        CREATE TABLE outbox (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id BLOB NOT NULL UNIQUE,
            type TEXT NOT NULL,
            payload TEXT NOT NULL,
            meta TEXT NOT NULL,
            status TEXT NOT NULL DEFAULT 'pending',
            created_at INTEGER NOT NULL DEFAULT (unixepoch()),
            delivered_at INTEGER
        );
        CREATE INDEX outbox_pending ON outbox (seq) WHERE status = 'pending'";

    const CLEAR: &'static str = "DELETE FROM outbox; DELETE FROM orders; PRAGMA wal_checkpoint(TRUNCATE)";

    const CLEAR_CLAIMS: &'static str =
        "DELETE FROM outbox_lease; DELETE FROM outbox_key; DELETE FROM outbox_parked";

    const SETTLE: &'static str = "ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)";

    const TIDY: &'static str = "PRAGMA wal_checkpoint(TRUNCATE)";

    async fn place_order(connection: &mut SqliteConnection, order: &Order) -> sqlx::Result<()> {
        sqlx::query("INSERT INTO orders (number, customer, total) VALUES (?, ?, ?)")
            .bind(order.number)
            .bind(order.customer())
            .bind(order.total())
            .execute(connection)
            .await?;
        Ok(())
    }

    async fn save_one(connection: &mut SqliteConnection, event: &Event) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO outbox (id, type, payload, meta) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(event.id)
        .bind(&event.kind)
        .bind(serde_json::to_string(&event.payload)?)
        .bind(serde_json::to_string(&event.meta)?)
        .execute(connection)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn save_batch(connection: &mut SqliteConnection, events: &[Event]) -> Result<u64> {
        let mut new = 0;
        // 4 parameters each: far below the limit of 32766.
        for events in events.chunks(1000) {
            let mut query = QueryBuilder::new("INSERT INTO outbox (id, type, payload, meta) ");
            query.push_values(events, |mut row, event| {
                row.push_bind(event.id)
                    .push_bind(&event.kind)
                    .push_bind(Json(&event.payload))
                    .push_bind(Json(&event.meta));
            });
            query.push(" ON CONFLICT DO NOTHING");
            new += query.build().execute(&mut *connection).await?.rows_affected();
        }
        Ok(new)
    }

    async fn fetch(pool: &Pool<Self>, limit: i64) -> Result<Vec<Event>> {
        let rows = sqlx::query(
            "SELECT id, type, payload, meta FROM outbox WHERE status = 'pending' ORDER BY seq LIMIT ?",
        )
        .bind(limit)
        .fetch_all(pool)
        .await?;
        rows.iter().map(event).collect()
    }

    async fn mark_delivered(pool: &Pool<Self>, ids: &[Uuid]) -> Result<()> {
        let mut query = QueryBuilder::new(
            "UPDATE outbox SET status = 'delivered', delivered_at = unixepoch() \
             WHERE status = 'pending' AND id IN (",
        );
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(*id);
        }
        query.push(")");
        query.build().execute(pool).await?;
        Ok(())
    }

    fn takers(pool: &Pool<Self>) -> Vec<(Way, Arc<dyn Taker>)> {
        let delete = Way { title: "DELETE … RETURNING", ..Way::BY_HAND };
        let one_by_one = Way { aim: Some(50.0), ..Way::ONE_BY_ONE };
        vec![
            (delete, Arc::new(DeleteReturning(pool.clone()))),
            (one_by_one, Arc::new(OneByOne(pool.clone()))),
        ]
    }
}

/// Deletes what it takes, and keeps no order of keys: what a worker that dies had taken is gone.
#[derive(Debug)]
struct DeleteReturning(SqlitePool);

#[async_trait]
impl Taker for DeleteReturning {
    async fn take(&self, limit: usize) -> Result<usize> {
        let rows = sqlx::query(
            "DELETE FROM outbox WHERE seq IN (
                SELECT seq FROM outbox WHERE status = 'pending' ORDER BY seq LIMIT ?
            ) RETURNING id, type, payload, meta",
        )
        .bind(i64::try_from(limit)?)
        .fetch_all(&self.0)
        .await?;
        Ok(rows.iter().map(event).collect::<Result<Vec<_>>>()?.len())
    }
}

/// Fetches many and marks each as delivered with a statement of its own.
#[derive(Debug)]
struct OneByOne(SqlitePool);

#[async_trait]
impl Taker for OneByOne {
    async fn take(&self, limit: usize) -> Result<usize> {
        let events = Sqlite::fetch(&self.0, i64::try_from(limit)?).await?;
        for event in &events {
            Sqlite::mark_delivered(&self.0, &[event.id]).await?;
        }
        Ok(events.len())
    }
}

fn event(row: &SqliteRow) -> Result<Event> {
    Ok(Event {
        id: row.try_get(0)?,
        kind: row.try_get(1)?,
        payload: row.try_get::<Json<_>, _>(2)?.0,
        meta: row.try_get::<Json<Meta>, _>(3)?.0,
    })
}

//! `PostgreSQL`.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use outbox_traits::async_trait;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool, Pool, Postgres, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
    types::Json,
};
use uuid::Uuid;

use crate::{
    claims::{Taker, Way},
    delivery::Poller,
    engine::{Engine, explained},
    hand_written::{Event, HandWritten, Meta},
    job::{BATCH, Order},
    place::Place,
};

/// The server and how to connect to it.
pub(crate) fn server() -> Result<PgConnectOptions> {
    Ok(Place::server("OUTBOX_TEST_POSTGRES_URL")?.parse()?)
}

impl Engine for Postgres {
    const TITLE: &'static str = "PostgreSQL";

    const ANALYZE: &'static str = "ANALYZE outbox";

    async fn open(_place: &Place, name: &str, connections: u32) -> Result<PgPool> {
        let server = server()?;
        let mut connection = server.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA {name}"))).execute(&mut connection).await?;
        connection.close().await?;
        let at_home = server.options([("search_path", name)]);
        Ok(PgPoolOptions::new().max_connections(connections).connect_with(at_home).await?)
    }

    async fn remove(name: &str) -> Result<()> {
        let mut connection = server()?.connect().await?;
        let sql = format!("SET client_min_messages = warning; DROP SCHEMA IF EXISTS {name} CASCADE");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    async fn run(pool: &PgPool, sql: &'static str) -> Result<()> {
        sqlx::raw_sql(sql).execute(pool).await?;
        Ok(())
    }

    async fn describe(pool: &PgPool) -> Result<String> {
        let setting = async |name: &str| {
            sqlx::query_scalar::<_, String>("SELECT current_setting($1)").bind(name).fetch_one(pool).await
        };
        let version = setting("server_version").await?;
        let version = version.split(' ').next().unwrap_or_default();
        let (fsync, commit) = (setting("fsync").await?, setting("synchronous_commit").await?);
        Ok(format!("PostgreSQL {version}, fsync {fsync}, synchronous_commit {commit}"))
    }

    async fn multiply(pool: &PgPool, columns: &str, rows: u32) -> Result<()> {
        let sql = format!(
            "INSERT INTO outbox (id, type, payload, meta, status, {columns} created_at, delivered_at)
            SELECT copy.id, type, payload, replace(meta::text, outbox.id::text, copy.id::text)::json,
                status, {columns} created_at, delivered_at - copy.n * interval '1 ms'
            FROM outbox CROSS JOIN LATERAL (
                SELECT n, (lpad(to_hex(n), 12, '0') || left(md5(n::text), 20))::uuid AS id
                FROM generate_series(1, {rows}) AS n
            ) AS copy"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await?;
        Ok(())
    }

    async fn explain(pool: &PgPool, message: &str) -> Result<String> {
        let sql = explained(message, "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)");
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(pool).await?;
        let lines = rows.iter().map(|row| row.try_get::<String, _>(0)).collect::<sqlx::Result<Vec<_>>>()?;
        Ok(lines.join("\n"))
    }

    async fn reads(_pool: &PgPool) -> Result<Vec<(String, i64)>> {
        Ok(Vec::new())
    }
}

impl HandWritten for Postgres {
    const BEGIN: &'static str = "BEGIN";

    const BUSINESS: &'static str =
        "CREATE TABLE orders (number bigint NOT NULL, customer text NOT NULL, total bigint NOT NULL)";

    const SCHEMA: &'static str = "
        CREATE TABLE outbox (
            seq bigint GENERATED ALWAYS AS IDENTITY,
            id uuid PRIMARY KEY,
            type text NOT NULL,
            payload json NOT NULL,
            meta json NOT NULL,
            status text NOT NULL DEFAULT 'pending',
            created_at timestamptz NOT NULL DEFAULT now(),
            delivered_at timestamptz
        );
        CREATE INDEX outbox_pending ON outbox (seq) WHERE status = 'pending'";

    const CLEAR: &'static str = "TRUNCATE outbox, orders";

    const CLEAR_CLAIMS: &'static str = "TRUNCATE outbox_lease, outbox_key, outbox_parked";

    const SETTLE: &'static str = "VACUUM (ANALYZE) outbox";

    const TIDY: &'static str = Self::SETTLE;

    async fn place_order(connection: &mut PgConnection, order: &Order) -> sqlx::Result<()> {
        sqlx::query("INSERT INTO orders (number, customer, total) VALUES ($1, $2, $3)")
            .bind(order.number)
            .bind(order.customer())
            .bind(order.total())
            .execute(connection)
            .await?;
        Ok(())
    }

    async fn save_one(connection: &mut PgConnection, event: &Event) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO outbox (id, type, payload, meta) VALUES ($1, $2, $3::json, $4::json)
            ON CONFLICT DO NOTHING",
        )
        .bind(event.id)
        .bind(&event.kind)
        .bind(serde_json::to_string(&event.payload)?)
        .bind(serde_json::to_string(&event.meta)?)
        .execute(connection)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn save_batch(connection: &mut PgConnection, events: &[Event]) -> Result<u64> {
        let json =
            |event: &Event| Ok((serde_json::to_string(&event.payload)?, serde_json::to_string(&event.meta)?));
        let (payloads, metas): (Vec<_>, Vec<_>) =
            events.iter().map(json).collect::<serde_json::Result<Vec<_>>>()?.into_iter().unzip();
        let done = sqlx::query(
            "INSERT INTO outbox (id, type, payload, meta)
            SELECT id, type, payload::json, meta::json
            FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS new (id, type, payload, meta)
            ON CONFLICT DO NOTHING",
        )
        .bind(events.iter().map(|event| event.id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>())
        .bind(payloads)
        .bind(metas)
        .execute(connection)
        .await?;
        Ok(done.rows_affected())
    }

    async fn fetch(pool: &Pool<Self>, limit: i64) -> Result<Vec<Event>> {
        let rows = sqlx::query(
            "SELECT id, type, payload, meta FROM outbox WHERE status = 'pending' ORDER BY seq LIMIT $1",
        )
        .bind(limit)
        .fetch_all(pool)
        .await?;
        rows.iter().map(event).collect()
    }

    async fn mark_delivered(pool: &Pool<Self>, ids: &[Uuid]) -> Result<()> {
        sqlx::query(
            "UPDATE outbox SET status = 'delivered', delivered_at = now()
            WHERE id = ANY($1) AND status = 'pending'",
        )
        .bind(ids)
        .execute(pool)
        .await?;
        Ok(())
    }

    fn takers(pool: &Pool<Self>) -> Vec<(Way, Arc<dyn Taker>)> {
        let way = Way { title: "SKIP LOCKED and delete", aim: Some(0.5), ..Way::BY_HAND };
        vec![(way, Arc::new(SkipLocked(pool.clone())))]
    }
}

/// Deletes what it takes, and keeps no order of keys: what a worker that dies had taken is gone.
#[derive(Debug)]
struct SkipLocked(PgPool);

#[async_trait]
impl Taker for SkipLocked {
    async fn take(&self, limit: usize) -> Result<usize> {
        let rows = sqlx::query(
            "DELETE FROM outbox WHERE id IN (
                SELECT id FROM outbox WHERE status = 'pending' ORDER BY seq LIMIT $1 FOR UPDATE SKIP LOCKED
            ) RETURNING id, type, payload, meta",
        )
        .bind(i64::try_from(limit)?)
        .fetch_all(&self.0)
        .await?;
        Ok(rows.iter().map(event).collect::<Result<Vec<_>>>()?.len())
    }
}

fn event(row: &PgRow) -> Result<Event> {
    Ok(Event {
        id: row.try_get(0)?,
        kind: row.try_get(1)?,
        payload: row.try_get::<Json<_>, _>(2)?.0,
        meta: row.try_get::<Json<Meta>, _>(3)?.0,
    })
}

/// Looks for events now and then, and marks all that it finds as delivered at once.
#[derive(Debug)]
pub(crate) struct Poll(pub(crate) PgPool);

#[async_trait]
impl Poller for Poll {
    async fn poll(&self, handle: &(dyn Fn(i64) + Send + Sync)) -> Result<()> {
        let events = Postgres::fetch(&self.0, i64::try_from(BATCH)?).await?;
        if events.is_empty() {
            return Ok(());
        }
        for event in &events {
            handle(event.payload["number"].as_i64().context("an order has a number")?);
        }
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        Postgres::mark_delivered(&self.0, &ids).await
    }
}

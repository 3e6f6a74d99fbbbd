//! `MySQL` and `MariaDB`.

use std::sync::Arc;

use anyhow::Result;
use outbox_traits::async_trait;
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, MySql, MySqlConnection, MySqlPool,
    Pool, QueryBuilder, Row as _,
    mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlRow},
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

/// The server and how to connect to it.
pub(crate) fn server() -> Result<MySqlConnectOptions> {
    Ok(Place::server("OUTBOX_TEST_MYSQL_URL")?.parse()?)
}

impl Engine for MySql {
    const TITLE: &'static str = "MySQL and MariaDB";

    const ANALYZE: &'static str = "ANALYZE TABLE outbox";

    async fn open(_place: &Place, name: &str, connections: u32) -> Result<MySqlPool> {
        let server = server()?;
        let mut connection = server.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
        connection.close().await?;
        Ok(MySqlPoolOptions::new().max_connections(connections).connect_with(server.database(name)).await?)
    }

    async fn remove(name: &str) -> Result<()> {
        let mut connection = server()?.connect().await?;
        let sql = format!("DROP DATABASE IF EXISTS {name}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    async fn run(pool: &MySqlPool, sql: &'static str) -> Result<()> {
        sqlx::raw_sql(sql).execute(pool).await?;
        Ok(())
    }

    async fn describe(pool: &MySqlPool) -> Result<String> {
        let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(pool).await?;
        let number = version.split('-').next().unwrap_or_default();
        let product = if version.contains("MariaDB") { "MariaDB" } else { "MySQL" };
        let (flush, binlog): (i64, i64) = sqlx::query_as(
            "SELECT CAST(@@innodb_flush_log_at_trx_commit AS SIGNED), CAST(@@log_bin AS SIGNED)",
        )
        .fetch_one(pool)
        .await?;
        Ok(format!("{product} {number}, innodb_flush_log_at_trx_commit {flush}, log_bin {binlog}"))
    }

    async fn multiply(pool: &MySqlPool, columns: &str, rows: u32) -> Result<()> {
        // Neither has a series of numbers, and both stop a recursion after 1000 steps.
        let sql = format!(
            "INSERT INTO outbox (id, type, payload, meta, status, {columns} created_at, delivered_at)
            WITH RECURSIVE digits AS (SELECT 0 AS n UNION ALL SELECT n + 1 FROM digits WHERE n < 999),
                numbers AS (
                    SELECT low.n + 1000 * middle.n + 1000000 * high.n + 1 AS n
                    FROM digits AS high CROSS JOIN digits AS middle CROSS JOIN digits AS low
                    WHERE high.n <= {rows} DIV 1000000
                ),
                copies AS (
                    SELECT n, CONCAT(LPAD(LOWER(HEX(n)), 12, '0'), LEFT(SHA2(n, 256), 20)) AS id
                    FROM numbers WHERE n <= {rows}
                )
            SELECT UNHEX(copies.id), type, payload,
                REPLACE(meta, COALESCE(JSON_UNQUOTE(JSON_EXTRACT(meta, '$.id')), 'no id'), copies.id),
                status, {columns} created_at, delivered_at - INTERVAL 1000 * n MICROSECOND
            FROM (SELECT * FROM outbox LIMIT 1) AS event CROSS JOIN copies ORDER BY n"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await?;
        Ok(())
    }

    async fn explain(pool: &MySqlPool, message: &str) -> Result<String> {
        let sql = explained(message, "EXPLAIN FORMAT = TRADITIONAL");
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(pool).await?;
        let line = |row: &MySqlRow| {
            let shown = ["table", "type", "key", "key_len", "ref", "rows", "Extra"];
            let cells = row.columns().iter().filter(|column| shown.contains(&column.name())).map(|column| {
                let place = column.ordinal();
                let text = row.try_get_unchecked::<Option<String>, _>(place);
                let text = text.or_else(|_| {
                    row.try_get_unchecked::<Option<u64>, _>(place).map(|n| n.map(|n| n.to_string()))
                })?;
                Ok(format!("{}: {}", column.name(), text.as_deref().unwrap_or("NULL")))
            });
            Ok(cells.collect::<sqlx::Result<Vec<_>>>()?.join(", "))
        };
        Ok(rows.iter().map(line).collect::<sqlx::Result<Vec<_>>>()?.join("\n"))
    }

    async fn reads(pool: &MySqlPool) -> Result<Vec<(String, i64)>> {
        let rows = sqlx::raw_sql("SHOW SESSION STATUS LIKE 'Handler_read%'").fetch_all(pool).await?;
        let counter = |row: &MySqlRow| {
            let value: String = row.try_get_unchecked(1)?;
            Ok((row.try_get_unchecked(0)?, value.parse()?))
        };
        rows.iter().map(counter).collect()
    }
}

impl HandWritten for MySql {
    const BEGIN: &'static str = "START TRANSACTION";

    const BUSINESS: &'static str =
        "CREATE TABLE orders (number BIGINT NOT NULL, customer VARCHAR(64) NOT NULL, total BIGINT NOT NULL)";

    const SCHEMA: &'static str = "
        CREATE TABLE outbox (
            seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
            id BINARY(16) NOT NULL UNIQUE,
            type VARCHAR(256) NOT NULL,
            payload LONGTEXT NOT NULL,
            meta LONGTEXT NOT NULL,
            status VARCHAR(16) CHARACTER SET ascii NOT NULL DEFAULT 'pending',
            created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
            delivered_at DATETIME(6),
            KEY outbox_pending (status, seq)
        ) CHARACTER SET utf8mb4";

    const CLEAR: &'static str = "TRUNCATE outbox; TRUNCATE orders";

    const CLEAR_CLAIMS: &'static str = "TRUNCATE outbox_lease; TRUNCATE outbox_key; TRUNCATE outbox_parked";

    const SETTLE: &'static str = Self::ANALYZE;

    const TIDY: &'static str = Self::ANALYZE;

    async fn place_order(connection: &mut MySqlConnection, order: &Order) -> sqlx::Result<()> {
        sqlx::query("INSERT INTO orders (number, customer, total) VALUES (?, ?, ?)")
            .bind(order.number)
            .bind(order.customer())
            .bind(order.total())
            .execute(connection)
            .await?;
        Ok(())
    }

    async fn save_one(connection: &mut MySqlConnection, event: &Event) -> Result<bool> {
        let done = sqlx::query("INSERT IGNORE INTO outbox (id, type, payload, meta) VALUES (?, ?, ?, ?)")
            .bind(event.id)
            .bind(&event.kind)
            .bind(serde_json::to_string(&event.payload)?)
            .bind(serde_json::to_string(&event.meta)?)
            .execute(connection)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn save_batch(connection: &mut MySqlConnection, events: &[Event]) -> Result<u64> {
        let mut new = 0;
        // 4 parameters each: far below the limit of 65535.
        for events in events.chunks(1000) {
            let mut query = QueryBuilder::new("INSERT IGNORE INTO outbox (id, type, payload, meta) ");
            query.push_values(events, |mut row, event| {
                row.push_bind(event.id)
                    .push_bind(&event.kind)
                    .push_bind(Json(&event.payload))
                    .push_bind(Json(&event.meta));
            });
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
            "UPDATE outbox SET status = 'delivered', delivered_at = CURRENT_TIMESTAMP(6) \
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
        let way = Way { title: "SKIP LOCKED and delete", ..Way::BY_HAND };
        vec![(way, Arc::new(SkipLocked(pool.clone())))]
    }
}

/// Deletes what it takes, and keeps no order of keys. `MySQL` has no `DELETE … RETURNING`: it takes two statements.
#[derive(Debug)]
struct SkipLocked(MySqlPool);

impl SkipLocked {
    async fn take_once(&self, limit: usize) -> Result<usize> {
        // Without gap locks, over which workers would deadlock.
        let begin = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION";
        let mut transaction = self.0.begin_with(begin).await?;
        let rows = sqlx::query(
            "SELECT id, type, payload, meta, seq FROM outbox WHERE status = 'pending'
            ORDER BY seq LIMIT ? FOR UPDATE SKIP LOCKED",
        )
        .bind(i64::try_from(limit)?)
        .fetch_all(&mut *transaction)
        .await?;
        let events = rows.iter().map(event).collect::<Result<Vec<_>>>()?;
        if !rows.is_empty() {
            let mut query = QueryBuilder::new("DELETE FROM outbox WHERE seq IN (");
            let mut list = query.separated(", ");
            for row in &rows {
                list.push_bind(row.try_get::<i64, _>(4)?);
            }
            query.push(")");
            query.build().execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(events.len())
    }
}

#[async_trait]
impl Taker for SkipLocked {
    async fn take(&self, limit: usize) -> Result<usize> {
        loop {
            match self.take_once(limit).await {
                // Several workers meet in the index of the status now and then.
                Err(error) if is_deadlock(&error) => {}
                outcome => return outcome,
            }
        }
    }
}

fn is_deadlock(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    error.is_some_and(|error| error.code().as_deref() == Some("40001"))
}

fn event(row: &MySqlRow) -> Result<Event> {
    // The columns are text, which MySQL does not call JSON.
    Ok(Event {
        id: row.try_get(0)?,
        kind: row.try_get(1)?,
        payload: row.try_get_unchecked::<Json<_>, _>(2)?.0,
        meta: row.try_get_unchecked::<Json<Meta>, _>(3)?.0,
    })
}

//! `MySQL` and `MariaDB`: for the plans only.

use anyhow::Result;
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, MySql, MySqlPool, Row as _,
    mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlRow},
};

use crate::{
    engine::{Engine, explained},
    place::Place,
};

fn server() -> Result<MySqlConnectOptions> {
    Ok(Place::server("OUTBOX_TEST_MYSQL_URL")?.parse()?)
}

impl Engine for MySql {
    const TITLE: &'static str = "MySQL and MariaDB";

    const ANALYZE: &'static str = "ANALYZE TABLE outbox";

    async fn open(_place: &Place, name: &str) -> Result<MySqlPool> {
        let server = server()?;
        let mut connection = server.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
        connection.close().await?;
        // One connection, because the counters of reads are a connection's own.
        Ok(MySqlPoolOptions::new().max_connections(1).connect_with(server.database(name)).await?)
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
        Ok(format!("{product} {number}"))
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
                    SELECT n, CONCAT(LPAD(LOWER(HEX(n)), 12, '0'), LEFT(MD5(n), 20)) AS id
                    FROM numbers WHERE n <= {rows}
                )
            SELECT UNHEX(copies.id), type, payload,
                REPLACE(meta, JSON_UNQUOTE(JSON_EXTRACT(meta, '$.id')), copies.id),
                status, {columns} created_at, delivered_at - INTERVAL 1000 * n MICROSECOND
            FROM (SELECT * FROM outbox LIMIT 1) AS event CROSS JOIN copies ORDER BY n"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await?;
        Ok(())
    }

    async fn explain(pool: &MySqlPool, message: &str) -> Result<String> {
        let sql = explained(message, "EXPLAIN");
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

//! SQLite: a file. PostgreSQL, MySQL and MariaDB: a schema or database on the server.

use std::{path::Path, time::Duration};

use anyhow::Result;
use async_trait::async_trait;
use outbox_sqlx::{Dialect, MySqlOutbox, PgOutbox, SqliteOutbox, SqlxOutbox, sqlx};
use outbox_traits::{ClaimStore, DeadLetterStore, OutboxStore, SchemaStore, StatsStore};
use sqlx::{
    AssertSqlSafe, Database, MySql, MySqlConnection, PgConnection, Postgres, Sqlite, SqliteConnection,
    Transaction,
    mysql::MySqlPoolOptions,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::Engine;

const CONNECTIONS: u32 = 12;
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Sql<DB: Dialect> {
    store: SqlxOutbox<DB>,
    place: String,
}

impl<DB: Dialect> Clone for Sql<DB> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), place: self.place.clone() }
    }
}

/// Where the engines differ. In its SQL `{s}` stands for the place.
#[async_trait]
pub(crate) trait Engines: Dialect {
    const BEGIN: &'static str;
    const CREATE: &'static str;
    const DROP: &'static str;
    const ROWS: &'static str;

    fn place(directory: &Path) -> String;
    async fn connect(place: &str) -> Result<SqlxOutbox<Self>>;
    async fn run(session: &mut Self::Connection, sql: String) -> Result<()>;
    async fn texts(session: &mut Self::Connection, sql: String) -> Result<Vec<String>>;
}

#[async_trait]
impl<DB> Engine for Sql<DB>
where
    DB: Engines,
    SqlxOutbox<DB>: Clone
        + OutboxStore<Session = <DB as Database>::Connection>
        + ClaimStore
        + DeadLetterStore
        + SchemaStore
        + StatsStore,
{
    type Store = SqlxOutbox<DB>;
    type Transaction = Transaction<'static, DB>;

    const MANY_PROCESSES: bool = true;

    fn place(directory: &Path) -> Result<String> {
        Ok(DB::place(directory))
    }

    async fn open(place: &str) -> Result<Self> {
        Ok(Self { store: DB::connect(place).await?, place: place.to_owned() })
    }

    async fn make(&self) -> Result<()> {
        let sql = DB::CREATE.replace("{s}", &self.place);
        DB::run(&mut *self.store.pool().acquire().await?, sql).await?;
        Ok(self.store.migrate().await?)
    }

    async fn remove(&self) -> Result<()> {
        let sql = DB::DROP.replace("{s}", &self.place);
        DB::run(&mut *self.store.pool().acquire().await?, sql).await
    }

    fn store(&self) -> &SqlxOutbox<DB> {
        &self.store
    }

    async fn begin(&self) -> Result<Self::Transaction> {
        Ok(self.store.pool().begin_with(DB::BEGIN).await?)
    }

    fn session<'a>(&self, transaction: &'a mut Self::Transaction) -> &'a mut DB::Connection {
        transaction
    }

    async fn write_row(&self, session: u64, transaction: &mut Self::Transaction) -> Result<()> {
        let table = DB::ROWS.replace("{s}", &self.place);
        DB::run(&mut **transaction, format!("INSERT INTO {table} VALUES ('{session}')")).await
    }

    async fn commit(&self, transaction: Self::Transaction) -> Result<()> {
        Ok(transaction.commit().await?)
    }

    async fn rollback(&self, transaction: Self::Transaction) -> Result<()> {
        Ok(transaction.rollback().await?)
    }

    async fn rows(&self) -> Result<Vec<u64>> {
        let sql = format!("SELECT name FROM {}", DB::ROWS.replace("{s}", &self.place));
        super::numbers(DB::texts(&mut *self.store.pool().acquire().await?, sql).await?)
    }
}

#[async_trait]
impl Engines for Sqlite {
    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const CREATE: &'static str = "CREATE TABLE business (name TEXT)";
    // The directory goes with the file.
    const DROP: &'static str = "";
    const ROWS: &'static str = "business";

    fn place(directory: &Path) -> String {
        directory.join("stress.db").to_string_lossy().into_owned()
    }

    async fn connect(place: &str) -> Result<SqliteOutbox> {
        let options = SqliteConnectOptions::new().filename(place).create_if_missing(true);
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(PATIENCE);
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE);
        Ok(SqliteOutbox::new(pool.connect_with(options).await?))
    }

    async fn run(session: &mut SqliteConnection, sql: String) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(session).await?;
        Ok(())
    }

    async fn texts(session: &mut SqliteConnection, sql: String) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(session).await?)
    }
}

#[async_trait]
impl Engines for Postgres {
    const BEGIN: &'static str = "BEGIN";
    const CREATE: &'static str = "CREATE SCHEMA {s}; CREATE TABLE {s}.business (name text)";
    const DROP: &'static str = "DROP SCHEMA {s} CASCADE";
    const ROWS: &'static str = "{s}.business";

    fn place(_: &Path) -> String {
        super::unique()
    }

    async fn connect(place: &str) -> Result<PgOutbox> {
        let url = super::server("OUTBOX_TEST_POSTGRES_URL")?;
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE);
        Ok(PgOutbox::new(pool.connect(&url).await?).with_schema(place)?)
    }

    async fn run(session: &mut PgConnection, sql: String) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(session).await?;
        Ok(())
    }

    async fn texts(session: &mut PgConnection, sql: String) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(session).await?)
    }
}

#[async_trait]
impl Engines for MySql {
    const BEGIN: &'static str = "BEGIN";
    const CREATE: &'static str = "CREATE DATABASE {s}; CREATE TABLE {s}.business (name VARCHAR(200))";
    const DROP: &'static str = "DROP DATABASE {s}";
    const ROWS: &'static str = "{s}.business";

    fn place(_: &Path) -> String {
        super::unique()
    }

    async fn connect(place: &str) -> Result<MySqlOutbox> {
        let url = super::server("OUTBOX_TEST_MYSQL_URL")?;
        let pool = MySqlPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE);
        Ok(MySqlOutbox::new(pool.connect(&url).await?).with_schema(place)?)
    }

    async fn run(session: &mut MySqlConnection, sql: String) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(session).await?;
        Ok(())
    }

    async fn texts(session: &mut MySqlConnection, sql: String) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(session).await?)
    }
}

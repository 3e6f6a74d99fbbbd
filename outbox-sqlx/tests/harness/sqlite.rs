//! `SQLite`: a file for each test.

use std::time::Duration;

use outbox_conformance::{DurableHarness, Harness, SchemaHarness, Skip};
use outbox_sqlx::{SqliteOutbox, sqlx};
use outbox_traits::{EventId, SchemaStore, async_trait};
use sqlx::{
    AssertSqlSafe, Sqlite, SqliteConnection, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tempfile::TempDir;

use super::TIMES;

pub(crate) struct Lite {
    pub(crate) store: SqliteOutbox,
    pub(crate) file: String,
    /// Removed in the end, by whoever made it.
    directory: Option<TempDir>,
}

impl Lite {
    async fn connect(file: String, directory: Option<TempDir>) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let pool = SqlitePoolOptions::new().max_connections(8).connect_with(options).await.unwrap();
        Self { store: SqliteOutbox::new(pool), file, directory }
    }

    pub(crate) fn pool(&self) -> &SqlitePool {
        self.store.pool()
    }

    pub(crate) async fn run(&self, sql: &str) -> u64 {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(self.pool()).await.unwrap().rows_affected()
    }
}

#[async_trait]
impl Harness for Lite {
    type Store = SqliteOutbox;
    type Transaction = Transaction<'static, Sqlite>;

    async fn open() -> Result<Self, Skip> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("test.db").to_str().unwrap().to_owned();
        let harness = Self::connect(file, Some(directory)).await;
        harness.run("CREATE TABLE business (key TEXT)").await;
        harness.store.migrate().await.unwrap();
        Ok(harness)
    }

    fn store(&self) -> &SqliteOutbox {
        &self.store
    }

    async fn begin(&self) -> Self::Transaction {
        self.pool().begin_with("BEGIN IMMEDIATE").await.unwrap()
    }

    fn session<'a>(&self, transaction: &'a mut Self::Transaction) -> &'a mut SqliteConnection {
        transaction
    }

    async fn commit(&self, transaction: Self::Transaction) {
        transaction.commit().await.unwrap();
    }

    async fn rollback(&self, transaction: Self::Transaction) {
        transaction.rollback().await.unwrap();
    }

    async fn write_row(&self, key: &str, session: &mut SqliteConnection) {
        sqlx::query("INSERT INTO business VALUES (?)").bind(key).execute(session).await.unwrap();
    }

    async fn rows(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT key FROM business").fetch_all(self.pool()).await.unwrap()
    }

    async fn insert_undecodable(&self, id: EventId) {
        self.run(&format!(
            "INSERT INTO outbox (id, type, payload, meta, status, partition_hash, lane, created_at)
            VALUES (X'{}', 'broken', CAST(X'ff' AS TEXT), '[]', 'pending', X'00', 0, 0)",
            id.as_uuid().simple()
        ))
        .await;
    }

    async fn advance(&self, by: Duration) {
        let by = by.as_millis();
        let moved = TIMES.map(|time| format!("{time} = {time} - {by}")).join(", ");
        self.run(&format!("UPDATE outbox SET {moved}")).await;
    }
}

#[async_trait]
impl DurableHarness for Lite {
    fn location(&self) -> String {
        self.file.clone()
    }

    async fn reopen(location: &str) -> Self {
        Self::connect(location.to_owned(), None).await
    }
}

impl SchemaHarness for Lite {
    fn unmigrated(&self, name: &str) -> SqliteOutbox {
        self.store.clone().with_table(name).unwrap()
    }
}

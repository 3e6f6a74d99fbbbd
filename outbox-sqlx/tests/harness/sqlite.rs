//! SQLite: a file for each test.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use outbox_conformance::{Harness, SessionOf, Skip, WakeHarness};
use outbox_sqlx::{SqliteInbox, SqliteOutbox, sqlx};
use outbox_traits::{EventId, SchemaStore, async_trait};
use sqlx::{
    AssertSqlSafe, Pool, Sqlite, SqliteConnection, Transaction,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tempfile::TempDir;

use super::{Engine, Sql, fault::LiteFaults};

pub(crate) type Lite = Sql<Sqlite, false>;
pub(crate) type LiteDeletes = Sql<Sqlite, true>;

#[async_trait]
impl Engine for Sqlite {
    type Kept = TempDir;
    // It counts steps.
    type Counter = Arc<AtomicU64>;
    type Faults = LiteFaults;
    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const CREATE: &'static str = "CREATE TABLE business (name TEXT)";
    // The directory goes with the file.
    const DROP: &'static str = "";
    const ROWS: &'static str = "business";

    const INDEXES_ARE_AMONG_TABLES: bool = true;
    const REFUSE: &'static str = "CREATE TRIGGER refused BEFORE INSERT ON outbox WHEN new.type = '{type}'
        BEGIN SELECT RAISE(ABORT, 'refused'); END";
    const COLLIDE: &'static [&'static str] = &[
        "CREATE UNIQUE INDEX other ON outbox (type) WHERE type = '{type}'",
        "DROP INDEX other; CREATE TABLE audit_outbox (id INT UNIQUE);
        CREATE TRIGGER audit AFTER INSERT ON outbox WHEN new.type = '{type}'
            BEGIN INSERT INTO audit_outbox VALUES (1); END",
    ];

    fn place() -> (String, Option<TempDir>) {
        let directory = tempfile::tempdir().unwrap();
        (directory.path().join("test.db").to_str().unwrap().to_owned(), Some(directory))
    }

    async fn connect(place: &str, faults: &LiteFaults, _is_odd: bool) -> Result<Pool<Sqlite>, Skip> {
        let options = SqliteConnectOptions::new().filename(place).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal);
        let (options, pool) = faults.asked_by(options, SqlitePoolOptions::new().max_connections(8));
        Ok(pool.connect_with(options).await.unwrap())
    }

    async fn unfit(_pool: &Pool<Sqlite>, way: usize) -> Option<(Pool<Sqlite>, &'static str)> {
        // Types and errors would be read as something else.
        let options = SqliteConnectOptions::new().in_memory(true).pragma("encoding", "'UTF-16'");
        (way == 0).then(|| (SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options), "UTF-16"))
    }

    fn outbox(pool: Pool<Sqlite>, _place: &str) -> SqliteOutbox {
        SqliteOutbox::new(pool)
    }

    fn inbox(pool: Pool<Sqlite>, _place: &str) -> SqliteInbox {
        SqliteInbox::new(pool)
    }

    async fn run(session: &mut SqliteConnection, sql: String) -> u64 {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(session).await.unwrap().rows_affected()
    }

    async fn texts(session: &mut SqliteConnection, sql: String) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(session).await.unwrap()
    }

    // It has none that could be.
    async fn cut(_pool: &Pool<Self>, _place: &str) {}

    async fn reads(connections: &mut [PoolConnection<Self>], _place: &str, steps: &Arc<AtomicU64>) -> u64 {
        let counted = steps.load(Relaxed);
        for connection in connections {
            let steps = Arc::clone(steps);
            let mut handle = connection.lock_handle().await.unwrap();
            handle.set_progress_handler(1, move || {
                steps.fetch_add(1, Relaxed);
                true
            });
        }
        counted
    }

    fn has_room_for(name: &str) -> bool {
        !name.starts_with("sqlite_")
    }

    fn table(_place: &str, name: &str) -> String {
        name.to_owned()
    }

    fn drop_index(_place: &str, _table: &str, index: &str) -> String {
        format!("DROP INDEX {index}")
    }

    fn undecodable(id: EventId) -> String {
        format!(
            "INSERT INTO outbox (id, type, payload, meta, status, partition_hash, lane, created_at)
            VALUES (X'{}', 'broken', CAST(X'ff' AS TEXT), '[]', 'pending', X'00', 0, 0)",
            id.as_uuid().simple()
        )
    }

    fn earlier(column: &str, by: Duration) -> String {
        format!("{column} - {}", by.as_millis())
    }
}

/// A database in memory, which is the one connection of its pool.
pub(crate) struct InMemory(Lite);

#[async_trait]
impl Harness for InMemory {
    type Store = SqliteOutbox;
    type Transaction = Transaction<'static, Sqlite>;

    async fn open() -> Result<Self, Skip> {
        let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        let harness = Lite::over(SqliteOutbox::new(pool), String::new(), None);
        harness.store.migrate().await.unwrap();
        harness.inbox.migrate().await.unwrap();
        harness.run(<Sqlite as Engine>::CREATE).await;
        Ok(Self(harness))
    }

    fn store(&self) -> &SqliteOutbox {
        self.0.store()
    }

    async fn begin(&self) -> Self::Transaction {
        self.0.begin().await
    }

    fn session<'a>(&self, transaction: &'a mut Self::Transaction) -> &'a mut SessionOf<Self> {
        transaction
    }

    async fn commit(&self, transaction: Self::Transaction) {
        self.0.commit(transaction).await;
    }

    async fn rollback(&self, transaction: Self::Transaction) {
        self.0.rollback(transaction).await;
    }

    async fn write_row(&self, key: &str, session: &mut SessionOf<Self>) {
        self.0.write_row(key, session).await;
    }

    async fn rows(&self) -> Vec<String> {
        self.0.rows().await
    }

    async fn insert_undecodable(&self, id: EventId) {
        self.0.insert_undecodable(id).await;
    }

    async fn advance(&self, by: Duration) {
        self.0.advance(by).await;
    }
}

#[async_trait]
impl WakeHarness for InMemory {
    // No other process can open it.
    async fn peer(&self) -> SqliteOutbox {
        self.0.store.clone()
    }

    async fn cut_connections(&self) {}
}

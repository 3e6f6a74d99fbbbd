//! `MySQL` or `MariaDB`: a database for each test.

use std::time::Duration;

use outbox_conformance::{DurableHarness, Harness, SchemaHarness, Skip};
use outbox_sqlx::{MySqlOutbox, sqlx};
use outbox_traits::{EventId, SchemaStore, async_trait};
use sqlx::{AssertSqlSafe, MySql, MySqlConnection, MySqlPool, Transaction, mysql::MySqlPoolOptions};

use super::TIMES;

pub(crate) struct My {
    pub(crate) store: MySqlOutbox,
    pub(crate) schema: String,
}

impl My {
    async fn connect(schema: String) -> Result<Self, Skip> {
        let url = super::server("OUTBOX_TEST_MYSQL_URL", "mysql://root@localhost/outbox_test")?;
        let options = MySqlPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(10));
        let pool = options.connect(&url).await.map_err(|error| Skip::new(error.to_string()))?;
        let store = MySqlOutbox::new(pool).with_schema(&schema).unwrap();
        Ok(Self { store, schema })
    }

    pub(crate) fn pool(&self) -> &MySqlPool {
        self.store.pool()
    }

    /// Runs SQL in which `{s}` stands for the database.
    pub(crate) async fn run(&self, sql: &str) -> u64 {
        let sql = sql.replace("{s}", &self.schema);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(self.pool()).await.unwrap().rows_affected()
    }
}

#[async_trait]
impl Harness for My {
    type Store = MySqlOutbox;
    type Transaction = Transaction<'static, MySql>;

    async fn open() -> Result<Self, Skip> {
        let harness = Self::connect(super::unique()).await?;
        harness.run("CREATE DATABASE {s}; CREATE TABLE {s}.business (`key` VARCHAR(200))").await;
        harness.store.migrate().await.unwrap();
        Ok(harness)
    }

    fn store(&self) -> &MySqlOutbox {
        &self.store
    }

    async fn begin(&self) -> Self::Transaction {
        self.pool().begin().await.unwrap()
    }

    fn session<'a>(&self, transaction: &'a mut Self::Transaction) -> &'a mut MySqlConnection {
        transaction
    }

    async fn commit(&self, transaction: Self::Transaction) {
        transaction.commit().await.unwrap();
    }

    async fn rollback(&self, transaction: Self::Transaction) {
        transaction.rollback().await.unwrap();
    }

    async fn write_row(&self, key: &str, session: &mut MySqlConnection) {
        let sql = format!("INSERT INTO {}.business VALUES (?)", self.schema);
        sqlx::query(AssertSqlSafe(sql)).bind(key).execute(session).await.unwrap();
    }

    async fn rows(&self) -> Vec<String> {
        let sql = format!("SELECT `key` FROM {}.business", self.schema);
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(self.pool()).await.unwrap()
    }

    async fn insert_undecodable(&self, id: EventId) {
        self.run(&format!(
            "INSERT INTO {{s}}.outbox (id, type, payload, meta, status, partition_hash, lane, created_at)
            VALUES (X'{}', 'broken', '{{}}', '[]', 'pending', X'00', 0, UTC_TIMESTAMP(6))",
            id.as_uuid().simple()
        ))
        .await;
    }

    async fn advance(&self, by: Duration) {
        let by = by.as_micros();
        let moved = TIMES.map(|time| format!("{time} = {time} - INTERVAL {by} MICROSECOND")).join(", ");
        self.run(&format!("UPDATE {{s}}.outbox SET {moved}")).await;
    }

    async fn close(&self) {
        self.run("DROP DATABASE {s}").await;
    }
}

#[async_trait]
impl DurableHarness for My {
    fn location(&self) -> String {
        self.schema.clone()
    }

    async fn reopen(location: &str) -> Self {
        Self::connect(location.to_owned()).await.unwrap()
    }
}

impl SchemaHarness for My {
    fn unmigrated(&self, name: &str) -> MySqlOutbox {
        self.store.clone().with_table(name).unwrap()
    }
}

//! MySQL or MariaDB: a database for each test.

use std::{
    collections::HashMap,
    sync::{Mutex, atomic::AtomicU64},
    time::Duration,
};

use outbox_conformance::Skip;
use outbox_sqlx::{MySqlInbox, MySqlOutbox, sqlx};
use outbox_traits::{EventId, async_trait};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, MySql, MySqlConnection, Pool, Row,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
    pool::PoolConnection,
};

use super::{Engine, Server, Sql};

pub(crate) type My = Sql<MySql, false>;
pub(crate) type MyDeletes = Sql<MySql, true>;

/// What the connections have read, and what each had counted after it was last asked.
#[derive(Default)]
pub(crate) struct Counter {
    asked: HashMap<u64, u64>,
    reads: u64,
}

/// How many rows and entries of indexes a connection has read.
async fn handled(connection: &mut MySqlConnection) -> u64 {
    let sql = "SHOW SESSION STATUS LIKE 'Handler\\_read\\_%'";
    let rows = sqlx::raw_sql(sql).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(1).parse::<u64>().unwrap()).sum()
}

#[async_trait]
impl Engine for MySql {
    type Kept = ();
    type Counter = Mutex<Counter>;
    // How often it was told to fail.
    type Faults = AtomicU64;
    const BEGIN: &'static str = "BEGIN";
    const CREATE: &'static str = "CREATE TABLE {s}.business (name VARCHAR(200))";
    const DROP: &'static str = "DROP DATABASE {s}";
    const ROWS: &'static str = "{s}.business";

    const INDEXES_ARE_AMONG_TABLES: bool = false;
    const REFUSE: &'static str = "ALTER TABLE {s}.outbox ADD CHECK (type <> '{type}')";
    const COLLIDE: &'static [&'static str] = &[
        "CREATE TABLE {s}.audit (x INT, UNIQUE KEY x (x));
        CREATE TRIGGER {s}.audit AFTER INSERT ON {s}.outbox FOR EACH ROW
            INSERT INTO audit SELECT 1 FROM DUAL WHERE NEW.type = '{type}'",
        "DROP TABLE {s}.audit; CREATE TABLE {s}.audit (x INT, UNIQUE KEY audit_outbox_id (x))",
        "DROP TABLE {s}.audit; CREATE TABLE {s}.audit (x INT, UNIQUE KEY outbox_id (x))",
    ];

    // Nothing can be written into such a view.
    const SPOIL: &'static str = "DROP TABLE {t}_version;
        CREATE VIEW {t}_version AS SELECT 1 AS version, NOW() AS applied_at";

    fn place() -> (String, Option<()>) {
        (super::unique(), None)
    }

    async fn connect(place: &str, _faults: &AtomicU64, _is_odd: bool) -> Result<Pool<MySql>, Skip> {
        let url = super::server("OUTBOX_TEST_MYSQL_URL", "mysql://root@localhost/outbox_test")?;
        let options = MySqlPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(10));
        let server: MySqlConnectOptions = url.parse().map_err(|error| Skip::new(format!("{error}")))?;
        let mut first = server.connect().await.map_err(|error| Skip::new(error.to_string()))?;
        Self::run(&mut first, format!("CREATE DATABASE IF NOT EXISTS {place}")).await;
        first.close().await.unwrap();
        // By their database the server tells the connections of one test from those of others.
        let pool = options.connect_with(server.database(place)).await;
        pool.map_err(|error| Skip::new(error.to_string()))
    }

    async fn unfit(pool: &Pool<MySql>, way: usize) -> Option<(Pool<MySql>, &'static str)> {
        let (set, reason) = [
            // What is saved by itself would wait for a commit that nobody asks for.
            ("SET autocommit = 0", "autocommit"),
            // MariaDB ends what deletes by ids, such as a purge.
            ("SET sql_safe_updates = 1", "sql_safe_updates"),
            // Some characters become others.
            ("SET NAMES utf8", "charset=utf8mb4"),
            ("SET NAMES latin1", "charset=utf8mb4"),
            ("SET collation_connection = latin1_swedish_ci", "latin1"),
            // Some leases are not seen.
            ("SET sql_select_limit = 100", "sql_select_limit"),
            ("SET completion_type = CHAIN", "completion_type"),
            // Only MariaDB has it; MySQL does not know the word.
            ("SET sql_mode = /*M! 'ORACLE' */ /*!80000 'ANSI' */", "ORACLE"),
            // What was never committed would be handed out.
            ("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED", "READ UNCOMMITTED"),
        ]
        .get(way)?;
        let options = MySqlPoolOptions::new().after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(*set).await.map(drop) })
        });
        Some((options.connect_lazy_with(pool.connect_options().as_ref().clone()), reason))
    }

    fn outbox(pool: Pool<MySql>, place: &str) -> MySqlOutbox {
        MySqlOutbox::new(pool).with_schema(place).unwrap()
    }

    fn inbox(pool: Pool<MySql>, place: &str) -> MySqlInbox {
        MySqlInbox::new(pool).with_schema(place).unwrap()
    }

    async fn run(session: &mut MySqlConnection, sql: String) -> u64 {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(session).await.unwrap().rows_affected()
    }

    async fn texts(session: &mut MySqlConnection, sql: String) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(session).await.unwrap()
    }

    async fn cut(pool: &Pool<Self>, place: &str) {
        // Whoever listens is not to be told from who is idle in a pool, which bears it, too.
        let sql = "SELECT CAST(id AS SIGNED) FROM information_schema.processlist
            WHERE db = ? AND id <> connection_id()";
        let mut connection = pool.acquire().await.unwrap();
        let ids: Vec<i64> = sqlx::query_scalar(sql).bind(place).fetch_all(&mut *connection).await.unwrap();
        assert!(!ids.is_empty(), "nobody listens");
        for id in ids {
            // It may have gone by itself.
            let _ = sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}"))).execute(&mut *connection).await;
        }
    }

    async fn reads(connections: &mut [PoolConnection<Self>], _place: &str, counter: &Mutex<Counter>) -> u64 {
        for connection in connections {
            let id: u64 =
                sqlx::query_scalar("SELECT connection_id()").fetch_one(&mut **connection).await.unwrap();
            // To ask is counted too, after the answer.
            let (now, again) = (handled(connection).await, handled(connection).await);
            let mut counter = counter.lock().unwrap();
            let before = counter.asked.insert(id, 2 * again - now).unwrap_or(now);
            counter.reads += now - before;
        }
        counter.lock().unwrap().reads
    }

    fn has_room_for(name: &str) -> bool {
        // Of the file of the table, whose name ends with `.ibd`.
        let bytes = |char: char| match char {
            'a'..='z' | '0'..='9' => 1,
            'é' | 'è' => 3,
            _ => 5,
        };
        let fits = name.chars().count() <= 64 && name.chars().map(bytes).sum::<usize>() + 4 <= 255;
        fits && !name.ends_with(' ') && name.chars().all(|char| char.len_utf8() < 4)
    }

    fn table(place: &str, name: &str) -> String {
        format!("{place}.{name}")
    }

    fn drop_index(place: &str, table: &str, index: &str) -> String {
        format!("DROP INDEX {index} ON {place}.{table}")
    }

    fn undecodable(id: EventId) -> String {
        format!(
            "INSERT INTO {{s}}.outbox (id, type, payload, meta, status, partition_hash, lane, created_at)
            VALUES (X'{}', 'broken', '{{}}', '[]', 'pending', X'00', 0, UTC_TIMESTAMP(6))",
            id.as_uuid().simple()
        )
    }

    fn earlier(column: &str, by: Duration) -> String {
        format!("{column} - INTERVAL {} MICROSECOND", by.as_micros())
    }
}

impl Server for MySql {
    fn address(options: &MySqlConnectOptions) -> String {
        format!("{}:{}", options.get_host(), options.get_port())
    }

    fn at(options: MySqlConnectOptions, port: u16) -> MySqlConnectOptions {
        options.host("127.0.0.1").port(port)
    }
}

//! PostgreSQL: a schema for each test.

use std::{sync::atomic::AtomicBool, time::Duration};

use outbox_conformance::Skip;
use outbox_sqlx::{PgInbox, PgOutbox, sqlx};
use outbox_traits::{EventId, async_trait};
use sqlx::{
    AssertSqlSafe, PgConnection, Pool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{Engine, Server, Sql};

pub(crate) type Pg = Sql<Postgres, false>;
pub(crate) type PgDeletes = Sql<Postgres, true>;

#[async_trait]
impl Engine for Postgres {
    type Kept = ();
    // The server counts.
    type Counter = ();
    // Whether the triggers are there.
    type Faults = AtomicBool;
    const BEGIN: &'static str = "BEGIN";
    const CREATE: &'static str = "CREATE SCHEMA {s}; CREATE TABLE {s}.business (name text)";
    const DROP: &'static str = "DROP SCHEMA {s} CASCADE";
    const ROWS: &'static str = "{s}.business";
    const REST: Option<&'static str> =
        Some("VACUUM {s}.outbox, {s}.outbox_lease, {s}.outbox_key, {s}.outbox_parked");

    const INDEXES_ARE_AMONG_TABLES: bool = true;
    const REFUSE: &'static str = "ALTER TABLE {s}.outbox ADD CHECK (type <> '{type}')";
    const COLLIDE: &'static [&'static str] = &[
        "CREATE UNIQUE INDEX outbox_other_id ON {s}.outbox (type) WHERE type = '{type}'",
        "DROP INDEX {s}.outbox_other_id;
        CREATE TABLE {s}.audit_outbox (id int UNIQUE);
        CREATE FUNCTION {s}.audit() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO {s}.audit_outbox VALUES (1); RETURN new; END';
        CREATE TRIGGER audit AFTER INSERT ON {s}.outbox FOR EACH ROW WHEN (new.type = '{type}')
            EXECUTE FUNCTION {s}.audit()",
    ];

    fn place() -> (String, Option<()>) {
        (super::unique(), None)
    }

    async fn connect(place: &str, _faults: &AtomicBool, is_odd: bool) -> Result<Pool<Postgres>, Skip> {
        let url = super::server("OUTBOX_TEST_POSTGRES_URL", "postgres://postgres@localhost/outbox_test")?;
        let options = PgPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(10));
        let server: PgConnectOptions = url.parse().map_err(|error| Skip::new(format!("{error}")))?;
        // By this name the server tells the connections of one test from those of others.
        let server = server.application_name(place);
        let server = if is_odd { server.options([("bytea_output", "escape")]) } else { server };
        options.connect_with(server).await.map_err(|error| Skip::new(error.to_string()))
    }

    fn outbox(pool: Pool<Postgres>, place: &str) -> PgOutbox {
        PgOutbox::new(pool).with_schema(place).unwrap()
    }

    fn inbox(pool: Pool<Postgres>, place: &str) -> PgInbox {
        PgInbox::new(pool).with_schema(place).unwrap()
    }

    async fn run(session: &mut PgConnection, sql: String) -> u64 {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(session).await.unwrap().rows_affected()
    }

    async fn texts(session: &mut PgConnection, sql: String) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(session).await.unwrap()
    }

    async fn cut(pool: &Pool<Self>, place: &str) {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE application_name = $1 AND query LIKE 'LISTEN %'";
        let cut: i64 = sqlx::query_scalar(sql).bind(place).fetch_one(pool).await.unwrap();
        assert!(cut > 0, "nobody listens");
    }

    async fn reads(connections: &mut [PoolConnection<Self>], place: &str, (): &()) -> u64 {
        for connection in &mut *connections {
            // What it has counted it would tell the server later.
            Self::run(connection, "SELECT pg_stat_force_next_flush()".to_owned()).await;
        }
        let sql = "SELECT (
                (SELECT sum(seq_tup_read + COALESCE(idx_tup_fetch, 0)) FROM pg_stat_user_tables WHERE schemaname = $1)
                + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = $1)
            )::bigint";
        let reads: i64 = sqlx::query_scalar(sql).bind(place).fetch_one(&mut *connections[0]).await.unwrap();
        u64::try_from(reads).unwrap()
    }

    fn has_room_for(name: &str) -> bool {
        name.len() <= 63
    }

    fn table(place: &str, name: &str) -> String {
        format!("{place}.{name}")
    }

    fn drop_index(place: &str, _table: &str, index: &str) -> String {
        format!("DROP INDEX {place}.{index}")
    }

    fn undecodable(id: EventId) -> String {
        format!(
            "INSERT INTO {{s}}.outbox (id, type, payload, meta, status, partition_hash, lane, created_at)
            VALUES ('{id}', 'broken', '{{}}', '[]', 'pending', '', 0, clock_timestamp())"
        )
    }

    fn earlier(column: &str, by: Duration) -> String {
        format!("{column} - {} * interval '1 microsecond'", by.as_micros())
    }
}

impl Server for Postgres {
    fn address(options: &PgConnectOptions) -> String {
        format!("{}:{}", options.get_host(), options.get_port())
    }

    fn at(options: PgConnectOptions, port: u16) -> PgConnectOptions {
        options.host("127.0.0.1").port(port)
    }
}

//! What the engines have in common, as the suite and the tests beside it open them.

#![allow(dead_code, reason = "each test file uses a part of it")]

mod fault;
pub(crate) mod mysql;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use std::{env, time::Duration};

use outbox_conformance::{
    CostHarness, DurableHarness, Harness, InboxHarness, InboxMigrationHarness, InboxNamesHarness, Loss,
    LossHarness, MigrationHarness, NamesHarness, OutageHarness, RefusalHarness, SchemaHarness, SessionOf,
    Skip, WakeHarness,
};
use outbox_sqlx::{Dialect, SqlxInbox, SqlxOutbox, sqlx};
use outbox_traits::{EventId, InboxStore, OutboxStore, Result, Retention, SchemaStore, async_trait};
use sqlx::{
    Connection, Database, Pool, Transaction,
    pool::{PoolConnection, PoolOptions},
};

/// All tables of the suite's own outbox.
pub(crate) const TABLES: [&str; 5] =
    ["outbox", "outbox_version", "outbox_lease", "outbox_key", "outbox_parked"];

/// An outbox on an engine, with either retention, an inbox, and where they are: a schema, database or file of
/// their own.
pub(crate) struct Sql<E: Engine, const DELETES: bool> {
    pub(crate) store: SqlxOutbox<E>,
    pub(crate) inbox: SqlxInbox<E>,
    pub(crate) place: String,
    /// Whatever is to be removed in the end.
    kept: Option<E::Kept>,
    counter: E::Counter,
    faults: E::Faults,
}

/// What the suite must be told about an engine. In its SQL `{s}` stands for the place.
#[async_trait]
pub(crate) trait Engine: Dialect {
    type Kept: Send + Sync;
    /// What is remembered of what the engine has read.
    type Counter: Default + Send + Sync;
    /// What its faults need.
    type Faults: Default + Send + Sync;
    const BEGIN: &'static str;
    const CREATE: &'static str;
    const DROP: &'static str;
    const ROWS: &'static str;
    /// What the engine does in its own time.
    const REST: Option<&'static str> = None;

    /// A place that no other test has.
    fn place() -> (String, Option<Self::Kept>);
    /// By connections whose settings are such as few have, where the engine has such that bear on what a store reads.
    async fn connect(
        place: &str,
        faults: &Self::Faults,
        is_odd: bool,
    ) -> std::result::Result<Pool<Self>, Skip>;
    fn outbox(pool: Pool<Self>, place: &str) -> SqlxOutbox<Self>;
    fn inbox(pool: Pool<Self>, place: &str) -> SqlxInbox<Self>;
    async fn run(session: &mut Self::Connection, sql: String) -> u64;
    async fn texts(session: &mut Self::Connection, sql: String) -> Vec<String>;
    /// Cuts the connections of this place over which somebody listens.
    async fn cut(pool: &Pool<Self>, place: &str);
    /// What the engine has counted of what it read so far. `connections` are all that the pool has.
    async fn reads(connections: &mut [PoolConnection<Self>], place: &str, counter: &Self::Counter) -> u64;
    /// Refuses events of the type `{type}`.
    const REFUSE: &'static str;
    /// Each refuses the second one of the type `{type}` for a duplicate that is not the outbox's.
    const COLLIDE: &'static [&'static str];
    /// Has an engine refuse to take the outbox `{t}` from the first version of its schema to the next.
    const SPOIL: &'static str = "DELETE FROM {t}_version WHERE version > 1; DROP TABLE {t}_parked;
        CREATE TABLE {t}_parked (seq INT, id INT)";
    /// Connections that cannot be used, and why not.
    async fn unfit(_pool: &Pool<Self>, _way: usize) -> Option<(Pool<Self>, &'static str)> {
        None
    }
    /// Whether a table can have the name of an index, and be in its way.
    const INDEXES_ARE_AMONG_TABLES: bool;
    /// Whether there is room for a table of this name.
    fn has_room_for(name: &str) -> bool;
    /// Where a table is, quoted.
    fn table(place: &str, name: &str) -> String;
    fn drop_index(place: &str, table: &str, index: &str) -> String;
    /// A row that cannot be decoded.
    fn undecodable(id: EventId) -> String;
    /// A column of time, so much earlier.
    fn earlier(column: &str, by: Duration) -> String;
}

/// An engine that is a server.
pub(crate) trait Server: Engine {
    fn address(options: &Options<Self>) -> String;
    /// The same server by a port of this machine.
    fn at(options: Options<Self>, port: u16) -> Options<Self>;
}

pub(crate) type Options<E> = <<E as Database>::Connection as Connection>::Options;

impl<E: Engine, const DELETES: bool> Sql<E, DELETES> {
    pub(crate) fn pool(&self) -> &Pool<E> {
        self.store.pool()
    }

    async fn connect(place: String, kept: Option<E::Kept>) -> std::result::Result<Self, Skip> {
        let faults = E::Faults::default();
        // One of the two runs is enough for each.
        let store = E::outbox(E::connect(&place, &faults, DELETES).await?, &place);
        Ok(Self { faults, ..Self::over(store, place, kept) })
    }

    fn over(store: SqlxOutbox<E>, place: String, kept: Option<E::Kept>) -> Self {
        let retention = if DELETES { Retention::DeleteOnDelivery } else { Retention::UntilPurged };
        let store = store.with_retention(retention);
        let inbox = E::inbox(store.pool().clone(), &place);
        let (counter, faults) = Default::default();
        Self { store, inbox, place, kept, counter, faults }
    }

    pub(crate) async fn run(&self, sql: &str) -> u64 {
        E::run(&mut *self.pool().acquire().await.unwrap(), sql.replace("{s}", &self.place)).await
    }

    /// Takes all tables of the suite's own outbox away.
    pub(crate) async fn drop_outbox(&self) {
        for table in TABLES {
            self.run(&format!("DROP TABLE {}", E::table(&self.place, table))).await;
        }
    }
}

#[async_trait]
impl<E, const DELETES: bool> Harness for Sql<E, DELETES>
where
    E: Engine,
    SqlxOutbox<E>: OutboxStore<Session = <E as Database>::Connection>,
{
    type Store = SqlxOutbox<E>;
    type Transaction = Transaction<'static, E>;

    async fn open() -> std::result::Result<Self, Skip> {
        let (place, kept) = E::place();
        let harness = Self::connect(place, kept).await?;
        harness.run(E::CREATE).await;
        harness.store.migrate().await.unwrap();
        harness.inbox.migrate().await.unwrap();
        Ok(harness)
    }

    fn store(&self) -> &SqlxOutbox<E> {
        &self.store
    }

    fn retention(&self) -> Retention {
        if DELETES { Retention::DeleteOnDelivery } else { Retention::UntilPurged }
    }

    async fn begin(&self) -> Self::Transaction {
        self.pool().begin_with(E::BEGIN).await.unwrap()
    }

    fn session<'a>(&self, transaction: &'a mut Self::Transaction) -> &'a mut SessionOf<Self> {
        transaction
    }

    async fn commit(&self, transaction: Self::Transaction) {
        transaction.commit().await.unwrap();
    }

    async fn rollback(&self, transaction: Self::Transaction) {
        transaction.rollback().await.unwrap();
    }

    async fn write_row(&self, key: &str, session: &mut SessionOf<Self>) {
        let table = E::ROWS.replace("{s}", &self.place);
        E::run(session, format!("INSERT INTO {table} VALUES ('{key}')")).await;
    }

    async fn rows(&self) -> Vec<String> {
        let sql = format!("SELECT name FROM {}", E::ROWS.replace("{s}", &self.place));
        E::texts(&mut *self.pool().acquire().await.unwrap(), sql).await
    }

    async fn insert_undecodable(&self, id: EventId) {
        self.run(&E::undecodable(id)).await;
    }

    fn undecodable_content(&self) -> &'static str {
        "broken"
    }

    async fn advance(&self, by: Duration) {
        let times =
            ["not_before", "created_at", "delivered_at", "dead_at", "first_failed_at", "last_failed_at"];
        let moved = times.map(|time| format!("{time} = {}", E::earlier(time, by))).join(", ");
        let table = E::ROWS.replace("business", "outbox");
        self.run(&format!("UPDATE {table} SET {moved}")).await;
        for (table, time) in [
            ("outbox_lease", "leased_until"),
            ("outbox_lease", "claimed_at"),
            ("outbox_key", "ready_at"),
            ("outbox_parked", "retry_at"),
            ("inbox", "processed_at"),
        ] {
            let table = E::ROWS.replace("business", table);
            self.run(&format!("UPDATE {table} SET {time} = {}", E::earlier(time, by))).await;
        }
    }

    async fn close(&self) {
        self.run(E::DROP).await;
    }
}

#[async_trait]
impl<E, const DELETES: bool> DurableHarness for Sql<E, DELETES>
where
    E: Engine,
    SqlxOutbox<E>: OutboxStore<Session = <E as Database>::Connection>,
{
    fn location(&self) -> String {
        self.place.clone()
    }

    async fn reopen(location: &str) -> Self {
        Self::connect(location.to_owned(), None).await.unwrap()
    }
}

#[async_trait]
impl<E, const DELETES: bool> SchemaHarness for Sql<E, DELETES>
where
    E: Engine,
    SqlxOutbox<E>: OutboxStore<Session = <E as Database>::Connection>,
{
    fn unmigrated(&self, name: &str) -> SqlxOutbox<E> {
        self.store.clone().with_table(name).unwrap()
    }

    async fn unfit(&self, way: usize) -> Option<(SqlxOutbox<E>, &'static str)> {
        let (pool, reason) = E::unfit(self.pool(), way).await?;
        Some((E::outbox(pool, &self.place), reason))
    }
}

#[async_trait]
impl<E, const DELETES: bool> NamesHarness for Sql<E, DELETES>
where
    E: Engine,
    SqlxOutbox<E>: OutboxStore<Session = <E as Database>::Connection>,
{
    fn named(&self, name: &str) -> Result<SqlxOutbox<E>> {
        self.store.clone().with_table(name)
    }

    fn has_room_for(&self, name: &str) -> bool {
        !name.is_empty() && !name.contains('\0') && E::has_room_for(name)
    }

    fn endings(&self) -> &'static [&'static str] {
        &["_lease", "_key", "_parked", "_version"]
    }

    async fn make_others(&self) -> Vec<String> {
        let [view, version, other] =
            ["a_view", "halved_version", "wrong_version"].map(|name| E::table(&self.place, name));
        self.run(&format!("CREATE VIEW {view} AS SELECT 1 AS x")).await;
        self.run(&format!("CREATE TABLE {version} (version INT)")).await;
        self.run(&format!("CREATE TABLE {other} (x INT)")).await;
        let mut others = ["business", "a_view", "halved", "wrong"].map(str::to_owned).to_vec();
        if E::INDEXES_ARE_AMONG_TABLES {
            for index in ["indexed_fifo", "indexed_processed"] {
                self.run(&format!("CREATE TABLE {} (x INT)", E::table(&self.place, index))).await;
            }
            others.push("indexed".to_owned());
        }
        others
    }

    async fn take_parts_away(&self, name: &str) -> Vec<String> {
        let index = format!("{name}_scheduled");
        self.run(&E::drop_index(&self.place, name, &index)).await;
        self.run(&format!("ALTER TABLE {} DROP COLUMN last_error", E::table(&self.place, name))).await;
        vec![format!("`{index}`"), "`last_error`".to_owned()]
    }

    async fn spoil(&self, name: &str, way: usize) -> Option<&'static str> {
        let [version, lease] =
            ["version", "lease"].map(|part| E::table(&self.place, &format!("{name}_{part}")));
        match way {
            // As where it is of the first version, and somebody has made a table of the name of a part that comes with the next.
            0 => {
                self.run(&format!("DELETE FROM {version} WHERE version > 1")).await;
                self.run(&format!("DROP TABLE {lease}")).await;
                self.run(&format!("CREATE TABLE {lease} (x INT)")).await;
                Some("another name")
            }
            1 => {
                self.run(&E::SPOIL.replace("{t}", &E::table(&self.place, name))).await;
                Some("with_table")
            }
            _ => None,
        }
    }

    async fn make_newer(&self, name: &str) -> bool {
        let version = E::table(&self.place, &format!("{name}_version"));
        let (columns, old) = ("version, applied_at", "SELECT 999, applied_at");
        self.run(&format!("INSERT INTO {version} ({columns}) {old} FROM {version} WHERE version = 1")).await;
        true
    }
}

#[async_trait]
impl<E, const DELETES: bool> MigrationHarness for Sql<E, DELETES>
where
    E: Engine,
    SqlxOutbox<E>: OutboxStore<Session = <E as Database>::Connection>,
{
    async fn make_by_hand(&self, name: &str) {
        let sql = self.unmigrated(name).migration_sql();
        E::run(&mut *self.pool().acquire().await.unwrap(), sql).await;
    }
}

#[async_trait]
impl<E, const DELETES: bool> InboxMigrationHarness for Sql<E, DELETES>
where
    E: Engine,
    SqlxOutbox<E>: OutboxStore<Session = <E as Database>::Connection>,
    SqlxInbox<E>: InboxStore<Session = <E as Database>::Connection>,
{
    async fn make_inbox_by_hand(&self, name: &str) {
        let sql = self.inbox.clone().with_table(name).unwrap().migration_sql();
        E::run(&mut *self.pool().acquire().await.unwrap(), sql).await;
    }
}

#[async_trait]
impl<E, const DELETES: bool> RefusalHarness for Sql<E, DELETES>
where
    E: Engine,
    SqlxOutbox<E>: OutboxStore<Session = <E as Database>::Connection>,
{
    async fn refuse(&self, event_type: &str) {
        self.run(&E::REFUSE.replace("{type}", event_type)).await;
    }

    async fn collide(&self, event_type: &str, way: usize) -> bool {
        let Some(sql) = E::COLLIDE.get(way) else { return false };
        self.run(&sql.replace("{type}", event_type)).await;
        true
    }
}

#[async_trait]
impl<E, const DELETES: bool> InboxNamesHarness for Sql<E, DELETES>
where
    E: Engine,
    SqlxOutbox<E>: OutboxStore<Session = <E as Database>::Connection>,
    SqlxInbox<E>: InboxStore<Session = <E as Database>::Connection>,
{
    fn inbox_named(&self, name: &str) -> Result<SqlxInbox<E>> {
        self.inbox.clone().with_table(name)
    }

    async fn take_inbox_parts_away(&self, name: &str) -> Vec<String> {
        let index = format!("{name}_processed");
        self.run(&E::drop_index(&self.place, name, &index)).await;
        vec![format!("`{index}`")]
    }
}

#[async_trait]
impl<E, const DELETES: bool> WakeHarness for Sql<E, DELETES>
where
    E: Engine,
    SqlxOutbox<E>: OutboxStore<Session = <E as Database>::Connection>,
{
    async fn peer(&self) -> SqlxOutbox<E> {
        Self::connect(self.place.clone(), None).await.unwrap().store
    }

    async fn cut_connections(&self) {
        E::cut(self.pool(), &self.place).await;
    }
}

/// Each table that a statement of its own makes again, by itself and all together, and an index.
#[async_trait]
impl<E, const DELETES: bool> LossHarness for Sql<E, DELETES>
where
    E: Engine,
    SqlxOutbox<E>: OutboxStore<Session = <E as Database>::Connection>,
{
    async fn lose(&self, way: usize) -> Option<Loss> {
        const TABLES: [&str; 4] = ["outbox_lease", "outbox_key", "outbox_parked", "outbox_version"];
        const INDEX: &str = "outbox_scheduled";
        // Elsewhere its rows are the lock of the claims.
        let tables = if E::INDEXES_ARE_AMONG_TABLES { &TABLES[..] } else { &TABLES[..3] };
        let lost = match way.checked_sub(tables.len()) {
            None => &tables[way..=way],
            Some(0) => tables,
            Some(1) if E::INDEXES_ARE_AMONG_TABLES => {
                self.run(&E::drop_index(&self.place, "outbox", INDEX)).await;
                return Some(Loss { name: INDEX, is_seen_by_claims: false, keeps_what_waits: true });
            }
            Some(_) => return None,
        };
        for table in lost {
            self.run(&format!("DROP TABLE {}", E::table(&self.place, table))).await;
        }
        // Each claim looks at the leases, and at the others where something waits. Where one of the three is lost, what the others know
        // is taken away with it.
        Some(Loss {
            name: lost[0],
            is_seen_by_claims: lost[0] == "outbox_lease",
            keeps_what_waits: lost == ["outbox_version"],
        })
    }
}

#[async_trait]
impl<E, const DELETES: bool> OutageHarness for Sql<E, DELETES>
where
    E: Server,
    SqlxOutbox<E>: OutboxStore<Session = <E as Database>::Connection>,
    Options<E>: Clone,
{
    async fn server(&self) -> String {
        E::address(&self.pool().connect_options())
    }

    async fn through(&self, port: u16) -> Self {
        let pool = PoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(2));
        let pool = pool.connect_lazy_with(E::at((*self.pool().connect_options()).clone(), port));
        Self::over(E::outbox(pool, &self.place), self.place.clone(), None)
    }
}

#[async_trait]
impl<E, const DELETES: bool> CostHarness for Sql<E, DELETES>
where
    E: Engine,
    SqlxOutbox<E>: OutboxStore<Session = <E as Database>::Connection>,
{
    async fn reads(&self) -> u64 {
        let mut connections = Vec::new();
        for _ in 0..self.pool().options().get_max_connections() {
            connections.push(self.pool().acquire().await.unwrap());
        }
        E::reads(&mut connections, &self.place, &self.counter).await
    }

    async fn rest(&self) {
        if let Some(rest) = E::REST {
            self.run(rest).await;
        }
    }
}

impl<E, const DELETES: bool> InboxHarness for Sql<E, DELETES>
where
    E: Engine,
    SqlxOutbox<E>: OutboxStore<Session = <E as Database>::Connection>,
    SqlxInbox<E>: InboxStore<Session = <E as Database>::Connection>,
{
    type Inbox = SqlxInbox<E>;

    fn inbox(&self) -> &SqlxInbox<E> {
        &self.inbox
    }
}

/// The address of a server and database, from the environment.
fn server(variable: &str, example: &str) -> std::result::Result<String, Skip> {
    env::var(variable).map_err(|_| {
        Skip::new(format!("set {variable}, for example to `{example}`, or run `cargo xtask test`"))
    })
}

fn unique() -> String {
    format!("outbox_{}", uuid::Uuid::now_v7().simple())
}

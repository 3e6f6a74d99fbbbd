//! Faults that the engines have where they are told to.

use std::{
    cmp::Ordering,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use outbox_conformance::{Fault, FaultHarness};
use outbox_sqlx::{SqlxOutbox, sqlx};
use outbox_traits::{ErrorKind, OutboxStore, async_trait};
use sqlx::{
    ConnectOptions, Connection, Database, MySql, Pool, Postgres, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

use super::{Engine, Sql};

const TABLES: [&str; 5] = ["outbox", "outbox_lease", "outbox_key", "outbox_parked", "inbox"];
const CHANGES: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];

/// An engine whose triggers can make it fail.
#[async_trait]
pub(crate) trait Faulty: Engine {
    /// By their codes.
    const CODES: &'static [(ErrorKind, &'static [&'static str])];
    /// Those that nobody meets in a session.
    const OUTSIDE_SESSIONS: &'static [&'static str] = &[];

    async fn fail(pool: &Pool<Self>, place: &str, faults: &Self::Faults, name: &str, times: u32);
}

#[async_trait]
impl<E, const DELETES: bool> FaultHarness for Sql<E, DELETES>
where
    E: Faulty,
    SqlxOutbox<E>: OutboxStore<Session = <E as Database>::Connection>,
{
    fn faults(&self) -> Vec<Fault> {
        let codes = E::CODES.iter().flat_map(|(kind, codes)| codes.iter().map(|code| (*kind, *code)));
        let fault = |(kind, code)| match Fault::new(code, kind) {
            fault if E::OUTSIDE_SESSIONS.contains(&code) => fault.outside_sessions(),
            fault => fault,
        };
        codes.map(fault).collect()
    }

    async fn fail(&self, fault: &Fault, times: u32) {
        E::fail(self.pool(), &self.place, &self.faults, fault.name(), times).await;
    }
}

#[async_trait]
impl Faulty for Postgres {
    const CODES: &'static [(ErrorKind, &'static [&'static str])] = &[
        // Serialization failure, deadlock, lock not available.
        (ErrorKind::Conflict, &["40001", "40P01", "55P03"]),
        // Cancelled, shut down, crashed, starting up, idle for too long, too many connections; of the connection.
        (
            ErrorKind::Unavailable,
            &[
                "57014", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "53300", "08000", "08003",
                "08006", "08P01",
            ],
        ),
        // No such table, column, schema; something else of that name.
        (ErrorKind::Schema, &["42P01", "42703", "3F000", "42P07", "42809"]),
        // A full disk, no memory, one of a trigger, damage, of the engine's own, and a duplicate of who knows what.
        (ErrorKind::Backend, &["53100", "53200", "P0001", "XX001", "XX000", "23505", "25006", "42501"]),
    ];

    // What a sequence has given out is not given back by those that fail.
    async fn fail(pool: &Pool<Self>, place: &str, is_made: &AtomicBool, code: &str, times: u32) {
        let mut connection = pool.acquire().await.unwrap();
        let is_first = !is_made.swap(true, Relaxed);
        if is_first {
            Self::run(&mut connection, format!("CREATE SEQUENCE {place}.fault")).await;
        }
        let body = format!(
            "IF nextval('{place}.fault') <= {times} THEN
                RAISE EXCEPTION 'it was told to fail' USING ERRCODE = '{code}';
            END IF;"
        );
        let body = if times == 0 { "" } else { &body };
        let mut sql = vec![
            format!(
                "CREATE OR REPLACE FUNCTION {place}.fail() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN {body} RETURN NULL; END $$"
            ),
            format!("SELECT setval('{place}.fault', 1, false)"),
        ];
        sql.extend(TABLES.iter().filter(|_| is_first).map(|table| {
            format!(
                "CREATE TRIGGER fault BEFORE INSERT OR UPDATE OR DELETE ON {place}.{table}
                FOR EACH STATEMENT EXECUTE FUNCTION {place}.fail()"
            )
        }));
        Self::run(&mut connection, sql.join("; ")).await;
    }
}

#[async_trait]
impl Faulty for MySql {
    const CODES: &'static [(ErrorKind, &'static [&'static str])] = &[
        // Lock wait timeout, deadlock, record changed since it was read, lock not available.
        (ErrorKind::Conflict, &["1205", "1213", "1020", "3572"]),
        // Too many connections, shutting down, interrupted, killed, out of time, offline, not available, idle for too long.
        (
            ErrorKind::Unavailable,
            &["1040", "1053", "1203", "1226", "1317", "1927", "1969", "3024", "3032", "3168", "4031"],
        ),
        // No such database, column, table, index; a view that nothing can be written into.
        (ErrorKind::Schema, &["1049", "1054", "1146", "1176", "1288", "1471"]),
        // A full disk, no memory, one of a trigger, damage, read only, and a duplicate of who knows what.
        (ErrorKind::Backend, &["1021", "1037", "1644", "1712", "1290", "1062"]),
    ];

    // A number that `AUTO_INCREMENT` has given out is not given back by those that fail; a table without transactions, which
    // would be simpler, is refused inside of one where transactions have global ids, as they have on MySQL 9.7. The number
    // says everything: which call this is, after how many the fault is over, and what it is. So nothing has to be locked,
    // nor read, of which a session may have an old snapshot.
    async fn fail(pool: &Pool<Self>, place: &str, told: &AtomicU64, number: &str, times: u32) {
        let mut connection = pool.acquire().await.unwrap();
        let before = told.fetch_add(1, Relaxed);
        if before == 0 {
            let mut sql = vec![
                format!("CREATE TABLE {place}.fault (id BIGINT AUTO_INCREMENT PRIMARY KEY)"),
                format!(
                    "CREATE PROCEDURE {place}.fail() BEGIN
                        DECLARE span, told BIGINT;
                        INSERT INTO {place}.fault VALUES ();
                        SET span = LAST_INSERT_ID() DIV {CALLS}, told = span DIV 2 MOD {NUMBERS};
                        IF span MOD 2 = 1 THEN
                            SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = told, MESSAGE_TEXT = 'it was told to fail';
                        END IF;
                    END"
                ),
            ];
            sql.extend(TABLES.iter().flat_map(|table| {
                CHANGES.iter().map(move |change| {
                    format!(
                        "CREATE TRIGGER {place}.fault_{table}_{change} BEFORE {change} ON {place}.{table}
                    FOR EACH ROW CALL {place}.fail()"
                    )
                })
            }));
            Self::run(&mut connection, sql.join("; ")).await;
        }
        // The last calls of an odd span fail, and those of the even one after it do not.
        let number: u64 = number.parse().unwrap();
        let end = (2 * (before * NUMBERS + number) + 2) * CALLS;
        let last = end - 1 - u64::from(times).min(CALLS / 2);
        Self::run(&mut connection, format!("INSERT INTO {place}.fault VALUES ({last})")).await;
    }
}

/// More than there are numbers of errors that the triggers of MySQL have to say.
const NUMBERS: u64 = 10_000;
/// More calls of these triggers than there are between two faults.
const CALLS: u64 = 1_000_000_000;

/// How long the connections wait for a lock, before they say that it is busy.
const BUSY: Duration = Duration::from_millis(200);

/// The faults of SQLite.
#[derive(Default)]
pub(crate) struct LiteFaults {
    told: Arc<Told>,
    is_made: AtomicBool,
    /// Who has the lock.
    holder: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

/// What the triggers are told.
#[derive(Default)]
struct Told {
    fault: Mutex<(String, u32)>,
    /// The next step of the machine is to be the last.
    interrupts: AtomicBool,
}

impl LiteFaults {
    /// Connections that have these faults. By a collation the triggers ask whether they are to fail: `'…' = '?'` holds then. It
    /// is nothing that a transaction takes back.
    pub(crate) fn asked_by(
        &self,
        options: SqliteConnectOptions,
        pool: SqlitePoolOptions,
    ) -> (SqliteConnectOptions, SqlitePoolOptions) {
        let told = Arc::clone(&self.told);
        let options = options.collation("fault", move |one, other| {
            let mut fault = told.fault.lock().unwrap();
            if fault.1 == 0 || (one != fault.0 && other != fault.0) {
                return Ordering::Less;
            }
            fault.1 -= 1;
            told.interrupts.store(fault.0 == "interrupted", Relaxed);
            Ordering::Equal
        });
        let told = Arc::clone(&self.told);
        let pool = pool.after_connect(move |connection, _| {
            let told = Arc::clone(&told);
            Box::pin(async move {
                let goes_on = move || !told.interrupts.swap(false, Relaxed);
                connection.lock_handle().await?.set_progress_handler(50, goes_on);
                Ok(())
            })
        });
        (options, pool)
    }
}

#[async_trait]
impl Faulty for Sqlite {
    // A full disk cannot be had at will, and one that is read only would be so for all connections.
    const CODES: &'static [(ErrorKind, &'static [&'static str])] = &[
        (ErrorKind::Conflict, &["busy"]),
        (ErrorKind::Unavailable, &["interrupted"]),
        (ErrorKind::Backend, &["refused", "malformed"]),
    ];
    // In a session nobody else has the lock; and one that is interrupted is rolled back by the engine.
    const OUTSIDE_SESSIONS: &'static [&'static str] = &["busy", "interrupted"];

    async fn fail(pool: &Pool<Self>, place: &str, faults: &LiteFaults, name: &str, times: u32) {
        let holder = faults.holder.lock().unwrap().take();
        if let Some(holder) = holder {
            // Until its connection is closed.
            holder.0.send(()).ok();
            holder.1.await.unwrap();
        }
        if !faults.is_made.swap(true, Relaxed) {
            for table in TABLES {
                for change in CHANGES {
                    let sql = format!(
                        "CREATE TRIGGER fault_{table}_{change} BEFORE {change} ON {table} BEGIN
                            SELECT RAISE(ABORT, 'it was told to fail') WHERE 'refused' = '?' COLLATE fault;
                            SELECT json('{{' || changes()) WHERE 'malformed' = '?' COLLATE fault;
                            WITH RECURSIVE steps (n) AS (
                                SELECT 1 WHERE 'interrupted' = '?' COLLATE fault
                                UNION ALL SELECT n + 1 FROM steps WHERE n < 1000
                            ) SELECT count(*) FROM steps;
                        END"
                    );
                    Self::run(&mut *pool.acquire().await.unwrap(), sql).await;
                }
            }
        }
        *faults.told.fault.lock().unwrap() = (name.to_owned(), times);
        if name == "busy" && times > 0 {
            wait_no_longer(pool).await;
            let options = SqliteConnectOptions::new().filename(place);
            let mut connection: SqliteConnection = options.connect().await.unwrap();
            Self::run(&mut connection, "BEGIN IMMEDIATE".to_owned()).await;
            // So many tries have waited in vain by then.
            let length = BUSY.saturating_mul(times) + BUSY / 4;
            let (let_go, told) = oneshot::channel();
            let holder = tokio::spawn(async move {
                timeout(length, told).await.ok();
                connection.close().await.unwrap();
            });
            *faults.holder.lock().unwrap() = Some((let_go, holder));
        }
    }
}

/// Has all connections that the pool may have wait for a lock no longer than this.
async fn wait_no_longer(pool: &Pool<Sqlite>) {
    let mut connections = Vec::new();
    for _ in 0..pool.options().get_max_connections() {
        connections.push(pool.acquire().await.unwrap());
    }
    for connection in &mut connections {
        Sqlite::run(connection, format!("PRAGMA busy_timeout = {}", BUSY.as_millis())).await;
    }
}

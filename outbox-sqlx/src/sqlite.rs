//! SQLite.

use chrono::Utc;
use outbox_traits::{ErrorKind, EventId, Result};
use sqlx::{
    AssertSqlSafe, Connection, Pool, Sqlite, SqliteConnection, error::DatabaseError, sqlite::SqliteRow,
};
use uuid::Uuid;

use crate::{
    SqlxOutbox,
    claims::sql,
    dialect::Engine,
    error,
    names::{NameRules, Names},
    row::{NewRow, RowBytes},
    schema::{Layout, MIGRATE, Table, apply_missing},
};

/// An outbox on SQLite, 3.35 or later. Its session is [`sqlx::SqliteConnection`].
///
/// Begin transactions that will write with `BEGIN IMMEDIATE` (`pool.begin_with("BEGIN IMMEDIATE")`): one that
/// has read before it writes may find that another has written meanwhile, and is then refused as a
/// [`Conflict`](ErrorKind::Conflict) without waiting.
///
/// ```no_run
/// use outbox_sqlx::{SqliteOutbox, sqlx::SqlitePool};
/// use outbox_traits::SchemaStore;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = SqlitePool::connect("sqlite:shop.db?mode=rwc").await?;
/// let outbox = SqliteOutbox::new(pool).with_table("events")?;
/// outbox.migrate().await?;
/// # Ok(())
/// # }
/// ```
pub type SqliteOutbox = SqlxOutbox<Sqlite>;

const EVENT: &str = r#""seq", "id", "type", "payload", "meta", CAST("not_before" * 1000 AS INTEGER)"#;

/// Milliseconds since 1970; one time within a statement.
const CLOCK: &str = "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)";

impl RowBytes for SqliteRow {}

impl Engine for Sqlite {
    const RULES: NameRules = NameRules {
        quote: '"',
        max: usize::MAX,
        unit: "bytes",
        count: str::len,
        problem: |name| {
            let reserved = name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"));
            reserved.then_some("begins with `sqlite_`, which is reserved")
        },
    };
    const DIRECTORY: &'static str = "sqlite";
    const OUTBOX: Layout = Layout {
        name: "outbox",
        migrations: &[
            include_str!("../migrations/sqlite/0001_outbox.sql"),
            include_str!("../migrations/sqlite/0002_claims.sql"),
        ],
        tables: &[
            Table::events(&["id", "idempotency", "fifo", "scheduled", "delivered", "dead_letter"]),
            Table::LEASES,
            Table::KEYS,
            Table::PARKED,
        ],
    };
    const INBOX: Layout = Layout {
        name: "inbox",
        migrations: &[include_str!("../migrations/sqlite/inbox_0001.sql")],
        tables: &[Table::MARKS],
    };
    const FIRST_YEAR: i32 = 0;
    // It takes one after the other: there is no round trip to spare.
    const INSERT_CHUNK: (usize, usize) = (usize::MAX, usize::MAX);
    const INSERT_IS_ATOMIC: bool = false;
    const AROUND_BATCH: Option<[&'static str; 3]> = Some([
        "SAVEPOINT outbox_batch",
        "RELEASE outbox_batch",
        "ROLLBACK TO outbox_batch; RELEASE outbox_batch",
    ]);
    const BY_INDEX: &'static str = "";
    const ALONE: &'static str = "";
    const ISOLATE: &'static str = "";
    const BEGIN_CLAIM: &'static str = "BEGIN IMMEDIATE";
    const BEGIN_FLUSHED: &'static str = Self::BEGIN_CLAIM;
    const AROUND_HOLD: (&'static str, &'static str) = ("", "");
    const WAITS_ASLEEP: bool = true;
    const CHAIN: Option<&'static str> = None;
    const BEGIN_LOOK: &'static str = "BEGIN";
    const FOR_UPDATE: &'static str = "";
    const FOR_UPDATE_IF_FREE: &'static str = "";
    const RETURNING: bool = true;
    const WRITES_IN_WITH: bool = false;
    const NAMES_DELETE_TARGET: bool = false;
    const INDEXES_TAKE_NAMES: bool = true;
    const LATERAL: bool = false;
    // Texts are compared and written as bytes.
    const UNFIT: Option<&'static str> = Some(
        "SELECT 'the database keeps its texts as ' || encoding || ', and the outbox needs UTF-8, which is the default'
        FROM pragma_encoding WHERE encoding <> 'UTF-8'",
    );
    const SORTS_NULLS: bool = false;
    const FIFO_OF_ALL: bool = false;
    const LIMITS_BY_QUERY: bool = true;
    const LOCKS_RANGES: bool = false;
    // The primary key, which is the way where no other index is named.
    const BY_PLACE: &'static str = "NOT INDEXED";
    const CLOCK: &'static str = CLOCK;
    const EVENT: &'static str = EVENT;
    const STATUS: &'static str = "status";
    const TYPE: &'static str = "CAST(type AS BLOB)";
    const BIGINT: &'static str = "INTEGER";

    fn micros(time: &str) -> String {
        // What is beyond 64 bits would become a float.
        format!("CAST({time} * 1000 AS INTEGER)")
    }

    fn time(micros: i64) -> String {
        micros.saturating_add(999).div_euclid(1000).to_string()
    }

    fn ago(micros: i64) -> String {
        match micros {
            0 => i64::MAX.to_string(),
            // Rounded up: never early.
            _ => format!("{CLOCK} - {}", micros.saturating_add(999) / 1000),
        }
    }

    fn uuid(id: Uuid) -> String {
        format!("X'{}'", id.simple())
    }

    fn bytes(bytes: &[u8]) -> String {
        format!("X'{}'", const_hex::encode(bytes))
    }

    fn text(text: &str) -> String {
        format!("CAST({} AS TEXT)", Self::bytes(text.as_bytes()))
    }

    fn one_of(column: &str, numbers: &[i64]) -> String {
        format!("{column} IN ({})", sql::numbers(numbers))
    }

    fn none_of(column: &str, numbers: &[i64]) -> String {
        format!("{column} + 0 NOT IN ({})", sql::numbers(numbers))
    }

    fn hint(names: &Names, index: &str) -> String {
        format!("INDEXED BY {}", names.quoted_index(index))
    }

    fn pending(names: &Names, limit: i64) -> String {
        let (table, fifo) = (names.quoted_table(), names.quoted_index("fifo"));
        format!(
            r#"SELECT {EVENT} FROM {table} INDEXED BY {fifo}
            WHERE "status" = 'pending' ORDER BY "seq" LIMIT {limit}"#
        )
    }

    fn due(names: &Names, limit: i64) -> String {
        let (table, scheduled) = (names.quoted_table(), names.quoted_index("scheduled"));
        format!(
            r#"SELECT "seq", "id" FROM {table} INDEXED BY {scheduled}
            WHERE "status" = 'scheduled' AND "not_before" <= {CLOCK} ORDER BY "not_before" LIMIT {limit}"#
        )
    }

    fn promote(names: &Names, ids: &[EventId]) -> String {
        let (table, index, ids) = (names.quoted_table(), names.quoted_index("id"), literals(ids));
        format!(
            r#"UPDATE {table} INDEXED BY {index} SET "status" = 'pending'
            WHERE "id" IN ({ids}) AND "status" = 'scheduled'"#
        )
    }

    fn acknowledge(names: &Names, ids: &[EventId], condition: &str) -> String {
        let (table, index, ids) = (names.quoted_table(), names.quoted_index("id"), literals(ids));
        format!(
            r#"UPDATE {table} INDEXED BY {index} SET "status" = 'delivered', "delivered_at" = {CLOCK}
            WHERE "id" IN ({ids}) AND "status" IN ('pending', 'scheduled', 'parked', 'waiting') {condition}"#
        )
    }

    fn expired(names: &Names, age_micros: i64, limit: i64) -> String {
        let (table, delivered) = (names.quoted_table(), names.quoted_index("delivered"));
        let latest = Self::ago(age_micros);
        format!(
            r#"SELECT "seq", "id" FROM {table} INDEXED BY {delivered}
            WHERE "status" = 'delivered' AND "delivered_at" <= {latest} ORDER BY "delivered_at" LIMIT {limit}"#
        )
    }

    fn requeue(names: &Names, ids: &[EventId]) -> String {
        let (table, index, ids) = (names.quoted_table(), names.quoted_index("id"), literals(ids));
        format!(
            r#"UPDATE {table} INDEXED BY {index} SET
                "status" = CASE WHEN "not_before" > {CLOCK} THEN 'scheduled' ELSE 'pending' END,
                "attempts" = 0, "failures" = 0, "first_failed_at" = NULL, "last_failed_at" = NULL,
                "last_error" = NULL, "dead_at" = NULL
            WHERE "id" IN ({ids}) AND "status" = 'dead_letter'"#
        )
    }

    fn purge_marks(names: &Names, age_micros: i64, limit: i64) -> String {
        let (table, latest) = (names.quoted_table(), Self::ago(age_micros));
        let processed = names.quoted_index("processed");
        format!(
            r#"DELETE FROM {table} WHERE ("consumer", "event_id") IN
                (SELECT "consumer", "event_id" FROM {table} INDEXED BY {processed}
                WHERE "processed_at" <= {latest} ORDER BY "processed_at" LIMIT {limit})"#
        )
    }

    // Everywhere below, what stands in the SQL beside literal text is quoted names, numbers and UUIDs.

    async fn execute(connection: &mut SqliteConnection, sql: String) -> sqlx::Result<u64> {
        Ok(sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?.rows_affected())
    }

    async fn rows(connection: &mut SqliteConnection, sql: String) -> sqlx::Result<Vec<SqliteRow>> {
        sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await
    }

    async fn insert(
        connection: &mut SqliteConnection,
        names: &Names,
        rows: &[NewRow],
    ) -> sqlx::Result<Vec<bool>> {
        let mut stored = Vec::with_capacity(rows.len());
        let mut rest = rows;
        while !rest.is_empty() {
            // In runs of 1, 2, 4, … rows: a statement for each length would drive the caller's own out of the
            // connection's cache.
            let (run, tail) = rest.split_at(1 << rest.len().min(LONGEST_RUN).ilog2());
            rest = tail;
            if insert_run(connection, names, run).await? {
                stored.resize(stored.len() + run.len(), true);
            } else if run.len() == 1 {
                stored.push(false);
            } else {
                // The error undid the statement, and no more: now each by itself.
                for row in run {
                    stored.push(insert_run(connection, names, std::slice::from_ref(row)).await?);
                }
            }
        }
        Ok(stored)
    }

    async fn mark(
        connection: &mut SqliteConnection,
        names: &Names,
        consumer: &str,
        event: Uuid,
    ) -> sqlx::Result<bool> {
        let sql = format!(
            r#"INSERT INTO {} ("consumer", "event_id", "processed_at") VALUES (?1, ?2, {CLOCK})
            ON CONFLICT ("consumer", "event_id") DO NOTHING"#,
            names.quoted_table()
        );
        let done = sqlx::query(AssertSqlSafe(sql)).bind(consumer).bind(event).execute(connection).await?;
        Ok(done.rows_affected() == 1)
    }

    async fn columns(
        connection: &mut SqliteConnection,
        _names: &Names,
        table: &str,
    ) -> sqlx::Result<Vec<String>> {
        sqlx::query_scalar("SELECT name FROM pragma_table_info(?1)")
            .persistent(false)
            .bind(table)
            .fetch_all(connection)
            .await
    }

    async fn indexes(
        connection: &mut SqliteConnection,
        _names: &Names,
        table: &str,
    ) -> sqlx::Result<Vec<(String, bool)>> {
        let indexes: Vec<(String, i64)> =
            sqlx::query_as(r#"SELECT name, "unique" FROM pragma_index_list(?1)"#)
                .persistent(false)
                .bind(table)
                .fetch_all(connection)
                .await?;
        Ok(indexes.into_iter().map(|(name, is_unique)| (name, is_unique == 1)).collect())
    }

    fn is_made_with_table(_index: &str) -> bool {
        false
    }

    async fn is_where_made(
        connection: &mut SqliteConnection,
        _names: &Names,
        table: &str,
    ) -> sqlx::Result<bool> {
        // It is found in an attached database too.
        let sql =
            "SELECT 1 FROM main.sqlite_master WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE";
        let found: Option<i64> =
            sqlx::query_scalar(sql).persistent(false).bind(table).fetch_optional(connection).await?;
        Ok(found.is_some())
    }

    async fn migrate(pool: &Pool<Self>, names: &Names) -> Result<()> {
        let failed = |error| error::of::<Self>(names, MIGRATE, error);
        let mut connection = pool.acquire().await.map_err(failed)?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        apply_missing::<Self>(&mut transaction, names).await?;
        transaction.commit().await.map_err(failed)
    }

    fn error_kind(error: &dyn DatabaseError) -> ErrorKind {
        let code = error.code().and_then(|code| code.parse().ok());
        kind(code.unwrap_or(0), error.message())
    }
}

/// What of the schema may be amiss, as it says so in words: the code is that of any error.
const AMISS: [&str; 6] = [
    "no such table",
    "no such column",
    "no such index",
    "has no column named",
    "there is already",
    "because it is a view",
];

fn kind(code: u32, message: &str) -> ErrorKind {
    // The lowest byte is the class of the code.
    match code & 0xff {
        // Busy, locked, a race for the log.
        5 | 6 | 15 => ErrorKind::Conflict,
        // Interrupted, cannot be opened.
        9 | 14 => ErrorKind::Unavailable,
        1 if AMISS.iter().any(|text| message.contains(text)) => ErrorKind::Schema,
        _ => ErrorKind::Backend,
    }
}

fn literals(ids: &[EventId]) -> String {
    ids.iter().map(|id| format!("X'{}'", id.as_uuid().simple())).collect::<Vec<_>>().join(", ")
}

/// How many rows one statement inserts.
const LONGEST_RUN: usize = 128;

/// Inserts all of them and returns true, or none because of a duplicate among them.
///
/// It is quicker to be told of a duplicate by the error than to ask of each row whether it was inserted.
async fn insert_run(connection: &mut SqliteConnection, names: &Names, rows: &[NewRow]) -> sqlx::Result<bool> {
    let values = vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"; rows.len()];
    let sql = format!(
        r#"INSERT INTO {} ("id", "type", "payload", "meta", "status", "not_before",
            "partition_hash", "lane", "idempotency_hash", "created_at") VALUES {}"#,
        names.quoted_table(),
        values.join(", "),
    );
    // The engine runs in this process and by the same clock, which it would read anew for each row.
    let now = Utc::now();
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for row in rows {
        query = query
            .bind(row.id)
            .bind(&row.event_type)
            .bind(&row.payload)
            .bind(&row.meta)
            .bind(if row.is_due_at(now) { "pending" } else { "scheduled" })
            .bind(row.not_before.map(|time| time.timestamp_millis()))
            .bind(row.partition_hash.as_slice())
            .bind(row.lane)
            .bind(row.idempotency_hash.as_ref().map(<[u8; 32]>::as_slice))
            .bind(now.timestamp_millis());
    }
    match query.execute(connection).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if is_own_duplicate(&*error, names) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A trigger may write to other tables, whose names may end like this one's.
fn is_own_duplicate(error: &dyn DatabaseError, names: &Names) -> bool {
    // In whatever case the table was created: SQLite does not tell upper from lower.
    let of_column = |column: &str| {
        let message = format!("UNIQUE constraint failed: {}.{column}", names.table);
        error.message().eq_ignore_ascii_case(&message)
    };
    error.is_unique_violation() && ["id", "idempotency_hash"].into_iter().any(of_column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_its_class_and_one_of_the_schema_by_its_words() {
        for (code, message, expected) in [
            (5, "database is locked", ErrorKind::Conflict),
            (15, "locking protocol", ErrorKind::Conflict),
            (6, "database table is locked", ErrorKind::Conflict),
            (517, "database is locked", ErrorKind::Conflict),
            (9, "interrupted", ErrorKind::Unavailable),
            (14, "unable to open database file", ErrorKind::Unavailable),
            (1, "no such table: outbox", ErrorKind::Schema),
            (1, "no such index: outbox_fifo", ErrorKind::Schema),
            (1, "table outbox has no column named lane", ErrorKind::Schema),
            (1, "cannot modify outbox because it is a view", ErrorKind::Schema),
            (1, "near \"SELEC\": syntax error", ErrorKind::Backend),
            (8, "attempt to write a readonly database", ErrorKind::Backend),
            (11, "no such table: the file is malformed", ErrorKind::Backend),
            (13, "database or disk is full", ErrorKind::Backend),
        ] {
            assert_eq!(kind(code, message), expected, "{code}: {message}");
        }
    }
}

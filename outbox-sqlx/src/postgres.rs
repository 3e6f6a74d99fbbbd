//! PostgreSQL.

use outbox_traits::{ErrorKind, EventId, Result};
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Pool, Postgres, Row, error::DatabaseError, postgres::PgRow,
};
use uuid::Uuid;

use crate::{
    SqlxOutbox,
    claims::sql,
    dialect::Engine,
    error,
    names::{NameRules, Names},
    row::{NewRow, ReadRow, RowBytes, stored_of, utc},
    schema::{Layout, MIGRATE, Table, apply_missing},
};

/// An outbox on PostgreSQL, 14 or later. Its session is [`sqlx::PgConnection`].
///
/// ```no_run
/// use outbox_sqlx::{PgOutbox, sqlx::PgPool};
/// use outbox_traits::SchemaStore;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = PgPool::connect("postgres://localhost/shop").await?;
/// let outbox = PgOutbox::new(pool).with_schema("shop")?.with_table("events")?;
/// outbox.migrate().await?;
/// # Ok(())
/// # }
/// ```
pub type PgOutbox = SqlxOutbox<Postgres>;

impl PgOutbox {
    /// In a table of this schema, which must exist. Without it, the table is looked for along the search path
    /// of the connection.
    ///
    /// # Errors
    /// [`Schema`](ErrorKind::Schema) if the name is empty, longer than 63 bytes or contains a NUL.
    pub fn with_schema(self, name: &str) -> Result<Self> {
        self.in_schema(name)
    }
}

/// All claims wait for the lock of one whose machine is gone, which the server notices by the silence alone, or by that nobody takes
/// what it sends.
macro_rules! not_idle {
    () => {
        "SET LOCAL idle_in_transaction_session_timeout = 10000; SET LOCAL tcp_user_timeout = 10000; "
    };
}

macro_rules! by_index {
    () => {
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; \
        SET LOCAL jit = off; "
    };
}

/// Goes before each statement in the same message, and ends with its implicit transaction.
///
/// An outbox grows from nothing to millions of rows faster than its statistics, so that a plan that sorts or
/// scans the table may look cheap. These make an index the way whatever the statistics say. Such a
/// message is planned anew each time: a prepared statement would keep the plan of the day on which the table
/// was empty. What has no index to go by looks dear enough then to be compiled, which takes far longer than to
/// run it.
const BY_INDEX: &str = by_index!();

/// The same before what is a transaction of its own: not under a stricter isolation that a role or a database may have
/// by default, where those who work side by side would be in conflict with one another for ever.
const ALONE: &str = concat!("SET LOCAL transaction_isolation = 'read committed'; ", by_index!());

/// A time in microseconds since 1970. What is beyond 64 bits, or no time at all, is one that no calendar has.
macro_rules! micros {
    ($time:literal) => {
        concat!(
            "(extract(epoch FROM CASE WHEN ",
            $time,
            " IS NOT NULL THEN LEAST(GREATEST(",
            $time,
            ", '4713-01-01 BC'), '294247-01-01') END) * 1000000)::bigint"
        )
    };
}

const EVENT: &str =
    concat!(r#""seq", "id", "type", "payload"::text, "meta"::text, "#, micros!("\"not_before\""));

impl Engine for Postgres {
    const RULES: NameRules =
        NameRules { quote: '"', max: 63, unit: "bytes", count: str::len, problem: |_| None };
    const DIRECTORY: &'static str = "postgres";
    const OUTBOX: Layout = Layout {
        name: "outbox",
        migrations: &[
            include_str!("../migrations/postgres/0001_outbox.sql"),
            include_str!("../migrations/postgres/0002_claims.sql"),
            include_str!("../migrations/postgres/0003_lease_storage.sql"),
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
        migrations: &[include_str!("../migrations/postgres/inbox_0001.sql")],
        tables: &[Table::MARKS],
    };
    const FIRST_YEAR: i32 = 0;
    const INSERT_CHUNK: (usize, usize) = (10_000, 16_777_216);
    const INSERT_IS_ATOMIC: bool = true;
    const AROUND_BATCH: Option<[&'static str; 3]> = None;
    const BY_INDEX: &'static str = BY_INDEX;
    const ALONE: &'static str = ALONE;
    // What a lost claim or settlement costs is a redelivery.
    const ISOLATE: &'static str = "";
    const BEGIN_CLAIM: &'static str = concat!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = off; ",
        not_idle!(),
        by_index!()
    );
    const BEGIN_FLUSHED: &'static str =
        concat!("BEGIN ISOLATION LEVEL READ COMMITTED; ", not_idle!(), by_index!());
    const AROUND_HOLD: (&'static str, &'static str) = ("SAVEPOINT hold; ", "ROLLBACK TO SAVEPOINT hold; ");
    const WAITS_ASLEEP: bool = false;
    const CHAIN: Option<&'static str> = Some("COMMIT AND CHAIN");
    const BEGIN_LOOK: &'static str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
    const FOR_UPDATE: &'static str = "FOR UPDATE";
    const FOR_UPDATE_IF_FREE: &'static str = "FOR UPDATE SKIP LOCKED";
    const RETURNING: bool = true;
    const WRITES_IN_WITH: bool = true;
    const NAMES_DELETE_TARGET: bool = false;
    const INDEXES_TAKE_NAMES: bool = true;
    const LATERAL: bool = true;
    // In SQL_ASCII bytes are kept as they come.
    const UNFIT: Option<&'static str> = Some(
        "SELECT 'the database has the encoding ' || current_setting('server_encoding') || ', which has no place for many \
        characters: create it with the encoding UTF8'
        WHERE current_setting('server_encoding') NOT IN ('UTF8', 'SQL_ASCII')",
    );
    const SORTS_NULLS: bool = true;
    const FIFO_OF_ALL: bool = false;
    const LIMITS_BY_QUERY: bool = false;
    const LOCKS_RANGES: bool = false;
    // The index of pending events in order has it.
    const BY_PLACE: &'static str = "";
    const CLOCK: &'static str = "clock_timestamp()";
    const EVENT: &'static str = EVENT;
    const STATUS: &'static str = "status || ''";
    const TYPE: &'static str = "convert_to(type, 'UTF8')";
    const BIGINT: &'static str = "bigint";

    fn micros(time: &str) -> String {
        micros!("@").replace('@', time)
    }

    fn time(micros: i64) -> String {
        utc(micros).format("TIMESTAMPTZ '%Y-%m-%d %H:%M:%S%.6f+00'").to_string()
    }

    // The clock stands in a subselect because it is volatile, and no index is searched by a volatile value.
    fn ago(micros: i64) -> String {
        match micros {
            0 => "'infinity'".to_owned(),
            _ => format!("(SELECT clock_timestamp() - {micros} * interval '1 microsecond')"),
        }
    }

    fn uuid(id: Uuid) -> String {
        format!("'{id}'")
    }

    fn bytes(bytes: &[u8]) -> String {
        format!("E'\\\\x{}'::bytea", const_hex::encode(bytes))
    }

    fn text(text: &str) -> String {
        format!("convert_from({}, 'UTF8')", Self::bytes(text.as_bytes()))
    }

    // As one array, which is quicker to parse than many numbers.
    fn one_of(column: &str, numbers: &[i64]) -> String {
        format!("{column} = ANY ('{{{}}}'::bigint[])", sql::numbers(numbers))
    }

    fn one_of_bytes(column: &str, all: &[[u8; 16]]) -> String {
        let all: Vec<String> =
            all.iter().map(|bytes| format!(r"\\\\x{}", const_hex::encode(bytes))).collect();
        format!("{column} = ANY (E'{{{}}}'::bytea[])", all.join(","))
    }

    // In these words the array is hashed; what is none of all is compared with each before PostgreSQL 15.
    fn none_of(column: &str, numbers: &[i64]) -> String {
        format!("({}) IS NOT TRUE", Self::one_of(column, numbers))
    }

    // It has no such thing; see `BY_INDEX`.
    fn hint(_names: &Names, _index: &str) -> String {
        String::new()
    }

    fn pending(names: &Names, limit: i64) -> String {
        let table = names.quoted_table();
        format!(
            r#"{ALONE} SELECT {EVENT} FROM {table} WHERE "status" = 'pending' ORDER BY "seq" LIMIT {limit}"#
        )
    }

    // The clock stands in a subselect because it is volatile, and no index is searched by a volatile value.
    fn due(names: &Names, limit: i64) -> String {
        let table = names.quoted_table();
        format!(
            r#"{ALONE} SELECT "seq", "id" FROM {table}
            WHERE "status" = 'scheduled' AND "not_before" <= (SELECT clock_timestamp())
            ORDER BY "not_before" LIMIT {limit}"#
        )
    }

    // The changes go by the ids: an empty text added to the status hides it from the indexes of one status,
    // which look cheaper as long as the statistics find them empty.
    fn promote(names: &Names, ids: &[EventId]) -> String {
        let (table, ids) = (names.quoted_table(), literals(ids));
        format!(
            r#"{ALONE} UPDATE {table} SET "status" = 'pending'
            WHERE "id" IN ({ids}) AND "status" || '' = 'scheduled'"#
        )
    }

    fn acknowledge(names: &Names, ids: &[EventId], condition: &str) -> String {
        let (table, ids) = (names.quoted_table(), literals(ids));
        format!(
            r#"{ALONE} UPDATE {table} SET "status" = 'delivered', "delivered_at" = clock_timestamp()
            WHERE "id" IN ({ids}) AND "status" IN ('pending', 'scheduled', 'parked', 'waiting') {condition}"#
        )
    }

    fn expired(names: &Names, age_micros: i64, limit: i64) -> String {
        let table = names.quoted_table();
        let latest = Self::ago(age_micros);
        format!(
            r#"{ALONE} SELECT "seq", "id" FROM {table}
            WHERE "status" = 'delivered' AND "delivered_at" <= {latest} ORDER BY "delivered_at" LIMIT {limit}"#
        )
    }

    fn requeue(names: &Names, ids: &[EventId]) -> String {
        let (table, ids) = (names.quoted_table(), literals(ids));
        format!(
            r#"{ALONE} UPDATE {table} SET
                "status" = CASE WHEN "not_before" > clock_timestamp() THEN 'scheduled' ELSE 'pending' END,
                "attempts" = 0, "failures" = 0, "first_failed_at" = NULL, "last_failed_at" = NULL,
                "last_error" = NULL, "dead_at" = NULL
            WHERE "id" IN ({ids}) AND "status" || '' = 'dead_letter'"#
        )
    }

    // Passes over what another purge is at.
    fn purge_marks(names: &Names, age_micros: i64, limit: i64) -> String {
        let (table, latest) = (names.quoted_table(), Self::ago(age_micros));
        format!(
            r#"{ALONE} DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table}
                WHERE "processed_at" <= {latest} ORDER BY "processed_at" LIMIT {limit} FOR UPDATE SKIP LOCKED))"#
        )
    }

    // Everywhere below, what stands in the SQL beside literal text is quoted names, numbers, UUIDs, and bytes in
    // hexadecimal digits. Only what is done in the caller's session is a prepared statement: a pooler in transaction
    // mode may give each message of another to another server.

    async fn execute(connection: &mut PgConnection, sql: String) -> sqlx::Result<u64> {
        Ok(sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?.rows_affected())
    }

    async fn rows(connection: &mut PgConnection, sql: String) -> sqlx::Result<Vec<PgRow>> {
        sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await
    }

    async fn insert(
        connection: &mut PgConnection,
        names: &Names,
        rows: &[NewRow],
    ) -> sqlx::Result<Vec<bool>> {
        match rows {
            [row] if insert_one(connection, names, row).await? => Ok(vec![true]),
            // Of one that is there already, this says why.
            rows => insert_all(connection, names, rows).await,
        }
    }

    async fn mark(
        connection: &mut PgConnection,
        names: &Names,
        consumer: &str,
        event: Uuid,
    ) -> sqlx::Result<bool> {
        let sql = format!(
            r#"INSERT INTO {} ("consumer", "event_id", "processed_at") VALUES ($1, $2, clock_timestamp())
            ON CONFLICT ("consumer", "event_id") DO NOTHING"#,
            names.quoted_table()
        );
        let done = sqlx::query(AssertSqlSafe(sql)).bind(consumer).bind(event).execute(connection).await?;
        Ok(done.rows_affected() == 1)
    }

    async fn columns(connection: &mut PgConnection, names: &Names, table: &str) -> sqlx::Result<Vec<String>> {
        let table = Self::text(&names.quoted(table));
        let sql = format!(
            "SELECT attname::text FROM pg_attribute
            WHERE attrelid = to_regclass({table}) AND attnum > 0 AND NOT attisdropped"
        );
        Self::rows(connection, sql).await?.iter().map(|row| ReadRow::text(row, 0)).collect()
    }

    async fn indexes(
        connection: &mut PgConnection,
        names: &Names,
        table: &str,
    ) -> sqlx::Result<Vec<(String, bool)>> {
        let table = Self::text(&names.quoted(table));
        let sql = format!(
            "SELECT relname::text, indisunique::int::bigint
            FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
            WHERE indrelid = to_regclass({table}) AND indisvalid"
        );
        let index = |row| Ok((ReadRow::text(row, 0)?, ReadRow::number(row, 1)? == 1));
        Self::rows(connection, sql).await?.iter().map(index).collect()
    }

    fn is_made_with_table(index: &str) -> bool {
        index == "id"
    }

    async fn is_where_made(connection: &mut PgConnection, names: &Names, table: &str) -> sqlx::Result<bool> {
        if names.schema.is_some() {
            return Ok(true);
        }
        // It is found along the search path, and made in the first schema there.
        let table = Self::text(&names.quoted(table));
        let sql = format!(
            "SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
            WHERE pg_class.oid = to_regclass({table}) AND nspname = current_schema()"
        );
        Ok(!Self::rows(connection, sql).await?.is_empty())
    }

    async fn migrate(pool: &Pool<Self>, names: &Names) -> Result<()> {
        let failed = |error| error::of::<Self>(names, MIGRATE, error);
        let mut connection = pool.acquire().await.map_err(failed)?;
        // sqlx gives one whose `BEGIN` was cut off back with the transaction open.
        connection.close_on_drop();
        // Not under a snapshot that is older than the lock.
        let mut transaction =
            connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await.map_err(failed)?;
        // Without the schema, which one process may name and another leave to its search path.
        let name = Self::text(&format!("{} {}", names.layout.name, names.table));
        let lock = format!("SELECT pg_advisory_xact_lock(hashtextextended({name}, 0))");
        Self::execute(&mut transaction, lock).await.map_err(failed)?;
        apply_missing::<Self>(&mut transaction, names).await?;
        transaction.commit().await.map_err(failed)
    }

    fn error_kind(error: &dyn DatabaseError) -> ErrorKind {
        error.code().map_or(ErrorKind::Backend, |code| kind(&code))
    }
}

fn kind(code: &str) -> ErrorKind {
    match code {
        // Serialization failure, deadlock, lock not available.
        "40001" | "40P01" | "55P03" => ErrorKind::Conflict,
        // No such table, column, schema; something else of that name.
        "42P01" | "42703" | "3F000" | "42P07" | "42809" => ErrorKind::Schema,
        // Cancelled (by a timeout), shut down, crashed, starting up, idle or open for too long, too many connections.
        "57014" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25P04" | "53300" => {
            ErrorKind::Unavailable
        }
        // The connection.
        code if code.starts_with("08") => ErrorKind::Unavailable,
        _ => ErrorKind::Backend,
    }
}

impl RowBytes for PgRow {
    // The driver makes a byte of two digits at some ten times the cost, and there are twenty thousand of them in a lease.
    fn bytes_at(&self, index: usize) -> sqlx::Result<Vec<u8>> {
        let value = self.try_get_raw(index)?;
        let failed = |error| sqlx::Error::ColumnDecode { index: index.to_string(), source: error };
        let text = value.as_str().map_err(failed)?;
        let Some(digits) = text.strip_prefix("\\x") else {
            return escaped(text).ok_or_else(|| failed("neither digits nor escaped bytes".into()));
        };
        let mut bytes = vec![0; digits.len() / 2];
        const_hex::decode_to_slice(digits, &mut bytes).map_err(|error| failed(error.into()))?;
        Ok(bytes)
    }
}

/// Bytes as they come where `bytea_output` is `escape`, which the driver does not read at all.
fn escaped(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (b'\\', after) => {
                let (octal, after) = after.split_at_checked(3)?;
                (u8::from_str_radix(str::from_utf8(octal).ok()?, 8).ok()?, after)
            }
            (byte, after) => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Some(bytes)
}

fn literals(ids: &[EventId]) -> String {
    ids.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ")
}

/// What a row is made of.
const COLUMNS: &str = r#""id", "type", "payload", "meta", "status", "not_before", "partition_hash", "lane",
        "idempotency_hash", "created_at""#;

async fn insert_one(connection: &mut PgConnection, names: &Names, row: &NewRow) -> sqlx::Result<bool> {
    let sql = format!(
        "INSERT INTO {} ({COLUMNS})
        VALUES ($1, $2, $3::json, $4::json,
            CASE WHEN $5 > clock_timestamp() THEN 'scheduled' ELSE 'pending' END, $5,
            $6, $7, $8, clock_timestamp())
        ON CONFLICT DO NOTHING",
        names.quoted_table()
    );
    let done = sqlx::query(AssertSqlSafe(sql))
        .bind(row.id)
        .bind(&row.event_type)
        .bind(&row.payload)
        .bind(&row.meta)
        .bind(row.not_before)
        .bind(row.partition_hash.as_slice())
        .bind(row.lane)
        .bind(row.idempotency_hash.as_ref().map(<[u8; 32]>::as_slice))
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// One statement for any number. The order by ordinality makes the sequence follow the slice.
///
/// Passed over are also duplicates by a unique index that somebody else gave the table, as a statement can name one of its
/// arbiters only, and the outbox has two. Where something was passed over and there is such an index, what is no duplicate of
/// the outbox is inserted once more, and so refused with the reason; else, which is asked first, nothing more is read.
async fn insert_all(
    connection: &mut PgConnection,
    names: &Names,
    rows: &[NewRow],
) -> sqlx::Result<Vec<bool>> {
    let table = names.quoted_table();
    let insert = format!(
        r#"INSERT INTO {table} ({COLUMNS})
        SELECT "id", "type", "payload"::json, "meta"::json,
            CASE WHEN "not_before" > clock_timestamp() THEN 'scheduled' ELSE 'pending' END, "not_before",
            "partition_hash", "lane", "idempotency_hash", clock_timestamp()
        FROM "new""#
    );
    let is_there = |place: &str| {
        format!(
            r#"EXISTS (SELECT 1 FROM {place} AS "old" WHERE "old"."id" = "new"."id")
            OR EXISTS (SELECT 1 FROM {place} AS "old" WHERE "old"."idempotency_hash" = "new"."idempotency_hash")"#
        )
    };
    let sql = format!(
        r#"WITH "new" AS (
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::bytea[],
                $7::smallint[], $8::bytea[]) WITH ORDINALITY
                AS "new" ("id", "type", "payload", "meta", "not_before", "partition_hash", "lane",
                    "idempotency_hash", "place")
        ), "stored" AS (
            {insert} ORDER BY "place" ON CONFLICT DO NOTHING RETURNING "id", "idempotency_hash"
        ), "refused" AS (
            {insert} WHERE (SELECT count(*) FROM "stored") < cardinality($1)
                AND (SELECT EXISTS (SELECT 1 FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
                    WHERE indrelid = to_regclass({}) AND (indisunique OR indisexclusion)
                        AND NOT indisprimary AND relname <> {}))
                AND NOT ({}) AND NOT ({}) ORDER BY "place"
        )
        SELECT "id", "idempotency_hash" FROM "stored""#,
        Postgres::text(&table),
        Postgres::text(&names.index("idempotency")),
        is_there(r#""stored""#),
        is_there(&table),
    );
    let stored = sqlx::query(AssertSqlSafe(sql))
        .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.event_type.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.payload.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.meta.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.not_before).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.partition_hash.as_slice()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.lane).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.idempotency_hash.map(Vec::from)).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    let stored = stored.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    Ok(stored_of(rows, stored.collect::<sqlx::Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_its_code() {
        for (codes, expected) in [
            (&["40001", "40P01", "55P03"][..], ErrorKind::Conflict),
            (&["42P01", "42703", "3F000", "42P07", "42809"], ErrorKind::Schema),
            (
                &["57014", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "53300"],
                ErrorKind::Unavailable,
            ),
            (&["08000", "08006", "08P01"], ErrorKind::Unavailable),
            (&["", "23505", "42601", "42501", "53100", "80000"], ErrorKind::Backend),
        ] {
            for code in codes {
                assert_eq!(kind(code), expected, "{code}");
            }
        }
    }
}

//! MySQL and MariaDB.

use std::{collections::HashSet, ops::RangeInclusive, slice};

use outbox_traits::{Error, ErrorKind, EventId, Result};
use sqlx::{
    AssertSqlSafe, MySql, MySqlConnection, Pool,
    error::DatabaseError,
    mysql::{MySqlDatabaseError, MySqlRow},
};
use uuid::Uuid;

use crate::{
    SqlxOutbox,
    claims::{CHUNK, sql},
    dialect::Engine,
    error,
    names::{NameRules, Names},
    row::{NewRow, ReadRow, RowBytes, utc},
    schema::{Layout, MIGRATE, Table, apply_missing},
};

/// An outbox on MySQL, 8.0 or later, or MariaDB, 10.6 or later. Its session is [`sqlx::MySqlConnection`].
///
/// ```no_run
/// use outbox_sqlx::{MySqlOutbox, sqlx::MySqlPool};
/// use outbox_traits::SchemaStore;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = MySqlPool::connect("mysql://localhost/shop").await?;
/// let outbox = MySqlOutbox::new(pool).with_table("events")?;
/// outbox.migrate().await?;
/// # Ok(())
/// # }
/// ```
pub type MySqlOutbox = SqlxOutbox<MySql>;

impl MySqlOutbox {
    /// In a table of this database, which must exist. Without it, the table is in the database of the
    /// connection.
    ///
    /// # Errors
    /// [`Schema`](ErrorKind::Schema) if the name is empty, longer than 64 characters, contains a NUL or a
    /// character beyond U+FFFF, or ends with a space.
    pub fn with_schema(self, name: &str) -> Result<Self> {
        self.in_schema(name)
    }
}

const EVENT: &str =
    "`seq`, `id`, `type`, `payload`, `meta`, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', `not_before`)";

/// How long one process waits while another migrates.
const MIGRATION_TIMEOUT_SECONDS: u32 = 60;

impl RowBytes for MySqlRow {}

impl Engine for MySql {
    const RULES: NameRules =
        NameRules { quote: '`', max: 64, unit: "characters", count: |name| name.chars().count(), problem };
    const DIRECTORY: &'static str = "mysql";
    const OUTBOX: Layout = Layout {
        name: "outbox",
        migrations: &[
            include_str!("../migrations/mysql/0001_outbox.sql"),
            include_str!("../migrations/mysql/0002_claims.sql"),
        ],
        tables: &[
            Table::events(&["id", "idempotency", "fifo", "scheduled", "delivered"]),
            Table::LEASES,
            Table::KEYS,
            Table::PARKED,
        ],
    };
    const INBOX: Layout = Layout {
        name: "inbox",
        migrations: &[include_str!("../migrations/mysql/inbox_0001.sql")],
        tables: &[Table::MARKS],
    };
    // It has a year 0, but one without a 29th of February.
    const FIRST_YEAR: i32 = 1;
    const INSERT_CHUNK: (usize, usize) = (1000, 1_048_576);
    // With a duplicate among them, it is several.
    const INSERT_IS_ATOMIC: bool = false;
    // The name is free again when the transaction ends, or the next batch takes it. A connection that has no transaction open
    // has nothing to release.
    const AROUND_BATCH: Option<[&'static str; 3]> =
        Some(["SAVEPOINT outbox_batch", "", "ROLLBACK TO SAVEPOINT outbox_batch"]);
    const AROUND_REPAIR: (&'static str, &'static str) = ("START TRANSACTION; ", "; COMMIT");
    const BY_INDEX: &'static str = "";
    const ALONE: &'static str = "";
    const ISOLATE: &'static str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; ";
    const BEGIN_CLAIM: &'static str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION";
    const BEGIN_FLUSHED: &'static str = Self::BEGIN_CLAIM;
    // A row stays locked there, and who has waited for it reads it as it is then.
    const AROUND_HOLD: (&'static str, &'static str) = ("", "");
    const WAITS_ASLEEP: bool = false;
    const CHAIN: Option<&'static str> = Some("COMMIT AND CHAIN");
    const BEGIN_LOOK: &'static str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
                                      START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
    const FOR_UPDATE: &'static str = "FOR UPDATE";
    const FOR_UPDATE_IF_FREE: &'static str = "FOR UPDATE SKIP LOCKED";
    const RETURNING: bool = false;
    const WRITES_IN_WITH: bool = false;
    // Only the form for many tables takes the name of an index.
    const NAMES_DELETE_TARGET: bool = true;
    const INDEXES_TAKE_NAMES: bool = false;
    const LATERAL: bool = false;
    const UNFIT: Option<&'static str> = Some(
        "SELECT 'the connections have autocommit off, and what is saved by itself would never be committed: leave it on'
        FROM DUAL WHERE @@autocommit = 0
        UNION ALL SELECT 'the connections have sql_safe_updates on, by which the server ends what deletes rows by their ids, \
            such as a purge: leave it off' FROM DUAL WHERE @@sql_safe_updates = 1
        UNION ALL SELECT CONCAT('the connections have the character set ', COALESCE(NULLIF(@@character_set_client, 'utf8mb4'), \
            NULLIF(@@character_set_results, 'utf8mb4'), @@character_set_connection), ', in which not every text comes over as it \
            is: connect with charset=utf8mb4') FROM DUAL
            WHERE @@character_set_client <> 'utf8mb4' OR @@character_set_results <> 'utf8mb4'
                OR @@character_set_connection <> 'utf8mb4'
        UNION ALL SELECT 'the connections have a sql_select_limit, which keeps leases from being seen: leave it at its default'
        FROM DUAL WHERE @@sql_select_limit < 9223372036854775807
        UNION ALL SELECT 'the connections have the sql_mode ORACLE, in which other words begin a transaction: leave it out' FROM DUAL
        WHERE @@sql_mode LIKE '%ORACLE%'
        UNION ALL SELECT 'the connections read what is not committed, and may never be: give them another isolation level than \
            READ UNCOMMITTED' FROM DUAL WHERE /*!80000 @@transaction_isolation */ /*M! @@tx_isolation */ = 'READ-UNCOMMITTED'
        UNION ALL SELECT CONCAT('the connections have the completion_type ', @@completion_type, ', by which a commit is followed \
            by something else: leave it at NO_CHAIN') FROM DUAL WHERE @@completion_type NOT IN ('NO_CHAIN', '0')",
    );
    const SORTS_NULLS: bool = false;
    const FIFO_OF_ALL: bool = true;
    const LIMITS_BY_QUERY: bool = false;
    const LOCKS_RANGES: bool = true;
    const BY_PLACE: &'static str = "FORCE INDEX (PRIMARY)";
    const CLOCK: &'static str = "UTC_TIMESTAMP(6)";
    const EVENT: &'static str = EVENT;
    const STATUS: &'static str = "status";
    const TYPE: &'static str = "CAST(type AS BINARY)";
    const BIGINT: &'static str = "SIGNED";

    fn micros(time: &str) -> String {
        format!("TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {time})")
    }

    fn time(micros: i64) -> String {
        utc(micros).format("TIMESTAMP'%Y-%m-%d %H:%M:%S%.6f'").to_string()
    }

    fn ago(micros: i64) -> String {
        match micros {
            0 => "'9999-12-31'".to_owned(),
            _ => format!("UTC_TIMESTAMP(6) - INTERVAL {micros} MICROSECOND"),
        }
    }

    fn uuid(id: Uuid) -> String {
        format!("X'{}'", id.simple())
    }

    fn bytes(bytes: &[u8]) -> String {
        format!("X'{}'", const_hex::encode(bytes))
    }

    fn text(text: &str) -> String {
        literal_text(text)
    }

    fn one_of(column: &str, numbers: &[i64]) -> String {
        format!("{column} IN ({})", sql::numbers(numbers))
    }

    fn none_of(column: &str, numbers: &[i64]) -> String {
        let parts = numbers.chunks(CHUNK);
        let parts = parts.map(|numbers| format!("{column} + 0 NOT IN ({})", sql::numbers(numbers)));
        parts.collect::<Vec<_>>().join(" AND ")
    }

    fn hint(names: &Names, index: &str) -> String {
        format!("FORCE INDEX ({})", names.quoted_index(index))
    }

    fn pending(names: &Names, limit: i64) -> String {
        let (table, fifo) = (names.quoted_table(), names.quoted_index("fifo"));
        format!(
            "SELECT {EVENT} FROM {table} FORCE INDEX ({fifo})
            WHERE `status` = 'pending' ORDER BY `seq` LIMIT {limit}"
        )
    }

    fn due(names: &Names, limit: i64) -> String {
        let (table, scheduled) = (names.quoted_table(), names.quoted_index("scheduled"));
        format!(
            "SELECT `seq`, `id` FROM {table} FORCE INDEX ({scheduled})
            WHERE `status` = 'scheduled' AND `not_before` <= UTC_TIMESTAMP(6)
            ORDER BY `not_before` LIMIT {limit}"
        )
    }

    // The changes go by the index of ids: by another one they would lock gaps that saves insert into.
    fn promote(names: &Names, ids: &[EventId]) -> String {
        let (table, index, ids) = (names.quoted_table(), names.quoted_index("id"), literals(ids));
        format!(
            "UPDATE {table} FORCE INDEX ({index}) SET `status` = 'pending'
            WHERE `id` IN ({ids}) AND `status` = 'scheduled'"
        )
    }

    fn acknowledge(names: &Names, ids: &[EventId], condition: &str) -> String {
        let (table, index, ids) = (names.quoted_table(), names.quoted_index("id"), literals(ids));
        format!(
            "UPDATE {table} FORCE INDEX ({index})
            SET `status` = 'delivered', `delivered_at` = UTC_TIMESTAMP(6)
            WHERE `id` IN ({ids}) AND `status` IN ('pending', 'scheduled', 'parked', 'waiting') {condition}"
        )
    }

    fn expired(names: &Names, age_micros: i64, limit: i64) -> String {
        let (table, delivered) = (names.quoted_table(), names.quoted_index("delivered"));
        let latest = Self::ago(age_micros);
        format!(
            "SELECT `seq`, `id` FROM {table} FORCE INDEX ({delivered})
            WHERE `status` = 'delivered' AND `delivered_at` <= {latest} ORDER BY `delivered_at` LIMIT {limit}"
        )
    }

    fn requeue(names: &Names, ids: &[EventId]) -> String {
        let (table, index, ids) = (names.quoted_table(), names.quoted_index("id"), literals(ids));
        format!(
            "UPDATE {table} FORCE INDEX ({index}) SET
                `status` = CASE WHEN `not_before` > UTC_TIMESTAMP(6) THEN 'scheduled' ELSE 'pending' END,
                `attempts` = 0, `failures` = 0, `first_failed_at` = NULL, `last_failed_at` = NULL,
                `last_error` = NULL, `dead_at` = NULL
            WHERE `id` IN ({ids}) AND `status` = 'dead_letter'"
        )
    }

    // Locks what it finds, and so waits for a consumer whose mark is as old as that and not committed yet.
    fn purge_marks(names: &Names, age_micros: i64, limit: i64) -> String {
        let (table, latest) = (names.quoted_table(), Self::ago(age_micros));
        let processed = names.quoted_index("processed");
        format!(
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; \
            DELETE {table} FROM (SELECT `consumer`, `event_id` FROM {table} FORCE INDEX ({processed})
                WHERE `processed_at` <= {latest} ORDER BY `processed_at` LIMIT {limit}) AS `old`
            STRAIGHT_JOIN {table} FORCE INDEX (PRIMARY)
                ON {table}.`consumer` = `old`.`consumer` AND {table}.`event_id` = `old`.`event_id`
            WHERE {table}.`processed_at` <= {latest}"
        )
    }

    // Everywhere below, what stands in the SQL beside literal text is quoted names, numbers and UUIDs.

    async fn execute(connection: &mut MySqlConnection, sql: String) -> sqlx::Result<u64> {
        Ok(sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?.rows_affected())
    }

    async fn rows(connection: &mut MySqlConnection, sql: String) -> sqlx::Result<Vec<MySqlRow>> {
        sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await
    }

    async fn insert(
        connection: &mut MySqlConnection,
        names: &Names,
        rows: &[NewRow],
    ) -> sqlx::Result<Vec<bool>> {
        // An insert that meets a duplicate keeps a lock on it until the session ends, and on the gap before it, for which
        // whoever delivers it or saves beside it would wait. So it is looked for first.
        let mut there = There::of(connection, names, rows).await?;
        if let [row] = rows {
            return Ok(vec![!there.has(row) && insert_one(connection, names, row).await?]);
        }
        let are_there: Vec<bool> = rows.iter().map(|row| there.has(row)).collect();
        let mut stored: Vec<bool> = rows.iter().map(|row| there.add(row)).collect();
        let new: Vec<&NewRow> =
            rows.iter().zip(&stored).filter_map(|(row, new)| new.then_some(row)).collect();
        if !new.is_empty() && !insert_all(connection, names, &new).await? {
            // Somebody has saved one of them since: the error undid the statement, and no more. Now each by itself.
            for ((row, is_there), stored) in rows.iter().zip(are_there).zip(&mut stored) {
                *stored = !is_there && insert_one(connection, names, row).await?;
            }
        }
        Ok(stored)
    }

    // A duplicate is told by the number of rows: one that was changed counts twice. One that stays as it is would count as a
    // new one does, as sqlx has those counted that were found; so its time is moved by a microsecond, and back the
    // next time. An error might be about a table that a trigger writes to, and an id that the statement sets gets lost in a
    // trigger.
    async fn mark(
        connection: &mut MySqlConnection,
        names: &Names,
        consumer: &str,
        event: Uuid,
    ) -> sqlx::Result<bool> {
        let sql = format!(
            "INSERT INTO {} (`consumer`, `event_id`, `processed_at`) VALUES (?, ?, UTC_TIMESTAMP(6))
            ON DUPLICATE KEY UPDATE `processed_at` =
                `processed_at` + INTERVAL (1 - MICROSECOND(`processed_at`) % 2 * 2) MICROSECOND",
            names.quoted_table()
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(consumer.as_bytes()).bind(event);
        Ok(query.execute(connection).await?.rows_affected() == 1)
    }

    async fn columns(
        connection: &mut MySqlConnection,
        names: &Names,
        table: &str,
    ) -> sqlx::Result<Vec<String>> {
        sqlx::query_scalar(
            "SELECT CAST(column_name AS CHAR) FROM information_schema.columns
            WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?",
        )
        .bind(names.schema.as_deref())
        .bind(table)
        .fetch_all(connection)
        .await
    }

    async fn indexes(
        connection: &mut MySqlConnection,
        names: &Names,
        table: &str,
    ) -> sqlx::Result<Vec<(String, bool)>> {
        let indexes: Vec<(String, i64)> = sqlx::query_as(
            "SELECT DISTINCT CAST(index_name AS CHAR), CAST(non_unique AS SIGNED)
            FROM information_schema.statistics
            WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?",
        )
        .bind(names.schema.as_deref())
        .bind(table)
        .fetch_all(connection)
        .await?;
        Ok(indexes.into_iter().map(|(name, is_not_unique)| (name, is_not_unique == 0)).collect())
    }

    fn is_made_with_table(_index: &str) -> bool {
        true
    }

    async fn migrate(pool: &Pool<Self>, names: &Names) -> Result<()> {
        let failed = |error| error::of::<Self>(names, MIGRATE, error);
        let mut connection = pool.acquire().await.map_err(failed)?;
        // The lock belongs to the connection and would outlive this function where it is dropped half-way.
        connection.close_on_drop();
        // A lock's name has 64 characters at most, a table's with its database's up to 129. MySQL has no MD5 since 9.6.
        let locked: Option<i64> = sqlx::query_scalar(
            "SELECT GET_LOCK(
                CONCAT('outbox:', LEFT(SHA2(CONCAT(COALESCE(?, DATABASE(), ''), '.', ?), 256), 32)), ?
            )",
        )
        .bind(names.schema.as_deref())
        .bind(&names.table)
        .bind(MIGRATION_TIMEOUT_SECONDS)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
        if locked != Some(1) {
            let message = format!(
                "could not migrate table `{}`: another process is at it for more than \
                 {MIGRATION_TIMEOUT_SECONDS} seconds",
                names.display()
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let applied = apply_missing::<Self>(&mut connection, names).await;
        let closed = connection.close().await.map_err(failed);
        applied.and(closed)
    }

    fn error_kind(error: &dyn DatabaseError) -> ErrorKind {
        number(error).map_or(ErrorKind::Backend, kind)
    }
}

fn kind(number: u16) -> ErrorKind {
    match number {
        // Lock wait timeout, deadlock, record changed since it was read, lock not available.
        1205 | 1213 | 1020 | 3572 => ErrorKind::Conflict,
        // No such database, column, table, index; a view that nothing can be written into.
        1049 | 1054 | 1146 | 1176 | 1288 | 1471 => ErrorKind::Schema,
        // Too many connections, also of an account, shutting down, interrupted, killed, out of time, offline for maintenance, not
        // available, idle for too long.
        1040 | 1053 | 1203 | 1226 | 1317 | 1927 | 1969 | 3024 | 3032 | 3168 | 4031 => ErrorKind::Unavailable,
        _ => ErrorKind::Backend,
    }
}

fn problem(name: &str) -> Option<&'static str> {
    if name.ends_with(|last: char| last.is_ascii_whitespace() || last == '\x0b') {
        Some("ends with a space")
    } else if name.chars().any(|char| char > '\u{ffff}') {
        Some("contains a character beyond U+FFFF")
    } else if name.chars().map(in_file_name).sum::<usize>() > MAX_FILE_NAME {
        Some("is too long for the name of a file, in which most characters beyond ASCII take five bytes")
    } else {
        None
    }
}

/// What file systems take, which is 255 bytes, without the ending `.ibd` that the server gives a table's file.
const MAX_FILE_NAME: usize = 251;

/// The letters of Latin, Greek and Cyrillic that the server writes as `@` and two more bytes in the name of a table's file.
/// Which these are was tried on a server, one character after the other.
const SHORT: &[RangeInclusive<char>] = &[
    '\u{c0}'..='\u{d6}',
    '\u{d8}'..='\u{f6}',
    '\u{f8}'..='\u{12f}',
    '\u{131}'..='\u{1be}',
    '\u{1f8}'..='\u{241}',
    '\u{250}'..='\u{2af}',
    '\u{388}'..='\u{38a}',
    '\u{38e}'..='\u{3a1}',
    '\u{3a3}'..='\u{3ce}',
    '\u{3fb}'..='\u{481}',
    '\u{48a}'..='\u{4ce}',
    '\u{4d0}'..='\u{4f9}',
    '\u{500}'..='\u{50f}',
];

/// How many bytes a character takes there. Other characters than ASCII letters and digits are `@` and four hexadecimal digits.
fn in_file_name(char: char) -> usize {
    match char {
        '0'..='9' | 'A'..='Z' | 'a'..='z' | '_' => 1,
        char if SHORT.iter().any(|letters| letters.contains(&char)) => 3,
        _ => 5,
    }
}

fn number(error: &dyn DatabaseError) -> Option<u16> {
    error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

fn literals(ids: &[EventId]) -> String {
    ids.iter().map(|id| format!("X'{}'", id.as_uuid().simple())).collect::<Vec<_>>().join(", ")
}

const COLUMNS: &str = "`id`, `type`, `payload`, `meta`, `status`, `not_before`, \
                       `partition_hash`, `lane`, `idempotency_hash`, `created_at`";

/// The ids and the hashes of idempotency keys that events of the outbox have: of 16 bytes, and of 32.
struct There(HashSet<Vec<u8>>);

/// Whether the session reads without locks. Under a stricter isolation two sessions that look for what is not there keep each
/// other from inserting it, so that nothing is to be found then. MySQL and MariaDB name the setting differently, and each
/// takes what is for the other for a comment.
const READS_FREELY: &str =
    "/*!80000 @@transaction_isolation */ /*M! @@tx_isolation */ IN ('READ-COMMITTED', 'REPEATABLE-READ')";

impl There {
    /// Of those that these rows have.
    async fn of(connection: &mut MySqlConnection, names: &Names, rows: &[NewRow]) -> sqlx::Result<Self> {
        Self::read(connection, names, rows, &format!("AND {READS_FREELY}")).await
    }

    async fn read(
        connection: &mut MySqlConnection,
        names: &Names,
        rows: &[NewRow],
        rest: &str,
    ) -> sqlx::Result<Self> {
        let ids: Vec<String> = rows.iter().map(|row| MySql::uuid(row.id)).collect();
        let keys = rows.iter().filter_map(|row| row.idempotency_hash.as_ref());
        let keys: Vec<String> = keys.map(|key| MySql::bytes(key)).collect();
        let mut sql = Vec::new();
        for (column, index, wanted) in [("id", "id", ids), ("idempotency_hash", "idempotency", keys)] {
            let (table, hint, wanted) = (names.quoted_table(), MySql::hint(names, index), wanted.join(", "));
            if !wanted.is_empty() {
                sql.push(format!(
                    "SELECT `{column}` FROM {table} {hint} WHERE `{column}` IN ({wanted}) {rest}"
                ));
            }
        }
        let rows = MySql::rows(connection, sql.join("; ")).await?;
        rows.iter().map(|row| row.bytes(0)).collect::<sqlx::Result<_>>().map(Self)
    }

    fn has(&self, row: &NewRow) -> bool {
        self.0.contains(row.id.as_bytes().as_slice())
            || row.idempotency_hash.is_some_and(|key| self.0.contains(key.as_slice()))
    }

    /// Whether a row is new. From then on it is there.
    fn add(&mut self, row: &NewRow) -> bool {
        let is_new = !self.has(row);
        if is_new {
            self.0.insert(row.id.as_bytes().to_vec());
            self.0.extend(row.idempotency_hash.map(|key| key.to_vec()));
        }
        is_new
    }
}

/// Inserts one and returns true, or false if it is a duplicate.
async fn insert_one(connection: &mut MySqlConnection, names: &Names, row: &NewRow) -> sqlx::Result<bool> {
    let sql = format!(
        "INSERT INTO {} ({COLUMNS})
        VALUES (?, ?, ?, ?, CASE WHEN ? > UTC_TIMESTAMP(6) THEN 'scheduled' ELSE 'pending' END,
            ?, ?, ?, ?, UTC_TIMESTAMP(6))",
        names.quoted_table(),
    );
    let not_before = row.not_before.map(|time| time.naive_utc());
    let query = sqlx::query(AssertSqlSafe(sql))
        .bind(row.id)
        .bind(&row.event_type)
        .bind(&row.payload)
        .bind(&row.meta)
        .bind(not_before)
        .bind(not_before)
        .bind(row.partition_hash.as_slice())
        .bind(row.lane)
        .bind(row.idempotency_hash.as_ref().map(<[u8; 32]>::as_slice));
    match query.execute(&mut *connection).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if is_own_duplicate(&*error, names) => {
            // Another table, which a trigger writes to, may have a key of the same name.
            let there = There::read(connection, names, slice::from_ref(row), "LOCK IN SHARE MODE").await?;
            if there.has(row) { Ok(false) } else { Err(sqlx::Error::Database(error)) }
        }
        Err(error) => Err(error),
    }
}

/// Inserts all of them and returns true, or none because of a duplicate among them.
///
/// The values stand in the statement, in hexadecimal digits, whatever they are: so any number of rows is one
/// round trip. A prepared statement would be another one for each number of rows, which takes a round trip to
/// prepare and drives the caller's own out of the connection's cache.
async fn insert_all(connection: &mut MySqlConnection, names: &Names, rows: &[&NewRow]) -> sqlx::Result<bool> {
    let rows: Vec<String> = rows.iter().map(|row| literal_row(row)).collect();
    let sql = format!("INSERT INTO {} ({COLUMNS}) VALUES {}", names.quoted_table(), rows.join(", "));
    match sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if is_own_duplicate(&*error, names) => Ok(false),
        Err(error) => Err(error),
    }
}

fn literal_row(row: &NewRow) -> String {
    let not_before = row
        .not_before
        .map_or("NULL".to_owned(), |time| time.format("TIMESTAMP'%Y-%m-%d %H:%M:%S%.3f'").to_string());
    let key =
        row.idempotency_hash.map_or("NULL".to_owned(), |hash| format!("X'{}'", const_hex::encode(hash)));
    format!(
        "(X'{}', {}, {}, {}, CASE WHEN {not_before} > UTC_TIMESTAMP(6) THEN 'scheduled' ELSE 'pending' END, \
        {not_before}, X'{}', {}, {key}, UTC_TIMESTAMP(6))",
        row.id.simple(),
        literal_text(&row.event_type),
        literal_text(&row.payload),
        literal_text(&row.meta),
        const_hex::encode(row.partition_hash),
        row.lane,
    )
}

fn literal_text(text: &str) -> String {
    format!("_utf8mb4 X'{}'", const_hex::encode(text))
}

/// Duplicates are told by the error, of which only those of the outbox's own keys count: `INSERT IGNORE`
/// would hide others, and `ON DUPLICATE KEY UPDATE` cannot say which rows were new.
fn is_own_duplicate(error: &dyn DatabaseError, names: &Names) -> bool {
    number(error) == Some(1062) && names_own_key(error.message(), names)
}

/// Whether a message says one of the outbox's own keys, in whatever language: a trigger may write to other tables, whose
/// keys may end like these.
fn names_own_key(message: &str, names: &Names) -> bool {
    // `Duplicate entry '…' for key 'outbox_id'`, in newer versions of MySQL `'outbox.outbox_id'`. Where tables are the same however
    // they are written, the index has the name of the one by which it was made.
    let message = message.to_ascii_lowercase();
    ["id", "idempotency"].iter().any(|suffix| {
        let index = names.index(suffix).to_ascii_lowercase();
        ["'", "."].iter().any(|before| message.contains(&format!("{before}{index}'")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_its_number() {
        for (numbers, expected) in [
            (&[1020, 1205, 1213, 3572][..], ErrorKind::Conflict),
            (&[1049, 1054, 1146, 1176, 1288, 1471], ErrorKind::Schema),
            (&[1040, 1053, 1203, 1226, 1317, 1927, 1969, 3024, 3032, 3168, 4031], ErrorKind::Unavailable),
            (&[0, 1062, 1064, 1142, 1366, 1406], ErrorKind::Backend),
        ] {
            for number in numbers {
                assert_eq!(kind(*number), expected, "{number}");
            }
        }
    }

    #[test]
    fn a_duplicate_in_another_table_is_not_one_of_the_outbox() {
        let names = Names::new(&MySql::RULES, &MySql::OUTBOX);
        for (key, is_own) in [
            ("outbox_id", true),
            ("outbox.outbox_id", true),
            ("outbox_idempotency", true),
            ("Outbox.Outbox_id", true),
            ("outbox.outbox_idempotency", true),
            ("audit_outbox_id", false),
            ("audit_outbox.audit_outbox_id", false),
            ("PRIMARY", false),
        ] {
            let message = format!("Duplicate entry 'x' for key '{key}'");
            assert_eq!(names_own_key(&message, &names), is_own, "{key}");
        }
        assert!(names_own_key("'x' は索引 'outbox.outbox_id' で重複しています。", &names));
    }

    #[test]
    fn a_name_has_the_characters_of_the_first_plane_and_ends_with_none_that_is_lost() {
        for (name, is_fine) in [("to \u{ffff}", true), ("to \u{10000}", false), (" x", true), ("x ", false)] {
            assert_eq!(problem(name).is_none(), is_fine, "{name:?}");
        }
    }
}

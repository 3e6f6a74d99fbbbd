//! What differs between the engines: a handful of functions of plain SQL.

/// An engine that [`SqlxOutbox`](crate::SqlxOutbox) runs on: [`sqlx::Postgres`], [`sqlx::MySql`] (also for
/// MariaDB) or [`sqlx::Sqlite`], each with the feature of its name. Sealed.
pub trait Dialect: WakeEngine {}

#[cfg(feature = "postgres")]
impl Dialect for sqlx::Postgres {}
#[cfg(feature = "mysql")]
impl Dialect for sqlx::MySql {}
#[cfg(feature = "sqlite")]
impl Dialect for sqlx::Sqlite {}

pub(crate) use sealed::Engine;

use crate::wake::WakeEngine;

mod sealed {
    use std::future::Future;

    use outbox_traits::{EventId, Result};
    use sqlx::{Database, Pool, error::DatabaseError};
    use uuid::Uuid;

    use crate::{
        names::{NameRules, Names},
        row::{NewRow, ReadRow},
        schema::Layout,
    };

    /// One engine. The functions without `async` write a statement, whose values are numbers and ids and stand
    /// in it as literals; the others run one, and bind whatever is text.
    ///
    /// A statement that leaves pending or delivered rows behind has an index named or forced: what it costs
    /// must not hang on statistics, which lag behind an outbox by their nature.
    pub trait Engine: Database<Row: ReadRow> {
        /// The rules for names.
        const RULES: NameRules;
        /// The directory of the shipped SQL files.
        const DIRECTORY: &'static str;
        /// What an outbox consists of.
        const OUTBOX: Layout;
        /// What an inbox consists of.
        const INBOX: Layout;
        /// The first year in which its calendar agrees with ours.
        const FIRST_YEAR: i32;
        /// How many rows, and about how many bytes, one insert takes.
        const INSERT_CHUNK: (usize, usize);
        /// Whether such an insert is one statement, and so atomic by itself.
        const INSERT_IS_ATOMIC: bool;
        /// What comes before several statements in the caller's transaction, after them, and where one of them fails, so that
        /// nothing of them is left in it; none where such an error ends the whole transaction.
        const AROUND_BATCH: Option<[&'static str; 3]>;

        /// What makes several statements one transaction, where a migration is none by itself.
        const AROUND_REPAIR: (&'static str, &'static str) = ("", "");
        /// Goes before a statement in the same message, and makes an index the way whatever the statistics say.
        const BY_INDEX: &'static str;
        /// The same before what is a transaction of its own, and under the isolation that the store goes by.
        const ALONE: &'static str;
        /// Goes before what is a transaction of its own and looks at other tables than the one it changes: so that it locks
        /// nothing there.
        const ISOLATE: &'static str;
        /// Begins a transaction in which each statement sees what was committed before it, and goes by indexes as
        /// after [`BY_INDEX`](Self::BY_INDEX). Its commit need not outlive a crash of the server.
        const BEGIN_CLAIM: &'static str;
        /// The same, but the commit does.
        const BEGIN_FLUSHED: &'static str;
        /// What comes before rows are locked, and before they are locked once more, without those that were locked.
        const AROUND_HOLD: (&'static str, &'static str);
        /// Whether those who wait to write look now and then, and sleep in between.
        const WAITS_ASLEEP: bool;
        /// Commits a transaction and begins another at once, where one statement does: what goes on in the same message
        /// is not under the locks of the first, and whatever is cut off then, there is one transaction to end.
        const CHAIN: Option<&'static str>;
        /// Begins a transaction in which all statements see one moment, and that writes nothing.
        const BEGIN_LOOK: &'static str;
        /// Ends a reading that locks its rows.
        const FOR_UPDATE: &'static str;
        /// The same, but passes over rows that another has locked.
        const FOR_UPDATE_IF_FREE: &'static str;
        /// Whether an update can return rows.
        const RETURNING: bool;
        /// Whether a `WITH` takes an update, and its rows can be inserted.
        const WRITES_IN_WITH: bool;
        /// Whether the table of which rows are deleted stands between `DELETE` and `FROM` too.
        const NAMES_DELETE_TARGET: bool;
        /// Whether an index takes a name that no table has then.
        const INDEXES_TAKE_NAMES: bool;
        /// Whether a subquery can refer to a table beside it.
        const LATERAL: bool;
        /// Whether nulls of an index count as in order only where one orders by its column.
        const SORTS_NULLS: bool;
        /// Whether the index `fifo` has the events of every status, and not only the pending ones.
        const FIFO_OF_ALL: bool;
        /// Whether a limit can be a query, and has to: a condition that holds of no row is asked of each.
        const LIMITS_BY_QUERY: bool;
        /// Why a connection of this kind cannot be used: no row where it can.
        const UNFIT: Option<&'static str>;
        /// Whether a change of what is in a range locks all of the range, and what is beside it.
        const LOCKS_RANGES: bool;
        /// Names what finds pending events by their places.
        const BY_PLACE: &'static str;
        /// The time now.
        const CLOCK: &'static str;
        /// The columns of an event, as [`ReadRow::stored`] takes them.
        const EVENT: &'static str;
        /// The status, hidden from the indexes of one status.
        const STATUS: &'static str;
        /// The type, as bytes.
        const TYPE: &'static str;
        /// A large integer, as the target of a cast.
        const BIGINT: &'static str;

        /// A time, in microseconds since 1970.
        fn micros(time: &str) -> String;
        /// A time from microseconds since 1970, rounded up.
        fn time(micros: i64) -> String;
        /// The time so many microseconds ago, as a bound of stored ones; after all of them if it is 0.
        fn ago(micros: i64) -> String;
        /// An id.
        fn uuid(id: Uuid) -> String;
        /// Bytes.
        fn bytes(bytes: &[u8]) -> String;
        /// A text, without NUL characters.
        fn text(text: &str) -> String;
        /// That a large integer is one of these.
        fn one_of(column: &str, numbers: &[i64]) -> String;
        /// That bytes are one of these.
        fn one_of_bytes(column: &str, all: &[[u8; 16]]) -> String {
            let all: Vec<String> = all.iter().map(|bytes| Self::bytes(bytes)).collect();
            format!("{column} IN ({})", all.join(", "))
        }
        /// That a large integer is none of these, in words that search no index.
        fn none_of(column: &str, numbers: &[i64]) -> String;
        /// Names the index that is to be used.
        fn hint(names: &Names, index: &str) -> String;

        /// The first pending events.
        fn pending(names: &Names, limit: i64) -> String;
        /// Scheduled events whose time has come.
        fn due(names: &Names, limit: i64) -> String;
        /// Makes such events pending.
        fn promote(names: &Names, ids: &[EventId]) -> String;
        /// Marks pending events as delivered, on a further condition.
        fn acknowledge(names: &Names, ids: &[EventId], condition: &str) -> String;
        /// Events that were delivered at least so many microseconds ago; all delivered ones if it is 0.
        fn expired(names: &Names, age_micros: i64, limit: i64) -> String;
        /// Makes dead events pending again, with fresh attempts.
        fn requeue(names: &Names, ids: &[EventId]) -> String;

        /// Deletes marks of an inbox that are at least so many microseconds old; all if it is 0.
        fn purge_marks(names: &Names, age_micros: i64, limit: i64) -> String;

        /// Runs a statement without parameters and says how many rows it changed.
        fn execute(
            connection: &mut Self::Connection,
            sql: String,
        ) -> impl Future<Output = sqlx::Result<u64>> + Send;
        /// Runs a statement without parameters and returns its rows.
        fn rows(
            connection: &mut Self::Connection,
            sql: String,
        ) -> impl Future<Output = sqlx::Result<Vec<Self::Row>>> + Send;
        /// Inserts events and says of each whether it was new.
        fn insert(
            connection: &mut Self::Connection,
            names: &Names,
            rows: &[NewRow],
        ) -> impl Future<Output = sqlx::Result<Vec<bool>>> + Send;
        /// Marks an event as processed by a consumer, and says whether it was not.
        fn mark(
            connection: &mut Self::Connection,
            names: &Names,
            consumer: &str,
            event: Uuid,
        ) -> impl Future<Output = sqlx::Result<bool>> + Send;

        /// The columns of one of the tables; none if it does not exist.
        fn columns(
            connection: &mut Self::Connection,
            names: &Names,
            table: &str,
        ) -> impl Future<Output = sqlx::Result<Vec<String>>> + Send;
        /// The names of the indexes of one of the tables, and whether each is unique.
        fn indexes(
            connection: &mut Self::Connection,
            names: &Names,
            table: &str,
        ) -> impl Future<Output = sqlx::Result<Vec<(String, bool)>>> + Send;
        /// Whether one of the indexes, by what follows the name of the outbox or inbox in its own, is made with its table: if it
        /// is lost, the migrations do not make it again.
        fn is_made_with_table(index: &str) -> bool;
        /// Whether a table is where a migration looks for one of its name: if not, that would make another one, and hide it.
        fn is_where_made(
            _connection: &mut Self::Connection,
            _names: &Names,
            _table: &str,
        ) -> impl Future<Output = sqlx::Result<bool>> + Send {
            async { Ok(true) }
        }
        /// Applies what is missing, under a lock that all processes share.
        fn migrate(pool: &Pool<Self>, names: &Names) -> impl Future<Output = Result<()>> + Send;

        /// What a program can do about an error of this engine.
        fn error_kind(error: &dyn DatabaseError) -> outbox_traits::ErrorKind;
    }
}

//! The inbox: what each consumer has processed, in a table beside its own data.

use std::{fmt, sync::Arc, time::Duration};

use outbox_traits::{
    EventId, InboxStore, Receipt, Result, SchemaReport, SchemaStore, async_trait, check_consumer,
};
use sqlx::Pool;

use crate::{
    claims::Conflicts,
    dialect::Dialect,
    error,
    names::Names,
    schema,
    store::{BATCH, age_micros, as_limit},
};

/// An inbox in a table of PostgreSQL, MySQL, MariaDB or SQLite, in the database of the consumer.
///
/// The aliases `PgInbox`, `MySqlInbox` and `SqliteInbox` name it for each engine. A clone is cheap and is the same
/// inbox. By default its table is `inbox`, where the engine looks for a table of that name;
/// [`migrate`](SchemaStore::migrate) creates it, and the files `inbox_*.sql` in the directory `migrations` do the
/// same.
///
/// To ask it is one round trip. A session that asks for an event which another open session has marked waits for
/// that one to end; under `REPEATABLE READ` and `SERIALIZABLE` on PostgreSQL it is a
/// [`Conflict`](outbox_traits::ErrorKind::Conflict) if the other commits. On SQLite begin with `BEGIN IMMEDIATE`, as
/// with an outbox.
///
#[cfg_attr(feature = "sqlite", doc = "```no_run")]
#[cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
/// use outbox_sqlx::{SqliteInbox, sqlx};
/// use outbox_traits::{EventId, InboxStore, SchemaStore};
///
/// # async fn example(event: EventId) -> Result<(), Box<dyn std::error::Error>> {
/// let pool = sqlx::SqlitePool::connect("sqlite:billing.db?mode=rwc").await?;
/// let inbox = SqliteInbox::new(pool.clone());
/// inbox.migrate().await?;
///
/// let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
/// if inbox.process_once(&mut transaction, "billing", event).await?.is_new() {
///     sqlx::query("UPDATE account SET balance = balance - 42").execute(&mut *transaction).await?;
/// }
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
pub struct SqlxInbox<DB: Dialect> {
    pool: Pool<DB>,
    names: Arc<Names>,
}

/// An inbox on PostgreSQL, 14 or later. Its session is [`sqlx::PgConnection`].
#[cfg(feature = "postgres")]
pub type PgInbox = SqlxInbox<sqlx::Postgres>;

/// An inbox on MySQL, 8.0 or later, or MariaDB, 10.6 or later. Its session is [`sqlx::MySqlConnection`].
#[cfg(feature = "mysql")]
pub type MySqlInbox = SqlxInbox<sqlx::MySql>;

/// An inbox on SQLite, 3.35 or later. Its session is [`sqlx::SqliteConnection`].
#[cfg(feature = "sqlite")]
pub type SqliteInbox = SqlxInbox<sqlx::Sqlite>;

#[cfg(feature = "postgres")]
impl PgInbox {
    /// In a table of this schema, which must exist. Without it, the table is looked for along the search path
    /// of the connection.
    ///
    /// # Errors
    /// [`Schema`](outbox_traits::ErrorKind::Schema) if the name is empty, longer than 63 bytes or contains a NUL.
    pub fn with_schema(self, name: &str) -> Result<Self> {
        self.in_schema(name)
    }
}

#[cfg(feature = "mysql")]
impl MySqlInbox {
    /// In a table of this database, which must exist. Without it, the table is in the database of the
    /// connection.
    ///
    /// # Errors
    /// [`Schema`](outbox_traits::ErrorKind::Schema) if the name is empty, longer than 64 characters, contains a NUL
    /// or a character beyond U+FFFF, or ends with a space.
    pub fn with_schema(self, name: &str) -> Result<Self> {
        self.in_schema(name)
    }
}

const MARK: &str = "mark an event as processed in";
const PURGE: &str = "purge marks from";

impl<DB: Dialect> SqlxInbox<DB> {
    /// An inbox in the table `inbox`, with this pool for what is done outside the caller's sessions.
    #[must_use]
    pub fn new(pool: Pool<DB>) -> Self {
        Self { pool, names: Arc::new(Names::new(&DB::RULES, &DB::INBOX)) }
    }

    /// In another table. Any name that the engine takes as a quoted identifier will do; the table of versions and
    /// the indexes have names that begin with it.
    ///
    /// # Errors
    /// [`Schema`](outbox_traits::ErrorKind::Schema) if the engine cannot take it: it is empty, too long or
    /// contains a NUL.
    pub fn with_table(self, name: &str) -> Result<Self> {
        Ok(Self { names: Arc::new(self.names.with_table(name)?), ..self })
    }

    fn in_schema(self, name: &str) -> Result<Self> {
        Ok(Self { names: Arc::new(self.names.with_schema(name)?), ..self })
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &Pool<DB> {
        &self.pool
    }

    /// The SQL that [`migrate`](SchemaStore::migrate) would run on an empty database, with this inbox's names: for
    /// a migration tool of one's own.
    #[must_use]
    pub fn migration_sql(&self) -> String {
        schema::migration_sql(&self.names)
    }

    fn error(&self, tried: &str) -> impl Fn(sqlx::Error) -> outbox_traits::Error {
        move |error| error::of::<DB>(&self.names, tried, error)
    }
}

#[async_trait]
impl<DB: Dialect> InboxStore for SqlxInbox<DB> {
    type Session = DB::Connection;

    async fn process_once(
        &self,
        session: &mut DB::Connection,
        consumer: &str,
        event: EventId,
    ) -> Result<Receipt> {
        check_consumer(consumer).map_err(|error| error.with_event(event))?;
        let marked = DB::mark(session, &self.names, consumer, event.into()).await;
        let is_new = marked.map_err(|error| self.error(MARK)(error).with_event(event))?;
        Ok(if is_new { Receipt::New } else { Receipt::Duplicate })
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        let Some(micros) = age_micros(older_than) else { return Ok(0) };
        let mut connection = self.pool.acquire().await.map_err(self.error(PURGE))?;
        let (mut purged, mut conflicts) = (0, Conflicts::new());
        loop {
            let sql = DB::purge_marks(&self.names, micros, as_limit(BATCH));
            match DB::execute(&mut connection, sql).await {
                Ok(batch) => {
                    purged += batch;
                    if batch < BATCH as u64 {
                        return Ok(purged);
                    }
                    conflicts = Conflicts::new();
                }
                // Another purge.
                Err(error) => conflicts.wait::<DB>(error).await.map_err(self.error(PURGE))?,
            }
        }
    }
}

#[async_trait]
impl<DB: Dialect> SchemaStore for SqlxInbox<DB> {
    async fn migrate(&self) -> Result<()> {
        schema::migrate(&self.pool, &self.names).await
    }

    async fn verify(&self) -> Result<SchemaReport> {
        schema::verify(&self.pool, &self.names).await
    }
}

impl<DB: Dialect> Clone for SqlxInbox<DB> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), names: Arc::clone(&self.names) }
    }
}

impl<DB: Dialect> fmt::Debug for SqlxInbox<DB> {
    // Not the pool: its options hold the address, and perhaps the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlxInbox")
            .field("engine", &DB::NAME)
            .field("table", &self.names.display())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_an_inbox_shows_is_its_table_and_no_password() {
        let pool = sqlx::PgPool::connect_lazy("postgres://user:secret@localhost/shop").unwrap();
        let inbox = PgInbox::new(pool).with_table("seen").unwrap().with_schema("app").unwrap();
        assert_eq!(format!("{inbox:?}"), r#"SqlxInbox { engine: "PostgreSQL", table: "app.seen", .. }"#);
    }
}

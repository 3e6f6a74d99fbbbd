//! The store: what its methods mean, for every engine alike.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use outbox_traits::{Event, EventId, OutboxStore, Result, Retention, Saved, async_trait};
use sqlx::{Connection, Pool, Row, Transaction, pool::PoolConnection};
use tokio::sync::Mutex;

use crate::{
    claims::{Conflicts, Stretches, sql},
    dialect::Dialect,
    error,
    names::Names,
    row::{self, NewRow, ReadRow},
    wake::Wake,
};

/// Rows that one statement changes at most: no transaction of the store's own is longer. By a list of a thousand ids MariaDB
/// would look through all of a short table, and so wait for what others are about to save.
pub(crate) const BATCH: usize = 500;
/// Such ages, of a thousand years, are older than any delivery, and as intervals beyond what the engines can count.
const OLDEST: Duration = Duration::from_hours(8_760_000);
/// How often one fetch sets undecodable rows aside and looks again.
const MAX_LOOKS: usize = 1000;

/// An outbox in a table of PostgreSQL, MySQL, MariaDB or SQLite.
///
/// The aliases `PgOutbox`, `MySqlOutbox` and `SqliteOutbox` name it for each engine. A clone is cheap and is
/// the same outbox. By default its table is `outbox`, where the engine looks for a table of that name.
pub struct SqlxOutbox<DB: Dialect> {
    pub(crate) pool: Pool<DB>,
    pub(crate) names: Arc<Names>,
    pub(crate) retention: Retention,
    pub(crate) wake: Arc<Wake<DB>>,
    /// Held by whoever claims or settles, where the engine would let them look now and then whether they may.
    pub(crate) turn: Arc<Mutex<()>>,
    /// About how many events the last claim that looked had to step over.
    pub(crate) steps: Arc<AtomicUsize>,
    /// What claims have found out about events of keys that have very many.
    pub(crate) stretches: Arc<Stretches>,
}

impl<DB: Dialect> SqlxOutbox<DB> {
    /// An outbox in the table `outbox`, with this pool for whatever is done outside the caller's sessions.
    #[must_use]
    pub fn new(pool: Pool<DB>) -> Self {
        let names = Arc::new(Names::new(&DB::RULES, &DB::OUTBOX));
        let wake = Wake::new(&pool, &names);
        Self {
            pool,
            names,
            retention: Retention::default(),
            wake,
            turn: Arc::default(),
            steps: Arc::default(),
            stretches: Arc::default(),
        }
    }

    /// In another table. Any name that the engine takes as a quoted identifier will do; the other tables and the
    /// indexes have names that begin with it.
    ///
    /// # Errors
    /// [`Schema`](outbox_traits::ErrorKind::Schema) if the engine cannot take it: it is empty, too long or
    /// contains a NUL.
    pub fn with_table(self, name: &str) -> Result<Self> {
        let names = self.names.with_table(name)?;
        Ok(self.named(names))
    }

    /// What becomes of delivered events, through this handle and its clones: by default they are kept until they
    /// are purged.
    #[must_use]
    pub fn with_retention(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    pub(crate) fn in_schema(self, name: &str) -> Result<Self> {
        let names = self.names.with_schema(name)?;
        Ok(self.named(names))
    }

    fn named(self, names: Names) -> Self {
        let names = Arc::new(names);
        // Another table's commits are not this one's.
        let wake = Wake::new(&self.pool, &names);
        Self {
            pool: self.pool,
            names,
            retention: self.retention,
            wake,
            turn: Arc::default(),
            steps: Arc::default(),
            stretches: Arc::default(),
        }
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &Pool<DB> {
        &self.pool
    }

    pub(crate) fn error(&self, tried: &str) -> impl Fn(sqlx::Error) -> outbox_traits::Error {
        move |error| error::of::<DB>(&self.names, tried, error)
    }

    /// Begins a transaction of the store's own.
    ///
    /// In a task, which goes on where the caller is dropped: sqlx lets go of a connection of MySQL whose `BEGIN` was
    /// cut off with a transaction in it that nobody ends, and what is saved on it next is never committed.
    pub(crate) async fn begin(
        &self,
        statement: &'static str,
    ) -> Result<Transaction<'static, DB>, sqlx::Error> {
        let pool = self.pool.clone();
        let begin = tokio::spawn(async move {
            for _ in 0..MAX_RECOVERIES {
                // Not by the driver's own statement, which is a savepoint where it takes a transaction for open.
                match pool.begin_with(statement).await {
                    Err(sqlx::Error::InvalidSavePointStatement) => recover(&pool).await?,
                    begun => return begun,
                }
            }
            pool.begin_with(statement).await
        });
        match begin.await {
            Ok(begun) => begun,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Its runtime is shutting down.
                Err(_) => Err(sqlx::Error::PoolClosed),
            },
        }
    }

    pub(crate) async fn acquire(&self, tried: &str) -> Result<PoolConnection<DB>> {
        self.pool.acquire().await.map_err(self.error(tried))
    }

    async fn insert(
        &self,
        rows: &[NewRow],
        connection: &mut DB::Connection,
    ) -> Result<Vec<Saved>, sqlx::Error> {
        let mut saved = Vec::with_capacity(rows.len());
        for chunk in row::chunks(rows, DB::INSERT_CHUNK.0, DB::INSERT_CHUNK.1) {
            let stored = DB::insert(connection, &self.names, chunk).await?;
            saved.extend(stored.into_iter().map(|new| if new { Saved::Stored } else { Saved::Duplicate }));
        }
        Ok(saved)
    }

    /// Inserts them in the caller's transaction, who may commit it though this fails.
    async fn insert_in_session(
        &self,
        rows: &[NewRow],
        session: &mut DB::Connection,
    ) -> Result<Vec<Saved>, sqlx::Error> {
        let around = DB::AROUND_BATCH.filter(|_| !rows.is_empty() && !is_one_statement::<DB>(rows));
        // Without a transaction of the driver, what is to be released may be one by itself, which nobody ends where the call is
        // dropped.
        let around = around.filter(|[_, after, _]| after.is_empty() || session.is_in_transaction());
        let Some([before, after, undo]) = around else { return self.insert(rows, session).await };
        DB::execute(session, before.to_owned()).await?;
        let saved = async {
            let saved = self.insert(rows, &mut *session).await?;
            if !after.is_empty() {
                DB::execute(&mut *session, after.to_owned()).await?;
            }
            Ok(saved)
        };
        let saved = saved.await;
        if saved.is_err() {
            // An error that has ended the transaction has undone them too.
            let _ended = DB::execute(session, undo.to_owned()).await;
        }
        saved
    }

    /// Changes rows by their ids, with a statement for each batch of them.
    pub(crate) async fn change(
        &self,
        connection: &mut DB::Connection,
        ids: &[EventId],
        statement: fn(&Names, &[EventId]) -> String,
    ) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        for ids in ids.chunks(BATCH) {
            changed += DB::execute(connection, statement(&self.names, ids)).await?;
        }
        Ok(changed)
    }

    /// Changes all rows that a page names, page by page.
    ///
    /// A page is read first, and without locks, and then changed by its ids, each step a transaction of its
    /// own: a change that searched for its rows would lock or wait for others on the way. One that is in conflict
    /// with another, as under a stricter isolation than the engine's own default, is done again.
    pub(crate) async fn change_all(
        &self,
        connection: &mut DB::Connection,
        page: String,
        statement: fn(&Names, &[EventId]) -> String,
    ) -> Result<u64, sqlx::Error> {
        let (mut changed, mut conflicts) = (0, Conflicts::new());
        loop {
            match self.change_page(connection, &page, statement).await {
                Ok((of_page, is_last)) => {
                    changed += of_page;
                    if is_last {
                        return Ok(changed);
                    }
                    conflicts = Conflicts::new();
                }
                Err(error) => conflicts.wait::<DB>(error).await?,
            }
        }
    }

    async fn change_page(
        &self,
        connection: &mut DB::Connection,
        page: &str,
        statement: fn(&Names, &[EventId]) -> String,
    ) -> Result<(u64, bool), sqlx::Error> {
        let rows = DB::rows(connection, page.to_owned()).await?;
        let ids = rows.iter().map(|row| Ok(row.position()?.1)).collect::<sqlx::Result<Vec<_>>>()?;
        Ok((self.change(connection, &ids, statement).await?, ids.len() < BATCH))
    }

    /// Nothing where retries have become due, which take their places in the order first.
    async fn fetch(
        &self,
        connection: &mut DB::Connection,
        limit: usize,
    ) -> Result<Option<Vec<Event>>, sqlx::Error> {
        // What has become due takes its place in the order before anything is read.
        let due = DB::due(&self.names, as_limit(BATCH));
        let (leases, parked) = (sql::has_leases::<DB>(&self.names), sql::has_parked::<DB>(&self.names));
        let pending = DB::pending(&self.names, as_limit(limit));
        // In one message: nearly always nothing has become due, nothing is leased or parked, and the last answer
        // is the one that counts.
        let mut rows = DB::rows(connection, format!("{due}; {leases}; {parked}; {pending}")).await?;
        // What is no event has two columns, and begins with the place of what is due, or -1.
        let others = rows.extract_if(.., |row| row.len() == 2).map(|row| Ok(row.position()?.0));
        let others = others.collect::<sqlx::Result<Vec<i64>>>()?;
        let (busy, has_come): (Vec<i64>, Vec<i64>) = others.into_iter().partition(|seq| seq.is_negative());
        if !has_come.is_empty() {
            self.change_all(connection, due, DB::promote).await?;
        }
        if !busy.is_empty() {
            return self.fetch_among(connection, limit).await;
        }
        if !has_come.is_empty() {
            rows = DB::rows(connection, pending).await?;
        }

        let mut events = Vec::new();
        for _ in 0..MAX_LOOKS {
            let mut undecodable = Vec::new();
            events = Vec::with_capacity(rows.len());
            for row in &rows {
                let stored = row.stored()?;
                match stored.event {
                    Ok(event) => events.push(event),
                    Err(reason) => undecodable.push((stored.seq, reason)),
                }
            }
            if undecodable.is_empty() {
                break;
            }
            for (seq, reason) in undecodable {
                DB::execute(connection, sql::set_aside::<DB>(&self.names, seq, &reason)).await?;
            }
            // Where there is one there may be many: they must not cost a look each.
            rows = DB::rows(connection, DB::pending(&self.names, as_limit(limit.max(BATCH)))).await?;
        }
        events.truncate(limit);
        Ok(Some(events))
    }
}

/// How often connections are looked through for a transaction that is over: one may be on its way back into the pool.
const MAX_RECOVERIES: usize = 10;

/// Closes connections with a transaction that SQLite has ended by itself, as where the disk is full: the driver takes it for
/// open, its rollback fails, and nothing can be begun on them any more.
async fn recover<DB: Dialect>(pool: &Pool<DB>) -> Result<(), sqlx::Error> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut idle = vec![pool.acquire().await?];
    while let Some(connection) = pool.try_acquire() {
        idle.push(connection);
    }
    for connection in idle.into_iter().filter(|connection| connection.is_in_transaction()) {
        connection.close().await?;
    }
    Ok(())
}

pub(crate) fn as_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// An age in microseconds, rounded up so that nothing is deleted early; none if nothing is as old.
pub(crate) fn age_micros(older_than: Duration) -> Option<i64> {
    OLDEST.checked_sub(older_than)?;
    i64::try_from(older_than.as_nanos().div_ceil(1000)).ok()
}

/// All of them, before the first is written.
fn rows<DB: Dialect>(events: &[Event]) -> Result<Vec<NewRow>> {
    events.iter().map(|event| NewRow::of(event, DB::FIRST_YEAR)).collect()
}

/// Whether their insert is atomic by itself.
fn is_one_statement<DB: Dialect>(rows: &[NewRow]) -> bool {
    let is_atomic = rows.len() == 1 || DB::INSERT_IS_ATOMIC;
    is_atomic && row::chunks(rows, DB::INSERT_CHUNK.0, DB::INSERT_CHUNK.1).len() == 1
}

const SAVE: &str = "save an event in";
const SAVE_ALL: &str = "save events in";
const FETCH: &str = "fetch pending events from";
const ACKNOWLEDGE: &str = "acknowledge events in";
const PURGE: &str = "purge delivered events from";

#[async_trait]
impl<DB: Dialect> OutboxStore for SqlxOutbox<DB> {
    type Session = DB::Connection;

    async fn save(&self, event: &Event) -> Result<Saved> {
        let row = NewRow::of(event, DB::FIRST_YEAR)?;
        let mut connection = self.acquire(SAVE).await.map_err(|error| error.with_event(event.id()))?;
        let saved = self.insert_one(row, event.id(), &mut connection).await;
        drop(connection);
        let saved = saved.inspect_err(|_| self.wake.expect(event.id()))?;
        self.committed(&[saved]);
        Ok(saved)
    }

    async fn save_all(&self, events: &[Event]) -> Result<Vec<Saved>> {
        match events {
            [] => return Ok(Vec::new()),
            [event] => return Ok(vec![self.save(event).await?]),
            _ => {}
        }
        let rows = rows::<DB>(events)?;
        let saved = if is_one_statement::<DB>(&rows) {
            self.insert(&rows, &mut *self.acquire(SAVE_ALL).await?).await
        } else {
            self.insert_in_transaction(&rows).await
        };
        // Where the answer was lost it may be committed all the same, and whoever saves it again is told that it is there.
        let expect = |_: &sqlx::Error| events.last().into_iter().for_each(|last| self.wake.expect(last.id()));
        let saved = saved.inspect_err(expect).map_err(self.error(SAVE_ALL))?;
        self.committed(&saved);
        Ok(saved)
    }

    async fn save_in_session(&self, event: &Event, session: &mut DB::Connection) -> Result<Saved> {
        let saved = self.insert_one(NewRow::of(event, DB::FIRST_YEAR)?, event.id(), session).await?;
        self.expect(std::slice::from_ref(event), &[saved]);
        Ok(saved)
    }

    async fn save_all_in_session(
        &self,
        events: &[Event],
        session: &mut DB::Connection,
    ) -> Result<Vec<Saved>> {
        let rows = rows::<DB>(events)?;
        let saved = self.insert_in_session(&rows, session).await.map_err(self.error(SAVE_ALL))?;
        self.expect(events, &saved);
        Ok(saved)
    }

    async fn get_pending(&self, limit: usize) -> Result<Vec<Event>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut conflicts = Conflicts::new();
        loop {
            let mut connection = self.acquire(FETCH).await?;
            let fetched = self.fetch(&mut connection, limit).await;
            drop(connection);
            let prepared = match fetched {
                Ok(Some(events)) => return Ok(events),
                Ok(None) => self.retry_due().await,
                Err(error) => Err(error),
            };
            match prepared {
                Ok(()) => {}
                Err(error) => conflicts.wait::<DB>(error).await.map_err(self.error(FETCH))?,
            }
        }
    }

    async fn acknowledge(&self, id: EventId) -> Result<()> {
        self.acknowledge_all(&[id]).await
    }

    async fn acknowledge_all(&self, ids: &[EventId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut connection = self.acquire(ACKNOWLEDGE).await?;
        let (mut claimed, mut done) = (Vec::new(), Ok(()));
        for ids in ids.chunks(BATCH) {
            match self.acknowledge_free(&mut connection, ids).await {
                Ok(true) => {}
                Ok(false) => claimed.extend_from_slice(ids),
                Err(error) => {
                    done = Err(self.error(ACKNOWLEDGE)(error));
                    break;
                }
            }
        }
        drop(connection);
        // Also where another part of them met an error.
        let acknowledged = self.acknowledge_claimed(&claimed).await.map_err(self.error(ACKNOWLEDGE));
        acknowledged.and(done)
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        let Some(micros) = age_micros(older_than) else { return Ok(0) };
        let expired = DB::expired(&self.names, micros, as_limit(BATCH));
        let mut connection = self.acquire(PURGE).await?;
        self.change_all(&mut connection, expired, sql::purge::<DB>).await.map_err(self.error(PURGE))
    }
}

impl<DB: Dialect> SqlxOutbox<DB> {
    async fn insert_one(&self, row: NewRow, id: EventId, connection: &mut DB::Connection) -> Result<Saved> {
        let saved = self
            .insert(std::slice::from_ref(&row), connection)
            .await
            .map_err(|error| self.error(SAVE)(error).with_event(id))?;
        Ok(saved[0])
    }

    /// Wakes who listens, if anything was stored and committed.
    fn committed(&self, saved: &[Saved]) {
        if saved.contains(&Saved::Stored) {
            self.wake.committed();
        }
    }

    /// Looks out for the commit of what was stored; what was saved together is committed together.
    fn expect(&self, events: &[Event], saved: &[Saved]) {
        if let Some(last) = saved.iter().rposition(|saved| *saved == Saved::Stored) {
            self.wake.expect(events[last].id());
        }
    }

    /// Acknowledges events where nothing is leased or parked, and returns whether that was so: no key waits for any of them then.
    async fn acknowledge_free(
        &self,
        connection: &mut DB::Connection,
        ids: &[EventId],
    ) -> Result<bool, sqlx::Error> {
        let names = &self.names;
        let sql = format!(
            "{}{}; {}; {}; {}",
            DB::ISOLATE,
            self.acknowledged(ids, &sql::if_free(names)),
            sql::has_leases::<DB>(names),
            sql::has_parked::<DB>(names),
            // Something may have been leased or parked only in the moment in which they were to be acknowledged.
            sql::one_open::<DB>(names, ids),
        );
        let mut conflicts = Conflicts::new();
        loop {
            match DB::rows(connection, sql.clone()).await {
                Ok(rows) => return Ok(rows.is_empty()),
                Err(error) => conflicts.wait::<DB>(error).await?,
            }
        }
    }

    /// The statement that acknowledges events, on a further condition.
    pub(crate) fn acknowledged(&self, ids: &[EventId], condition: &str) -> String {
        match self.retention {
            Retention::UntilPurged => DB::acknowledge(&self.names, ids, condition),
            Retention::DeleteOnDelivery => sql::acknowledge_and_delete::<DB>(&self.names, ids, condition),
        }
    }

    async fn insert_in_transaction(&self, rows: &[NewRow]) -> Result<Vec<Saved>, sqlx::Error> {
        let mut transaction = self.begin("BEGIN").await?;
        let saved = self.insert(rows, &mut transaction).await?;
        transaction.commit().await?;
        Ok(saved)
    }
}

impl<DB: Dialect> Clone for SqlxOutbox<DB> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            names: Arc::clone(&self.names),
            retention: self.retention,
            wake: Arc::clone(&self.wake),
            turn: Arc::clone(&self.turn),
            steps: Arc::clone(&self.steps),
            stretches: Arc::clone(&self.stretches),
        }
    }
}

impl<DB: Dialect> fmt::Debug for SqlxOutbox<DB> {
    // Not the pool: its options hold the address, and perhaps the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlxOutbox")
            .field("engine", &DB::NAME)
            .field("table", &self.names.display())
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_rounded_up_so_that_nothing_goes_early_and_bounded_by_what_engines_can_count() {
        for (age, micros) in [
            (Duration::ZERO, Some(0)),
            (Duration::from_nanos(1), Some(1)),
            (Duration::from_micros(7), Some(7)),
            (OLDEST, Some(31_536_000_000_000_000)),
            (OLDEST + Duration::from_nanos(1), None),
            (Duration::MAX, None),
        ] {
            assert_eq!(age_micros(age), micros, "{age:?}");
        }
    }

    #[cfg(feature = "postgres")]
    #[tokio::test]
    async fn what_a_store_shows_is_its_table_and_retention_and_no_password() {
        let pool = sqlx::PgPool::connect_lazy("postgres://user:secret@localhost/shop").unwrap();
        let store = crate::PgOutbox::new(pool).with_schema("app").unwrap();
        let store = store.with_retention(Retention::DeleteOnDelivery);
        let shown =
            r#"SqlxOutbox { engine: "PostgreSQL", table: "app.outbox", retention: DeleteOnDelivery, .. }"#;
        assert_eq!(format!("{store:?}"), shown);
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn a_busy_outbox_says_nothing_about_one_of_another_table() {
        use std::sync::atomic::Ordering::Relaxed;

        let store = crate::SqliteOutbox::new(sqlx::SqlitePool::connect("sqlite::memory:").await.unwrap());
        store.steps.store(7, Relaxed);
        assert_eq!(store.clone().steps.load(Relaxed), 7);
        assert_eq!(store.with_table("other").unwrap().steps.load(Relaxed), 0);
    }
}

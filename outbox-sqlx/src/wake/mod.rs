//! Wake-ups: who listens hears of commits, so that nobody has to ask all the time.
//!
//! Clones of a store share one notice, and a save of the store's own gives it once it is committed. A save in the
//! caller's session is committed later, when only the caller knows, and to say it in the session would make the
//! commits of PostgreSQL wait for one another. So somebody looks: the [`watcher`] for the events saved lately,
//! through the pool, or the one who listens, through a connection of his own ([`poll`]). What other processes
//! commit comes by `NOTIFY` (PostgreSQL, [`postgres`]) or is found by looking, too.

mod expected;
#[cfg(feature = "mysql")]
mod mysql;
mod newest;
mod poll;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod watcher;

use std::{
    fmt,
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::ExponentialBuilder;
use outbox_traits::{EventId, Result, WakeStore, Wakeups, async_trait};
use sqlx::Pool;
use tokio::{
    sync::{Notify, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};
use uuid::Uuid;

use self::expected::Expected;
use crate::{
    SqlxOutbox,
    dialect::{Dialect, Engine},
    error,
    names::Names,
};

const LISTEN: &str = "listen for commits in";
/// Whatever takes longer than this on a connection of one's own is given up, and the connection with it.
const STUCK: Duration = Duration::from_secs(5);
/// Between attempts to connect again: from 25 to 50 ms at first, and 10 s at most. Servers that come back are not to be
/// met by everybody at once.
const RECONNECT: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(25))
    .with_max_delay(Duration::from_secs(5))
    .with_jitter()
    .without_max_times();

/// Runs until those who listen are gone.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How commits are heard of on an engine.
pub trait WakeEngine: Engine {
    /// Whether commits are to be announced to other processes.
    const ANNOUNCES: bool;

    /// Begins to hear of what others commit, and returns what goes on with it until `closing` is done. None if
    /// nobody else can commit.
    fn begin(
        wake: &Arc<Wake<Self>>,
        closing: Task,
    ) -> impl Future<Output = sqlx::Result<Option<Task>>> + Send;

    /// Tells other processes of a commit.
    fn announce(
        wake: &Wake<Self>,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;
}

/// What the clones of a store share about commits.
#[expect(missing_debug_implementations, reason = "nobody outside this crate has one to print")]
pub struct Wake<DB: WakeEngine> {
    pool: Pool<DB>,
    names: Arc<Names>,
    /// Stands in announcements: who made one knows already.
    id: Uuid,
    notice: watch::Sender<()>,
    expected: Mutex<Expected>,
    /// Something is expected sooner than whoever looks was going to look.
    stirred: Arc<Notify>,
    /// Whether those who listen rely on the watcher.
    by_pool: AtomicBool,
    source: tokio::sync::Mutex<Weak<Source>>,
}

/// Whatever hears of the commits of others, for all of this store who listen.
struct Source {
    task: Option<JoinHandle<()>>,
    _gone: oneshot::Sender<()>,
}

impl Source {
    /// It is not if the runtime that it ran on is gone.
    fn is_alive(&self) -> bool {
        self.task.as_ref().is_none_or(|task| !task.is_finished())
    }
}

impl<DB: WakeEngine> Wake<DB> {
    pub(crate) fn new(pool: &Pool<DB>, names: &Arc<Names>) -> Arc<Self> {
        Arc::new(Self {
            pool: pool.clone(),
            names: Arc::clone(names),
            id: Uuid::now_v7(),
            notice: watch::Sender::new(()),
            expected: Mutex::new(Expected::new(Instant::now())),
            stirred: Arc::default(),
            by_pool: AtomicBool::new(false),
            source: tokio::sync::Mutex::default(),
        })
    }

    /// The store has committed something.
    pub(crate) fn committed(self: &Arc<Self>) {
        self.notice.send_replace(());
        if DB::ANNOUNCES {
            let mut expected = self.expected();
            let due = expected.announce(Instant::now());
            self.watch(expected, due);
        }
    }

    /// An event was saved in a session, which may commit soon, late or never.
    pub(crate) fn expect(self: &Arc<Self>, id: EventId) {
        let mut expected = self.expected();
        let due = expected.save(id, Instant::now());
        if self.is_watched() {
            self.watch(expected, due);
        } else {
            drop(expected);
            self.stirred.notify_one();
        }
    }

    /// Whether it is the watcher who tells of what sessions commit, and there is somebody to tell.
    fn is_watched(&self) -> bool {
        DB::ANNOUNCES || self.by_pool.load(Ordering::Relaxed) && !self.notice.is_closed()
    }

    fn expected(&self) -> MutexGuard<'_, Expected> {
        // Nothing that panics is done while it is held.
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<DB: Dialect> Wake<DB> {
    /// The source, begun if there is none.
    async fn source(self: &Arc<Self>) -> Result<Arc<Source>> {
        let mut current = self.source.lock().await;
        if let Some(source) = current.upgrade().filter(|source| source.is_alive()) {
            return Ok(source);
        }
        let (gone, all_gone) = oneshot::channel();
        let pool_closes = self.pool.close_event();
        let closing = async move {
            tokio::select! {
                _ = all_gone => {}
                () = pool_closes => {}
            }
        };
        let failed = |error| error::of::<DB>(&self.names, LISTEN, error);
        let task = DB::begin(self, Box::pin(closing)).await.map_err(failed)?;
        self.by_pool.store(task.is_none(), Ordering::Relaxed);
        let source = Arc::new(Source { task: task.map(tokio::spawn), _gone: gone });
        *current = Arc::downgrade(&source);
        Ok(source)
    }
}

/// Wakes soon after a commit: of this process, also one of the caller's own transaction, and of others.
///
/// Nothing needs to be called for it, and nothing is added to the caller's transaction. Who listens has one
/// connection beside the pool, which all who listen on clones of one store share; none on a database in memory.
/// It is closed when the last of them is dropped, or the pool is closed.
///
/// - PostgreSQL: `NOTIFY` after the commit, from a connection of the pool that is free, once for many commits. A
///   connection that was lost, also silently, is replaced within some 15 seconds, and what may have been missed
///   meanwhile wakes once. Behind a pooler in transaction mode `LISTEN` hears nothing of other processes.
/// - MySQL and MariaDB have no such thing: what other processes commit is looked for, at least every 100 ms.
/// - SQLite: the file's version is looked at, at least every 16 ms, which costs some microseconds.
///
/// The commit of a transaction is told of as long as a clone of the store that saved in it, or one who listens
/// on one, is there, and for 30 seconds after the save.
#[async_trait]
impl<DB: Dialect> WakeStore for SqlxOutbox<DB> {
    async fn wakeups(&self) -> Result<Box<dyn Wakeups>> {
        let notice = self.wake.notice.subscribe();
        let source = self.wake.source().await?;
        // What was saved before, and is not committed yet, may be of interest only now.
        self.wake.stir();
        Ok(Box::new(Listener { notice, _source: source, wake: Arc::clone(&self.wake) }))
    }
}

struct Listener<DB: Dialect> {
    notice: watch::Receiver<()>,
    _source: Arc<Source>,
    // Whatever connects anew needs the pool's options.
    wake: Arc<Wake<DB>>,
}

#[async_trait]
impl<DB: Dialect> Wakeups for Listener<DB> {
    async fn wait(&mut self) {
        if self.notice.changed().await.is_err() {
            // Nobody is left who could tell.
            pending::<()>().await;
        }
    }
}

impl<DB: Dialect> fmt::Debug for Listener<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakeups")
            .field("engine", &DB::NAME)
            .field("table", &self.wake.names.display())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use sqlx::{
        Sqlite,
        sqlite::{SqliteConnectOptions, SqlitePoolOptions},
    };

    use super::*;
    use crate::SqliteOutbox;

    async fn in_memory() -> SqliteOutbox {
        let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        SqliteOutbox::new(pool)
    }

    fn is_at_work(wake: &Wake<Sqlite>) -> bool {
        wake.expected().alarm.is_some()
    }

    #[tokio::test]
    async fn nobody_looks_through_the_pool_where_nobody_listens() {
        let store = in_memory().await;
        store.wake.expect(EventId::new());
        assert!(!is_at_work(&store.wake), "nobody has listened");
        let listener = store.wakeups().await.unwrap();
        assert!(is_at_work(&store.wake), "also for what was saved before");
        drop(listener);
        let store = store.clone().with_table("other").unwrap();
        drop(store.wakeups().await.unwrap());
        store.wake.expect(EventId::new());
        assert!(!is_at_work(&store.wake), "nobody listens any more");
    }

    #[tokio::test]
    async fn nobody_looks_through_the_pool_where_one_has_a_connection_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = SqliteConnectOptions::new().filename(directory.path().join("file.db"));
        let pool = SqlitePoolOptions::new().connect_with(file.create_if_missing(true)).await.unwrap();
        let store = SqliteOutbox::new(pool);
        outbox_traits::SchemaStore::migrate(&store).await.unwrap();
        let _listener = store.wakeups().await.unwrap();
        store.wake.expect(EventId::new());
        assert!(!is_at_work(&store.wake));
    }

    #[tokio::test]
    async fn a_watcher_is_stirred_only_by_what_comes_before_it_looks_anyhow() {
        let store = in_memory().await;
        let wake = &store.wake;
        let _hears = wake.notice.subscribe();
        wake.by_pool.store(true, Ordering::Relaxed);
        let is_stirred = async || tokio::time::timeout(Duration::ZERO, wake.stirred.notified()).await.is_ok();
        wake.expected().alarm = Some(Instant::now());
        wake.expect(EventId::new());
        assert!(!is_stirred().await);
        wake.expected().alarm = Some(Instant::now() + Duration::from_secs(60));
        wake.expect(EventId::new());
        assert!(is_stirred().await);
    }

    #[tokio::test]
    async fn what_is_shown_names_the_table_and_no_address() {
        let store = in_memory().await.with_table("shown").unwrap();
        let listener = store.wakeups().await.unwrap();
        assert_eq!(format!("{listener:?}"), r#"Wakeups { engine: "SQLite", table: "shown", .. }"#);
    }
}

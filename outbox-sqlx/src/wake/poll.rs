//! Looking for what others commit, through a connection of one's own.

use std::{
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use sqlx::{Connection, Pool};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    STUCK, Task, Wake, WakeEngine, before_reconnect,
    budget::Budget,
    newest::{Newest, WINDOW},
};
use crate::{names::Names, row::ReadRow};

/// An engine on which one looks.
pub(super) trait Look: WakeEngine {
    /// The shortest and the longest time between two looks.
    const INTERVALS: (Duration, Duration);
    /// The average time between two looks at least.
    const PERIOD: Duration;

    /// A connection beside the pool.
    fn connect(pool: &Pool<Self>) -> impl Future<Output = sqlx::Result<Self::Connection>> + Send;
    /// Whether it is worth while to look at the outbox; compares the database with how it was.
    fn has_changed(
        connection: &mut Self::Connection,
        version: &mut i64,
    ) -> impl Future<Output = sqlx::Result<bool>> + Send;
}

struct Poller<DB: Look> {
    wake: Weak<Wake<DB>>,
    names: Arc<Names>,
    notice: watch::Sender<()>,
    stirred: Arc<Notify>,
    connection: Option<DB::Connection>,
    version: i64,
    newest: Newest,
}

/// Begins to look.
pub(super) async fn begin<DB: Look>(wake: &Arc<Wake<DB>>, closing: Task) -> sqlx::Result<Option<Task>> {
    let mut poller = Poller {
        wake: Arc::downgrade(wake),
        names: Arc::clone(&wake.names),
        notice: wake.notice.clone(),
        stirred: Arc::clone(&wake.stirred),
        connection: None,
        version: 0,
        newest: Newest::default(),
    };
    poller.connect().await?;
    Ok(Some(Box::pin(async move {
        tokio::select! {
            () = closing => {}
            () = poller.run() => {}
        }
        if let Some(connection) = poller.connection.take() {
            // Or else the server would note down a lost one.
            let _ = timeout(STUCK, connection.close()).await;
        }
    })))
}

impl<DB: Look> Poller<DB> {
    /// Looks for ever, or until the store is gone.
    async fn run(&mut self) {
        let (shortest, longest) = DB::INTERVALS;
        let mut interval = shortest;
        let mut last = Instant::now();
        let mut budget = Budget::new(DB::PERIOD, last);
        loop {
            tokio::select! {
                () = sleep_until(budget.allows(last + interval)) => {}
                // Soon after a save in a session, for it may commit.
                () = self.stirred.notified(), if interval > shortest => {
                    interval = shortest;
                    last = Instant::now();
                    continue;
                }
            }
            last = Instant::now();
            budget.spend(last);
            let is_new = match self.look().await {
                Ok(is_new) => is_new,
                Err(_) => match self.reconnect().await {
                    // Whatever was committed meanwhile is for nobody to know.
                    Some(()) => true,
                    None => return,
                },
            };
            if is_new {
                self.notice.send_replace(());
                interval = shortest;
            } else {
                interval = (2 * interval).min(longest);
            }
        }
    }

    /// Looks once, and says whether anything is new.
    async fn look(&mut self) -> sqlx::Result<bool> {
        let Some(connection) = &mut self.connection else { return Err(sqlx::Error::PoolClosed) };
        let look = async {
            if !DB::has_changed(connection, &mut self.version).await? {
                return Ok(false);
            }
            let limit = i64::try_from(WINDOW).unwrap_or(i64::MAX);
            let rows = DB::rows(connection, DB::newest(&self.names, limit)).await?;
            let seqs = rows.iter().map(|row| Ok(row.position()?.0)).collect::<sqlx::Result<Vec<_>>>()?;
            Ok(self.newest.is_new(seqs))
        };
        stuck(timeout(STUCK, look).await)
    }

    /// Connects, and takes down how things are.
    async fn connect(&mut self) -> sqlx::Result<()> {
        self.connection = None;
        let Some(wake) = self.wake.upgrade() else { return Err(sqlx::Error::PoolClosed) };
        self.connection = Some(stuck(timeout(STUCK, DB::connect(&wake.pool)).await)?);
        drop(wake);
        self.version = i64::MIN;
        self.look().await.map(|_| ())
    }

    /// Connects as soon as it can; none if the store is gone.
    async fn reconnect(&mut self) -> Option<()> {
        let mut attempt = 0;
        while self.connect().await.is_err() {
            self.connection = None;
            if self.wake.strong_count() == 0 {
                return None;
            }
            sleep(before_reconnect(attempt)).await;
            attempt += 1;
        }
        Some(())
    }
}

fn stuck<T>(done: Result<sqlx::Result<T>, tokio::time::error::Elapsed>) -> sqlx::Result<T> {
    done.unwrap_or_else(|elapsed| Err(sqlx::Error::Io(elapsed.into())))
}

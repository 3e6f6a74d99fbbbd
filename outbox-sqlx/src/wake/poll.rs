//! Looking for what others commit, through a connection of one's own.

use std::{future::Future, sync::Arc, time::Duration};

use backon::BackoffBuilder;
use sqlx::{Connection, Pool};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    RECONNECT, STUCK, Task, Wake, WakeEngine,
    newest::{Newest, WINDOW},
};
use crate::{claims::sql, row::ReadRow};

/// From a save in a session to the first look after it: a commit takes about as long.
const FIRST: Duration = Duration::from_millis(1);

/// An engine on which one looks.
pub(super) trait Look: WakeEngine {
    /// The shortest and the longest time between two looks.
    const INTERVALS: (Duration, Duration);

    /// A connection beside the pool.
    fn connect(pool: &Pool<Self>) -> impl Future<Output = sqlx::Result<Self::Connection>> + Send;
    /// Whether it is worth while to look at the outbox; compares the database with how it was.
    fn has_changed(
        connection: &mut Self::Connection,
        version: &mut i64,
    ) -> impl Future<Output = sqlx::Result<bool>> + Send;
}

struct Poller<DB: Look> {
    wake: Arc<Wake<DB>>,
    connection: Option<DB::Connection>,
    version: i64,
    newest: Newest,
}

/// Begins to look.
pub(super) async fn begin<DB: Look>(wake: &Arc<Wake<DB>>, closing: Task) -> sqlx::Result<Option<Task>> {
    let mut poller =
        Poller { wake: Arc::clone(wake), connection: None, version: 0, newest: Newest::default() };
    poller.connect().await?;
    Ok(Some(Box::pin(async move {
        tokio::select! {
            () = closing => {}
            () = poller.run() => {}
        }
        let connection = poller.connection.take();
        // Nobody waits for the end of it, and so it does not keep the pool.
        drop(poller);
        if let Some(connection) = connection {
            // Or else the server would note down a lost one.
            let _ = timeout(STUCK, connection.close()).await;
        }
    })))
}

impl<DB: Look> Poller<DB> {
    /// Looks for ever.
    async fn run(&mut self) {
        let (shortest, longest) = DB::INTERVALS;
        let mut interval = shortest;
        let (mut last, mut next) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                // Once for each look: what is saved until then changes nothing about it.
                () = self.wake.stirred.notified(), if interval > shortest => {
                    interval = shortest;
                    next = next.min((last + shortest).max(Instant::now() + FIRST));
                    continue;
                }
            }
            last = Instant::now();
            let is_new = if let Ok(is_new) = self.look().await {
                is_new
            } else {
                self.reconnect().await;
                // Whatever was committed meanwhile is for nobody to know.
                true
            };
            if is_new {
                self.wake.notice.send_replace(());
                interval = shortest;
            }
            next = last + interval;
            interval = (2 * interval).min(longest);
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
            let rows = DB::rows(connection, sql::newest::<DB>(&self.wake.names, limit)).await?;
            let seqs = rows.iter().map(|row| Ok(row.position()?.0)).collect::<sqlx::Result<Vec<_>>>()?;
            Ok(self.newest.is_new(seqs))
        };
        stuck(timeout(STUCK, look).await)
    }

    /// Connects, and takes down how things are.
    async fn connect(&mut self) -> sqlx::Result<()> {
        self.connection = None;
        self.connection = Some(stuck(timeout(STUCK, DB::connect(&self.wake.pool)).await)?);
        self.version = i64::MIN;
        self.look().await.map(|_| ())
    }

    /// Connects as soon as it can.
    async fn reconnect(&mut self) {
        for delay in RECONNECT.build() {
            if self.connect().await.is_ok() {
                return;
            }
            sleep(delay).await;
        }
    }
}

fn stuck<T>(done: Result<sqlx::Result<T>, tokio::time::error::Elapsed>) -> sqlx::Result<T> {
    done.unwrap_or_else(|elapsed| Err(sqlx::Error::Io(elapsed.into())))
}

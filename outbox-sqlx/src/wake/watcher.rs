//! The watcher: looks, through the pool, whether what sessions saved is committed, and announces commits.
//!
//! It is there only while something is expected. It takes an idle connection, or stands in line like everybody else.

use std::{
    sync::{Arc, MutexGuard, Weak},
    time::Duration,
};

use outbox_traits::EventId;
use sqlx::pool::PoolConnection;
use tokio::{
    runtime::Handle,
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};

use super::{STUCK, Wake, WakeEngine, expected::Due, expected::Expected};
use crate::{claims::sql, row::ReadRow};

impl<DB: WakeEngine> Wake<DB> {
    /// Sees to it that something is done at a time.
    pub(super) fn watch(self: &Arc<Self>, mut expected: MutexGuard<'_, Expected>, due: Instant) {
        match expected.alarm {
            Some(alarm) if alarm <= due => {}
            Some(_) => self.stirred.notify_one(),
            None => {
                let Ok(runtime) = Handle::try_current() else { return };
                expected.alarm = Some(due);
                drop(expected);
                let running = Running(Arc::downgrade(self));
                runtime.spawn(run(running));
            }
        }
    }

    /// The same, for what was expected before.
    pub(super) fn stir(self: &Arc<Self>) {
        let expected = self.expected();
        if self.is_watched()
            && let Some(next) = expected.next()
        {
            self.watch(expected, next);
        }
    }

    /// When to look next; none if there is nothing to look for, or nobody to look for it.
    fn rest(&self) -> Option<Instant> {
        let mut expected = self.expected();
        let is_watched = self.is_watched() && !self.pool.is_closed();
        expected.alarm = if is_watched { expected.next() } else { None };
        expected.alarm
    }

    async fn look(&self) {
        let mut due = self.expected().due(Instant::now());
        let announced = match self.connection(due.is_late).await {
            Some(mut connection) => {
                let looked = timeout(STUCK, self.look_on(&mut connection, &mut due)).await;
                if looked.is_err() {
                    connection.close_on_drop();
                }
                matches!(looked, Ok(Ok(())))
            }
            None => false,
        };
        if let Some(since) = due.announcement.filter(|_| !announced) {
            self.expected().announce_later(since, Instant::now());
        }
    }

    /// What goes wrong is tried again at the next look: a wake-up is only a hint.
    async fn look_on(&self, connection: &mut DB::Connection, due: &mut Due) -> sqlx::Result<()> {
        let mut seen = Vec::new();
        if !due.ids.is_empty() {
            let rows = DB::rows(connection, sql::committed::<DB>(&self.names, &due.ids)).await?;
            seen = rows.iter().map(|row| Ok(row.position()?.1)).collect::<sqlx::Result<Vec<EventId>>>()?;
        }
        if !seen.is_empty() {
            self.expected().seen(&seen);
            self.notice.send_replace(());
            due.announcement.get_or_insert_with(Instant::now);
        }
        if due.announcement.is_some() {
            DB::announce(self, connection).await?;
        }
        Ok(())
    }

    /// A connection of the pool, which is not to grow for it but where there is no other way.
    async fn connection(&self, is_late: bool) -> Option<PoolConnection<DB>> {
        let idle = self.pool.try_acquire();
        if idle.is_some() {
            return idle;
        }
        let (size, most) = (self.pool.size(), self.pool.options().get_max_connections());
        // Of connections that are all wanted all the time none is ever idle. If there is none any more, all have been lost,
        // and perhaps nobody else asks for one. And none is ever idle where those who work keep theirs.
        if size >= most || size == 0 || is_late {
            timeout(STUCK, self.pool.acquire()).await.ok()?.ok()
        } else {
            None
        }
    }
}

/// The last part of a wait, which is waited for exactly.
const EXACT: Duration = Duration::from_millis(2);

/// Tokio's clock goes by whole milliseconds, rounded up more than once, which would be most of the time from a commit to
/// its wake-up. A thread that may block sleeps more exactly.
async fn exactly(time: Instant) {
    sleep_until(time.checked_sub(EXACT).unwrap_or(time)).await;
    let left = time.saturating_duration_since(Instant::now());
    spawn_blocking(move || std::thread::sleep(left)).await.ok();
}

/// A watcher that is at work: it must not seem so once its runtime is gone.
struct Running<DB: WakeEngine>(Weak<Wake<DB>>);

impl<DB: WakeEngine> Drop for Running<DB> {
    fn drop(&mut self) {
        if let Some(wake) = self.0.upgrade() {
            wake.expected().alarm = None;
        }
    }
}

async fn run<DB: WakeEngine>(mut running: Running<DB>) {
    loop {
        // It keeps neither the store nor its pool while it rests.
        let Some(wake) = running.0.upgrade() else { return };
        let Some(next) = wake.rest() else {
            // It has said so itself, and there may be another by now.
            running.0 = Weak::new();
            return;
        };
        let stirred = Arc::clone(&wake.stirred);
        drop(wake);
        tokio::select! {
            () = exactly(next) => {}
            () = stirred.notified() => continue,
        }
        let Some(wake) = running.0.upgrade() else { return };
        wake.look().await;
    }
}

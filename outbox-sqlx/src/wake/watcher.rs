//! The watcher: looks, through the pool, whether what sessions saved is committed, and announces commits.
//!
//! It is there only while something is expected, and takes a connection only when one is idle, so that it is in
//! nobody's way, also where the pool has but one.

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

/// For so long one waits for a connection that nobody wants, before standing in line like everybody else.
const MODEST: Duration = Duration::from_millis(250);

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
        if self.pool.is_closed() {
            expected.clear();
        }
        expected.alarm = if self.is_watched() { expected.next() } else { None };
        expected.alarm
    }

    async fn look(&self) {
        let mut due = self.expected().due(Instant::now());
        let announced = match self.connection(&due).await {
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

    /// An idle connection of the pool.
    async fn connection(&self, due: &Due) -> Option<PoolConnection<DB>> {
        let idle = self.pool.try_acquire();
        if idle.is_some() {
            return idle;
        }
        let (size, most) = (self.pool.size(), self.pool.options().get_max_connections());
        let waited = due.since.map_or(Duration::ZERO, |since| since.elapsed());
        if DB::ANNOUNCES && stands_in_line(size, most, waited) {
            self.pool.acquire().await.ok()
        } else {
            None
        }
    }
}

/// Whether one waits for a connection like everybody else. In a pool whose connections are all wanted all the time none is
/// ever idle. Where it has all that it may have, to stand in line does not make it grow. Where it has none any more, all have
/// been lost, and perhaps nobody else asks for one.
fn stands_in_line(size: u32, most: u32, waited: Duration) -> bool {
    (size == 0 || size >= most) && waited > MODEST
}

/// What is nearer than this is waited for exactly.
const NEAR: Duration = Duration::from_millis(2);

/// How far away a time is that is near.
fn near(time: Instant, now: Instant) -> Option<Duration> {
    Some(time.saturating_duration_since(now)).filter(|left| *left < NEAR)
}

/// Tokio's clock goes by whole milliseconds, rounded up more than once, which would be most of the time from a commit to
/// its wake-up. A thread that may block sleeps more exactly.
async fn exactly(time: Instant) {
    if let Some(left) = near(time, Instant::now())
        && spawn_blocking(move || std::thread::sleep(left)).await.is_ok()
    {
        return;
    }
    sleep_until(time).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_keeps_a_thread_waiting() {
        let now = Instant::now();
        let moment = Duration::from_micros(1);
        let nearer = NEAR.saturating_sub(moment);
        assert_eq!(near(now + nearer, now), Some(nearer));
        assert_eq!(near(now + NEAR, now), None);
        assert_eq!(near(now + Duration::from_secs(1), now), None);
        assert_eq!(near(now, now + moment), Some(Duration::ZERO), "it has come");
    }

    #[test]
    fn one_stands_in_line_only_late_and_where_the_pool_cannot_grow_or_has_none() {
        let late = MODEST + Duration::from_micros(1);
        for (size, waited, stands) in
            [(4, late, true), (4, MODEST, false), (3, late, false), (0, late, true), (0, MODEST, false)]
        {
            assert_eq!(stands_in_line(size, 4, waited), stands, "{size} of 4, after {waited:?}");
        }
    }
}

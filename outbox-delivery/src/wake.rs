//! How long an idle relay waits before it looks again.

use std::time::Duration;

use outbox_traits::WakeStore;
use tokio::{sync::Notify, time::sleep};

use crate::{guard, relay::Common, retry::Retry};

/// Wake-ups that come in a burst are one: as many looks would find no more.
const BURST: Duration = Duration::from_millis(2);

/// Tells the loop whenever something may have been committed. It never ends.
pub(crate) async fn listen(store: &dyn WakeStore, woken: &Notify) {
    let mut backoff = Retry::default().start();
    loop {
        let error = match guard::store(async { store.wakeups().await }).await {
            Ok(mut wakeups) => {
                // Something may have been committed while nobody listened.
                woken.notify_one();
                let backoff = &mut backoff;
                let listening = async move {
                    loop {
                        if let Err(panic) = guard::wait(async { wakeups.wait().await }).await {
                            // What it listens by may panic where it is dropped, and that in a panic ends the program.
                            return panic;
                        }
                        backoff.reset();
                        woken.notify_one();
                        sleep(BURST).await;
                    }
                };
                let (Ok(panic) | Err(panic)) = guard::wait(listening).await;
                format!("what it listens by panicked: {panic}")
            }
            Err(error) => guard::into_text(error),
        };
        tracing::warn!(error, "the relay cannot listen for wake-ups, and looks by itself until it can");
        sleep(backoff.next()).await;
    }
}

/// Waits that double as long as nothing is found, so that an idle relay costs next to nothing.
#[derive(Debug)]
pub(crate) struct Idle {
    next: Duration,
    longest: Duration,
}

const FIRST: Duration = Duration::from_millis(50);
/// How long it waits at most, unless it was told otherwise: alone, and where wake-ups come.
const LONGEST: Duration = Duration::from_secs(2);
const LONGEST_WITH_WAKEUPS: Duration = Duration::from_secs(5);

impl Idle {
    /// Of a relay that was told how long to wait at most, or not.
    pub(crate) fn of(common: &Common, longest: Option<Duration>) -> Self {
        let usual = if common.wakeups.is_some() { LONGEST_WITH_WAKEUPS } else { LONGEST };
        Self::new(longest.unwrap_or(usual))
    }

    fn new(longest: Duration) -> Self {
        Self { next: FIRST.min(longest), longest }
    }

    /// Shortened at random by up to a half, so that many relays do not ask at the same moment.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.longest);
        wait.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Something was found.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.longest);
    }
}

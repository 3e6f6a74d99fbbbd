//! Whether a relay is making progress.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Says whether a relay is making progress: [`Relay::health`](crate::Relay::health) hands it out, for a health check of
/// the process. Clones speak of the same relay.
#[derive(Clone, Debug)]
pub struct Health {
    limit: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// When the store answered last, or a run began.
    answered_at: Option<Instant>,
    /// Until when the transport is left alone, and the store is not asked for anything.
    paused_until: Option<Instant>,
    /// The first failure of a publish since the last event was accepted, and the last one.
    failing: Option<(Instant, Instant)>,
    /// For how long the first event that is due has been so, by the store's stats.
    oldest_due: Option<Duration>,
}

/// Why a relay is not making progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unhealthy {
    /// No `run` of it goes on.
    NotRunning,
    /// The store has not answered for so long.
    NoAnswer(Duration),
    /// Publishes have failed for so long, and no event was accepted.
    NothingAccepted(Duration),
    /// The first event that is due, in the order, has been so for so long.
    Behind(Duration),
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => f.write_str("the relay is not running"),
            Self::NoAnswer(time) => write!(f, "the outbox store has not answered for {time:?}"),
            Self::NothingAccepted(time) => write!(f, "no event was accepted for {time:?}"),
            Self::Behind(age) => write!(f, "the first event that is due waits for {age:?}"),
        }
    }
}

impl std::error::Error for Unhealthy {}

impl Health {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, state: Arc::default() }
    }

    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Whether [`check`](Self::check) finds nothing.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.check().is_ok()
    }

    /// Looks whether the relay is making progress.
    ///
    /// # Errors
    /// If it is not running, or if for longer than the [limit](crate::Relay::with_health_limit) the store has not
    /// answered, publishes have failed and none was accepted, or the first due event has been due. The last one needs
    /// [`with_stats`](crate::Relay::with_stats), and is as new as what the store was last asked: at most ten seconds.
    pub fn check(&self) -> Result<(), Unhealthy> {
        let state = self.lock();
        if state.running == 0 {
            return Err(Unhealthy::NotRunning);
        }
        // In a pause nobody asks.
        let silence = state.answered_at.max(state.paused_until).map(|at| at.elapsed());
        if let Some(silence) = silence.filter(|time| *time > self.limit) {
            return Err(Unhealthy::NoAnswer(silence));
        }
        // Where the last failure is long ago, somebody else has taken care of the event.
        if let Some((first, last)) = state.failing
            && first.elapsed() > self.limit
            && Some(last).max(state.paused_until).is_none_or(|last| last.elapsed() <= self.limit)
        {
            return Err(Unhealthy::NothingAccepted(first.elapsed()));
        }
        match state.oldest_due.filter(|age| *age > self.limit) {
            Some(age) => Err(Unhealthy::Behind(age)),
            None => Ok(()),
        }
    }

    /// A run goes on until the guard is dropped.
    pub(crate) fn run(&self) -> Running {
        let mut state = self.lock();
        state.running += 1;
        state.answered_at = Some(Instant::now());
        Running(self.clone())
    }

    /// The store answered.
    pub(crate) fn answered(&self) {
        self.lock().answered_at = Some(Instant::now());
    }

    /// Nothing is published until then.
    pub(crate) fn paused(&self, until: Instant) {
        self.lock().paused_until = Some(until);
    }

    pub(crate) fn accepted(&self) {
        self.lock().failing = None;
    }

    pub(crate) fn failed(&self) {
        let now = Instant::now();
        self.lock().failing.get_or_insert((now, now)).1 = now;
    }

    /// For how long the first event that is due has been so; `None`: there is none, or nobody knows.
    pub(crate) fn oldest_due(&self, age: Option<Duration>) {
        self.lock().oldest_due = age;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Running(Health);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}

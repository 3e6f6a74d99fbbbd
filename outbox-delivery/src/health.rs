//! Whether a relay is making progress.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::relay::MAX_INTERVAL;

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
    /// When the store was asked first of what it has not answered, by kind of question.
    asked_at: [Option<Instant>; 3],
    /// When it is to be asked next, if nothing else is waited for. Where that is past, the loop does not come round.
    asks_at: Option<Instant>,
    /// Until when the transport is left alone.
    paused_until: Option<Instant>,
    /// The failures of publishes since an event was accepted.
    failing: Option<Series>,
    /// For how long the first event that is due has been so, by the store's stats, and when it said so.
    oldest_due: Option<(Duration, Instant)>,
}

/// Failures of publishes that follow one another.
#[derive(Clone, Copy, Debug)]
struct Series {
    first: Instant,
    last: Instant,
    /// How long another publish may take, if it has begun at once.
    until: Instant,
    /// When the next one is to be expected at the latest, after what its retry waits for.
    next: Instant,
}

/// What a store has said is known for so long at least, where it says nothing new.
const KNOWN_FOR: Duration = Duration::from_mins(1);

/// What a store is asked for. That it answers the one says nothing of the other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Question {
    /// Events to publish.
    Events,
    /// To renew the leases of what is being published, which goes on also where no claim is answered.
    Leases,
    /// To write down what became of events.
    Settlement,
}

/// Why a relay is not making progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unhealthy {
    /// No `run` of it goes on.
    NotRunning,
    /// The store has not answered for so long what it was asked, or was to be asked.
    NoAnswer(Duration),
    /// Publishes have failed for so long, the last one not long ago, and no event was accepted.
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

    pub(crate) fn limit(&self) -> Duration {
        self.limit
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
    /// answered what it was asked, publishes have failed or were cut off at the end of their leases and none was accepted, or
    /// the first due event has been due. Where leases, or what a retry waits for, last longer than the limit, it counts from the
    /// second publish on that fails, and until so much time and the limit have gone by without another. The
    /// last one needs [`with_stats`](crate::Relay::with_stats), and is as new as what the store was last asked: at most
    /// ten seconds, or half of the limit but not less than one. Where it does not say that any more, what it said last counts for the
    /// limit, and for a minute at least.
    ///
    /// A relay that does not even come to ask when it was to, as where a handler blocks its thread, has no answer either.
    /// Where there is nothing to ask, as while a publish goes on, nothing is held against it.
    pub fn check(&self) -> Result<(), Unhealthy> {
        let state = self.lock();
        if state.running == 0 {
            return Err(Unhealthy::NotRunning);
        }
        let since = state.asked_at.into_iter().chain([state.asks_at]).flatten();
        let silence = since.map(|at| at.elapsed()).max();
        if let Some(silence) = silence.filter(|time| *time > self.limit) {
            return Err(Unhealthy::NoAnswer(silence));
        }
        if let Some(since) = state.fails_since(self.limit) {
            return Err(Unhealthy::NothingAccepted(since.elapsed()));
        }
        match state.oldest_due {
            Some((age, at)) if age > self.limit && at.elapsed() <= self.limit.max(KNOWN_FOR) => {
                Err(Unhealthy::Behind(age))
            }
            _ => Ok(()),
        }
    }

    /// A run goes on until the guard is dropped.
    pub(crate) fn run(&self) -> Running {
        let mut state = self.lock();
        state.running += 1;
        state.asks_at = Some(Instant::now());
        Running(self.clone())
    }

    /// The store is asked.
    pub(crate) fn asked(&self, question: Question) {
        let mut state = self.lock();
        state.asked_at[question as usize].get_or_insert_with(Instant::now);
        state.asks_at = None;
    }

    /// The store answered, or nobody waits for it any more.
    pub(crate) fn answered(&self, question: Question) {
        self.lock().asked_at[question as usize] = None;
    }

    /// The store is to be asked then, or, with `None`, after something else.
    pub(crate) fn asks_at(&self, at: Option<Instant>) {
        self.lock().asks_at = at;
    }

    /// Nothing is published until then, and so nothing is asked for that is to be published.
    pub(crate) fn paused(&self, until: Instant) {
        let mut state = self.lock();
        state.paused_until = Some(until);
        state.asked_at[Question::Events as usize] = None;
    }

    pub(crate) fn accepted(&self) {
        self.lock().failing = None;
    }

    /// A publish failed, perhaps one of an event that had failed before. The next one may take so long, and is to come after the
    /// retry has waited for so long.
    pub(crate) fn failed(&self, is_again: bool, publish: Duration, retry: Duration) {
        let (now, mut state) = (Instant::now(), self.lock());
        // After a time without any, a new event begins a series of its own: what failed before was set aside, or
        // somebody else has it.
        if !is_again && !state.goes_on(self.limit) {
            state.failing = None;
        }
        let series = state.failing.get_or_insert(Series { first: now, last: now, until: now, next: now });
        let until = now + publish;
        (series.last, series.until) = (now, series.until.max(until));
        series.next = series.next.max(until + retry.min(MAX_INTERVAL));
    }

    /// A publish was cut off at the end of its lease: the next one may take as long.
    pub(crate) fn cut_off(&self, lease: Duration) {
        self.failed(false, lease, Duration::ZERO);
    }

    /// For how long the first event that is due has been so; `None`: there is none.
    pub(crate) fn oldest_due(&self, age: Option<Duration>) {
        self.lock().oldest_due = age.map(|age| (age, Instant::now()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a failure would be one more of the series.
    fn goes_on(&self, limit: Duration) -> bool {
        self.failing.is_some_and(|series| self.is_recent(series.until, limit))
    }

    /// Since when nothing but failures is known, where that is longer than the limit, and they have not come to an end.
    fn fails_since(&self, limit: Duration) -> Option<Instant> {
        let Series { first, last, next, .. } = self.failing?;
        // One alone says nothing of the next one.
        let last = if last - first > limit { next } else { last };
        (first.elapsed() > limit && self.is_recent(last, limit)).then_some(first)
    }

    /// Whether it is not longer ago than that, but for the time in which nothing was tried on purpose.
    fn is_recent(&self, at: Instant, limit: Duration) -> bool {
        self.paused_until.map_or(at, |until| until.max(at)).elapsed() <= limit
    }
}

#[derive(Debug)]
pub(crate) struct Running(Health);

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.running -= 1;
        // What it was waiting for nobody waits for any more. Another run that waits asks again before long.
        (state.asked_at, state.asks_at) = ([None; 3], None);
    }
}

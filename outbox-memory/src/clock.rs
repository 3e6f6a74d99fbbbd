//! The store's clock.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

/// A clock that moves only when it is told to, for tests that wait for hours in no time.
///
/// Clones share the time.
///
/// ```
/// use std::time::Duration;
/// use outbox_memory::{ManualClock, MemoryOutbox};
///
/// let clock = ManualClock::new();
/// let outbox = MemoryOutbox::with_clock(&clock);
/// clock.advance(Duration::from_secs(3600));
/// # drop(outbox);
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<DateTime<Utc>>>);

impl ManualClock {
    /// A clock that stands at the present time, cut to the millisecond.
    #[must_use]
    #[allow(
        clippy::new_without_default,
        reason = "a default value is not expected to depend on the time of day"
    )]
    pub fn new() -> Self {
        Self::at(now())
    }

    /// A clock that stands at this time.
    #[must_use]
    pub fn at(time: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new(time)))
    }

    /// Its time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves it forward; it stops at the end of time.
    pub fn advance(&self, by: Duration) {
        let mut time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *time = later(*time, by);
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Clock {
    System,
    Manual(ManualClock),
}

impl Clock {
    pub(crate) fn now(&self) -> DateTime<Utc> {
        match self {
            Self::System => now(),
            Self::Manual(clock) => clock.now(),
        }
    }
}

/// Whole milliseconds, as the times of events.
fn now() -> DateTime<Utc> {
    let now = Utc::now();
    DateTime::from_timestamp_millis(now.timestamp_millis()).unwrap_or(now)
}

/// So much later, or the end of time.
pub(crate) fn later(time: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(by)
        .ok()
        .and_then(|by| time.checked_add_signed(by))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// So much earlier; `None` is before all time.
pub(crate) fn earlier(time: DateTime<Utc>, by: Duration) -> Option<DateTime<Utc>> {
    if by.is_zero() {
        // All of it, also what is of a later time because the clock was put back since.
        return Some(DateTime::<Utc>::MAX_UTC);
    }
    TimeDelta::from_std(by).ok().and_then(|by| time.checked_sub_signed(by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_purged_whatever_its_age_is_all_though_the_clock_was_put_back() {
        let (now, day) = (now(), Duration::from_hours(24));
        assert!(earlier(now, Duration::ZERO).is_some_and(|until| until >= later(now, day)));
        assert_eq!(earlier(now, day).map(|until| later(until, day)), Some(now));
        assert_eq!(earlier(now, Duration::MAX), None);
    }
}

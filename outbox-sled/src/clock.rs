//! The store's clock.

use std::{
    sync::atomic::{AtomicI64, Ordering::SeqCst},
    time::Duration,
};

use chrono::{DateTime, Utc};

/// The system's clock in whole milliseconds since 1970; tests move it forward.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    ahead: AtomicI64,
}

impl Clock {
    pub(crate) fn now(&self) -> i64 {
        Utc::now().timestamp_millis().saturating_add(self.ahead.load(SeqCst))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.ahead.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), SeqCst);
    }
}

/// Saturates: what is to happen later than that never happens.
pub(crate) fn later(millis: i64, by: Duration) -> i64 {
    millis.saturating_add(rounded_up(by))
}

/// The end of all that is at least so old.
pub(crate) fn before(now: i64, age: Duration) -> i64 {
    // Everything: also what is from before the system's clock was set back.
    if age.is_zero() {
        return i64::MAX;
    }
    // Older than time itself: there is none.
    now.saturating_sub(rounded_up(age))
}

/// In milliseconds: nothing is to happen early.
fn rounded_up(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// As a time; the store writes none that has no such form.
pub(crate) fn time(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_and_an_age_between_two_milliseconds_are_the_longer_one() {
        for (duration, millis) in [
            (Duration::from_nanos(1), 1),
            (Duration::from_micros(900), 1),
            (Duration::from_millis(1), 1),
            (Duration::from_micros(1900), 2),
        ] {
            assert_eq!(later(1000, duration), 1000 + millis, "{duration:?}");
            assert_eq!(before(1000, duration), 1000 - millis, "{duration:?}");
        }
        assert_eq!((later(1000, Duration::ZERO), before(1000, Duration::ZERO)), (1000, i64::MAX));
        assert_eq!(later(1000, Duration::MAX), i64::MAX);
        assert_eq!(before(-1000, Duration::MAX), i64::MIN);
    }
}

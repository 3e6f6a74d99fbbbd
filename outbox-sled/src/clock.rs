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
    millis.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}

/// The end of all that is at least so old.
pub(crate) fn before(now: i64, age: Duration) -> i64 {
    // Everything: also what is from before the system's clock was set back.
    if age.is_zero() {
        return i64::MAX;
    }
    // Older than time itself: there is none.
    now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

/// As a time; the store writes none that has no such form.
pub(crate) fn time(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::UNIX_EPOCH)
}

//! How long to wait after a failure.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Delays that double from the first to the longest, each shortened at random ("full jitter"), so that what
/// failed together is not tried again together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    first: Duration,
    longest: Duration,
}

/// However the dice fall, and whatever a policy or a setting says, so long passes between two tries: a loop of less would
/// be a busy one.
pub(crate) const SHORTEST: Duration = Duration::from_millis(10);

impl Retry {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        let first = first.max(SHORTEST);
        Self { first, longest: longest.max(first) }
    }

    pub(crate) fn start(self) -> Backoff {
        Backoff { retry: self, ceilings: self.ceilings() }
    }

    /// A delay after so many failures, the first of which is number one.
    pub(crate) fn delay_after(self, failures: u32) -> Duration {
        // After 128 doublings of a millisecond any duration is at its end.
        let doublings = failures.saturating_sub(1).min(128) as usize;
        shorten(self.ceilings().nth(doublings).unwrap_or(self.longest))
    }

    fn ceilings(self) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_min_delay(self.first)
            .with_max_delay(self.longest)
            .without_max_times()
            .build()
    }
}

/// backon's own jitter only lengthens a delay; full jitter takes anything up to it.
fn shorten(ceiling: Duration) -> Duration {
    ceiling.mul_f64(fastrand::f64()).max(SHORTEST)
}

impl Default for Retry {
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(30))
    }
}

/// The delays of one series of failures.
#[derive(Debug)]
pub(crate) struct Backoff {
    retry: Retry,
    ceilings: ExponentialBackoff,
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let ceiling = self.ceilings.next().unwrap_or(self.retry.longest);
        shorten(ceiling)
    }

    /// Something succeeded: the next failure begins a series of its own.
    pub(crate) fn reset(&mut self) {
        *self = self.retry.start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest_of_many(nth: usize) -> Duration {
        let retry = Retry::new(Duration::from_millis(100), Duration::from_secs(1));
        let nth_delay = |_| {
            let mut backoff = retry.start();
            for _ in 0..nth {
                backoff.next();
            }
            backoff.next()
        };
        (0..500).map(nth_delay).max().unwrap()
    }

    #[test]
    fn delays_double_up_to_the_longest_and_are_shortened_at_random() {
        for (nth, ceiling) in [(0, 100), (1, 200), (2, 400), (3, 800), (4, 1000), (9, 1000)] {
            let longest = longest_of_many(nth);
            assert!(longest <= Duration::from_millis(ceiling), "{longest:?} after {nth} failures");
            assert!(longest > Duration::from_millis(ceiling * 9 / 10), "{longest:?} after {nth} failures");
        }
    }

    #[test]
    fn the_delay_after_a_number_of_failures_is_that_of_the_series() {
        let retry = Retry::new(Duration::from_millis(100), Duration::from_secs(1));
        for (failures, ceiling) in [(0, 100), (1, 100), (2, 200), (5, 1000), (u32::MAX, 1000)] {
            let longest = (0..500).map(|_| retry.delay_after(failures)).max().unwrap();
            assert!(longest <= Duration::from_millis(ceiling), "{longest:?} after {failures} failures");
            assert!(
                longest > Duration::from_millis(ceiling * 9 / 10),
                "{longest:?} after {failures} failures"
            );
        }
    }

    #[test]
    fn no_delay_is_zero() {
        let mut backoff = Retry::new(Duration::ZERO, Duration::ZERO).start();
        assert!((0..100).all(|_| backoff.next() >= SHORTEST));
    }

    #[test]
    fn the_longest_durations_do_not_overflow() {
        let mut backoff = Retry::new(Duration::MAX, Duration::MAX).start();
        assert!(backoff.next() <= Duration::MAX);
    }
}

//! How often one may look.

use std::time::Duration;

use tokio::time::Instant;

/// How many looks may follow one another at once, after a while without any.
const BURST: u32 = 10;

/// Looks at a bounded rate, with some in reserve.
#[derive(Debug)]
pub(super) struct Budget {
    period: Duration,
    /// When the reserve is full again.
    full: Instant,
}

impl Budget {
    /// One look in each period on average.
    pub(super) fn new(period: Duration, now: Instant) -> Self {
        Self { period, full: now }
    }

    /// Spends one look.
    pub(super) fn spend(&mut self, now: Instant) {
        self.full = self.full.max(now) + self.period;
    }

    /// A time, or the first after it at which there is a look to spend.
    pub(super) fn allows(&self, at: Instant) -> Instant {
        self.full.checked_sub(self.period * (BURST - 1)).map_or(at, |earliest| earliest.max(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_spent_at_once_and_then_comes_back_one_by_one() {
        let period = Duration::from_millis(20);
        let start = Instant::now() + Duration::from_secs(60);
        let mut budget = Budget::new(period, start);
        for _ in 0..BURST {
            assert_eq!(budget.allows(start), start);
            budget.spend(start);
        }
        assert_eq!(budget.allows(start), start + period);
        budget.spend(start + period);
        assert_eq!(budget.allows(start + period), start + 2 * period);
        let later = start + Duration::from_secs(1);
        assert_eq!(budget.allows(later), later);
        for _ in 0..BURST {
            assert_eq!(budget.allows(later), later);
            budget.spend(later);
        }
        assert_eq!(budget.allows(later), later + period);
    }
}

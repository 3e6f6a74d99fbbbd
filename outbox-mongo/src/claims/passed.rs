//! What claims have passed over: events of busy keys at the front that are too many to be parked at once.
//!
//! The next claims begin behind them, and ask by key whether anything of what they find there stands before. That keeps the order
//! of each key, whatever stands in front; and what else stands there, released or committed late, is found by a claim that begins
//! in front again: when nothing is behind, when one of the keys is free, and from time to time.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::document::Key;

/// To look at all of it takes no more than one in so many parts of the time.
const SHARE: u32 = 10;
/// It is looked at no less often.
const LONGEST: Duration = Duration::from_secs(10);

/// Where a claim may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// Of claims of these types.
    pub(super) types: Vec<String>,
    /// Which have many of what is before it, as long as they are busy.
    pub(super) keys: Vec<Key>,
    /// The last place that is before it.
    pub(super) after: u64,
}

/// What claims of one handle and its clones have passed over.
#[derive(Default)]
pub(crate) struct Passed(Mutex<Option<(Start, Instant)>>);

impl Passed {
    fn all(&self) -> MutexGuard<'_, Option<(Start, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the next claim of these types may begin, if not in front.
    pub(super) fn start(&self, types: &[String]) -> Option<Start> {
        let passed = self.all();
        let (start, _) =
            passed.as_ref().filter(|(start, until)| Instant::now() < *until && start.types == types)?;
        Some(start.clone())
    }

    /// A claim that began in front, so long ago, has come past all of it, and has what it found there.
    pub(super) fn remember(&self, start: Start, since: Instant) {
        let until = Instant::now() + since.elapsed().saturating_mul(SHARE).min(LONGEST);
        *self.all() = Some((start, until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_claim_begins_in_front_again_after_ten_times_as_long_as_it_took() {
        let passed = Passed::default();
        let types = ["a".to_owned()];
        assert_eq!(passed.start(&types), None);
        let start = Start { types: types.to_vec(), keys: vec![vec![1; 16]], after: 7 };
        for (took, long) in [(100, 1000), (900, 9000), (5000, 10_000)] {
            let since = Instant::now();
            tokio::time::advance(Duration::from_millis(took)).await;
            passed.remember(start.clone(), since);
            assert_eq!(passed.start(&[]), None, "it is of claims of other types");
            tokio::time::advance(Duration::from_millis(long - 1)).await;
            assert_eq!(passed.start(&types), Some(start.clone()));
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(passed.start(&types), None);
        }
    }
}

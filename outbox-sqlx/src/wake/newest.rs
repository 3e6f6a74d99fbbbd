//! Whether something was added to an outbox since the last look.

/// How many of the newest pending events one look takes.
pub(super) const WINDOW: usize = 64;

/// The places of the newest pending events.
///
/// The highest place alone would not do: the event of a long transaction has a lower one than others that were
/// committed before it.
#[derive(Debug, Default)]
pub(super) struct Newest {
    /// The highest first.
    seqs: Vec<i64>,
}

impl Newest {
    /// Takes what is there now, at most [`WINDOW`] of them, and says whether any of it is new.
    pub(super) fn is_new(&mut self, seqs: Vec<i64>) -> bool {
        // What lies below a full window may only have been out of sight.
        let sight = if self.seqs.len() < WINDOW { None } else { self.seqs.last() };
        let is_in_sight = |seq: &i64| sight.is_none_or(|lowest| lowest <= seq);
        let is_new = seqs.iter().any(|seq| is_in_sight(seq) && !self.seqs.contains(seq));
        self.seqs = seqs;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_new_and_what_goes_is_not() {
        let mut newest = Newest::default();
        assert!(!newest.is_new(vec![]));
        assert!(newest.is_new(vec![6]));
        assert!(!newest.is_new(vec![6]));
        assert!(newest.is_new(vec![6, 5]), "committed later, though it was saved before");
        assert!(!newest.is_new(vec![6]));
        assert!(!newest.is_new(vec![]));
        assert!(newest.is_new(vec![7]));
    }

    #[test]
    fn what_comes_into_sight_from_below_is_not_new() {
        let window = |from: i64| (from - i64::try_from(WINDOW).unwrap()..from).rev().collect::<Vec<_>>();
        let mut newest = Newest::default();
        assert!(newest.is_new(window(1000)));
        assert!(!newest.is_new(window(998)), "the highest were removed");
        assert!(newest.is_new(window(999)));
    }
}

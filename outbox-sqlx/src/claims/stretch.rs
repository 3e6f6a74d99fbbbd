//! Stretches of the order that have events of a few keys alone, nearly.
//!
//! Where such keys are busy, a claim need not step over their events one by one, nor park them: what stands in a place never
//! changes, so that what one claim has met tells the next ones what to leave out. Places in between that had something else, or
//! nothing that anybody could see yet, are *open*: they are looked at each time.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::state::Key;

/// No fewer places are worth remembering.
const SHORTEST: usize = 1000;
/// How many places are open at most.
const MAX_OPEN: usize = 2000;
/// How many stretches are remembered; of more, the first ones.
const MAX_STRETCHES: usize = 32;

/// Places that have events of some keys, but for the open ones among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) keys: Vec<Key>,
    from: i64,
    pub(super) to: i64,
    pub(super) open: Vec<i64>,
}

impl Stretch {
    fn is_worth_it(&self) -> bool {
        let length = usize::try_from(self.to - self.from).unwrap_or(usize::MAX);
        length >= SHORTEST.max(self.open.len().saturating_mul(4))
    }
}

/// Finds the stretches among the places that have events of some keys, which it is told in order.
pub(super) struct Finder {
    keys: Vec<Key>,
    found: Vec<Stretch>,
    last: Option<Stretch>,
}

impl Finder {
    pub(super) fn new(keys: Vec<Key>) -> Self {
        Self { keys, found: Vec::new(), last: None }
    }

    /// These places, and all between them.
    pub(super) fn tell(&mut self, from: i64, to: i64) {
        if let Some(last) = &mut self.last {
            let between = usize::try_from(from - last.to - 1).unwrap_or(usize::MAX);
            if between.saturating_add(last.open.len()) <= MAX_OPEN {
                last.open.extend(last.to + 1..from);
                last.to = to;
                return;
            }
        }
        self.close();
        self.last = Some(Stretch { keys: self.keys.clone(), from, to, open: Vec::new() });
    }

    /// Whether anything of what it was told is a stretch.
    pub(super) fn is_worth_it(&self) -> bool {
        !self.found.is_empty() || self.last.as_ref().is_some_and(Stretch::is_worth_it)
    }

    fn close(&mut self) {
        self.found.extend(self.last.take().filter(Stretch::is_worth_it));
    }

    pub(super) fn end(mut self) -> Vec<Stretch> {
        self.close();
        self.found
    }
}

/// The stretches that claims of one handle and its clones have met.
#[derive(Debug, Default)]
pub(crate) struct Stretches(Mutex<Vec<Stretch>>);

impl Stretches {
    fn all(&self) -> MutexGuard<'_, Vec<Stretch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stretch around a place, if all of its keys are busy, with what is open after that and up to another one.
    pub(super) fn between(&self, (after, to): (i64, i64), busy: &HashSet<Key>) -> Option<Stretch> {
        let all = self.all();
        let mut around = all.iter().filter(|stretch| stretch.from <= after && after < stretch.to);
        let stretch = around.find(|stretch| stretch.keys.iter().all(|key| busy.contains(key)))?;
        let open = stretch.open.iter().copied().filter(|open| (after + 1..=to).contains(open)).collect();
        Some(Stretch { keys: stretch.keys.clone(), from: stretch.from, to: stretch.to, open })
    }

    pub(super) fn are_known(&self) -> bool {
        !self.all().is_empty()
    }

    /// Remembers some beside those that are known.
    pub(super) fn add(&self, new: Vec<Stretch>) {
        let mut all = self.all();
        all.retain(|old| !new.iter().any(|new| new.from <= old.to && old.from <= new.to));
        all.extend(new);
        all.sort_unstable_by_key(|stretch| stretch.from);
        all.truncate(MAX_STRETCHES);
    }

    /// Forgets one that is not as it was any more.
    pub(super) fn forget(&self, to: i64) {
        self.all().retain(|stretch| stretch.to != to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOT: Key = [1; 16];
    const WARM: Key = [2; 16];

    fn found(places: impl IntoIterator<Item = i64>) -> Vec<Stretch> {
        let mut finder = Finder::new(vec![HOT]);
        places.into_iter().for_each(|place| finder.tell(place, place));
        finder.end()
    }

    fn stretch(from: i64, to: i64, open: Vec<i64>) -> Stretch {
        Stretch { keys: vec![HOT], from, to, open }
    }

    #[test]
    fn what_stands_between_is_open_and_a_wide_gap_begins_another() {
        let places = (1..=2000).filter(|place| ![500, 700, 701].contains(place)).chain(9000..=9999);
        assert_eq!(found(places.clone()), [stretch(1, 2000, vec![500, 700, 701])]);
        let both = [stretch(1, 2000, vec![500, 700, 701]), stretch(9000, 10_000, Vec::new())];
        assert_eq!(found(places.chain([10_000])), both);
        let mut finder = Finder::new(vec![HOT]);
        for (from, to) in [(1, 499), (501, 699), (702, 2000), (9000, 10_000)] {
            finder.tell(from, to);
        }
        assert_eq!(finder.end(), both);
    }

    #[test]
    fn what_is_short_or_mostly_open_is_not_worth_it() {
        assert_eq!(found([]), []);
        assert_eq!(found(1..=1000), []);
        assert_eq!(found(1..=1001), [stretch(1, 1001, Vec::new())]);
        // Two of three are open.
        assert_eq!(found((1..=6000).step_by(3)), []);
        // One of ten is open, until there are too many; what comes then begins another one.
        let sparse = found((1..=30_000).filter(|place| place % 10 != 0));
        assert_eq!(sparse.len(), 2);
        assert_eq!((sparse[0].from, sparse[0].to, sparse[0].open.len()), (1, 20_009, 2000));
        assert_eq!((sparse[1].from, sparse[1].to, sparse[1].open.len()), (20_011, 29_999, 998));
    }

    #[test]
    fn only_the_rest_of_a_stretch_is_left_out_and_only_while_all_of_its_keys_are_busy() {
        let stretches = Stretches::default();
        assert!(!stretches.are_known());
        let both = Stretch { keys: vec![HOT, WARM], ..stretch(10, 3000, vec![100, 200]) };
        stretches.add(vec![both.clone()]);
        assert!(stretches.are_known());
        let busy = HashSet::from([HOT, WARM]);
        assert_eq!(stretches.between((9, 9000), &busy), None);
        assert_eq!(stretches.between((10, 9000), &busy), Some(both.clone()));
        assert_eq!(stretches.between((100, 9000), &busy), Some(Stretch { open: vec![200], ..both.clone() }));
        assert_eq!(stretches.between((10, 199), &busy), Some(Stretch { open: vec![100], ..both.clone() }));
        assert_eq!(stretches.between((2999, 9000), &busy), Some(Stretch { open: Vec::new(), ..both }));
        assert_eq!(stretches.between((3000, 9000), &busy), None);
        assert_eq!(stretches.between((10, 9000), &HashSet::from([HOT])), None);
        stretches.forget(3000);
        assert!(!stretches.are_known());
    }

    #[test]
    fn a_new_stretch_takes_the_place_of_those_that_it_meets_and_there_are_few() {
        let stretches = Stretches::default();
        let busy = HashSet::from([HOT]);
        stretches.add(vec![stretch(1, 2000, Vec::new()), stretch(5000, 8000, Vec::new())]);
        stretches.add(vec![stretch(2000, 4000, Vec::new())]);
        assert_eq!(stretches.between((1, 9000), &busy), None);
        assert_eq!(stretches.between((2000, 9000), &busy).map(|stretch| stretch.to), Some(4000));
        assert_eq!(stretches.between((5000, 9000), &busy).map(|stretch| stretch.to), Some(8000));
        stretches.add(
            (0..40).map(|number| stretch(10_000 * number, 10_000 * number + 9000, Vec::new())).collect(),
        );
        assert_eq!(stretches.all().len(), MAX_STRETCHES);
        assert_eq!(stretches.all()[0].from, 0);
    }
}

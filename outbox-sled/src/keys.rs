//! What can be claimed: the state of each partition key; and how many events there are by state.

use outbox_traits::Stats;
use sled::IVec;

use crate::{
    row::Status,
    trees::{Done, Trees},
    view::{self, NOTHING, View},
};

/// What is known of one partition key; there is none for a key without open events.
///
/// A transaction of sled cannot look for the first event of a key, so that `start` stays where it is when that event
/// goes. A claim finds the first one from there on, and moves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Key {
    pending: u64,
    /// How many of its events are leased, wait for a retry, or hold it as dead letters.
    blocked_by: u64,
    /// A place of this key that is not after its first pending event.
    start: u64,
}

impl Key {
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let [pending, blocked_by, start] = numbers(bytes);
        Self { pending, blocked_by, start }
    }

    fn encode(self) -> Vec<u8> {
        bytes([self.pending, self.blocked_by, self.start])
    }

    pub(crate) fn is_free(self) -> bool {
        self.blocked_by == 0
    }

    /// Where a claim begins.
    fn head(self) -> Option<u64> {
        (self.is_free() && self.pending > 0).then_some(self.start)
    }
}

impl View<'_> {
    pub(crate) fn add_claimable(self, key: Option<&str>, place: &IVec) -> Done<()> {
        let Some(key) = key else {
            // A key may begin at the place of an event of which nothing can be read: then that is found by it.
            if self.heads.get(place)?.is_none() {
                self.heads.insert(place, NOTHING)?;
            }
            return Ok(());
        };
        let seq = view::seq_of(place);
        if self.key_places.insert(key_place(key, seq), NOTHING)?.is_none() {
            self.change_key(key, |state| {
                state.start = if state.pending == 0 { seq } else { state.start.min(seq) };
                state.pending += 1;
            })?;
        }
        Ok(())
    }

    pub(crate) fn remove_claimable(self, key: Option<&str>, place: &IVec) -> Done<()> {
        let Some(key) = key else {
            // A key that begins here keeps its beginning, also where nobody could read that this was its event: a claim
            // goes on from it, and would never see the key again.
            if self.heads.get(place)?.is_some_and(|head| key_of(&head).is_none()) {
                self.heads.remove(place)?;
            }
            return Ok(());
        };
        if self.key_places.remove(key_place(key, view::seq_of(place)))?.is_some() {
            self.change_key(key, |state| state.pending = state.pending.saturating_sub(1))?;
        }
        Ok(())
    }

    pub(crate) fn block(self, key: Option<&str>) -> Done<()> {
        key.map_or(Ok(()), |key| self.change_key(key, |state| state.blocked_by += 1))
    }

    pub(crate) fn unblock(self, key: Option<&str>) -> Done<()> {
        key.map_or(Ok(()), |key| {
            self.change_key(key, |state| state.blocked_by = state.blocked_by.saturating_sub(1))
        })
    }

    /// Notes the first pending event of a key, so that no claim looks for it again.
    pub(crate) fn note_first(self, key: &str, seq: u64) -> Done<()> {
        self.change_key(key, |state| state.start = state.start.max(seq))
    }

    fn change_key(self, name: &str, change: impl FnOnce(&mut Key)) -> Done<()> {
        let known = self.key_states.get(name)?.map(|bytes| Key::decode(&bytes)).unwrap_or_default();
        let mut state = known;
        change(&mut state);
        if state.pending == 0 && state.blocked_by == 0 {
            self.key_states.remove(name)?;
        } else if state != known {
            self.key_states.insert(name, state.encode())?;
        }
        if state.head() != known.head() {
            if let Some(head) = known.head() {
                self.heads.remove(&head.to_be_bytes())?;
            }
            if let Some(head) = state.head() {
                self.heads.insert(&head.to_be_bytes(), head_of(name))?;
            }
        }
        Ok(())
    }
}

impl Trees {
    /// The first pending event of a key at or after a place.
    pub(crate) fn first_of(&self, key: &str, from: u64) -> sled::Result<Option<u64>> {
        let mut places = self.key_places.range(key_place(key, from)..=key_place(key, u64::MAX)).keys();
        Ok(places.next().transpose()?.map(|entry| view::seq_of(&view::place_in(&entry))))
    }
}

/// With the length of the key before it, so that no key is the beginning of another.
fn key_place(key: &str, seq: u64) -> Vec<u8> {
    [&(key.len() as u64).to_be_bytes(), key.as_bytes(), &seq.to_be_bytes()].concat()
}

/// The value of a head of a key; that of an event without one is empty.
fn head_of(key: &str) -> Vec<u8> {
    [&[1], key.as_bytes()].concat()
}

/// The key that a head belongs to.
pub(crate) fn key_of(head: &[u8]) -> Option<String> {
    let (_, key) = head.split_first()?;
    Some(String::from_utf8_lossy(key).into_owned())
}

/// Pending, leased, delivered and dead events. They are counted where they change: to count a tree of sled is to
/// walk it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(pub(crate) [u64; 4]);

impl Counts {
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        Self(numbers(bytes))
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        bytes(self.0)
    }

    pub(crate) fn change(&mut self, before: Option<&Status>, after: Option<&Status>) {
        if let Some(status) = before {
            let count = self.of(status);
            *count = count.saturating_sub(1);
        }
        if let Some(status) = after {
            *self.of(status) += 1;
        }
    }

    fn of(&mut self, status: &Status) -> &mut u64 {
        let [pending, leased, delivered, dead] = &mut self.0;
        match status {
            Status::Pending | Status::Scheduled(_) | Status::Waiting(_) => pending,
            Status::Leased { .. } => leased,
            Status::Delivered(_) => delivered,
            Status::Dead { .. } => dead,
        }
    }

    pub(crate) fn stats(self) -> Stats {
        let mut stats = Stats::default();
        [stats.pending, stats.leased, stats.delivered, stats.dead] = self.0;
        stats
    }
}

fn bytes<const N: usize>(numbers: [u64; N]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn numbers<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut chunks = bytes.chunks_exact(8);
    [(); N].map(|()| chunks.next().map_or(0, view::seq_of))
}

#[cfg(test)]
mod tests {
    use outbox_traits::{Claim, ClaimStore, Event, OutboxStore};
    use sled::IVec;

    use crate::SledOutbox;

    /// As two fetches do that met it at once.
    #[tokio::test]
    async fn a_row_that_is_set_aside_twice_takes_nothing_from_its_key() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let outbox = SledOutbox::open(&db).unwrap();
        let all: Vec<Event> =
            (0..3).map(|index| Event::new("t", index).unwrap().with_partition_key("k")).collect();
        outbox.save_all(&all).await.unwrap();
        let place = IVec::from(&1_u64.to_be_bytes());
        outbox.shared.trees.events.insert(&place, "{").unwrap();
        for _ in 0..2 {
            outbox.shared.trees.change(|view| view.set_aside(&place, None, "broken", 0)).unwrap();
        }
        let leased = outbox.claim(&Claim::new("a worker")).await.unwrap();
        assert_eq!(leased.into_iter().map(|one| one.event).collect::<Vec<_>>(), all[1..]);
    }
}

//! What the watcher is waiting for.

use std::{collections::VecDeque, time::Duration};

use outbox_traits::EventId;
use tokio::time::Instant;

use crate::claims::CHUNK;

/// The first look after a save: a commit takes about as long.
const FIRST: Duration = Duration::from_micros(500);
/// The longest time from one look to the next.
const LONGEST: Duration = Duration::from_secs(1);
/// What was not seen for so long was rolled back, or costs no more looks.
const PATIENCE: Duration = Duration::from_secs(30);
/// The newest are kept: under such a load the older ones are looked for soon anyhow.
const MOST: usize = 1024;
/// The time between two looks at least, whatever is saved: a look is one short query.
const PERIOD: Duration = Duration::from_millis(2);

/// Events that sessions have saved and may commit, and whether a commit is to be announced.
#[derive(Debug)]
pub(super) struct Expected {
    saved: VecDeque<(EventId, Turn)>,
    announcement: Option<Turn>,
    /// When the watcher looks next; none while there is no watcher.
    pub(super) alarm: Option<Instant>,
    /// Before which it does not.
    earliest: Instant,
}

/// What is to be done at one look.
#[derive(Debug)]
pub(super) struct Due {
    /// The events to look for.
    pub(super) ids: Vec<EventId>,
    /// Since when there is a commit to announce.
    pub(super) announcement: Option<Instant>,
    /// Whether any of it has waited for long.
    pub(super) is_late: bool,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    since: Instant,
    next: Instant,
}

impl Turn {
    /// It waits as long again as it has waited, so that the delay is at most doubled.
    fn later(&mut self, now: Instant) {
        self.next = now + (now - self.since).clamp(FIRST, LONGEST);
    }

    fn is_late(&self, now: Instant) -> bool {
        now - self.since >= LONGEST
    }

    fn is_given_up(&self, now: Instant) -> bool {
        now - self.since >= PATIENCE
    }
}

impl Expected {
    pub(super) fn new(now: Instant) -> Self {
        Self { saved: VecDeque::new(), announcement: None, alarm: None, earliest: now }
    }

    /// A session has saved an event. Returns when it is to be looked for.
    pub(super) fn save(&mut self, id: EventId, now: Instant) -> Instant {
        if self.saved.len() == MOST {
            self.saved.pop_front();
        }
        let mut turn = Turn { since: now, next: now };
        turn.later(now);
        self.saved.push_back((id, turn));
        turn.next.max(self.earliest)
    }

    /// A commit is to be announced. Returns when. Those that come until then share one announcement.
    pub(super) fn announce(&mut self, now: Instant) -> Instant {
        let turn = self.announcement.get_or_insert(Turn { since: now, next: now });
        turn.next.max(self.earliest)
    }

    /// An announcement failed.
    pub(super) fn announce_later(&mut self, since: Instant, now: Instant) {
        let mut turn = Turn { since, next: now };
        turn.later(now);
        self.announcement.get_or_insert(turn);
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        let turns = self.saved.iter().map(|(_, turn)| turn).chain(&self.announcement);
        turns.map(|turn| turn.next.max(self.earliest)).min()
    }

    /// What there is to do, each event put off until its next turn.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        self.earliest = now + PERIOD;
        self.saved.retain(|(_, turn)| !turn.is_given_up(now));
        self.announcement.take_if(|turn| turn.is_given_up(now));
        let mut is_late = false;
        let due = self.saved.iter_mut().filter(|(_, turn)| turn.next <= now).take(CHUNK);
        let ids = due.map(|(id, turn)| {
            is_late |= turn.is_late(now);
            turn.later(now);
            *id
        });
        let ids = ids.collect();
        let announcement = self.announcement.take_if(|turn| turn.next <= now);
        is_late |= announcement.is_some_and(|turn| turn.is_late(now));
        Due { ids, announcement: announcement.map(|turn| turn.since), is_late }
    }

    /// These events are committed.
    pub(super) fn seen(&mut self, ids: &[EventId]) {
        self.saved.retain(|(id, _)| !ids.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn what_is_not_seen_is_looked_for_ever_more_seldom_and_then_given_up() {
        let start = start();
        let mut expected = Expected::new(start);
        let id = EventId::new();
        expected.save(id, start);
        let mut looks = Vec::new();
        while let Some(next) = expected.next() {
            looks.push((next - start).as_micros());
            let ids = expected.due(next).ids;
            assert!(ids == [id] || ids.is_empty() && expected.next().is_none());
        }
        assert_eq!(looks[..6], [500, 2500, 5000, 10_000, 20_000, 40_000]);
        assert_eq!(looks[10..13], [1_280_000, 2_280_000, 3_280_000]);
        assert!(looks.len() < 45 && looks.last() > Some(&29_000_000), "{looks:?}");
    }

    #[test]
    fn what_was_seen_is_looked_for_no_more() {
        let start = start();
        let mut expected = Expected::new(start);
        let ids = [EventId::new(), EventId::new()];
        for id in ids {
            expected.save(id, start);
        }
        let now = start + FIRST;
        assert_eq!(expected.due(now).ids, ids);
        expected.seen(&ids[..1]);
        assert_eq!(expected.due(now + FIRST).ids, ids[1..]);
        expected.seen(&ids[1..]);
        assert_eq!(expected.next(), None);
    }

    #[test]
    fn of_very_many_the_newest_are_kept() {
        let start = start();
        let mut expected = Expected::new(start);
        let ids: Vec<_> = (0..MOST + 10).map(|_| EventId::new()).collect();
        for id in &ids {
            expected.save(*id, start);
        }
        let mut kept = Vec::new();
        while kept.len() < MOST {
            let due = expected.due(start + FIRST).ids;
            assert!(!due.is_empty() && due.len() <= CHUNK);
            kept.extend(due);
        }
        assert_eq!(kept, ids[10..]);
    }

    #[test]
    fn announcements_are_shared_and_a_failed_one_is_made_later() {
        let start = start();
        let mut expected = Expected::new(start);
        for millis in 0..5 {
            assert_eq!(expected.announce(start + Duration::from_millis(millis)), start);
        }
        assert_eq!(expected.due(start).announcement, Some(start));
        assert_eq!(expected.due(start).announcement, None);
        expected.announce_later(start, start);
        assert_eq!(expected.next(), Some(start + PERIOD), "FIRST is sooner than one may look again");
        assert_eq!(expected.due(start + PERIOD).announcement, Some(start));
        expected.announce_later(start, start + PATIENCE);
        assert_eq!(expected.due(start + 2 * PATIENCE).announcement, None, "given up");
    }

    #[test]
    fn patience_is_over_when_its_time_is() {
        let (start, moment) = (start(), Duration::from_micros(1));
        for (since, is_over) in [(PATIENCE.saturating_sub(moment), false), (PATIENCE, true)] {
            let mut expected = Expected::new(start);
            expected.save(EventId::new(), start);
            expected.announce(start);
            let due = expected.due(start + since);
            assert_eq!((due.ids.is_empty(), due.announcement.is_none()), (is_over, is_over), "{since:?}");
        }
    }

    #[test]
    fn under_load_looks_come_at_a_bounded_rate() {
        let start = start();
        let mut expected = Expected::new(start);
        let (mut now, mut looks) = (start, 0);
        while now < start + Duration::from_secs(1) {
            let id = EventId::new();
            expected.save(id, now);
            if expected.next().is_some_and(|next| next <= now) {
                let ids = expected.due(now).ids;
                expected.seen(&ids);
                looks += 1;
            }
            now += Duration::from_micros(100);
        }
        assert!((450..=501).contains(&looks), "{looks}");
    }
}

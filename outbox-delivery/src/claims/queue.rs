//! What was claimed and waits to be published.

use std::collections::{HashSet, VecDeque};

use outbox_traits::{Event, EventId, Leased};

use crate::lanes::Lane;

/// In the order of the store.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<Leased>);

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, leased: Leased) {
        self.0.push_back(leased);
    }

    /// The next events that can be published together, at most so many and of so many lanes: none of a lane of which one is
    /// passed over, and nothing beside an event that is to be alone, because it may be what makes a whole batch fail.
    pub(super) fn take(
        &mut self,
        (limit, most_lanes): (usize, usize),
        is_passed_over: impl Fn(&Lane, &Event) -> bool,
        is_alone: impl Fn(&Leased) -> bool,
    ) -> Vec<Leased> {
        let mut batch: Vec<Leased> = Vec::new();
        let (mut passed_over, mut lanes) = (HashSet::new(), HashSet::new());
        let mut rest = VecDeque::with_capacity(self.0.len());
        let mut is_full = false;
        for leased in self.0.drain(..) {
            let lane = Lane::of(&leased.event);
            let is_alone = is_alone(&leased);
            let has_room = !is_full && (lanes.len() < most_lanes || lanes.contains(&lane));
            let can_join = has_room && (!is_alone || batch.is_empty());
            if can_join && !passed_over.contains(&lane) && !is_passed_over(&lane, &leased.event) {
                lanes.insert(lane);
                batch.push(leased);
                is_full = is_alone || batch.len() >= limit;
            } else {
                passed_over.insert(lane);
                rest.push_back(leased);
            }
        }
        self.0 = rest;
        batch
    }

    /// The first event of each lane.
    pub(super) fn heads(&self) -> Vec<&Event> {
        let mut lanes = HashSet::new();
        let events = self.0.iter().map(|leased| &leased.event);
        events.filter(|event| lanes.insert(Lane::of(event))).collect()
    }

    /// Takes out all of these lanes.
    pub(super) fn take_lanes(&mut self, lanes: &HashSet<Lane>) -> Vec<Leased> {
        if lanes.is_empty() {
            return Vec::new();
        }
        let (taken, rest) = self.0.drain(..).partition(|leased| lanes.contains(&Lane::of(&leased.event)));
        self.0 = rest;
        Vec::from(taken)
    }

    /// Whether an event of this lane is here.
    pub(super) fn has(&self, lane: &Lane) -> bool {
        self.0.iter().any(|leased| Lane::of(&leased.event) == *lane)
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Vec<Leased> {
        self.0.drain(..).collect()
    }

    /// Whether there is no lane without such an event.
    pub(super) fn has_only_lanes_of(&self, is_one: impl Fn(&Event) -> bool) -> bool {
        let events = || self.0.iter().map(|leased| &leased.event);
        let lanes: HashSet<Lane> = events().filter(|event| is_one(event)).map(Lane::of).collect();
        events().all(|event| lanes.contains(&Lane::of(event)))
    }

    /// The lanes of these events, as far as they are here.
    pub(super) fn lanes_of(&self, ids: &HashSet<EventId>) -> HashSet<Lane> {
        let events = self.0.iter().map(|leased| &leased.event);
        events.filter(|event| ids.contains(&event.id())).map(Lane::of).collect()
    }
}

//! The calls of the transport that go on.

use std::collections::{HashMap, HashSet};

use outbox_traits::{Event, EventId};
use tokio_util::sync::CancellationToken;

use crate::{lanes::Lane, publish::Answers};

/// One call, which has ended.
pub(super) struct Landed {
    pub(super) number: u64,
    pub(super) events: Vec<Event>,
    /// How often a delivery of each was started and failed, this one not included.
    pub(super) histories: Vec<History>,
    pub(super) answers: Answers,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct History {
    pub(super) attempts: u32,
    pub(super) failures: u32,
}

#[derive(Debug, Default)]
pub(super) struct Flights {
    last_number: u64,
    by_number: HashMap<u64, Flight>,
    /// Which events are where.
    number_of: HashMap<EventId, u64>,
    lanes: HashSet<Lane>,
}

#[derive(Debug)]
struct Flight {
    events: Vec<(EventId, Lane)>,
    cut: CancellationToken,
}

impl Flights {
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    pub(super) fn is_busy(&self, lane: &Lane) -> bool {
        self.lanes.contains(lane)
    }

    /// Takes note of a call that begins: its number, and what ends it early.
    pub(super) fn start(&mut self, events: &[Event]) -> (u64, CancellationToken) {
        self.last_number += 1;
        let number = self.last_number;
        let cut = CancellationToken::new();
        let events: Vec<_> = events.iter().map(|event| (event.id(), Lane::of(event))).collect();
        self.number_of.extend(events.iter().map(|(id, _)| (*id, number)));
        self.lanes.extend(events.iter().map(|(_, lane)| lane.clone()));
        self.by_number.insert(number, Flight { events, cut: cut.clone() });
        (number, cut)
    }

    pub(super) fn end(&mut self, number: u64) {
        for (id, lane) in self.by_number.remove(&number).into_iter().flat_map(|flight| flight.events) {
            self.number_of.remove(&id);
            self.lanes.remove(&lane);
        }
    }

    /// Ends the call that has this event, if one has.
    pub(super) fn cut(&self, id: EventId) {
        if let Some(flight) = self.number_of.get(&id).and_then(|number| self.by_number.get(number)) {
            flight.cut.cancel();
        }
    }

    pub(super) fn cut_all(&self) {
        for flight in self.by_number.values() {
            flight.cut.cancel();
        }
    }
}

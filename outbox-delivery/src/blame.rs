//! Which event is to blame where the transport seems to be down.
//!
//! An event that makes the other side close the connection, or say that it is down, looks like a transport that is down as
//! a whole. To leave the transport alone for a while and then begin with the same event again would hold up all others for
//! ever. So one that has met it twice is left out of the next try: if others are accepted without it, it is to blame. That
//! is good for one failure: then others have to be accepted again, or an outage that comes and goes would go on to be taken
//! for the fault of all that it met before.

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use outbox_traits::{Event, EventId, PublishError, PublishErrorKind};

use crate::publish::asking_for;

/// As often as chance alone may have an event meet an outage.
const CHANCE: u32 = 1;
/// A long outage meets many: the others of them are accused again if there is need. One call may have more.
const MOST: usize = 1000;

/// The events for which the transport was unavailable.
#[derive(Debug, Default)]
pub(crate) struct Blame(HashMap<EventId, Accused>);

#[derive(Debug, Default)]
struct Accused {
    /// In how many calls in a row.
    calls: u32,
    /// Whether others were accepted meanwhile, and nobody was blamed since.
    is_to_blame: bool,
}

impl Blame {
    /// Whether an event is to be tried by itself, and not as the first one after an outage.
    pub(crate) fn is_accused(&self, id: EventId) -> bool {
        self.calls(id) > CHANCE
    }

    /// In how many calls in a row the transport was unavailable for an event. Where there are only such, those come first
    /// that have met it the least often, so that one that is to blame is not in front of others for ever.
    pub(crate) fn calls(&self, id: EventId) -> u32 {
        self.0.get(&id).map_or(0, |accused| accused.calls)
    }

    /// Takes note of a call, and makes those of its events that are to blame failed ones.
    pub(crate) fn answered(&mut self, events: &[Event], results: &mut [Result<(), PublishError>]) {
        if !self.0.is_empty() && results.iter().any(Result::is_ok) {
            let own: HashSet<EventId> = events.iter().map(Event::id).collect();
            for (id, accused) in &mut self.0 {
                accused.is_to_blame |= accused.calls > CHANCE && !own.contains(id);
            }
        }
        self.make_room(events, results);
        for (event, result) in events.iter().zip(results) {
            match result.as_ref().err().map(PublishError::kind) {
                Some(PublishErrorKind::Unavailable) => self.unavailable(event.id(), result),
                Some(PublishErrorKind::NotAttempted) => {}
                _ => drop(self.0.remove(&event.id())),
            }
        }
    }

    /// Once for a whole call: where its own events made room for one another, those of a large one would never be accused.
    fn make_room(&mut self, events: &[Event], results: &[Result<(), PublishError>]) {
        let is_new = |(event, result): &(&Event, &Result<(), PublishError>)| {
            let kind = result.as_ref().err().map(PublishError::kind);
            kind == Some(PublishErrorKind::Unavailable) && !self.0.contains_key(&event.id())
        };
        let new = events.iter().zip(results).filter(is_new).count();
        if new > 0 && self.0.len() + new > MOST {
            let own: HashSet<EventId> = events.iter().map(Event::id).collect();
            self.0.retain(|id, _| own.contains(id));
        }
    }

    fn unavailable(&mut self, id: EventId, result: &mut Result<(), PublishError>) {
        let accused = self.0.entry(id).or_default();
        accused.calls = accused.calls.saturating_add(1);
        let is_to_blame = accused.is_to_blame;
        if is_to_blame && let Err(error) = result {
            self.0.values_mut().for_each(|accused| accused.is_to_blame = false);
            let retry_after = error.retry_after();
            let unavailable = mem::replace(error, PublishError::not_attempted());
            let message = "the transport is unavailable whenever it is given this event, and takes others";
            *error = asking_for(retry_after, PublishError::failed(message).with_source(unavailable));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_outage_so_many_are_remembered_and_all_of_the_last_call() {
        let mut blame = Blame::default();
        for count in [300; 30].into_iter().chain([2 * MOST, 1]) {
            let new = |_| Event::new("a", serde_json::json!({})).unwrap();
            let events: Vec<Event> = (0..count).map(new).collect();
            let mut results: Vec<_> = events.iter().map(|_| Err(PublishError::unavailable("down"))).collect();
            blame.answered(&events, &mut results);
            assert!(blame.0.len() <= MOST.max(count), "{} of {count}", blame.0.len());
            assert!(events.iter().all(|event| blame.calls(event.id()) == 1));
        }
    }
}

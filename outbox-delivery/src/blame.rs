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
/// A long outage meets many: the others of them are accused again if there is need.
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
        for (event, result) in events.iter().zip(results) {
            match result.as_ref().err().map(PublishError::kind) {
                Some(PublishErrorKind::Unavailable) => self.unavailable(event.id(), result),
                Some(PublishErrorKind::NotAttempted) => {}
                _ => drop(self.0.remove(&event.id())),
            }
        }
    }

    fn unavailable(&mut self, id: EventId, result: &mut Result<(), PublishError>) {
        if self.0.len() >= MOST && !self.0.contains_key(&id) {
            self.0.clear();
        }
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

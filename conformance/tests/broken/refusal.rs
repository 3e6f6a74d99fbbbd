//! What the engine refuses for reasons that are not the outbox's.

use std::{collections::HashSet, io};

use outbox_memory::MemorySession;
use outbox_traits::{Error, ErrorKind, Event, Result, Saved};

use crate::{fault::Fault, store::Broken};

/// The names of unique indexes that are not of the outbox. The first one ends as that of its ids does.
const INDEXES: [&str; 2] = ["other_id", "audit"];

/// What somebody has added to the schema.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Types of which no event is taken.
    refused: HashSet<String>,
    /// A type of which one event is taken, and the index that says so.
    unique: Option<(String, &'static str)>,
}

impl Rules {
    pub(crate) fn refuse(&mut self, event_type: &str) {
        self.refused.insert(event_type.to_owned());
    }

    pub(crate) fn collide(&mut self, event_type: &str, way: usize) -> bool {
        self.unique = INDEXES.get(way).map(|index| (event_type.to_owned(), *index));
        self.unique.is_some()
    }
}

impl Broken {
    /// What a store says of an event that the engine does not take.
    pub(crate) fn refusal(&self, event: &Event) -> Option<Result<Saved>> {
        let index = self.index_in_the_way(event);
        let reason = match index {
            Some(index) => format!("duplicate key in the unique index {index}"),
            None if self.has_refused_type(event) => "a check does not hold".to_owned(),
            None => return None,
        };
        let kind = match self.fault {
            Fault::ARefusedEventIsADuplicate => return Some(Ok(Saved::Duplicate)),
            Fault::AnyUniqueIndexIsThatOfTheOutbox if index.is_some() => return Some(Ok(Saved::Duplicate)),
            Fault::AUniqueIndexIsKnownByTheEndOfItsName if reason.ends_with("_id") => {
                return Some(Ok(Saved::Duplicate));
            }
            Fault::ARefusedEventIsAConflict => ErrorKind::Conflict,
            Fault::ARefusedEventIsOfTheSchema => ErrorKind::Schema,
            _ => ErrorKind::Backend,
        };
        let message = match self.fault {
            Fault::ARefusedEventAsksForAMigration => "could not save an event: run migrate",
            _ => "could not save an event",
        };
        let error = Error::new(kind, message).with_event(event.id());
        Some(Err(match self.fault {
            Fault::TheErrorOfTheDriverGetsLost => error,
            _ => error.with_source(io::Error::other(reason)),
        }))
    }

    fn has_refused_type(&self, event: &Event) -> bool {
        self.schema.database.rules.lock().unwrap().refused.contains(event.event_type())
    }

    fn index_in_the_way(&self, event: &Event) -> Option<&'static str> {
        let rules = self.schema.database.rules.lock().unwrap();
        let (event_type, index) = rules.unique.as_ref().filter(|(unique, _)| unique == event.event_type())?;
        let is_second = self.memory().saved.iter().any(|saved| saved.event_type() == event_type);
        is_second.then_some(*index)
    }

    /// What becomes of a batch after the outcome of one of its events, which comes after these.
    pub(crate) fn in_a_batch(
        &self,
        outcome: Result<Saved>,
        before: &[Saved],
        session: &mut Option<MemorySession>,
    ) -> Result<Saved> {
        match (&outcome, self.fault) {
            (Err(_), Fault::ARefusedEventOfABatchIsADuplicate) => return Ok(Saved::Duplicate),
            (Err(_), Fault::ARefusedEventBesideADuplicateIsOneToo) if before.contains(&Saved::Duplicate) => {
                return Ok(Saved::Duplicate);
            }
            (Err(_), Fault::ARefusedBatchIsLeftOpen) => self.memory().left_open = session.take(),
            (Ok(_), Fault::ALongBatchIsStoredInParts) if before.len() % 100 == 99 => {
                session.replace(self.inner.begin()).into_iter().for_each(MemorySession::commit);
            }
            _ => {}
        }
        outcome
    }
}

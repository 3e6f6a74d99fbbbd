//! Rows of which nothing can be read, neither what they are nor their events.

use std::{cell::RefCell, collections::HashMap};

use outbox_traits::{Error, ErrorKind, EventId};
use sled::{IVec, transaction::ConflictableTransactionError::Abort};
use uuid::Uuid;

use crate::{
    trees::{Done, Trees},
    view::seq_of,
};

/// What such a row has taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Names {
    pub(crate) id: Option<EventId>,
    pub(crate) idempotency_key: Option<String>,
}

/// The names of such rows, by their places, as far as a change has asked for them.
///
/// They stand in trees that lead from a name to its place, and a transaction cannot scan. So a change that asks for
/// names is undone, and runs again when they are known.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    known: HashMap<IVec, Names>,
    wanted: RefCell<Vec<IVec>>,
}

impl Lost {
    /// The names of the row at a place; none while they are not known.
    pub(crate) fn names(&self, place: &IVec) -> Names {
        let known = self.known.get(place).cloned();
        known.unwrap_or_else(|| {
            self.wanted.borrow_mut().push(place.clone());
            Names::default()
        })
    }

    /// Undoes a change that did not know names for which it has asked.
    pub(crate) fn check(&self) -> Done<()> {
        if self.wanted.borrow().is_empty() {
            return Ok(());
        }
        Err(Abort(Error::new(ErrorKind::Backend, "there are rows of which nothing can be read")))
    }

    /// Looks for the names that were asked for, and says whether there were any to look for.
    pub(crate) fn find(&mut self, trees: &Trees) -> sled::Result<bool> {
        let wanted = self.wanted.take();
        if wanted.is_empty() {
            return Ok(false);
        }
        self.known.extend(wanted.into_iter().map(|place| (place, Names::default())));
        for entry in &trees.ids {
            let (id, place) = entry?;
            if let Some(names) = self.known.get_mut(&place) {
                names.id = Uuid::from_slice(&id).ok().map(EventId::from);
            }
        }
        for entry in &trees.keys {
            let (key, place) = entry?;
            if let Some(names) = self.known.get_mut(&place) {
                names.idempotency_key = String::from_utf8(key.to_vec()).ok();
            }
        }
        Ok(true)
    }
}

/// The id of a row that has none any more. It is of version 8, which is not that of an event's own id.
pub(crate) fn id_made_of(place: &[u8]) -> EventId {
    const VERSION: u64 = 8 << 12;
    const VARIANT: u64 = 1 << 63;
    Uuid::from_u64_pair(VERSION, VARIANT | seq_of(place)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_makes_an_id_of_its_own() {
        let ids = [1_u64, 2, 1 << 40].map(|seq| *id_made_of(&seq.to_be_bytes()).as_uuid());
        assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
        for id in ids {
            assert_eq!((id.get_version_num(), id.get_variant()), (8, uuid::Variant::RFC4122));
        }
    }
}

//! The outbox inside a transaction: each change of a row, with its indexes.

use outbox_traits::EventId;
use sled::{IVec, transaction::TransactionalTree};

use crate::{
    row::{NewRow, Row, Status, reason},
    trees::{COUNT, Done, LAST_SEQ},
};

/// The trees of the outbox, as a transaction sees them.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    events: &'a TransactionalTree,
    rows: &'a TransactionalTree,
    ids: &'a TransactionalTree,
    keys: &'a TransactionalTree,
    pending: &'a TransactionalTree,
    scheduled: &'a TransactionalTree,
    delivered: &'a TransactionalTree,
    dead: &'a TransactionalTree,
    meta: &'a TransactionalTree,
}

/// An index has no values.
const NOTHING: &[u8] = &[];

impl<'a> View<'a> {
    /// In the order of `Trees::all`.
    pub(crate) fn of(trees: &'a [TransactionalTree; COUNT]) -> Self {
        let [events, rows, ids, keys, pending, scheduled, delivered, dead, meta] = trees;
        Self { events, rows, ids, keys, pending, scheduled, delivered, dead, meta }
    }

    pub(crate) fn flush(self) {
        self.meta.flush();
    }

    /// Whether an event of this id or key exists.
    pub(crate) fn is_taken(self, new: &Row) -> Done<bool> {
        if self.ids.get(id_key(new.id))?.is_some() {
            return Ok(true);
        }
        Ok(match &new.idempotency_key {
            Some(key) => self.keys.get(key)?.is_some(),
            None => false,
        })
    }

    /// Adds a row at the end; its id and key are free.
    ///
    /// The number is taken here, under sled's one lock: transactions are in the order of their numbers. It is kept
    /// in a place of its own, so that it never comes again when the newest row goes.
    pub(crate) fn insert(self, new: &NewRow, now: i64) -> Done<()> {
        let seq = self.meta.get(LAST_SEQ)?.map_or(0, |seq| seq_of(&seq)) + 1;
        let place = IVec::from(&seq.to_be_bytes());
        self.meta.insert(LAST_SEQ, &place)?;
        let row = Row { status: new.row.open_status(now), ..new.row.clone() };
        self.events.insert(&place, &new.record)?;
        self.ids.insert(&id_key(row.id), &place)?;
        if let Some(key) = &row.idempotency_key {
            self.keys.insert(key.as_bytes(), &place)?;
        }
        self.rows.insert(&place, row.encode()?)?;
        self.index(&place, &row.status)
    }

    /// Makes a pending event a delivered one; leaves any other.
    pub(crate) fn acknowledge(self, id: EventId, now: i64) -> Done<()> {
        if let Some((place, row)) = self.find(id)?
            && matches!(row.status, Status::Pending | Status::Scheduled(_))
        {
            self.set_status(&place, row, Status::Delivered(now))?;
        }
        Ok(())
    }

    /// Puts a hidden event that is due among the pending ones.
    pub(crate) fn show(self, due: &IVec) -> Done<()> {
        if self.scheduled.get(due)?.is_some() {
            let place = place_of(due);
            let row = self.row(&place)?;
            self.set_status(&place, row, Status::Pending)?;
            self.scheduled.remove(due)?;
        }
        Ok(())
    }

    /// Makes a pending event a dead one.
    pub(crate) fn set_aside(self, place: &IVec, why: &str, now: i64) -> Done<()> {
        if self.pending.get(place)?.is_some() {
            let row = self.row(place)?;
            self.set_status(place, row, Status::Dead { at: now, reason: reason(why) })?;
        }
        Ok(())
    }

    /// Removes a delivered event for good, if it is still there.
    pub(crate) fn purge(self, delivered: &IVec) -> Done<bool> {
        let there = self.delivered.remove(delivered)?.is_some();
        if there {
            let place = place_of(delivered);
            self.remove(&place, &self.row(&place)?)?;
        }
        Ok(there)
    }

    /// Makes a dead event pending again, if it is still dead.
    pub(crate) fn requeue(self, place: &IVec, now: i64) -> Done<bool> {
        let there = self.dead.get(place)?.is_some();
        if there {
            let row = self.row(place)?;
            let status = row.open_status(now);
            self.set_status(place, row, status)?;
        }
        Ok(there)
    }

    /// Removes a dead event for good, if it is still dead.
    pub(crate) fn discard(self, place: &IVec) -> Done<bool> {
        let there = self.dead.get(place)?.is_some();
        if there {
            self.remove(place, &self.row(place)?)?;
        }
        Ok(there)
    }

    pub(crate) fn place(self, id: EventId) -> Done<Option<IVec>> {
        Ok(self.ids.get(id_key(id))?)
    }

    fn find(self, id: EventId) -> Done<Option<(IVec, Row)>> {
        let Some(place) = self.place(id)? else { return Ok(None) };
        let row = self.row(&place)?;
        Ok(Some((place, row)))
    }

    fn row(self, place: &IVec) -> Done<Row> {
        Ok(Row::decode(&self.rows.get(place)?.unwrap_or_default()))
    }

    fn remove(self, place: &IVec, row: &Row) -> Done<()> {
        self.unindex(place, &row.status)?;
        self.events.remove(place)?;
        self.rows.remove(place)?;
        self.ids.remove(&id_key(row.id))?;
        if let Some(key) = &row.idempotency_key {
            self.keys.remove(key.as_bytes())?;
        }
        Ok(())
    }

    fn set_status(self, place: &IVec, row: Row, status: Status) -> Done<()> {
        self.unindex(place, &row.status)?;
        self.index(place, &status)?;
        self.rows.insert(place, Row { status, ..row }.encode()?)?;
        Ok(())
    }

    fn index(self, place: &IVec, status: &Status) -> Done<()> {
        match status {
            Status::Pending => self.pending.insert(place, NOTHING)?,
            Status::Scheduled(due) => self.scheduled.insert(timed(*due, place), NOTHING)?,
            Status::Delivered(at) => self.delivered.insert(timed(*at, place), NOTHING)?,
            Status::Dead { .. } => self.dead.insert(place, NOTHING)?,
        };
        Ok(())
    }

    fn unindex(self, place: &IVec, status: &Status) -> Done<()> {
        match status {
            Status::Pending => self.pending.remove(place)?,
            Status::Scheduled(due) => self.scheduled.remove(timed(*due, place))?,
            Status::Delivered(at) => self.delivered.remove(timed(*at, place))?,
            Status::Dead { .. } => self.dead.remove(place)?,
        };
        Ok(())
    }
}

pub(crate) fn id_key(id: EventId) -> [u8; 16] {
    *id.as_uuid().as_bytes()
}

/// Keys are big-endian, so that their order is that of the numbers.
pub(crate) fn seq_of(place: &[u8]) -> u64 {
    place.try_into().map_or(0, u64::from_be_bytes)
}

fn timed(millis: i64, place: &[u8]) -> IVec {
    [time_key(millis).as_slice(), place].concat().into()
}

fn place_of(timed: &IVec) -> IVec {
    timed.subslice(8, timed.len() - 8)
}

/// The end of all places of this time.
pub(crate) fn until(millis: i64) -> IVec {
    timed(millis, &[u8::MAX; 8])
}

/// Times before 1970 come before those after.
fn time_key(millis: i64) -> [u8; 8] {
    (millis ^ i64::MIN).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_times_and_places_are_in_their_order() {
        let place = |seq: u64| seq.to_be_bytes();
        let keys = [
            timed(i64::MIN, &place(9)),
            timed(-1, &place(3)),
            until(-1),
            timed(0, &place(1)),
            timed(0, &place(256)),
            timed(1, &place(0)),
            until(i64::MAX),
        ];
        assert!(keys.is_sorted_by(|one, next| one < next), "{keys:?}");
        assert_eq!(seq_of(&place_of(&keys[4])), 256);
    }
}

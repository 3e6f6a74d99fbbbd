//! The outbox inside a transaction: each change of a row, with its indexes.

use std::{cell::Cell, mem::discriminant};

use outbox_traits::{EventId, Lease, Outcome, Retention, Settlement};
use sled::{IVec, transaction::TransactionalTree};
use uuid::Uuid;

use crate::{
    clock,
    keys::Counts,
    lost::{Lost, id_made_of},
    row::{NewRow, Row, Status, reason},
    trees::{COUNT, COUNTS, Done, LAST_SEQ},
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
    leased: &'a TransactionalTree,
    waiting: &'a TransactionalTree,
    open: &'a TransactionalTree,
    delivered: &'a TransactionalTree,
    dead: &'a TransactionalTree,
    pub(crate) key_places: &'a TransactionalTree,
    pub(crate) key_states: &'a TransactionalTree,
    pub(crate) heads: &'a TransactionalTree,
    meta: &'a TransactionalTree,
    /// Set by what others may want to hear of when the transaction is committed.
    wakes: &'a Cell<bool>,
    /// Asked for what a row has taken of which nothing can be read.
    lost: &'a Lost,
}

/// An index has no values.
pub(crate) const NOTHING: &[u8] = &[];

/// But in the index of dead events, of one that holds its key.
const HOLDS_KEY: &[u8] = &[1];

impl<'a> View<'a> {
    /// In the order of `Trees::all`.
    pub(crate) fn of(trees: &'a [TransactionalTree; COUNT], wakes: &'a Cell<bool>, lost: &'a Lost) -> Self {
        let [
            events,
            rows,
            ids,
            keys,
            pending,
            scheduled,
            leased,
            waiting,
            open,
            delivered,
            dead,
            key_places,
            key_states,
            heads,
            meta,
        ] = trees;
        Self {
            events,
            rows,
            ids,
            keys,
            pending,
            scheduled,
            leased,
            waiting,
            open,
            delivered,
            dead,
            key_places,
            key_states,
            heads,
            meta,
            wakes,
            lost,
        }
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
        self.wakes.set(true);
        let seq = self.meta.get(LAST_SEQ)?.map_or(0, |seq| seq_of(&seq)) + 1;
        let place = IVec::from(&seq.to_be_bytes());
        self.meta.insert(LAST_SEQ, &place)?;
        let row = Row { status: new.row.open_status(now), saved_at: now, ..new.row.clone() };
        self.events.insert(&place, &new.record)?;
        self.ids.insert(&id_key(row.id), &place)?;
        if let Some(key) = &row.idempotency_key {
            self.keys.insert(key.as_bytes(), &place)?;
        }
        self.rows.insert(&place, row.encode()?)?;
        self.index(&place, row.key.as_deref(), &row.status)?;
        self.tally(&place, None, Some(&row.status))
    }

    /// Gives an event of format 1 what that one did not keep. The status is that of the index in which it was found.
    pub(crate) fn adopt(self, place: &IVec, status: Status, now: i64) -> Done<()> {
        let record = self.events.get(place)?.unwrap_or_default();
        let rebuilt = Row::rebuild(&record, status.clone());
        let row = Row { key: rebuilt.key, saved_at: now, ..self.row(place, status)? };
        if is_open(&row.status) {
            self.open.insert(place, NOTHING)?;
        }
        self.index(place, row.key.as_deref(), &row.status)?;
        self.rows.insert(place, row.encode()?)?;
        Ok(())
    }

    /// Makes an event that is to be delivered a delivered one; leaves any other. A lease on it ends.
    pub(crate) fn acknowledge(self, id: EventId, now: i64, retention: Retention) -> Done<()> {
        if let Some((place, row)) = self.find(id)?
            && is_open(&row.status)
        {
            self.deliver(&place, row, now, retention)?;
        }
        Ok(())
    }

    fn deliver(self, place: &IVec, row: Row, now: i64, retention: Retention) -> Done<()> {
        match retention {
            Retention::UntilPurged => self.set_status(place, row, Status::Delivered(now)),
            Retention::DeleteOnDelivery => self.remove(place, &row),
        }
    }

    /// Puts an event that is due among the pending ones; says of what index it is.
    pub(crate) fn show(self, due: &IVec, of: impl Fn(i64) -> Status) -> Done<()> {
        self.make_pending(due, &of(millis_of(due)), 0)
    }

    /// Ends a lease that ran out: an attempt was started.
    pub(crate) fn run_out(self, due: &IVec) -> Done<()> {
        let lease = Status::Leased { token: Uuid::nil(), until: millis_of(due) };
        self.make_pending(due, &lease, 1)
    }

    fn make_pending(self, due: &IVec, status: &Status, attempts: u32) -> Done<()> {
        let place = place_in(due);
        let mut row = self.row(&place, status.clone())?;
        if discriminant(&row.status) == discriminant(status) {
            row.attempts = row.attempts.saturating_add(attempts);
            return self.set_status(&place, row, Status::Pending);
        }
        // Left over from a row that could not be read.
        self.unindex(&place, row.key.as_deref(), status)
    }

    /// Leases a pending event, and returns its started attempts and its failures.
    pub(crate) fn lease(self, place: &IVec, token: Uuid, until: i64) -> Done<Option<(u32, u32)>> {
        let row = self.row(place, Status::Pending)?;
        if row.status != Status::Pending {
            return Ok(None);
        }
        let counts = (row.attempts.saturating_add(1), row.failures);
        self.set_status(place, row, Status::Leased { token, until })?;
        Ok(Some(counts))
    }

    /// Makes a lease that is held end at this time. It returns whether it is held.
    pub(crate) fn renew(self, lease: &Lease, until: i64, now: i64) -> Done<bool> {
        let Some((place, row)) = self.held(lease, now)? else { return Ok(false) };
        self.set_status(&place, row, Status::Leased { token: lease.token(), until })?;
        Ok(true)
    }

    /// Ends a lease that is held. It returns whether it was.
    pub(crate) fn settle(self, settlement: &Settlement, now: i64, retention: Retention) -> Done<bool> {
        let Some((place, mut row)) = self.held(&settlement.lease, now)? else { return Ok(false) };
        let status = match &settlement.outcome {
            Outcome::Retry { after, error } => {
                row.count_attempt(Some(error), now);
                let due = clock::later(now, *after);
                row.retry_at = Some(due);
                Status::Waiting(due)
            }
            Outcome::DeadLetter { error, holds_key } => {
                row.count_attempt(Some(error), now);
                Status::Dead { at: now, reason: reason(error), holds_key: *holds_key }
            }
            Outcome::Delivered => {
                row.count_attempt(None, now);
                self.deliver(&place, row, now, retention)?;
                return Ok(true);
            }
            // Any other is of a later version of the contract: nobody has said that it was delivered, so it comes again.
            Outcome::Released | _ => Status::Pending,
        };
        self.set_status(&place, row, status)?;
        Ok(true)
    }

    fn held(self, lease: &Lease, now: i64) -> Done<Option<(IVec, Row)>> {
        let found = self.find(lease.event())?;
        Ok(found.filter(|(_, row)| {
            matches!(row.status, Status::Leased { token, until } if token == lease.token() && until > now)
        }))
    }

    /// Makes a pending event a dead one. The key is for a row that cannot be read; it must not stay in the index.
    pub(crate) fn set_aside(self, place: &IVec, key: Option<&str>, why: &str, now: i64) -> Done<()> {
        if self.pending.get(place)?.is_some() {
            let mut row = self.row(place, Status::Pending)?;
            row.key = row.key.or_else(|| key.map(str::to_owned));
            return self.set_status(
                place,
                row,
                Status::Dead { at: now, reason: reason(why), holds_key: false },
            );
        }
        self.remove_claimable(key, place)
    }

    /// Removes a delivered event for good, if it is still there.
    pub(crate) fn purge(self, delivered: &IVec) -> Done<bool> {
        let there = self.delivered.get(delivered)?.is_some();
        if there {
            let place = place_in(delivered);
            self.remove(&place, &self.row(&place, Status::Delivered(millis_of(delivered)))?)?;
        }
        Ok(there)
    }

    /// Makes a dead event pending again, if it is still dead.
    pub(crate) fn requeue(self, place: &IVec, now: i64) -> Done<bool> {
        let there = self.dead.get(place)?.is_some();
        if there {
            let mut row = self.row(place, DEAD)?;
            row.forget_attempts();
            self.wakes.set(true);
            let status = row.open_status(now);
            self.set_status(place, row, status)?;
        }
        Ok(there)
    }

    /// Removes a dead event for good, if it is still dead.
    pub(crate) fn discard(self, place: &IVec) -> Done<bool> {
        let there = self.dead.get(place)?.is_some();
        if there {
            self.remove(place, &self.row(place, DEAD)?)?;
        }
        Ok(there)
    }

    pub(crate) fn place(self, id: EventId) -> Done<Option<IVec>> {
        Ok(self.ids.get(id_key(id))?)
    }

    fn find(self, id: EventId) -> Done<Option<(IVec, Row)>> {
        let Some(place) = self.place(id)? else { return Ok(None) };
        let status = self.status_by_index(&place)?;
        let row = self.row(&place, status)?;
        Ok(Some((place, row)))
    }

    /// What a row is that cannot be read, as far as the indexes tell by its place.
    fn status_by_index(self, place: &IVec) -> Done<Status> {
        if self.dead.get(place)?.is_some() {
            return Ok(DEAD);
        }
        Ok(if self.open.get(place)?.is_some() { Status::Pending } else { Status::Delivered(0) })
    }

    /// A row; one that cannot be read is of the status of the index in which it was found.
    fn row(self, place: &IVec, status: Status) -> Done<Row> {
        match Row::decode(&self.rows.get(place)?.unwrap_or_default()) {
            Some(row) => Ok(row),
            None => self.rebuild(place, status),
        }
    }

    fn rebuild(self, place: &IVec, status: Status) -> Done<Row> {
        let mut row = Row::rebuild(&self.events.get(place)?.unwrap_or_default(), status);
        if row.is_nobodys() {
            // What it has taken must be free again when it goes.
            let names = self.lost.names(place);
            row.id = names.id.unwrap_or_else(|| id_made_of(place));
            row.idempotency_key = names.idempotency_key;
            self.ids.insert(&id_key(row.id), place)?;
        }
        Ok(row)
    }

    fn remove(self, place: &IVec, row: &Row) -> Done<()> {
        self.unindex(place, row.key.as_deref(), &row.status)?;
        self.tally(place, Some(&row.status), None)?;
        self.events.remove(place)?;
        self.rows.remove(place)?;
        self.ids.remove(&id_key(row.id))?;
        if let Some(key) = &row.idempotency_key {
            self.keys.remove(key.as_bytes())?;
        }
        Ok(())
    }

    fn set_status(self, place: &IVec, row: Row, status: Status) -> Done<()> {
        self.unindex(place, row.key.as_deref(), &row.status)?;
        self.index(place, row.key.as_deref(), &status)?;
        self.tally(place, Some(&row.status), Some(&status))?;
        self.rows.insert(place, Row { status, ..row }.encode()?)?;
        Ok(())
    }

    fn index(self, place: &IVec, key: Option<&str>, status: &Status) -> Done<()> {
        match status {
            Status::Pending => {
                self.pending.insert(place, NOTHING)?;
                self.add_claimable(key, place)?;
            }
            Status::Scheduled(due) => _ = self.scheduled.insert(timed(*due, place), NOTHING)?,
            Status::Leased { until, .. } => {
                self.leased.insert(timed(*until, place), NOTHING)?;
                self.block(key)?;
            }
            Status::Waiting(due) => {
                self.waiting.insert(timed(*due, place), NOTHING)?;
                self.block(key)?;
            }
            Status::Delivered(at) => _ = self.delivered.insert(timed(*at, place), NOTHING)?,
            Status::Dead { holds_key, .. } => {
                self.dead.insert(place, if *holds_key { HOLDS_KEY } else { NOTHING })?;
                if *holds_key {
                    self.block(key)?;
                }
            }
        }
        Ok(())
    }

    fn unindex(self, place: &IVec, key: Option<&str>, status: &Status) -> Done<()> {
        match status {
            Status::Pending => {
                self.pending.remove(place)?;
                self.remove_claimable(key, place)?;
            }
            Status::Scheduled(due) => _ = self.scheduled.remove(timed(*due, place))?,
            Status::Leased { until, .. } => {
                if self.leased.remove(timed(*until, place))?.is_some() {
                    self.unblock(key)?;
                }
            }
            Status::Waiting(due) => {
                if self.waiting.remove(timed(*due, place))?.is_some() {
                    self.unblock(key)?;
                }
            }
            Status::Delivered(at) => _ = self.delivered.remove(timed(*at, place))?,
            // The index says it also of a row that cannot be read: a key must not be held for ever.
            Status::Dead { .. } => {
                if self.dead.remove(place)?.is_some_and(|held| held == HOLDS_KEY) {
                    self.wakes.set(true);
                    self.unblock(key)?;
                }
            }
        }
        Ok(())
    }

    /// Keeps the counts, and the index of all that is to be delivered.
    fn tally(self, place: &IVec, before: Option<&Status>, after: Option<&Status>) -> Done<()> {
        match (before.is_some_and(is_open), after.is_some_and(is_open)) {
            (false, true) => _ = self.open.insert(place, NOTHING)?,
            (true, false) => _ = self.open.remove(place)?,
            _ => {}
        }
        let mut counts = self.meta.get(COUNTS)?.map(|bytes| Counts::decode(&bytes)).unwrap_or_default();
        let known = counts;
        counts.change(before, after);
        if counts != known {
            self.meta.insert(COUNTS, counts.encode())?;
        }
        Ok(())
    }
}

/// What a dead row that cannot be read is taken for.
const DEAD: Status = Status::Dead { at: 0, reason: String::new(), holds_key: false };

/// Whether it is yet to be delivered.
pub(crate) fn is_open(status: &Status) -> bool {
    !matches!(status, Status::Delivered(_) | Status::Dead { .. })
}

pub(crate) fn id_key(id: EventId) -> [u8; 16] {
    *id.as_uuid().as_bytes()
}

/// Keys are big-endian, so that their order is that of the numbers.
pub(crate) fn seq_of(place: &[u8]) -> u64 {
    place.try_into().map_or(0, u64::from_be_bytes)
}

pub(crate) fn timed(millis: i64, place: &[u8]) -> IVec {
    [time_key(millis).as_slice(), place].concat().into()
}

/// The place in an entry of an index, which may begin with something else.
pub(crate) fn place_in(entry: &IVec) -> IVec {
    let start = entry.len().saturating_sub(8);
    entry.subslice(start, entry.len() - start)
}

pub(crate) fn millis_of(timed: &[u8]) -> i64 {
    timed.first_chunk().map_or(0, |time| i64::from_be_bytes(*time) ^ i64::MIN)
}

/// The end of all places of this time.
pub(crate) fn until(millis: i64) -> IVec {
    timed(millis, &[u8::MAX; 8])
}

/// Times before 1970 come before those after.
pub(crate) fn time_key(millis: i64) -> [u8; 8] {
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
        assert_eq!(seq_of(&place_in(&keys[4])), 256);
        assert_eq!(millis_of(&keys[1]), -1);
    }
}

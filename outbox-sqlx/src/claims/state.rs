//! What is leased: rows of leases, each with its events in one list.

use std::collections::{HashMap, HashSet};

use outbox_traits::EventId;
use sqlx::Row as _;
use uuid::Uuid;

use super::sql;
use crate::{
    dialect::Dialect,
    names::Names,
    row::{ReadRow, Stored},
};

/// What stands for a partition key.
pub(super) type Key = [u8; 16];

/// The key in a column, unless that has something else.
pub(super) fn key<R: ReadRow>(row: &R, index: usize) -> Option<Key> {
    row.bytes(index).ok()?.try_into().ok()
}

/// Where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) seq: i64,
    pub(super) id: EventId,
    pub(super) key: Key,
    /// Whether it is among the parked ones.
    pub(super) parked: bool,
}

/// Leases of one claim that end together.
#[derive(Clone, Debug)]
pub(super) struct LeaseRow {
    pub(super) token: Uuid,
    pub(super) until: i64,
    pub(super) claimed_at: i64,
    pub(super) worker: String,
    pub(super) entries: Vec<Spot>,
}

/// Of the statement that reads the state.
const COLUMNS: usize = 7;
/// Of a packed entry: an id and a key of 16 bytes each, a place of 8, and one for whether it is parked.
const ENTRY: usize = 41;

impl LeaseRow {
    pub(super) fn has_run_out(&self, now: i64) -> bool {
        self.until <= now
    }

    pub(super) fn packed(&self) -> Vec<u8> {
        let mut packed = Vec::with_capacity(self.entries.len() * ENTRY);
        for entry in &self.entries {
            packed.extend(entry.id.as_uuid().as_bytes());
            packed.extend(entry.key);
            packed.extend(entry.seq.to_be_bytes());
            packed.push(entry.parked.into());
        }
        packed
    }
}

fn unpacked(packed: &[u8]) -> Vec<Spot> {
    let array = |bytes: &[u8]| std::array::from_fn(|index| bytes[index]);
    packed
        .chunks_exact(ENTRY)
        .map(|entry| Spot {
            id: Uuid::from_bytes(array(&entry[..16])).into(),
            key: array(&entry[16..32]),
            seq: i64::from_be_bytes(std::array::from_fn(|index| entry[32 + index])),
            parked: entry[40] != 0,
        })
        .collect()
}

/// What the store knows of leases at one moment.
#[derive(Debug)]
pub(super) struct State {
    /// By the store's clock, in microseconds since 1970.
    pub(super) now: i64,
    /// Whether any key has parked events.
    pub(super) has_keys: bool,
    /// Whether any of them is ready.
    pub(super) has_ready: bool,
    /// Those that ran out included.
    pub(super) leases: Vec<LeaseRow>,
}

impl State {
    /// Without a lock, and so of a moment that may have passed.
    pub(super) async fn glimpse<DB: Dialect>(
        connection: &mut DB::Connection,
        names: &Names,
    ) -> sqlx::Result<Self> {
        Self::of(&DB::rows(connection, sql::state::<DB>(names, None)).await?)
    }

    /// All leases, or those with some tokens, which are kept as they are until the transaction ends.
    pub(super) async fn hold<DB: Dialect>(
        connection: &mut DB::Connection,
        names: &Names,
        tokens: Option<&[Uuid]>,
    ) -> sqlx::Result<Self> {
        let (mut before, again) = DB::AROUND_HOLD;
        loop {
            let (hold, state) = (sql::hold::<DB>(names, tokens), sql::state::<DB>(names, tokens));
            let rows = DB::rows(connection, format!("{before}{hold}; {state}")).await?;
            let held = rows.iter().filter(|row| row.len() == 2);
            let held: HashSet<(Uuid, i64)> =
                held.map(|row| Ok((row.uuid(0)?, row.number(1)?))).collect::<sqlx::Result<_>>()?;
            let state = Self::of(&rows)?;
            // What was written anew by the one that was waited for is another row, which is seen and not kept yet.
            if state.leases.iter().all(|lease| held.contains(&(lease.token, lease.until))) {
                return Ok(state);
            }
            // All from the first on again: who takes them in another order meets others that wait for one another.
            before = again;
        }
    }

    /// From the rows that tell it, among others of other statements of the same message.
    pub(super) fn of<R: ReadRow>(rows: &[R]) -> sqlx::Result<Self> {
        let mut state = Self { now: 0, has_keys: false, has_ready: false, leases: Vec::new() };
        for row in rows.iter().filter(|row| row.len() == COLUMNS) {
            state.now = row.number(0)?;
            let first_ready = row.optional(1)?;
            state.has_keys = first_ready.is_some();
            state.has_ready = first_ready.is_some_and(|time| time <= state.now);
            if !row.is_null(2)? {
                state.leases.push(LeaseRow {
                    token: row.uuid(2)?,
                    until: row.number(3)?,
                    claimed_at: row.number(4)?,
                    worker: row.text(5)?,
                    entries: unpacked(&row.bytes(6)?),
                });
            }
        }
        Ok(state)
    }

    /// Leases that have not run out.
    pub(super) fn active(&self) -> impl Iterator<Item = &LeaseRow> {
        self.leases.iter().filter(|lease| !lease.has_run_out(self.now))
    }

    /// The events of leases that ran out.
    pub(super) fn expired(&self) -> Vec<Spot> {
        let expired = self.leases.iter().filter(|lease| lease.has_run_out(self.now));
        expired.flat_map(|lease| lease.entries.iter().copied()).collect()
    }

    /// The places of leased events among the pending ones.
    pub(super) fn leased_places(&self) -> Vec<i64> {
        let entries = self.active().flat_map(|lease| &lease.entries);
        entries.filter(|entry| !entry.parked).map(|entry| entry.seq).collect()
    }

    pub(super) fn leased(&self) -> HashSet<EventId> {
        self.active().flat_map(|lease| &lease.entries).map(|entry| entry.id).collect()
    }

    /// The leased keys, with when they were claimed and for how long.
    pub(super) fn busy(&self) -> HashMap<Key, Busy> {
        let mut busy = HashMap::new();
        for lease in self.active() {
            for entry in &lease.entries {
                let found =
                    busy.entry(entry.key).or_insert(Busy { since: lease.claimed_at, until: lease.until });
                found.until = found.until.max(lease.until);
            }
        }
        busy
    }
}

/// For how long a key is leased.
#[derive(Clone, Copy, Debug)]
pub(super) struct Busy {
    pub(super) since: i64,
    pub(super) until: i64,
}

/// Columns of a whole event.
pub(super) const EVENT: usize = 9;

impl Spot {
    /// Of a pending event that was read as a whole. A key that is none is that of an event that cannot be decoded.
    pub(super) fn of<R: ReadRow>(row: &R) -> sqlx::Result<Self> {
        let (seq, id) = row.position()?;
        Ok(Self { seq, id, key: key(row, EVENT - 1).unwrap_or_default(), parked: false })
    }
}

/// An event as it was read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) seq: i64,
    pub(super) id: EventId,
    pub(super) attempts: u32,
    pub(super) failures: u32,
    pub(super) event: Result<outbox_traits::Event, String>,
}

impl Read {
    pub(super) fn of<R: ReadRow>(row: &R) -> sqlx::Result<Self> {
        let Stored { seq, event } = row.stored()?;
        let (_, id) = row.position()?;
        let event = match key(row, EVENT - 1) {
            Some(_) => event,
            None => event.and(Err("the hash of the partition key does not have 16 bytes".to_owned())),
        };
        Ok(Self { seq, id, attempts: row.count(6), failures: row.count(7), event })
    }
}

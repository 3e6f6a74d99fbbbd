//! The trees, and how they are read.

use std::{cell::Cell, sync::Arc};

use outbox_traits::{Error, ErrorKind, Event, EventId, Result};
use sled::{
    Db, IVec, Tree,
    transaction::{ConflictableTransactionError, Transactional, TransactionalTree},
};

use crate::{
    clock::Clock,
    error,
    keys::Counts,
    lost::Lost,
    peers::Peers,
    row::{self, Status},
    store::BATCH,
    view::{self, View},
    writer,
};

/// One tree for each question that is asked, so that none is answered by a scan.
pub(crate) struct Trees {
    pub(crate) name: String,
    pub(crate) peers: Arc<Peers>,
    /// Place to record. Places are sequence numbers.
    pub(crate) events: Tree,
    /// Place to row.
    pub(crate) rows: Tree,
    /// Id to place.
    pub(crate) ids: Tree,
    /// Idempotency key, as it is, to place.
    pub(crate) keys: Tree,
    /// The places of pending events that are due.
    pub(crate) pending: Tree,
    /// Time and place of those that are not.
    pub(crate) scheduled: Tree,
    /// End and place of each lease.
    pub(crate) leased: Tree,
    /// Time and place of what failed and is to be tried again.
    pub(crate) waiting: Tree,
    /// The places of all that is to be delivered: the four above.
    pub(crate) open: Tree,
    /// Time and place.
    pub(crate) delivered: Tree,
    /// Places.
    pub(crate) dead: Tree,
    /// Partition key and place of each pending event that has a key.
    pub(crate) key_places: Tree,
    /// Partition key to [`Key`](crate::keys::Key).
    pub(crate) key_states: Tree,
    /// Where a claim begins: the places of pending events without a partition key, and of each free key one that is
    /// not after its first pending event.
    pub(crate) heads: Tree,
    /// The last sequence number, how many events there are by state, and the version of all this.
    pub(crate) meta: Tree,
}

pub(crate) const COUNT: usize = 15;
const FORMAT: &[u8] = b"format";
/// It has claims; format 1 had none.
const FORMAT_VERSION: &[u8] = b"2";
pub(crate) const LAST_SEQ: &[u8] = b"last_seq";
pub(crate) const COUNTS: &[u8] = b"counts";

/// The inside of a transaction of sled.
pub(crate) type Done<T> = Result<T, ConflictableTransactionError<Error>>;

/// How many changes of these places there were to make.
pub(crate) fn count(places: &[IVec], change: impl Fn(&IVec) -> Done<bool>) -> Done<u64> {
    places.iter().try_fold(0, |count, place| Ok(count + u64::from(change(place)?)))
}

/// What a fetch found.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// Leases ran out, or hidden or failed events are due: they take their places among the pending ones first.
    Behind,
    /// Rows that cannot be decoded, and why: they are set aside first.
    Undecodable(Vec<(IVec, String)>),
    /// The first events, and the highest place among them.
    Events(Vec<Event>, u64),
}

impl Trees {
    pub(crate) fn open(db: &Db, name: &str) -> Result<Self> {
        let tried = format!("open the outbox `{name}`");
        let open =
            |tree: &str| db.open_tree(format!("{name}.{tree}")).map_err(|error| error::of(&tried, error));
        let trees = Self {
            name: name.to_owned(),
            peers: Peers::of(db, name),
            events: open("events")?,
            rows: open("rows")?,
            ids: open("ids")?,
            keys: open("keys")?,
            pending: open("pending")?,
            scheduled: open("scheduled")?,
            leased: open("leased")?,
            waiting: open("waiting")?,
            open: open("open")?,
            delivered: open("delivered")?,
            dead: open("dead")?,
            key_places: open("key_places")?,
            key_states: open("key_states")?,
            heads: open("heads")?,
            meta: open("meta")?,
        };
        trees.check_format(&tried)?;
        Ok(trees)
    }

    fn check_format(&self, tried: &str) -> Result<()> {
        // Another one over the same trees may be opened at this moment.
        let _alone = writer::alone();
        let found = self
            .meta
            .compare_and_swap(FORMAT, None::<&[u8]>, Some(FORMAT_VERSION))
            .map_err(|error| error::of(tried, error))?;
        match found.err().and_then(|found| found.current) {
            Some(one) if one == b"1" => self.upgrade(tried),
            Some(other) if other != FORMAT_VERSION => {
                let message = format!(
                    "the outbox `{}` has the format {}, and this version of outbox-sled knows formats 1 and 2",
                    self.name,
                    String::from_utf8_lossy(&other)
                );
                Err(Error::new(ErrorKind::Schema, message))
            }
            _ => Ok(()),
        }
    }

    /// From format 1 to 2. If it is cut off, it begins again.
    fn upgrade(&self, tried: &str) -> Result<()> {
        let failed = |error| error::of(tried, error);
        for new in [&self.leased, &self.waiting, &self.open, &self.key_places, &self.key_states, &self.heads]
        {
            new.clear().map_err(failed)?;
        }
        let now = Clock::default().now();
        let reason = || "the stored row cannot be read".to_owned();
        self.adopt(&self.pending, |_| Status::Pending, now)?;
        self.adopt(&self.scheduled, |due| Status::Scheduled(view::millis_of(due)), now)?;
        self.adopt(&self.dead, |_| Status::Dead { at: now, reason: reason(), holds_key: false }, now)?;
        let pending = self.pending.len() + self.scheduled.len();
        let counts = [pending, 0, self.delivered.len(), self.dead.len()].map(|count| count as u64);
        self.meta.insert(COUNTS, Counts(counts).encode()).map_err(failed)?;
        // The version comes last, also on the disk.
        self.meta.flush().map_err(failed)?;
        self.meta.insert(FORMAT, FORMAT_VERSION).map_err(failed)?;
        self.meta.flush().map_err(failed)?;
        Ok(())
    }

    /// Gives the events of an index what format 1 did not keep. When they were saved is not known.
    fn adopt(&self, index: &Tree, status: impl Fn(&IVec) -> Status, now: i64) -> Result<()> {
        let entries: Vec<IVec> = self.read(|| index.iter().keys().collect())?;
        for batch in entries.chunks(BATCH) {
            self.change(|view| {
                batch.iter().try_for_each(|entry| view.adopt(&view::place_in(entry), status(entry), now))
            })?;
        }
        Ok(())
    }

    fn all(&self) -> [&Tree; COUNT] {
        [
            &self.events,
            &self.rows,
            &self.ids,
            &self.keys,
            &self.pending,
            &self.scheduled,
            &self.leased,
            &self.waiting,
            &self.open,
            &self.delivered,
            &self.dead,
            &self.key_places,
            &self.key_states,
            &self.heads,
            &self.meta,
        ]
    }

    pub(crate) fn is_own(&self, tree: &Tree) -> bool {
        self.all().iter().any(|own| own.name() == tree.name())
    }

    /// Whether a tree is of the same data base, so that one transaction can write to both.
    pub(crate) fn is_beside(&self, tree: &Tree) -> bool {
        <[&Tree] as Transactional<Error>>::make_overlay(&[&self.meta, tree]).is_ok()
    }

    /// Changes the outbox in one transaction of sled.
    pub(crate) fn change<T>(&self, change: impl Fn(&View<'_>) -> Done<T>) -> Result<T> {
        self.change_with(&[], |view, _| change(view))
    }

    /// Changes the outbox and other trees in one transaction of sled.
    ///
    /// A transaction of sled holds a lock of the process, which all plain reads and writes wait for, also those of
    /// the closure itself: it must touch nothing but what it is given. It may be run again, so it must not change
    /// anything else either.
    pub(crate) fn change_with<T>(
        &self,
        others: &[&Tree],
        change: impl Fn(&View<'_>, &[TransactionalTree]) -> Done<T>,
    ) -> Result<T> {
        let trees: Vec<&Tree> = self.all().into_iter().chain(others.iter().copied()).collect();
        let (wakes, mut lost) = (Cell::new(false), Lost::default());
        let changed = loop {
            let changed = trees.as_slice().transaction(|views| {
                let (own, others) = views.split_first_chunk().expect("a view of each tree");
                let changed = change(&View::of(own, &wakes, &lost), others)?;
                lost.check()?;
                Ok(changed)
            });
            if !self.read(|| lost.find(self))? {
                break changed;
            }
        };
        let changed = changed
            .map_err(|error| error::of_transaction(&format!("change the outbox `{}`", self.name), error))?;
        if wakes.get() {
            self.peers.wake();
        }
        Ok(changed)
    }

    /// The place of a committed event of this id or key.
    pub(crate) fn taken(&self, id: EventId, key: Option<&str>) -> Result<Option<u64>> {
        let place = self.read(|| match (self.ids.get(view::id_key(id))?, key) {
            (None, Some(key)) => self.keys.get(key),
            (place, _) => Ok(place),
        })?;
        Ok(place.map(|place| view::seq_of(&place)))
    }

    pub(crate) fn last_seq(&self) -> sled::Result<u64> {
        Ok(self.meta.get(LAST_SEQ)?.map_or(0, |seq| view::seq_of(&seq)))
    }

    /// The first events that are due, in order.
    pub(crate) fn fetch(&self, limit: usize, now: i64, batch: usize) -> Result<Fetched> {
        self.read(|| {
            if self.is_behind(now)? {
                return Ok(Fetched::Behind);
            }
            let (mut events, mut last, mut undecodable) = (Vec::new(), 0, Vec::new());
            for place in self.pending.iter().keys() {
                if events.len() == limit || undecodable.len() == batch {
                    break;
                }
                let place = place?;
                match self.events.get(&place)?.map(|record| row::decode(&record)) {
                    Some(Ok(event)) => {
                        last = view::seq_of(&place);
                        events.push(event);
                    }
                    Some(Err(reason)) => undecodable.push((place, reason)),
                    // Removed since the scan passed it; or else its record is lost.
                    None if !self.pending.contains_key(&place)? => {}
                    None => undecodable.push((place, "the stored record is missing".to_owned())),
                }
            }
            Ok(if undecodable.is_empty() {
                Fetched::Events(events, last)
            } else {
                Fetched::Undecodable(undecodable)
            })
        })
    }

    /// Whether time alone has brought something about that is not written down yet.
    pub(crate) fn is_behind(&self, now: i64) -> sled::Result<bool> {
        for tree in [&self.leased, &self.scheduled, &self.waiting] {
            if !first_until(tree, now, 1)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes down what time alone has brought about: leases run out, and hidden and failed events become due. For
    /// the writer's thread.
    pub(crate) fn catch_up(&self, now: i64) -> Result<()> {
        loop {
            let due = |tree| first_until(tree, now, BATCH);
            let (leased, scheduled, waiting) =
                self.read(|| Ok((due(&self.leased)?, due(&self.scheduled)?, due(&self.waiting)?)))?;
            if leased.is_empty() && scheduled.is_empty() && waiting.is_empty() {
                return Ok(());
            }
            self.change(|view| {
                leased.iter().try_for_each(|due| view.run_out(due))?;
                scheduled.iter().try_for_each(|due| view.show(due, Status::Scheduled))?;
                waiting.iter().try_for_each(|due| view.show(due, Status::Waiting))
            })?;
        }
    }

    /// The first delivered events, until this time.
    pub(crate) fn delivered(&self, until: i64, batch: usize) -> Result<Vec<IVec>> {
        self.read(|| first_until(&self.delivered, until, batch))
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce() -> sled::Result<T>) -> Result<T> {
        read().map_err(|error| error::of(&format!("read the outbox `{}`", self.name), error))
    }
}

/// The first entries of an index by time, until this time.
fn first_until(index: &Tree, until: i64, batch: usize) -> sled::Result<Vec<IVec>> {
    index.range(..=view::until(until)).keys().take(batch).collect()
}

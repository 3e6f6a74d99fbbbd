//! Which events a claim takes.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::atomic::Ordering::Relaxed,
};

use outbox_traits::{Claim, EventId};

use super::{
    CHUNK, MAX_MESSAGE_BYTES, sql,
    state::{Busy, EVENT, Key, Spot, State, key},
    stretch::{Finder, Stretch},
};
use crate::{SqlxOutbox, dialect::Dialect, row::ReadRow, store::as_limit};

/// Ready keys that a claim looks at, however little it wants: few enough to read, and enough to find the oldest
/// event where there are few.
const MIN_KEYS: usize = 32;
/// Keys whose parked events one statement reads.
const KEYS: usize = 100;
/// Parked events that a claim looks at, however little it wants.
const HEADS: usize = 1000;
/// Events that are stepped over, rather than parked, as long as there are fewer of them.
const BUDGET: usize = 1000;
/// How many times as many are parked in one transaction at most.
const STEP: usize = 8;
/// Events behind leases that may be about to end are stepped over up to so many: the next claim may take them.
const PASSED: usize = 500;
/// The least and the most that the first page of the walk has.
const PAGE: (usize, usize) = (100, 2000);
/// The least that each further page has.
const NEXT_PAGE: usize = 500;
/// How many keys are passed over that have too many events to park at once.
const HOT: usize = 8;
/// How many places a walk looks at where it passes over such keys: some tenths of a second's worth.
const WALK: i64 = 500_000;
/// How many places it looks for their events at once.
const READ: i64 = 10_000;
/// After so many that cannot be taken, and again after as many, it is asked whether the next ones are known to be such too.
const ASKED: usize = 10;
/// A lease of less than so many microseconds may be about to end: what is behind it is not parked.
const FRESH: i64 = 100_000;

/// For how many keys one statement names the types that are wanted: where it has to do so for each, a long list of them is not to
/// make it too long for the server.
fn keys_at_once<DB: Dialect>(claim: &Claim) -> usize {
    let types = sql::wanted::<DB>(&claim.types).len();
    if DB::LATERAL { KEYS } else { (MAX_MESSAGE_BYTES / types.max(1)).clamp(1, KEYS) }
}

/// A parked event as a claim reads it.
struct Head {
    seq: i64,
    id: EventId,
    is_live: bool,
}

impl Head {
    fn spot(&self, key: Key) -> Spot {
        Spot { seq: self.seq, id: self.id, key, parked: true }
    }
}

/// What a claim has found so far.
#[derive(Default)]
pub(super) struct Found {
    pub(super) spots: Vec<Spot>,
    /// Keys that have a row, and were ready.
    pub(super) ready: HashSet<Key>,
    /// Up to which place all that these of them have parked was read. What is pending of such a key up to there, because
    /// it was given back, say, or was hidden, has its place among the parked ones.
    read_to: HashMap<Key, i64>,
    /// Whether something was done that may be in the way of the next look no more.
    pub(super) more: bool,
}

/// A pending event that cannot be taken.
struct Behind {
    seq: i64,
    key: Key,
    /// Its key is leased; or else it has parked events.
    by_lease: bool,
}

/// What a walk has met of pending events.
struct Met {
    busy: HashMap<Key, Busy>,
    now: i64,
    /// How many can be taken.
    taken: usize,
    /// What cannot be taken, and would be met again and again.
    behind: Vec<Behind>,
    /// How many cannot be taken, and stay where they are.
    passed: usize,
    /// Keys of which no further event can be taken.
    blocked: HashSet<Key>,
    /// Keys whose events were left out behind a place.
    left_out: Vec<(Vec<Key>, i64)>,
}

impl Met {
    fn new(state: &State) -> Self {
        Self {
            busy: state.busy(),
            now: state.now,
            taken: 0,
            behind: Vec::new(),
            passed: 0,
            blocked: HashSet::new(),
            left_out: Vec::new(),
        }
    }

    /// How many cannot be taken.
    fn stepped(&self) -> usize {
        self.behind.len() + self.passed
    }

    /// Takes the event of a row of [`sql::walk`], or not, and returns its place. What is not taken may be parked, up to so many.
    fn meet<R: ReadRow>(&mut self, row: &R, found: &mut Found, most: usize) -> sqlx::Result<i64> {
        let (seq, id) = row.position()?;
        // A key that is none is that of an event that cannot be decoded, and found out later.
        let key = key(row, 2).unwrap_or_default();
        let is_in_place = found.read_to.get(&key).is_some_and(|read_to| seq <= *read_to);
        let has_parked = !row.is_null(3)?;
        // What is not wanted is there only to be parked.
        let is_keyed = has_parked && (row.is_null(4)? || !is_in_place);
        let holder = self.busy.get(&key);
        if !is_keyed && holder.is_none() {
            found.spots.push(Spot { seq, id, key, parked: false });
            self.taken += 1;
            return Ok(seq);
        }
        if holder.is_some() || !is_in_place {
            self.blocked.insert(key);
        }
        let is_old = holder.is_some_and(|holder| holder.since.saturating_add(FRESH) <= self.now);
        if self.behind.len() < most && (is_keyed || is_old) {
            self.behind.push(Behind { seq, key, by_lease: !is_keyed });
        } else {
            self.passed += 1;
        }
        Ok(seq)
    }

    /// The keys that have most of what is behind, with their shares of it.
    fn hot_keys(&self) -> Vec<(Key, usize)> {
        let mut keys: Vec<Key> = self.behind.iter().map(|one| one.key).collect();
        keys.sort_unstable();
        let keys = keys.chunk_by(|one, next| one == next);
        let mut keys: Vec<(Key, usize)> = keys.map(|events| (events[0], events.len())).collect();
        keys.sort_unstable_by_key(|(_, events)| Reverse(*events));
        keys.truncate(HOT);
        keys
    }

    /// Leaves out what these keys have behind a place. What of them has been met comes first, and so it need not be parked.
    fn leave_out(&mut self, keys: Vec<Key>, place: i64) {
        self.behind.retain(|one| !keys.contains(&one.key));
        self.left_out.push((keys, place));
    }

    /// Up to which place the pending events of a key were seen, where those of others were up to another.
    fn seen_to(&self, key: &Key, seen_to: i64) -> i64 {
        let left_out = self.left_out.iter().find(|(keys, _)| keys.contains(key));
        left_out.map_or(seen_to, |(_, place)| *place)
    }
}

impl Found {
    /// The first pending events, where nobody is in the way.
    pub(super) fn front(spots: Vec<Spot>) -> Self {
        Self { spots, ..Self::default() }
    }
}

impl<DB: Dialect> SqlxOutbox<DB> {
    /// The first pending events beside the leased ones, as a whole, if nobody is in the way of any of them. That is
    /// not even looked for after a claim that has met such ones: it would be in vain, as long as there are few keys.
    pub(super) async fn beside(
        &self,
        connection: &mut DB::Connection,
        claim: &Claim,
        limit: usize,
        state: &State,
    ) -> sqlx::Result<Option<Vec<DB::Row>>> {
        // Parked events that are ready have their places among the pending ones.
        if self.steps.load(Relaxed) > 0 || state.has_ready {
            return Ok(None);
        }
        let has_keys = state.has_keys;
        let (leased, busy) = (state.leased_places(), state.busy());
        let sql = sql::beside::<DB>(&self.names, &claim.types, has_keys, &leased, as_limit(limit));
        let rows = DB::rows(connection, sql).await?;
        let mut steps = 0;
        for row in &rows {
            let is_in_the_way = busy.contains_key(&Spot::of(row)?.key) || has_keys && !row.is_null(EVENT)?;
            steps += usize::from(is_in_the_way);
        }
        self.steps.store(steps, Relaxed);
        Ok((steps == 0).then_some(rows))
    }

    /// Finds the events to take, in order.
    pub(super) async fn look(
        &self,
        connection: &mut DB::Connection,
        claim: &Claim,
        limit: usize,
        state: &mut State,
    ) -> sqlx::Result<Found> {
        let mut found = Found::default();
        if state.has_keys {
            self.find_parked(connection, claim, limit, state, &mut found).await?;
        }
        self.find_pending(connection, claim, limit, state, &mut found).await?;
        found.spots.sort_unstable_by_key(|spot| spot.seq);
        found.spots.truncate(limit);
        Ok(found)
    }

    /// Finds parked events of keys that are ready.
    async fn find_parked(
        &self,
        connection: &mut DB::Connection,
        claim: &Claim,
        limit: usize,
        state: &State,
        found: &mut Found,
    ) -> sqlx::Result<()> {
        let (now, busy) = (state.now, state.busy());
        let names = &self.names;
        let (mut gone, mut empty) = (Vec::new(), Vec::new());
        let mut after = None;
        while found.spots.len() < limit {
            let size = limit.max(MIN_KEYS);
            let rows = DB::rows(connection, sql::ready::<DB>(names, now, after, as_limit(size))).await?;
            let mut keys = Vec::with_capacity(rows.len());
            for row in &rows {
                let key = key(row, 0).unwrap_or_default();
                after = Some((row.number(1)?, key));
                if !busy.contains_key(&key) {
                    keys.push(key);
                }
            }
            let each = (limit.max(HEADS) / keys.len().max(1)).clamp(1, limit);
            for keys in keys.chunks(keys_at_once::<DB>(claim)) {
                let sql = sql::heads::<DB>(names, &claim.types, keys, as_limit(each));
                let mut heads: HashMap<Key, Vec<Head>> = HashMap::new();
                for row in &DB::rows(connection, sql).await? {
                    let (seq, id) = (row.number(1)?, row.uuid(2)?.into());
                    let head = Head { seq, id, is_live: !row.is_null(3)? };
                    heads.entry(key(row, 0).unwrap_or_default()).or_default().push(head);
                }
                for key in keys {
                    let heads = heads.remove(key).unwrap_or_default();
                    if heads.is_empty() && claim.types.is_empty() {
                        empty.push(*key);
                    } else {
                        found.ready.insert(*key);
                    }
                    gone.extend(heads.iter().filter(|head| !head.is_live).map(|head| head.seq));
                    let read_to = heads.get(each - 1).map_or(i64::MAX, |last| last.seq);
                    let live = heads.iter().filter(|head| head.is_live);
                    found.spots.extend(live.map(|head| head.spot(*key)));
                    found.read_to.insert(*key, read_to);
                }
            }
            if rows.len() < size {
                break;
            }
        }
        found.more = !gone.is_empty();
        let mut statements: Vec<String> =
            gone.chunks(CHUNK).map(|places| sql::remove_parked(names, places)).collect();
        statements.extend(empty.chunks(CHUNK).map(|keys| sql::remove_keys::<DB>(names, keys)));
        self.run(connection, statements).await
    }

    /// Finds pending events, oldest first, and parks such of busy keys as would be met again and again.
    async fn find_pending(
        &self,
        connection: &mut DB::Connection,
        claim: &Claim,
        limit: usize,
        state: &mut State,
        found: &mut Found,
    ) -> sqlx::Result<()> {
        let leased = state.leased_places();
        let mut met = Met::new(state);
        let budget = BUDGET.max(limit);
        let most = budget.saturating_mul(STEP);
        let mut hot = Vec::new();
        let mut after = 0_i64;
        // More than are wanted, since some may have to be stepped over: about as many as the last time, but one more page costs more
        // than to read some too many. And few where most of them may be known to be such.
        let steps = self.steps.load(Relaxed).min(limit);
        let full = limit.saturating_add(steps * 2 + limit / 8).clamp(PAGE.0, PAGE.1);
        let mut size = if self.stretches.are_known() { ASKED } else { full };
        let (names, types, has_keys) = (&self.names, &claim.types, state.has_keys);
        // Each statement may see more than the one before it. What is saved from now on is left to the next claim: it may come
        // after something that commits now, in a place that this one has passed.
        let last = DB::rows(connection, sql::last::<DB>(names, 1)).await?;
        let last = last.first().map_or(Ok(0), |row| row.number(0))?;
        let seen_to = 'walk: loop {
            let walks_to = if hot.is_empty() { last } else { last.min(after.saturating_add(WALK)) };
            let places = (after, walks_to);
            let sql = sql::walk::<DB>(names, types, has_keys, places, &leased, &hot, as_limit(size));
            let rows = DB::rows(connection, sql).await?;
            for row in &rows {
                let (before, behind) = (met.stepped(), met.behind.len());
                after = met.meet(row, found, most)?;
                if met.taken == limit || met.passed == PASSED.max(limit) {
                    break 'walk after;
                }
                let steps = met.stepped();
                if steps == before || !hot.is_empty() {
                    continue;
                }
                // Enough for one transaction. What comes behind the events of those keys that have most of it is looked for
                // all the same, so that others do not wait until all are parked.
                let has_now = |count| behind < met.behind.len() && met.behind.len() == count;
                let is_full = has_now(most);
                if is_full || has_now(budget.saturating_mul(2)) {
                    self.find_stretches(connection, &met, (after, last)).await?;
                }
                if (is_full || steps.is_multiple_of(ASKED))
                    && let Some(stretch) = self.stretches.between((after, last), &met.blocked)
                    && let Some(rows) = self.open_of(connection, claim, has_keys, &leased, &stretch).await?
                {
                    met.leave_out(stretch.keys, after);
                    for row in &rows {
                        after = met.meet(row, found, most)?;
                        if met.taken == limit {
                            break 'walk after;
                        }
                    }
                    (after, size) = (stretch.to, full);
                    continue 'walk;
                }
                if is_full {
                    hot = met.hot_keys().into_iter().map(|(key, _)| key).collect();
                    met.left_out.push((hot.clone(), after));
                    continue 'walk;
                }
            }
            if rows.len() < size {
                // Parked events may have later places; what is pending before them was there to be seen.
                break if walks_to < last { walks_to } else { i64::MAX };
            }
            size = size.max(full).max(NEXT_PAGE);
        };
        // Of what lies beyond, an earlier event of the same key may be pending that was not met.
        found.spots.retain(|spot| !spot.parked || spot.seq <= met.seen_to(&spot.key, seen_to));
        self.steps.store(met.stepped(), Relaxed);
        let Met { behind, busy, .. } = met;
        let (leases, keyed): (Vec<Behind>, Vec<Behind>) = behind.into_iter().partition(|one| one.by_lease);
        let mut to_park: Vec<i64> = keyed.iter().map(|one| one.seq).collect();
        let mut statements = Vec::new();
        if leases.len() >= budget {
            let mut keys: Vec<(Key, i64)> =
                leases.iter().map(|one| (one.key, busy[&one.key].until)).collect();
            keys.sort_unstable();
            keys.dedup();
            statements.extend(keys.chunks(CHUNK).map(|keys| sql::add_keys::<DB>(&self.names, keys)));
            state.has_keys = true;
            // A claim of some types does not see all events of a key, which are to be parked in order: it only
            // marks the key, and the next look sees them all.
            if claim.types.is_empty() {
                to_park.extend(leases.iter().map(|one| one.seq));
            }
        }
        statements.extend(to_park.chunks(CHUNK).flat_map(|places| sql::park::<DB>(&self.names, places)));
        found.more |= !statements.is_empty();
        self.run(connection, statements).await
    }

    /// Finds out which places, up to a last one, hold nothing but events of the keys that have most of what is behind, so that
    /// neither this claim nor the next ones step over them.
    async fn find_stretches(
        &self,
        connection: &mut DB::Connection,
        met: &Met,
        (after, last): (i64, i64),
    ) -> sqlx::Result<()> {
        // Keys that have few of them would seldom be met again by who is to leave out the others.
        let few = met.behind.len() / (2 * HOT);
        let keys: Vec<Key> =
            met.hot_keys().into_iter().filter(|(_, events)| *events >= few).map(|(key, _)| key).collect();
        let mut finder = Finder::new(keys.clone());
        let of_these = met.behind.iter().filter(|one| keys.contains(&one.key));
        of_these.for_each(|one| finder.tell(one.seq, one.seq));
        let (mut after, last) = (after, last.min(after.saturating_add(WALK)));
        while finder.is_worth_it() && after < last {
            let (names, to) = (&self.names, after.saturating_add(READ));
            // Mostly they have all of these places, or none: nothing but that is to be sent.
            let sql = sql::count_of_keys::<DB>(names, (after, to), &keys);
            let count = DB::rows(connection, sql).await?.first().map_or(Ok(0), |row| row.number(0))?;
            if count == READ {
                finder.tell(after + 1, to);
            } else {
                let sql = sql::places_of_keys::<DB>(names, (after, to), &keys);
                for row in &DB::rows(connection, sql).await? {
                    let (place, _) = row.position()?;
                    finder.tell(place, place);
                }
            }
            if count < READ / 2 {
                break;
            }
            after = to;
        }
        self.stretches.add(finder.end());
        Ok(())
    }

    /// What is pending in the open places of a stretch, as [`sql::walk`] has it; none if the stretch is not as it was, because the
    /// table was made anew, say, or all of it is gone.
    async fn open_of(
        &self,
        connection: &mut DB::Connection,
        claim: &Claim,
        has_keys: bool,
        leased: &[i64],
        stretch: &Stretch,
    ) -> sqlx::Result<Option<Vec<DB::Row>>> {
        let names = &self.names;
        let last = sql::places_of_keys::<DB>(names, (stretch.to - 1, stretch.to), &stretch.keys);
        let last = DB::rows(connection, last).await?;
        if last.is_empty() {
            self.stretches.forget(stretch.to);
            return Ok(None);
        }
        let mut rows = Vec::new();
        for open in stretch.open.chunks(CHUNK) {
            for row in DB::rows(connection, sql::walk_open::<DB>(names, &claim.types, has_keys, open, leased))
                .await?
            {
                rows.push((row.position()?.0, row));
            }
        }
        rows.sort_unstable_by_key(|(place, _)| *place);
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        Ok(Some(rows))
    }
}

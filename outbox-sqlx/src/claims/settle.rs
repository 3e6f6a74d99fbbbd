//! Renewals and settlements.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use outbox_traits::{EventId, Lease, Outcome, Result, Retention, Settlement};
use uuid::Uuid;

use super::{
    CHUNK, NEVER, messages, micros,
    sql::{self, End},
    state::{Key, LeaseRow, Spot, State, key},
};
use crate::{
    SqlxOutbox,
    dialect::Dialect,
    row::{ReadRow, hash_without_key},
};

fn tokens(leases: impl Iterator<Item = Lease>) -> Vec<Uuid> {
    let mut tokens: Vec<Uuid> = leases.map(|lease| lease.token()).collect();
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

/// What is held.
pub(super) fn held(state: &State) -> HashMap<Lease, Spot> {
    let entries = state.active().flat_map(|row| row.entries.iter().map(|spot| (row.token, *spot)));
    entries.map(|(token, spot)| (Lease::new(spot.id, token), spot)).collect()
}

/// One answer for each.
fn answers(leases: impl Iterator<Item = (Lease, bool)>) -> Vec<Result<()>> {
    leases.map(|(lease, took)| if took { Ok(()) } else { Err(lease.lost()) }).collect()
}

/// The rows of leases with the end of each entry changed, or the entry gone. Only those of tokens that change.
pub(super) fn rewritten(
    state: &State,
    end: impl Fn(&Lease, i64) -> Option<i64>,
) -> (Vec<Uuid>, Vec<LeaseRow>) {
    let mut changed = HashSet::new();
    let mut rows: BTreeMap<(Uuid, i64), LeaseRow> = BTreeMap::new();
    for row in &state.leases {
        for spot in &row.entries {
            let until = end(&Lease::new(spot.id, row.token), row.until);
            if until != Some(row.until) {
                changed.insert(row.token);
            }
            if let Some(until) = until {
                let rest = rows.entry((row.token, until));
                let rest = rest.or_insert_with(|| LeaseRow { until, entries: Vec::new(), ..row.clone() });
                rest.entries.push(*spot);
            }
        }
    }
    let rows = rows.into_values().filter(|row| changed.contains(&row.token)).collect();
    (changed.into_iter().collect(), rows)
}

impl<DB: Dialect> SqlxOutbox<DB> {
    pub(super) fn rewrite_leases(&self, (tokens, rows): (Vec<Uuid>, Vec<LeaseRow>)) -> Vec<String> {
        let mut statements: Vec<String> =
            tokens.chunks(CHUNK).map(|tokens| sql::remove_leases::<DB>(&self.names, tokens)).collect();
        statements.extend(rows.iter().map(|row| sql::add_lease::<DB>(&self.names, row)));
        statements
    }

    /// Locks, runs statements that follow, and returns whether any key has parked events.
    pub(super) async fn lock_and_run(
        &self,
        connection: &mut DB::Connection,
        statements: Vec<String>,
    ) -> sqlx::Result<bool> {
        let mut sql = vec![sql::lock::<DB>(&self.names)];
        sql.extend(statements);
        sql.push(sql::first_ready::<DB>(&self.names));
        let mut rows = Vec::new();
        for message in messages(sql) {
            rows = DB::rows(connection, message).await?;
        }
        rows.last().map_or(Ok(false), |row| Ok(!row.is_null(0)?))
    }

    pub(super) async fn open(
        &self,
        connection: &mut DB::Connection,
        spots: &[Spot],
        locked: bool,
    ) -> sqlx::Result<HashSet<EventId>> {
        self.ids(connection, sql::open::<DB>(&self.names, spots, locked)).await
    }

    async fn ids(
        &self,
        connection: &mut DB::Connection,
        statements: Vec<String>,
    ) -> sqlx::Result<HashSet<EventId>> {
        let mut ids = HashSet::new();
        for message in messages(statements) {
            for row in &DB::rows(connection, message).await? {
                ids.insert(row.uuid(0)?.into());
            }
        }
        Ok(ids)
    }

    pub(super) async fn renew_once(
        &self,
        leases: &[Lease],
        length: Duration,
    ) -> sqlx::Result<Vec<Result<()>>> {
        let _turn = self.turn().await;
        let mut transaction = self.begin_claim().await?;
        let tokens = tokens(leases.iter().copied());
        let state = State::hold::<DB>(&mut transaction, &self.names, Some(&tokens)).await?;
        let held = held(&state);
        let spots: Vec<Spot> = leases.iter().filter_map(|lease| held.get(lease)).copied().collect();
        let open = self.open(&mut transaction, &spots, false).await?;
        let renewed: HashSet<Lease> = leases
            .iter()
            .filter(|lease| held.contains_key(lease) && open.contains(&lease.event()))
            .copied()
            .collect();

        let end = state.now.saturating_add(micros(length).max(1000));
        let statements = self.rewrite_leases(rewritten(&state, |lease, old| {
            Some(if renewed.contains(lease) { end } else { old })
        }));
        if self.lock_and_run(&mut transaction, statements).await? {
            let keys: Vec<Key> = renewed.iter().map(|lease| held[lease].key).collect();
            let away = keys.chunks(CHUNK).map(|keys| sql::keep_away::<DB>(&self.names, keys, end)).collect();
            // A lease may be shorter than it was.
            self.place_keys(&mut transaction, keys, state.now, &[]).await?;
            self.run(&mut transaction, away).await?;
        }
        transaction.commit().await?;
        Ok(answers(leases.iter().map(|lease| (*lease, renewed.contains(lease)))))
    }

    /// None if all ended alike and some had ended before: which, is only told if `each` of them is looked at.
    pub(super) async fn settle_once(
        &self,
        settlements: &[Settlement],
        each: bool,
    ) -> sqlx::Result<Option<Vec<Result<()>>>> {
        let names = &self.names;
        let _turn = self.turn().await;
        let mut transaction = self.begin_claim().await?;
        let connection = &mut *transaction;
        let tokens = tokens(settlements.iter().map(|settlement| settlement.lease));
        // Kept from here on, the leases fence what follows: all that takes long is done before the lock, which
        // others wait for.
        let state = State::hold::<DB>(connection, names, Some(&tokens)).await?;
        let mut held = held(&state);
        // Each takes its lease away, so that a second one of the same finds nothing.
        let settled: Vec<Option<Spot>> =
            settlements.iter().map(|settlement| held.remove(&settlement.lease)).collect();
        let valid = || {
            let pairs = settlements.iter().zip(&settled);
            pairs.filter_map(|(settlement, spot)| Some((settlement, spot.as_ref()?)))
        };
        let Some(took) = self.write_ends(connection, valid(), state.now, each).await? else {
            transaction.rollback().await?;
            return Ok(None);
        };

        let gone: HashSet<Lease> = valid().map(|(settlement, _)| settlement.lease).collect();
        let mut statements =
            self.rewrite_leases(rewritten(&state, |lease, until| (!gone.contains(lease)).then_some(until)));
        let (mut unparked, mut waiting) = (Vec::new(), Vec::new());
        // Of one that was not open any more, whoever has ended it takes its place among the parked ones away.
        for (settlement, spot) in valid().filter(|(_, spot)| took.contains(&spot.id)) {
            match &settlement.outcome {
                // It is where it was.
                Outcome::Released => continue,
                Outcome::Retry { after, .. } => {
                    waiting.push((*spot, state.now.saturating_add(micros(*after))));
                }
                Outcome::DeadLetter { holds_key: true, .. } if spot.key != hash_without_key(spot.id) => {
                    waiting.push((*spot, NEVER));
                }
                _ => {}
            }
            unparked.extend(spot.parked.then_some(spot.seq));
        }
        statements.extend(unparked.chunks(CHUNK).map(|places| sql::remove_parked(names, places)));
        statements.extend(waiting.chunks(CHUNK).map(|spots| sql::add_parked::<DB>(names, spots)));
        let has_keys = self.lock_and_run(connection, statements).await?;

        if has_keys || !waiting.is_empty() {
            let keys = valid().map(|(_, spot)| spot.key).collect();
            self.place_keys(connection, keys, state.now, &waiting).await?;
        }
        transaction.commit().await?;
        let took = settlements
            .iter()
            .zip(&settled)
            .map(|(settlement, spot)| (settlement.lease, spot.is_some_and(|spot| took.contains(&spot.id))));
        Ok(Some(answers(took)))
    }

    /// Writes how deliveries ended, and returns the events that were still open. None if that is not known, because all
    /// ended alike and only their number was asked for, which is too small.
    async fn write_ends<'a>(
        &self,
        connection: &mut DB::Connection,
        settlements: impl Iterator<Item = (&'a Settlement, &'a Spot)>,
        now: i64,
        each: bool,
    ) -> sqlx::Result<Option<HashSet<EventId>>> {
        let (mut ends, mut released): (HashMap<End<'a>, Vec<Spot>>, _) = (HashMap::new(), Vec::new());
        for (settlement, spot) in settlements {
            let end = match &settlement.outcome {
                Outcome::Delivered if self.retention == Retention::DeleteOnDelivery => End::Deleted,
                Outcome::Delivered => End::Delivered,
                Outcome::Retry { error, .. } => End::Waiting(error),
                Outcome::DeadLetter { error, .. } => End::Dead(error),
                // An outcome of a later version of the contract is none that this one could write.
                _ => {
                    released.push(*spot);
                    continue;
                }
            };
            ends.entry(end).or_default().push(*spot);
        }
        let count_only = !each && ends.len() == 1 && released.is_empty();
        let returning = DB::RETURNING && !count_only;
        let statements =
            ends.iter().flat_map(|(end, spots)| sql::end::<DB>(&self.names, *end, spots, now, returning));
        let statements: Vec<String> = statements.collect();
        if count_only {
            let took: HashSet<EventId> = ends.into_values().flatten().map(|spot| spot.id).collect();
            let changed = DB::execute(connection, statements.join("; ")).await?;
            return Ok((changed == took.len() as u64).then_some(took));
        }
        if DB::RETURNING {
            let mut took = self.ids(connection, statements).await?;
            took.extend(self.open(connection, &released, false).await?);
            return Ok(Some(took));
        }
        let mut all: Vec<Spot> = ends.into_values().flatten().chain(released).collect();
        all.sort_unstable_by_key(|spot| spot.seq);
        let took = self.open(connection, &all, true).await?;
        self.run(connection, statements).await?;
        Ok(Some(took))
    }

    /// Says of keys when to look at them next, after something of them has changed: of those that have a row, and
    /// of those that get one because an event waits.
    pub(super) async fn place_keys(
        &self,
        connection: &mut DB::Connection,
        mut keys: Vec<Key>,
        now: i64,
        waiting: &[(Spot, i64)],
    ) -> sqlx::Result<()> {
        keys.sort_unstable();
        keys.dedup();
        let mut placed: HashMap<Key, i64> = HashMap::new();
        for (spot, retry_at) in waiting {
            let last = placed.entry(spot.key).or_insert(*retry_at);
            *last = (*last).max(*retry_at);
        }
        let mut old = Vec::new();
        for keys in keys.chunks(CHUNK) {
            for row in &DB::rows(connection, sql::last_retries::<DB>(&self.names, keys)).await? {
                let key = key(row, 0).unwrap_or_default();
                old.push(key);
                if !row.is_null(1)? {
                    placed.insert(key, row.optional(2)?.unwrap_or(now));
                }
            }
        }
        let new: Vec<(Key, i64)> = placed.into_iter().collect();
        let mut statements: Vec<String> =
            old.chunks(CHUNK).map(|keys| sql::remove_keys::<DB>(&self.names, keys)).collect();
        statements.extend(new.chunks(CHUNK).map(|keys| sql::add_keys::<DB>(&self.names, keys)));
        self.run(connection, statements).await
    }
}

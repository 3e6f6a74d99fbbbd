//! One transaction of a claim.

use std::collections::{HashMap, HashSet};

use outbox_traits::{Claim, EventId, Lease, Leased};
use sqlx::Row;
use uuid::Uuid;

use super::{
    CHUNK,
    choose::Found,
    micros,
    settle::{held, rewritten},
    sql,
    state::{EVENT, Key, LeaseRow, Read, Spot, State},
};
use crate::{
    SqlxOutbox,
    dialect::Dialect,
    row::ReadRow,
    store::{BATCH, as_limit},
};

/// Where one transaction of a claim has led to.
#[derive(Debug)]
pub(super) enum Step {
    Done(Vec<Leased>),
    /// It has made way, and found nothing yet.
    Again,
    /// Scheduled events are due, and must take their place first.
    Promote,
}

impl<DB: Dialect> SqlxOutbox<DB> {
    /// Scheduled events that are due become pending.
    pub(super) async fn promote(&self) -> sqlx::Result<()> {
        let due = DB::due(&self.names, as_limit(BATCH));
        self.change_all(&mut *self.pool.acquire().await?, due, DB::promote).await?;
        Ok(())
    }

    /// Under the lock no more is done than to choose events and to write their lease down. It is let go of before they
    /// are read and decoded, so that others choose meanwhile.
    pub(super) async fn claim_once(&self, claim: &Claim) -> sqlx::Result<Step> {
        let names = &self.names;
        let limit = claim.limit.min(Claim::MAX_LIMIT);
        let turn = self.turn().await;
        let mut transaction = self.begin_claim().await?;
        let connection = &mut *transaction;
        let sql = format!(
            "{}; {}; {}; {}",
            sql::lock::<DB>(names),
            sql::state::<DB>(names, None),
            DB::due(names, 1),
            sql::front::<DB>(names, &claim.types, as_limit(limit)),
        );
        let mut rows = DB::rows(connection, sql).await?;
        // Only a scheduled event that is due makes a row of two columns.
        if rows.iter().any(|row| row.len() == 2) {
            transaction.rollback().await?;
            return Ok(Step::Promote);
        }
        let mut state = State::of(&rows)?;
        rows.retain(|row| row.len() == EVENT);
        let mut is_whole = state.leases.is_empty() && !state.has_keys;
        self.expire(connection, &mut state).await?;
        if !is_whole && let Some(beside) = self.beside(connection, claim, limit, &state).await? {
            (rows, is_whole) = (beside, true);
        }
        let found = if is_whole {
            Found::front(rows.iter().map(Spot::of).collect::<sqlx::Result<_>>()?)
        } else {
            self.look(connection, claim, limit, &mut state).await?
        };
        let Found { spots, mut ready, more, .. } = found;
        if spots.is_empty() {
            transaction.commit().await?;
            return Ok(if more { Step::Again } else { Step::Done(Vec::new()) });
        }

        let lease = LeaseRow {
            token: Uuid::now_v7(),
            until: state.now.saturating_add(micros(claim.lease).max(1000)),
            claimed_at: state.now,
            worker: claim.worker.clone(),
            entries: spots,
        };
        let mut held: Vec<Key> = lease.entries.iter().map(|spot| spot.key).collect();
        held.retain(|key| ready.remove(key));
        let mut statements = vec![sql::add_lease::<DB>(names, &lease)];
        statements.extend(held.chunks(CHUNK).map(|keys| sql::keep_away::<DB>(names, keys, lease.until)));
        let read = if is_whole {
            None
        } else {
            Some(DB::BY_INDEX.to_owned() + &sql::leased_events::<DB>(names, &lease.entries).join("; "))
        };
        if let Some(chain) = DB::CHAIN {
            statements.push(chain.to_owned());
            statements.extend(read);
            rows.extend(DB::rows(connection, statements.join("; ")).await?);
            // Nothing was written in the second one, whose end nobody has to wait for.
            drop(transaction);
            drop(turn);
        } else {
            self.run(connection, statements).await?;
            transaction.commit().await?;
            drop(turn);
            if let Some(read) = read {
                rows = DB::rows(&mut *self.pool.acquire().await?, read).await?;
            }
        }
        self.read(&lease, &rows).await
    }

    /// What is handed out of a lease: its events as they were read, but for those that somebody has acknowledged
    /// meanwhile, and those that cannot be decoded, which are set aside.
    async fn read(&self, lease: &LeaseRow, rows: &[DB::Row]) -> sqlx::Result<Step> {
        let mut left: HashMap<i64, Spot> = lease.entries.iter().map(|spot| (spot.seq, *spot)).collect();
        let mut leased = Vec::with_capacity(rows.len());
        let mut broken = HashMap::new();
        for row in rows {
            let Read { seq, id, attempts, failures, event } = Read::of(row)?;
            match event {
                // Not one of another place: it was deleted meanwhile, and saved again.
                Ok(event) if left.remove(&seq).is_some() => {
                    let held = Lease::new(id, lease.token);
                    leased.push((seq, Leased::new(event, held, attempts.saturating_add(1), failures)));
                }
                Ok(_) => {}
                Err(reason) => {
                    broken.insert(seq, reason);
                }
            }
        }
        if !left.is_empty() {
            let left_out = self.leave_out(lease.token, left.into_values().collect(), &broken).await;
            // What has been leased is handed out all the same, and the rest comes again when the lease has run out.
            left_out.or_else(|error| if leased.is_empty() { Err(error) } else { Ok(()) })?;
        }
        if leased.is_empty() {
            return Ok(Step::Again);
        }
        leased.sort_unstable_by_key(|(seq, _)| *seq);
        Ok(Step::Done(leased.into_iter().map(|(_, leased)| leased).collect()))
    }

    /// Ends leases on events that are not handed out, and sets aside which of them cannot be decoded: without an attempt,
    /// since nobody has tried.
    async fn leave_out(
        &self,
        token: Uuid,
        spots: Vec<Spot>,
        broken: &HashMap<i64, String>,
    ) -> sqlx::Result<()> {
        let names = &self.names;
        let _turn = self.turn().await;
        let mut transaction = self.begin_claim().await?;
        let connection = &mut *transaction;
        let state = State::hold::<DB>(connection, names, Some(&[token])).await?;
        let mut held = held(&state);
        let spots: Vec<Spot> =
            spots.into_iter().filter(|spot| held.remove(&Lease::new(spot.id, token)).is_some()).collect();
        let reasons = spots.iter().filter_map(|spot| Some((spot.id, broken.get(&spot.seq)?)));
        let mut statements: Vec<String> =
            reasons.map(|(id, reason)| sql::bury::<DB>(names, id, reason)).collect();
        let gone: HashSet<EventId> = spots.iter().map(|spot| spot.id).collect();
        statements.extend(self.rewrite_leases(rewritten(&state, |lease, until| {
            (!gone.contains(&lease.event())).then_some(until)
        })));
        let parked: Vec<i64> = spots.iter().filter(|spot| spot.parked).map(|spot| spot.seq).collect();
        statements.extend(parked.chunks(CHUNK).map(|places| sql::remove_parked(names, places)));
        if self.lock_and_run(connection, statements).await? {
            let keys = spots.iter().map(|spot| spot.key).collect();
            self.place_keys(connection, keys, state.now, &[]).await?;
        }
        transaction.commit().await
    }

    /// Ends leases that ran out. Their events are where they were.
    async fn expire(&self, connection: &mut DB::Connection, state: &mut State) -> sqlx::Result<()> {
        let now = state.now;
        if !state.leases.iter().any(|lease| lease.has_run_out(now)) {
            return Ok(());
        }
        // A settlement that has found its lease in time holds it, and is waited for like a lease that lasts.
        let mut free = HashSet::new();
        for row in &DB::rows(connection, sql::hold_expired::<DB>(&self.names, now)).await? {
            free.insert((row.uuid(0)?, row.number(1)?));
        }
        *state = State::glimpse::<DB>(connection, &self.names).await?;
        state.now = now;
        let mut statements = Vec::new();
        for lease in state.leases.iter_mut().filter(|lease| lease.has_run_out(now)) {
            if free.contains(&(lease.token, lease.until)) {
                statements.push(sql::remove_lease::<DB>(&self.names, lease));
            } else {
                lease.until = now.saturating_add(1);
            }
        }
        let expired = state.expired();
        statements.extend(sql::expire::<DB>(&self.names, &expired));
        self.run(connection, statements).await
    }
}

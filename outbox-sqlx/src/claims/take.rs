//! One transaction of a claim.

use std::collections::HashSet;

use outbox_traits::{Claim, EventId, Lease, Leased};
use sqlx::Row;
use uuid::Uuid;

use super::{
    CHUNK, micros, sql,
    state::{Key, LeaseRow, Spot, State, key},
};
use crate::{
    SqlxOutbox,
    dialect::Dialect,
    row::ReadRow,
    store::{BATCH, as_limit},
};

/// How often one claim sets undecodable events aside and looks again.
const MAX_LOOKS: usize = 100;

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

    pub(super) async fn claim_once(&self, claim: &Claim) -> sqlx::Result<Step> {
        let names = &self.names;
        let limit = claim.limit.min(Claim::MAX_LIMIT);
        let mut transaction = self.begin_claim().await?;
        let connection = &mut *transaction;
        let sql = format!(
            "{}{}; {}; {}",
            DB::LOSABLE,
            sql::lock::<DB>(names),
            sql::state::<DB>(names, None),
            DB::due(names, 1)
        );
        let rows = DB::rows(connection, sql).await?;
        // Only a scheduled event that is due makes a row of two columns.
        if rows.iter().any(|row| row.len() == 2) {
            transaction.rollback().await?;
            return Ok(Step::Promote);
        }
        let mut state = State::of(&rows)?;
        drop(rows);
        self.expire(connection, &mut state).await?;

        let mut more = false;
        let mut look = limit;
        let mut reads = Vec::new();
        let mut ready = HashSet::new();
        for _ in 0..MAX_LOOKS {
            let found = self.look(connection, claim, look, &mut state).await?;
            reads = found.0;
            (more, ready) = (found.1.more, found.1.ready);
            let broken = reads.iter().filter_map(|read| Some((read.spot, read.event.as_ref().err()?)));
            let buried: Vec<String> = broken
                .flat_map(|(spot, reason)| {
                    [sql::bury::<DB>(names, spot.id, reason), sql::remove_parked(names, &[spot.seq])]
                })
                .collect();
            if buried.is_empty() {
                break;
            }
            self.run(connection, buried).await?;
            look = limit.max(BATCH);
        }
        reads.retain(|read| read.event.is_ok());
        reads.truncate(limit);
        if reads.is_empty() {
            transaction.commit().await?;
            return Ok(if more { Step::Again } else { Step::Done(Vec::new()) });
        }

        let lease = LeaseRow {
            token: Uuid::now_v7(),
            until: state.now.saturating_add(micros(claim.lease).max(1000)),
            claimed_at: state.now,
            worker: claim.worker.clone(),
            entries: reads.iter().map(|read| read.spot).collect(),
        };
        let mut held: Vec<Key> = lease.entries.iter().map(|spot| spot.key).collect();
        held.retain(|key| ready.remove(key));
        let mut statements = vec![sql::add_lease::<DB>(names, &lease)];
        statements.extend(held.chunks(CHUNK).map(|keys| sql::move_keys::<DB>(names, keys, lease.until)));
        self.run(connection, statements).await?;
        transaction.commit().await?;

        let leased = reads.into_iter().filter_map(|read| {
            let held = Lease::new(read.spot.id, lease.token);
            Some(Leased::new(read.event.ok()?, held, read.attempts.saturating_add(1), read.failures))
        });
        Ok(Step::Done(leased.collect()))
    }

    /// Ends leases that ran out. Their events go back to where they were; but where the key has parked events
    /// now they are parked too, or those would overtake them.
    async fn expire(&self, connection: &mut DB::Connection, state: &mut State) -> sqlx::Result<()> {
        let now = state.now;
        if !state.leases.iter().any(|lease| lease.until <= now) {
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
        for lease in state.leases.iter_mut().filter(|lease| lease.until <= now) {
            if free.contains(&(lease.token, lease.until)) {
                statements.push(sql::remove_lease::<DB>(&self.names, lease));
            } else {
                lease.until = now + 1;
            }
        }
        let expired = state.expired();
        state.leases.retain(|lease| lease.until > now);
        let ids: Vec<EventId> = expired.iter().map(|spot| spot.id).collect();
        statements.extend(sql::expire::<DB>(&self.names, &ids));
        self.run(connection, statements).await?;
        if state.has_keys {
            let pending: Vec<Spot> = expired.into_iter().filter(|spot| !spot.parked).collect();
            self.park_back(connection, &pending, |_| false).await?;
        }
        Ok(())
    }

    /// Parks pending events of keys that have a row, or are about to.
    pub(super) async fn park_back(
        &self,
        connection: &mut DB::Connection,
        pending: &[Spot],
        is_keyed: impl Fn(&Key) -> bool,
    ) -> sqlx::Result<()> {
        let mut statements = Vec::new();
        for pending in pending.chunks(CHUNK) {
            let keys: Vec<Key> = pending.iter().map(|spot| spot.key).collect();
            let rows = DB::rows(connection, sql::keyed::<DB>(&self.names, &keys)).await?;
            let keyed = rows.iter().map(|row| key(row, 0)).collect::<sqlx::Result<HashSet<_>>>()?;
            let back = pending.iter().filter(|spot| keyed.contains(&Some(spot.key)) || is_keyed(&spot.key));
            let back: Vec<EventId> = back.map(|spot| spot.id).collect();
            if !back.is_empty() {
                statements.extend(sql::park::<DB>(&self.names, &back));
            }
        }
        self.run(connection, statements).await
    }
}

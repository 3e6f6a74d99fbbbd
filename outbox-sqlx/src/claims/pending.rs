//! What others may see and do beside claims: pending events without the leased ones, and acknowledgements.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    CHUNK, Conflicts, messages,
    settle::rewritten,
    sql,
    state::{Key, Read, Spot, State, key},
};
use crate::{
    SqlxOutbox,
    dialect::Dialect,
    row::ReadRow,
    store::{BATCH, as_limit},
};
use outbox_traits::EventId;
use uuid::Uuid;

/// Of so many leased events it is looked up since when they have been due: they are the oldest.
const FIRST_LEASED: usize = 100;

impl<DB: Dialect> SqlxOutbox<DB> {
    /// The first pending events where some are leased or parked. Nothing where retries are due, which take their
    /// places in the order first.
    pub(crate) async fn fetch_among(
        &self,
        connection: &mut DB::Connection,
        limit: usize,
    ) -> sqlx::Result<Option<Vec<outbox_traits::Event>>> {
        let names = &self.names;
        if self.is_retry_due(connection).await? {
            return Ok(None);
        }
        loop {
            let state = State::glimpse::<DB>(connection, names).await?;
            let leased = state.leased();
            let look = as_limit(limit.saturating_add(leased.len()));
            // The pending ones before the parked ones: what is parked in between is seen twice, and not never.
            let mut spots = BTreeMap::new();
            let walk = sql::walk::<DB>(names, &[], false, (0, i64::MAX), &[], &[], look);
            for row in &DB::rows(connection, walk).await? {
                let (seq, id) = row.position()?;
                spots.insert(seq, id);
            }
            let mut enough = look;
            loop {
                let rows = DB::rows(connection, sql::parked::<DB>(names, enough)).await?;
                let mut live = Vec::with_capacity(rows.len());
                for row in &rows {
                    if !row.is_null(2)? {
                        live.push(row.position()?);
                    }
                }
                let are_enough = as_limit(live.len()) >= look || as_limit(rows.len()) < enough;
                spots.extend(live);
                if are_enough {
                    break;
                }
                // Rows that an acknowledgement which was cut short has left behind.
                enough = enough.saturating_add(look.max(as_limit(rows.len())));
            }
            let ids: Vec<EventId> =
                spots.into_values().filter(|id| !leased.contains(id)).take(limit).collect();
            let mut reads = Vec::with_capacity(ids.len());
            for ids in ids.chunks(CHUNK) {
                let rows = DB::rows(connection, sql::events::<DB>(names, ids)).await?;
                reads.extend(rows.iter().map(Read::of).collect::<sqlx::Result<Vec<_>>>()?);
            }
            let broken = reads.iter().filter_map(|read| Some((read.id, read.event.as_ref().err()?)));
            let buried: Vec<String> = broken.map(|(id, reason)| sql::bury::<DB>(names, id, reason)).collect();
            if buried.is_empty() {
                reads.sort_unstable_by_key(|read| read.seq);
                return Ok(Some(reads.into_iter().filter_map(|read| read.event.ok()).collect()));
            }
            // Each event that cannot be decoded is met once, so that this comes to an end.
            self.run(connection, buried).await?;
        }
    }

    /// The time, how many events are leased that nobody has acknowledged since, and since when the first of them have
    /// been due.
    pub(crate) async fn leased(&self, connection: &mut DB::Connection) -> sqlx::Result<(i64, u64, Vec<i64>)> {
        let state = State::glimpse::<DB>(connection, &self.names).await?;
        let spots: Vec<Spot> = state.active().flat_map(|lease| lease.entries.iter().copied()).collect();
        let open = self.open(connection, &spots, false).await?;
        let entries = state
            .active()
            .flat_map(|lease| lease.entries.iter().map(|entry| (entry.seq, (entry.id, lease.claimed_at))));
        let mut first: Vec<_> = entries.filter(|(_, (id, _))| open.contains(id)).collect();
        first.sort_unstable_by_key(|(seq, _)| *seq);
        first.truncate(FIRST_LEASED);
        if first.is_empty() {
            return Ok((state.now, open.len() as u64, Vec::new()));
        }
        let claimed: HashMap<EventId, i64> = first.into_iter().map(|(_, one)| one).collect();
        let ids: Vec<EventId> = claimed.keys().copied().collect();
        let mut due = Vec::new();
        for row in DB::rows(connection, sql::leased_since::<DB>(&self.names, &ids)).await? {
            let claimed_at = claimed.get(&row.uuid(0)?.into()).copied();
            // One that failed counts from when it was claimed after its retry had come.
            let retried = claimed_at.filter(|_| row.optional(3).is_ok_and(|failures| failures > Some(0)));
            let since = [row.optional(1)?, row.optional(2)?, retried];
            due.extend(since.into_iter().flatten().max());
        }
        Ok((state.now, open.len() as u64, due))
    }

    /// The first retries that are due take their place in the order.
    pub(crate) async fn retry_due(&self) -> sqlx::Result<()> {
        let _turn = self.turn().await;
        let mut transaction = self.begin_claim().await?;
        self.lock_and_run(&mut transaction, Vec::new()).await?;
        let due = self.due_retries(&mut transaction).await?;
        let rows = DB::rows(&mut transaction, due).await?;
        let places = rows.iter().map(|row| row.number(0)).collect::<sqlx::Result<Vec<_>>>()?;
        let statements = places.chunks(CHUNK).map(|places| sql::retry_now(&self.names, places)).collect();
        self.run(&mut transaction, statements).await?;
        transaction.commit().await
    }

    async fn is_retry_due(&self, connection: &mut DB::Connection) -> sqlx::Result<bool> {
        let due = self.due_retries(connection).await?;
        Ok(!DB::rows(connection, due).await?.is_empty())
    }

    async fn due_retries(&self, connection: &mut DB::Connection) -> sqlx::Result<String> {
        let now = State::glimpse::<DB>(connection, &self.names).await?.now;
        Ok(sql::retries::<DB>(&self.names, now, as_limit(BATCH)))
    }

    /// Acknowledges events that may be leased or parked: their keys wait for them no more.
    pub(crate) async fn acknowledge_claimed(&self, ids: &[EventId]) -> sqlx::Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut conflicts = Conflicts::new();
        loop {
            match self.acknowledge_claimed_once(ids).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => conflicts.wait::<DB>(error).await?,
            }
        }
    }

    /// In one transaction, so that no key goes on waiting where it is cut off. All leases are kept as they are first, and the
    /// lock is taken before the events: settlements take their leases, events and the lock in this order, and claims the lock
    /// before any events. Returns whether it is done: not, where one was leased meanwhile.
    async fn acknowledge_claimed_once(&self, acknowledged: &[EventId]) -> sqlx::Result<bool> {
        let names = &self.names;
        let _turn = self.turn().await;
        let mut transaction = self.begin(DB::BEGIN_FLUSHED).await?;
        let state = State::hold::<DB>(&mut transaction, names, None).await?;
        let mut sql = vec![sql::lock::<DB>(names)];
        sql.extend(acknowledged.chunks(BATCH).map(|ids| self.acknowledged(ids, "")));
        sql.push(sql::state::<DB>(names, None));
        let mut rows = Vec::new();
        for message in messages(sql) {
            rows = DB::rows(&mut transaction, message).await?;
        }
        let State { has_keys, leases, .. } = State::of(&rows)?;
        let gone: HashSet<EventId> = acknowledged.iter().copied().collect();
        let known: HashSet<Uuid> = state.leases.iter().map(|lease| lease.token).collect();
        let mut new = leases.iter().filter(|lease| !known.contains(&lease.token));
        if new.any(|lease| lease.entries.iter().any(|entry| gone.contains(&entry.id))) {
            transaction.rollback().await?;
            return Ok(false);
        }
        let mut statements = self.rewrite_leases(rewritten(&state, |lease, until| {
            (!gone.contains(&lease.event())).then_some(until)
        }));
        let leased = state.leases.iter().flat_map(|lease| &lease.entries);
        let mut keys: HashSet<Key> =
            leased.filter(|spot| gone.contains(&spot.id)).map(|spot| spot.key).collect();
        let mut places = Vec::new();
        if has_keys {
            for ids in acknowledged.chunks(CHUNK) {
                for row in &DB::rows(&mut transaction, sql::strays::<DB>(names, ids)).await? {
                    if row.is_null(2)? {
                        places.push(row.number(0)?);
                        keys.extend(key(row, 1));
                    }
                }
            }
        }
        statements.extend(places.chunks(CHUNK).map(|places| sql::remove_parked(names, places)));
        self.run(&mut transaction, statements).await?;
        if has_keys {
            let keys = keys.into_iter().collect();
            self.place_keys(&mut transaction, keys, state.now, &[]).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }
}

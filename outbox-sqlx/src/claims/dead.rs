//! Dead letters that are requeued or discarded, and the keys that they held.

use outbox_traits::EventId;

use super::{
    CHUNK, Conflicts, sql,
    state::{Key, State, key},
};
use crate::{SqlxOutbox, dialect::Dialect, names::Names, row::ReadRow};

impl<DB: Dialect> SqlxOutbox<DB> {
    /// Requeues or discards dead events, and returns how many, and whether any key goes on without them.
    pub(crate) async fn change_dead(
        &self,
        ids: &[EventId],
        statement: fn(&Names, &[EventId]) -> String,
    ) -> sqlx::Result<(u64, bool)> {
        let mut conflicts = Conflicts::new();
        loop {
            match self.change_dead_once(ids, statement).await {
                Ok(changed) => return Ok(changed),
                Err(error) => conflicts.wait::<DB>(error).await?,
            }
        }
    }

    async fn change_dead_once(
        &self,
        ids: &[EventId],
        statement: fn(&Names, &[EventId]) -> String,
    ) -> sqlx::Result<(u64, bool)> {
        let _turn = self.turn().await;
        let mut transaction = self.begin(DB::BEGIN_FLUSHED).await?;
        let connection = &mut *transaction;
        let sql = format!("{}; {}", sql::lock::<DB>(&self.names), sql::state::<DB>(&self.names, None));
        let state = State::of(&DB::rows(connection, sql).await?)?;
        let changed = DB::execute(connection, statement(&self.names, ids)).await?;
        let is_free = state.has_keys && self.free_keys(connection, ids, &state).await?;
        transaction.commit().await?;
        Ok((changed, is_free))
    }

    /// After a change of dead events: what they held is held no more. It returns whether they held anything.
    async fn free_keys(
        &self,
        connection: &mut DB::Connection,
        ids: &[EventId],
        state: &State,
    ) -> sqlx::Result<bool> {
        let (mut places, mut keys): (_, Vec<Key>) = (Vec::new(), Vec::new());
        for ids in ids.chunks(CHUNK) {
            for row in &DB::rows(connection, sql::strays::<DB>(&self.names, ids)).await? {
                if row.is_null(2)? {
                    places.push(row.number(0)?);
                    keys.extend(key(row, 1));
                }
            }
        }
        let is_free = !keys.is_empty();
        let statements = places.chunks(CHUNK).map(|places| sql::remove_parked(&self.names, places)).collect();
        self.run(connection, statements).await?;
        self.place_keys(connection, keys, state.now, &[]).await?;
        Ok(is_free)
    }
}

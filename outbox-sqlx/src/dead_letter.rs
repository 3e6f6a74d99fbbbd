//! Dead letters: listed, requeued, discarded.

use chrono::{DateTime, Utc};
use outbox_traits::{DeadLetterFilter, DeadLetterPage, DeadLetterStore, EventId, Result, async_trait};

use crate::{
    SqlxOutbox,
    claims::sql,
    dialect::Dialect,
    names::Names,
    row::ReadRow,
    store::{BATCH, as_limit},
};

/// A filter as the statements take it.
#[derive(Debug)]
pub struct Selection<'a> {
    /// Only this type.
    pub event_type: Option<&'a str>,
    /// Only those set aside then or later.
    pub since: Option<DateTime<Utc>>,
    /// Only those set aside before.
    pub before: Option<DateTime<Utc>>,
    /// Only what comes after this place.
    pub after: i64,
    /// How many at most.
    pub limit: i64,
}

impl<'a> Selection<'a> {
    fn new(filter: &'a DeadLetterFilter, after: Option<u64>, limit: i64) -> Self {
        let after = after.map_or(0, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let (since, before) = (filter.since.map(within_engines), filter.before.map(within_engines));
        Self { event_type: filter.event_type.as_deref(), since, before, after, limit }
    }
}

/// The engines count from the year 0 or 1000 on, and to 9999; what is set aside lies well within.
fn within_engines(time: DateTime<Utc>) -> DateTime<Utc> {
    const YEAR_1000: i64 = -30_610_224_000;
    const YEAR_9999: i64 = 253_370_764_800;
    let bound = |seconds| DateTime::from_timestamp(seconds, 0).unwrap_or(time);
    time.clamp(bound(YEAR_1000), bound(YEAR_9999))
}

const LIST: &str = "list dead letters of";
const REQUEUE: &str = "requeue dead letters of";
const DISCARD: &str = "discard dead letters of";

/// The raw content of an undecodable row is a JSON text of what its columns hold, as strings:
/// `{"type": "…", "payload": "…", "meta": "…"}`.
#[async_trait]
impl<DB: Dialect> DeadLetterStore for SqlxOutbox<DB> {
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        if filter.limit == 0 {
            return Ok(DeadLetterPage::new(Vec::new(), filter.after));
        }
        // One more than asked for says whether there is a next page.
        let selection = Selection::new(filter, filter.after, as_limit(filter.limit.saturating_add(1)));
        let mut connection = self.acquire(LIST).await?;
        let rows = DB::dead_letters(&mut connection, &self.names, &selection, false)
            .await
            .map_err(self.error(LIST))?;
        let mut letters = Vec::with_capacity(rows.len().min(filter.limit));
        let mut last = None;
        for row in rows.iter().take(filter.limit) {
            let (seq, letter) = row.dead_letter().map_err(self.error(LIST))?;
            letters.push(letter);
            last = u64::try_from(seq).ok();
        }
        Ok(DeadLetterPage::new(letters, last.filter(|_| rows.len() > filter.limit)))
    }

    async fn requeue(&self, id: EventId) -> Result<bool> {
        let mut connection = self.acquire(REQUEUE).await?;
        let changed = self.change(&mut connection, &[id], DB::requeue).await.map_err(self.error(REQUEUE))?;
        drop(connection);
        self.requeued(changed);
        Ok(changed > 0)
    }

    async fn requeue_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let mut connection = self.acquire(REQUEUE).await?;
        let changed = self.change_dead(&mut connection, filter, DB::requeue).await;
        drop(connection);
        // Also what was done before an error.
        self.requeued(*changed.as_ref().unwrap_or(&1));
        changed.map_err(self.error(REQUEUE))
    }

    async fn discard(&self, id: EventId) -> Result<bool> {
        let mut connection = self.acquire(DISCARD).await?;
        let changed = self.change(&mut connection, &[id], sql::discard::<DB>).await;
        Ok(changed.map_err(self.error(DISCARD))? > 0)
    }

    async fn discard_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let mut connection = self.acquire(DISCARD).await?;
        self.change_dead(&mut connection, filter, sql::discard::<DB>).await.map_err(self.error(DISCARD))
    }
}

impl<DB: Dialect> SqlxOutbox<DB> {
    /// Wakes who listens, if anything became pending again.
    fn requeued(&self, changed: u64) {
        if changed > 0 {
            self.wake.committed();
        }
    }

    /// Changes all dead letters that match, page by page and each once.
    async fn change_dead(
        &self,
        connection: &mut DB::Connection,
        filter: &DeadLetterFilter,
        statement: fn(&Names, &[EventId]) -> String,
    ) -> Result<u64, sqlx::Error> {
        let mut selection = Selection::new(filter, None, as_limit(BATCH));
        let mut changed = 0;
        loop {
            let rows = DB::dead_letters(connection, &self.names, &selection, true).await?;
            let mut ids = Vec::with_capacity(rows.len());
            for row in &rows {
                let (seq, id) = row.position()?;
                // Onwards even if it dies again at once.
                selection.after = seq;
                ids.push(id);
            }
            changed += self.change(connection, &ids, statement).await?;
            if ids.len() < BATCH {
                return Ok(changed);
            }
        }
    }
}

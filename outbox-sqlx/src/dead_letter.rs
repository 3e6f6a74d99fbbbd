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
pub(crate) struct Selection<'a> {
    /// Only this type.
    pub(crate) event_type: Option<&'a str>,
    /// Only those set aside then or later, in microseconds since 1970.
    pub(crate) since: Option<i64>,
    /// Only those set aside before.
    pub(crate) before: Option<i64>,
    /// Only what comes after this place.
    pub(crate) after: i64,
    /// How many at most.
    pub(crate) limit: i64,
}

impl<'a> Selection<'a> {
    fn new(filter: &'a DeadLetterFilter, after: Option<u64>, limit: i64) -> Self {
        let after = after.map_or(0, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let (since, before) = (filter.since.map(within_engines), filter.before.map(within_engines));
        Self { event_type: filter.event_type.as_deref(), since, before, after, limit }
    }
}

/// In microseconds, rounded up. The engines count from the year 0 or 1000 on, and to 9999; what is set aside lies well
/// within.
fn within_engines(time: DateTime<Utc>) -> i64 {
    const YEAR_1000: i64 = -30_610_224_000_000_000;
    const YEAR_9999: i64 = 253_370_764_800_000_000;
    let is_between = !time.timestamp_subsec_nanos().is_multiple_of(1000);
    (time.timestamp_micros() + i64::from(is_between)).clamp(YEAR_1000, YEAR_9999)
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
        let page = sql::dead_letters::<DB>(&self.names, &selection, false);
        let rows = DB::rows(&mut connection, page).await.map_err(self.error(LIST))?;
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
        let changed = self.change_dead(&[id], DB::requeue).await;
        // Also where the answer was lost.
        self.changed(changed.as_ref().map_or(true, |(changed, _)| *changed > 0));
        Ok(changed.map_err(self.error(REQUEUE))?.0 > 0)
    }

    async fn requeue_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let changed = self.change_matching(filter, DB::requeue).await;
        // Also what was done before an error.
        self.changed(changed.as_ref().map_or(true, |(changed, _)| *changed > 0));
        Ok(changed.map_err(self.error(REQUEUE))?.0)
    }

    async fn discard(&self, id: EventId) -> Result<bool> {
        let discard = self.change_dead(&[id], sql::discard::<DB>).await;
        self.changed(discard.as_ref().map_or(true, |(_, is_free)| *is_free));
        Ok(discard.map_err(self.error(DISCARD))?.0 > 0)
    }

    async fn discard_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let discard = self.change_matching(filter, sql::discard::<DB>).await;
        self.changed(discard.as_ref().map_or(true, |(_, is_free)| *is_free));
        Ok(discard.map_err(self.error(DISCARD))?.0)
    }
}

impl<DB: Dialect> SqlxOutbox<DB> {
    /// Wakes who listens, if there is more to claim than before.
    fn changed(&self, is_more: bool) {
        if is_more {
            self.wake.committed();
        }
    }

    /// Changes all dead letters that match, page by page and each once. It returns how many, and whether any key
    /// goes on without them.
    async fn change_matching(
        &self,
        filter: &DeadLetterFilter,
        statement: fn(&Names, &[EventId]) -> String,
    ) -> Result<(u64, bool), sqlx::Error> {
        let mut selection = Selection::new(filter, None, as_limit(BATCH));
        let (mut changed, mut is_free) = (0, false);
        loop {
            let mut connection = self.pool.acquire().await?;
            let page = sql::dead_letters::<DB>(&self.names, &selection, true);
            let rows = DB::rows(&mut connection, page).await?;
            drop(connection);
            let mut ids = Vec::with_capacity(rows.len());
            for row in &rows {
                let (seq, id) = row.position()?;
                // Onwards even if it dies again at once.
                selection.after = seq;
                ids.push(id);
            }
            if !ids.is_empty() {
                let more = self.change_dead(&ids, statement).await?;
                changed += more.0;
                is_free |= more.1;
            }
            if ids.len() < BATCH {
                return Ok((changed, is_free));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So that the bounds of a filter keep what they say: from then on, and before.
    #[test]
    fn a_bound_between_two_microseconds_counts_as_the_later_one() {
        for (text, micros) in [
            ("1970-01-01T00:00:00.000007Z", 7),
            ("1970-01-01T00:00:00.000007001Z", 8),
            ("1969-12-31T23:59:59.999999999Z", 0),
        ] {
            assert_eq!(within_engines(text.parse().unwrap()), micros, "{text}");
        }
        assert!(within_engines(DateTime::<Utc>::MIN_UTC) < within_engines(DateTime::UNIX_EPOCH));
        assert!(within_engines(DateTime::<Utc>::MAX_UTC) > within_engines(Utc::now()));
    }
}

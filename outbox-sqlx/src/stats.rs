//! How much there is.

use std::time::Duration;

use outbox_traits::{Result, Stats, StatsStore, async_trait};

use crate::{SqlxOutbox, claims::sql, dialect::Dialect, row::ReadRow};

const STATS: &str = "count events in";

/// In one read transaction, which sees one moment and waits for nobody.
///
/// Every event is counted, so that the cost grows with how many there are: an entry of an index for each that is
/// pending, delivered or dead; and on PostgreSQL and SQLite also its row for each that is hidden until a time or
/// waits behind a busy key. A million delivered events take a few tenths of a second, and on PostgreSQL up to a second
/// where they were not vacuumed; a purge or [`DeleteOnDelivery`](outbox_traits::Retention::DeleteOnDelivery) spares it.
#[async_trait]
impl<DB: Dialect> StatsStore for SqlxOutbox<DB> {
    async fn stats(&self) -> Result<Stats> {
        self.counted().await.map_err(self.error(STATS))
    }
}

impl<DB: Dialect> SqlxOutbox<DB> {
    async fn counted(&self) -> sqlx::Result<Stats> {
        let mut transaction = self.begin(DB::BEGIN_LOOK).await?;
        let statements: Vec<String> =
            sql::counts::<DB>(&self.names).into_iter().map(|(statement, _)| statement).collect();
        let rows = DB::rows(&mut transaction, format!("{}{}", DB::BY_INDEX, statements.join("; "))).await?;
        let statements: Vec<String> =
            sql::due::<DB>(&self.names).into_iter().map(|(statement, _)| statement).collect();
        let first = DB::rows(&mut transaction, format!("{}{}", DB::BY_INDEX, statements.join("; "))).await?;
        let (now, leased, mut due) = self.leased(&mut transaction).await?;
        transaction.commit().await?;

        let numbers = rows.iter().map(|row| row.optional(0)).collect::<sqlx::Result<Vec<_>>>()?;
        let [pending, scheduled, parked, delivered, dead] =
            std::array::from_fn(|index| number(numbers.get(index).copied().flatten()));
        let saved = numbers.iter().skip(5).flatten().min();
        let mut stats = Stats::default();
        stats.pending = (pending + scheduled + parked).saturating_sub(leased);
        stats.leased = leased;
        stats.delivered = delivered;
        stats.dead = dead;
        for row in first {
            let since = [row.optional(0)?, row.optional(1)?, row.optional(2)?];
            due.extend(since.into_iter().flatten().max().filter(|since| *since <= now));
        }
        // A clock that was set back makes no age below zero.
        let age = |since: i64| Duration::from_micros(number(Some(now.saturating_sub(since))));
        stats.oldest_pending = saved.copied().map(age);
        stats.oldest_due = due.into_iter().min().map(age);
        Ok(stats)
    }
}

fn number(number: Option<i64>) -> u64 {
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

//! How much there is.

use std::time::Duration;

use async_trait::async_trait;
use outbox_traits::{Result, Stats, StatsStore};

use crate::{
    SledOutbox,
    keys::Counts,
    row::Row,
    trees::{COUNTS, Trees},
};

#[async_trait]
impl StatsStore for SledOutbox {
    async fn stats(&self) -> Result<Stats> {
        let now = self.shared.now();
        if self.read(move |trees| trees.read(|| trees.is_behind(now))).await? {
            self.write(Trees::catch_up).await?;
        }
        let now = self.shared.now();
        self.read(move |trees| trees.read(|| stats(trees, now))).await
    }
}

fn stats(trees: &Trees, now: i64) -> sled::Result<Stats> {
    let counts = trees.meta.get(COUNTS)?.map(|bytes| Counts::decode(&bytes)).unwrap_or_default();
    let mut stats = counts.stats();
    if let Some((oldest, _)) = trees.open.first()? {
        let row = trees.rows.get(oldest)?.and_then(|row| Row::decode(&row));
        // A clock that was set back has it saved just now, and so has a row that cannot be read.
        let age = row.map_or(0, |row| now.saturating_sub(row.saved_at));
        stats.oldest_pending = Some(Duration::from_millis(u64::try_from(age).unwrap_or(0)));
    }
    Ok(stats)
}

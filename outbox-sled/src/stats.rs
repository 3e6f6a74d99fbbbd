//! How much there is.

use std::time::Duration;

use async_trait::async_trait;
use outbox_traits::{Result, Stats, StatsStore};
use sled::IVec;

use crate::{
    SledOutbox,
    keys::{self, Counts},
    row::Row,
    trees::{COUNTS, Trees},
    view,
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
    let leased = trees.leased.iter().keys().map(|lease| lease.map(|lease| view::place_in(&lease)));
    for place in first_claimable(trees)?.map(Ok).into_iter().chain(leased) {
        let row = trees.rows.get(place?)?.and_then(|row| Row::decode(&row));
        let age = row.map_or(0, |row| now.saturating_sub(row.due_since()));
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        stats.oldest_due = stats.oldest_due.max(Some(age));
    }
    Ok(stats)
}

/// Of the heads of keys the first one that is there: where it stands, and the event may be a little behind.
fn first_claimable(trees: &Trees) -> sled::Result<Option<IVec>> {
    let Some((place, head)) = trees.heads.first()? else { return Ok(None) };
    let Some(key) = keys::key_of(&head) else { return Ok(Some(place)) };
    let first = trees.first_of(&key, view::seq_of(&place))?;
    Ok(first.map(|seq| IVec::from(&seq.to_be_bytes())))
}

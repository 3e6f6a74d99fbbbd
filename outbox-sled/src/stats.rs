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
        // One of which nothing could be read may have been set aside, and be at the beginning of its key still.
        let row = row.filter(|row| view::is_open(&row.status));
        let age = row.map_or(0, |row| now.saturating_sub(row.due_since()));
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        stats.oldest_due = stats.oldest_due.max(Some(age));
    }
    Ok(stats)
}

/// The first event that can be claimed. Where a key begins may be long before its first event, and others in between.
fn first_claimable(trees: &Trees) -> sled::Result<Option<IVec>> {
    let mut first: Option<u64> = None;
    for head in &trees.heads {
        let (place, head) = head?;
        let seq = view::seq_of(&place);
        if first.is_some_and(|first| first < seq) {
            break;
        }
        let next = match keys::key_of(&head) {
            Some(key) => trees.first_of(&key, seq)?,
            None => Some(seq),
        };
        first = first.into_iter().chain(next).min();
    }
    Ok(first.map(|seq| IVec::from(&seq.to_be_bytes())))
}

//! How much there is.

use std::time::Duration;

use async_trait::async_trait;

use crate::{OutboxStore, Result};

/// A store that can say how much it holds, at a cost that is fit for asking every few seconds.
#[async_trait]
pub trait StatsStore: OutboxStore {
    /// Counts its events, at one moment.
    async fn stats(&self) -> Result<Stats>;
}

/// How many events a store holds, and how long the oldest waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// To be delivered, and not leased: due, hidden until a time, or waiting for a retry.
    pub pending: u64,
    /// Held by a worker at this moment.
    pub leased: u64,
    /// Delivered, and not purged yet.
    pub delivered: u64,
    /// Dead letters.
    pub dead: u64,
    /// How long ago the oldest event that is pending or leased was saved, by the store's clock. `None`: there is
    /// none.
    pub oldest_pending: Option<Duration>,
    /// For how long the first event has been due of those that are: that can be claimed now, or are leased. An event is
    /// due since it was saved, since its `not_before` came or, where it failed, since the time of its retry; there the
    /// store may count from a later claim of it. What is hidden until a time, waits for a retry, or is behind another
    /// of its key is not due. `None`: there is none.
    ///
    /// One that has been due for longer may hide behind an older event that has just become due.
    pub oldest_due: Option<Duration>,
}

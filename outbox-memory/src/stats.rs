//! How much there is.

use async_trait::async_trait;
use outbox_traits::{Result, Stats, StatsStore};

use crate::MemoryOutbox;

#[async_trait]
impl StatsStore for MemoryOutbox {
    async fn stats(&self) -> Result<Stats> {
        let now = self.shared.clock.now();
        Ok(self.shared.lock().stats(now))
    }
}

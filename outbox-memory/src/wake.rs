//! Wake-ups.

use async_trait::async_trait;
use outbox_traits::{Result, WakeStore, Wakeups};
use tokio::sync::watch;

use crate::MemoryOutbox;

#[async_trait]
impl WakeStore for MemoryOutbox {
    async fn wakeups(&self) -> Result<Box<dyn Wakeups>> {
        Ok(Box::new(MemoryWakeups(self.shared.commits.subscribe())))
    }
}

/// It does not keep the store alive.
#[derive(Debug)]
struct MemoryWakeups(watch::Receiver<()>);

#[async_trait]
impl Wakeups for MemoryWakeups {
    async fn wait(&mut self) {
        if self.0.changed().await.is_err() {
            // The store is gone, and nothing will ever be committed.
            std::future::pending::<()>().await;
        }
    }
}

//! Wake-ups.

use std::sync::Arc;

use async_trait::async_trait;
use outbox_traits::{Result, WakeStore, Wakeups};
use tokio::sync::watch;

use crate::{SledOutbox, peers::Peers};

/// Every commit of the process wakes, through whatever handle on the outbox it was made; other processes have no part
/// in a data base of sled.
///
/// Sled's own subscribers are not used: one that does not read for a while stops all who write.
#[async_trait]
impl WakeStore for SledOutbox {
    async fn wakeups(&self) -> Result<Box<dyn Wakeups>> {
        let peers = Arc::clone(&self.shared.trees.peers);
        Ok(Box::new(Listener { commits: peers.listen(), peers }))
    }
}

#[derive(Debug)]
struct Listener {
    commits: watch::Receiver<()>,
    /// So that it also hears handles that are opened when those of today are gone.
    peers: Arc<Peers>,
}

#[async_trait]
impl Wakeups for Listener {
    async fn wait(&mut self) {
        // It fails when the sender is gone, which is in the peers.
        if self.commits.changed().await.is_err() {
            self.commits = self.peers.listen();
        }
    }
}

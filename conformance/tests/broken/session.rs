//! The session of a broken store.

use std::sync::Arc;

use outbox_memory::MemorySession;
use outbox_traits::Event;

use crate::{fault::Fault, store::Broken};

/// A session of the memory store, and what a fault does to it.
pub(crate) struct BrokenSession {
    /// Gone when a fault has ended it behind the caller's back.
    pub(crate) inner: Option<MemorySession>,
    pub(crate) store: Arc<Broken>,
    pub(crate) is_poisoned: bool,
    /// Kept back until the commit, to be saved the other way round.
    pub(crate) kept_back: Vec<Event>,
}

impl BrokenSession {
    pub(crate) fn inner(&mut self) -> &mut MemorySession {
        self.inner.get_or_insert_with(|| self.store.inner.begin())
    }

    pub(crate) async fn commit(mut self) {
        for event in std::mem::take(&mut self.kept_back).into_iter().rev() {
            self.store.save_inner(&event, &mut self.inner).await.expect("it was accepted before");
        }
        let is_poisoned = self.is_poisoned;
        if let Some(inner) = self.inner.take().filter(|_| !is_poisoned) {
            inner.commit();
        }
    }

    pub(crate) fn rollback(mut self) {
        self.inner.take();
    }
}

impl Drop for BrokenSession {
    fn drop(&mut self) {
        if self.store.fault == Fault::ADroppedSessionCommits
            && let Some(inner) = self.inner.take()
        {
            inner.commit();
        }
    }
}

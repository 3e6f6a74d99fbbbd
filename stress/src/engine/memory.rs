//! Memory.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use async_trait::async_trait;
use outbox_memory::{MemoryOutbox, MemorySession};

use super::Engine;

#[derive(Clone, Debug)]
pub(crate) struct Memory {
    store: MemoryOutbox,
    rows: Arc<Mutex<Vec<u64>>>,
}

#[async_trait]
impl Engine for Memory {
    type Store = MemoryOutbox;
    type Transaction = MemorySession;

    const MANY_PROCESSES: bool = false;

    fn place(_: &Path) -> Result<String> {
        Ok(String::new())
    }

    async fn open(_: &str) -> Result<Self> {
        Ok(Self { store: MemoryOutbox::new(), rows: Arc::default() })
    }

    async fn make(&self) -> Result<()> {
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        Ok(())
    }

    fn store(&self) -> &MemoryOutbox {
        &self.store
    }

    async fn begin(&self) -> Result<MemorySession> {
        Ok(self.store.begin())
    }

    fn session<'a>(&self, transaction: &'a mut MemorySession) -> &'a mut MemorySession {
        transaction
    }

    async fn write_row(&self, session: u64, transaction: &mut MemorySession) -> Result<()> {
        let rows = Arc::clone(&self.rows);
        transaction.on_commit(move || rows.lock().unwrap_or_else(PoisonError::into_inner).push(session));
        Ok(())
    }

    async fn commit(&self, transaction: MemorySession) -> Result<()> {
        transaction.commit();
        Ok(())
    }

    async fn rollback(&self, transaction: MemorySession) -> Result<()> {
        transaction.rollback();
        Ok(())
    }

    async fn rows(&self) -> Result<Vec<u64>> {
        Ok(self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

//! sled: a data base in a directory.

use std::path::Path;

use anyhow::Result;
use async_trait::async_trait;
use outbox_sled::{
    SledOutbox, SledSession,
    sled::{self, Tree},
};

use super::Engine;

#[derive(Clone, Debug)]
pub(crate) struct Sled {
    store: SledOutbox,
    rows: Tree,
}

#[async_trait]
impl Engine for Sled {
    type Store = SledOutbox;
    type Transaction = SledSession;

    const MANY_PROCESSES: bool = false;

    fn place(directory: &Path) -> Result<String> {
        Ok(directory.join("stress.sled").to_string_lossy().into_owned())
    }

    async fn open(place: &str) -> Result<Self> {
        let db = sled::open(place)?;
        Ok(Self { store: SledOutbox::open(&db)?, rows: db.open_tree("business")? })
    }

    async fn make(&self) -> Result<()> {
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        Ok(())
    }

    fn store(&self) -> &SledOutbox {
        &self.store
    }

    async fn begin(&self) -> Result<SledSession> {
        Ok(self.store.begin())
    }

    fn session<'a>(&self, transaction: &'a mut SledSession) -> &'a mut SledSession {
        transaction
    }

    async fn write_row(&self, session: u64, transaction: &mut SledSession) -> Result<()> {
        Ok(transaction.insert(&self.rows, session.to_string(), "")?)
    }

    async fn commit(&self, transaction: SledSession) -> Result<()> {
        Ok(transaction.commit().await?)
    }

    async fn rollback(&self, transaction: SledSession) -> Result<()> {
        transaction.rollback();
        Ok(())
    }

    async fn rows(&self) -> Result<Vec<u64>> {
        let names = self.rows.iter().keys().collect::<sled::Result<Vec<_>>>()?;
        super::numbers(names.iter().map(|name| String::from_utf8_lossy(name).into_owned()))
    }
}

//! What a stress needs of an engine.

mod memory;
mod mongo;
mod sled;
mod sql;

use std::path::Path;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use clap::ValueEnum;
use outbox_traits::{ClaimStore, DeadLetterStore, OutboxStore, StatsStore};

pub(crate) use self::{memory::Memory, mongo::Mongo, sled::Sled, sql::Sql};

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    Memory,
    Sled,
    Sqlite,
    Postgres,
    Mysql,
    Mongodb,
}

pub(crate) type SessionOf<E> = <<E as Engine>::Store as OutboxStore>::Session;

/// An outbox on an engine, with a table of the business beside it.
#[async_trait]
pub(crate) trait Engine: Clone + Send + Sync + 'static {
    type Store: ClaimStore + DeadLetterStore + StatsStore;
    type Transaction: Send;

    /// Whether other processes may deliver too.
    const MANY_PROCESSES: bool;

    /// A place that nobody else has: a file in this directory, or a name on the server.
    fn place(directory: &Path) -> Result<String>;
    /// Opens what is, or is to be made, at a place.
    async fn open(place: &str) -> Result<Self>;
    /// Makes the tables.
    async fn make(&self) -> Result<()>;
    /// Removes them from a server.
    async fn remove(&self) -> Result<()>;

    fn store(&self) -> &Self::Store;
    async fn begin(&self) -> Result<Self::Transaction>;
    fn session<'a>(&self, transaction: &'a mut Self::Transaction) -> &'a mut SessionOf<Self>;
    async fn write_row(&self, session: u64, transaction: &mut Self::Transaction) -> Result<()>;
    async fn commit(&self, transaction: Self::Transaction) -> Result<()>;
    async fn rollback(&self, transaction: Self::Transaction) -> Result<()>;
    /// The rows that are committed.
    async fn rows(&self) -> Result<Vec<u64>>;
}

/// The address of a server, from the environment.
fn server(variable: &str) -> Result<String> {
    std::env::var(variable).with_context(|| {
        format!(
            "set {variable} to the address of a server, or run it by `cargo xtask stress`, which starts one"
        )
    })
}

/// A name on a server.
fn unique() -> String {
    format!("outbox_stress_{}", uuid::Uuid::now_v7().simple())
}

/// A row is named by its session.
fn numbers(names: impl IntoIterator<Item = String>) -> Result<Vec<u64>> {
    let number = |name: String| name.parse().with_context(|| format!("{name} is no session"));
    names.into_iter().map(number).collect()
}

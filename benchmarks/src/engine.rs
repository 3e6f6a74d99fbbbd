//! What the benchmarks need of an engine.

use anyhow::Result;
use outbox_sqlx::Dialect;
use sqlx::Pool;

use crate::place::Place;

/// An engine with the outbox on it.
pub(crate) trait Engine: Dialect {
    /// Its name.
    const TITLE: &'static str;

    /// Takes the statistics of the table `outbox`.
    const ANALYZE: &'static str;

    /// Makes a schema, database or file and a pool whose connections, at most so many, are at home in it.
    async fn open(place: &Place, name: &str, connections: u32) -> Result<Pool<Self>>;

    /// Removes what [`open`](Self::open) made.
    async fn remove(name: &str) -> Result<()>;

    /// Runs statements without parameters.
    async fn run(pool: &Pool<Self>, sql: &'static str) -> Result<()>;

    /// Its version, and the settings that decide what a commit costs.
    async fn describe(pool: &Pool<Self>) -> Result<String>;

    /// Multiplies the only event of the table `outbox`: so many more, each with an id of its own, in the
    /// same state. `columns` are those that the table has beside `id`, `type`, `payload`, `meta`, `status`,
    /// `created_at` and `delivered_at`, each followed by a comma.
    async fn multiply(pool: &Pool<Self>, columns: &str, rows: u32) -> Result<()>;

    /// Explains a message that the store sent; a line for each step.
    async fn explain(pool: &Pool<Self>, message: &str) -> Result<String>;

    /// How many rows the only connection of the pool has read so far, where the engine counts that.
    async fn reads(pool: &Pool<Self>) -> Result<Vec<(String, i64)>>;
}

/// Of the outbox's table, for [`Engine::multiply`].
pub(crate) const LIBRARY_COLUMNS: &str = "not_before, partition_hash, lane, idempotency_hash, ";

/// The same message, with every statement in it explained and its settings left as they are: the store may
/// send several statements at once.
pub(crate) fn explained(message: &str, explain: &str) -> String {
    let parts = message.split("; ").map(str::trim).map(|statement| {
        if statement.starts_with("SET ") { statement.to_owned() } else { format!("{explain} {statement}") }
    });
    parts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn settings_are_left_and_each_statement_is_explained() {
        let message = "SET LOCAL a = off; SET LOCAL b = off;  SELECT 1; SELECT 2";
        let explained = super::explained(message, "EXPLAIN");
        assert_eq!(explained, "SET LOCAL a = off; SET LOCAL b = off; EXPLAIN SELECT 1; EXPLAIN SELECT 2");
    }
}

//! Where the benchmarks make their tables, and how they vanish again.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use sqlx::Pool;
use tempfile::TempDir;

use crate::engine::Engine;

/// A directory for the files of `SQLite`, and the addresses of the servers.
#[derive(Debug)]
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    /// With a directory of its own in this one; it is removed when this is dropped.
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        let made = tempfile::Builder::new().prefix("outbox-bench-").tempdir_in(directory);
        let directory =
            made.with_context(|| format!("no directory can be made in {}", directory.display()))?;
        Ok(Self { directory })
    }

    /// The path of a file.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The address of a server, from the environment.
    pub(crate) fn server(variable: &str) -> Result<String> {
        env::var(variable).with_context(|| format!("set {variable} to the address of a server and database"))
    }

    /// Makes a schema, database or file for each name, does the work, and removes them, whatever
    /// became of the work: also when the user interrupts it.
    pub(crate) async fn with<DB: Engine, T>(
        &self,
        names: &[&str],
        connections: u32,
        work: impl AsyncFnOnce(&[Pool<DB>]) -> Result<T>,
    ) -> Result<T> {
        let names: Vec<_> = names.iter().map(|name| own_name(name)).collect();
        let outcome = unless_interrupted(async {
            let mut pools = Vec::new();
            for name in &names {
                pools.push(DB::open(self, name, connections).await?);
            }
            let outcome = work(&pools).await;
            for pool in pools {
                pool.close().await;
            }
            outcome
        })
        .await;
        for name in &names {
            if let Err(error) = DB::remove(name).await {
                match outcome {
                    Ok(_) => bail!(error.context(format!("{name} could not be removed"))),
                    Err(_) => eprintln!("bench: {name} could not be removed: {error:#}"),
                }
            }
        }
        outcome
    }
}

/// A name that no other run has.
pub(crate) fn own_name(name: &str) -> String {
    format!("outbox_bench_{}_{name}", std::process::id())
}

/// The work, or an error when the user interrupts it.
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    }
}

//! The relay: how soon after a commit, how fast, and at what cost while nothing happens.

mod idle;
mod latency;
mod report;
mod throughput;

use std::path::Path;

use anyhow::Result;
use outbox_traits::async_trait;
use sqlx::{MySql, Postgres, Sqlite};

use crate::{Engines, claims::mongo, mysql, place::Place, postgres};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amounts {
    /// For how long a writer commits.
    pub(crate) seconds: u32,
    /// For how many seconds nothing is committed.
    pub(crate) idle: u32,
    /// How many events a relay takes when its throughput is measured.
    pub(crate) events: u32,
    /// How often that is measured.
    pub(crate) rounds: u32,
}

/// Code by hand that looks for events now and then.
#[async_trait]
pub(crate) trait Poller: Send + Sync {
    /// Handles what is pending, by the numbers of its orders, and marks it as delivered.
    async fn poll(&self, handle: &(dyn Fn(i64) + Send + Sync)) -> Result<()>;
}

/// Measures, and returns the tables.
pub(crate) async fn run(engines: Engines, amounts: Amounts, directory: &Path) -> Result<String> {
    let place = Place::new(directory)?;
    // Said before the first minute, not after it.
    if engines.has(Engines::Postgres) {
        postgres::server()?;
    }
    if engines.has(Engines::Mysql) {
        mysql::server()?;
    }
    if engines.has(Engines::Mongodb) {
        mongo::server()?;
    }
    let mut measured = report::Measured::default();
    if engines.has(Engines::Postgres) {
        measured.latencies.extend(latency::on_postgres(&place, amounts).await?);
        measured.idle.push(idle::on_postgres(amounts).await?);
    }
    if engines.has(Engines::Mongodb) {
        measured.latencies.extend(latency::on_mongo(amounts).await?);
        measured.idle.push(idle::on_mongo(amounts).await?);
    }
    let throughputs = &mut measured.throughputs;
    if engines.has(Engines::Sqlite) {
        throughputs.push(throughput::on_sql::<Sqlite>(&place, amounts).await?);
    }
    if engines.has(Engines::Postgres) {
        throughputs.push(throughput::on_sql::<Postgres>(&place, amounts).await?);
    }
    if engines.has(Engines::Mysql) {
        throughputs.push(throughput::on_sql::<MySql>(&place, amounts).await?);
    }
    if engines.has(Engines::Mongodb) {
        throughputs.push(throughput::on_mongo(amounts).await?);
    }
    if engines.has(Engines::Sled) {
        throughputs.push(throughput::on_sled(&place, amounts).await?);
    }
    if engines.has(Engines::Memory) {
        throughputs.push(throughput::in_memory(amounts).await?);
    }
    Ok(report::of(&measured, amounts))
}

//! Claims: how fast workers claim and settle, beside code by hand and in all conditions of the table.

mod drain;
mod measure;
pub(crate) mod memory;
pub(crate) mod mongo;
mod orders;
mod queue;
mod report;
pub(crate) mod sled;
mod sql;

use std::path::Path;

use anyhow::Result;
use sqlx::{MySql, Postgres, Sqlite};

pub(crate) use self::{
    drain::{drain, rate},
    orders::{KEYS, Orders},
    queue::{Queue, Table, Taker, Way},
    report::{ratio, speed},
};
use crate::{Engines, mysql, place::Place, postgres};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amounts {
    /// How many events workers take in one measurement.
    pub(crate) events: u32,
    /// How many others there are, where there are others.
    pub(crate) backlog: u32,
    /// How many partition keys they have.
    pub(crate) keys: u32,
    /// How often everything is measured.
    pub(crate) rounds: u32,
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
    let mut measured = Vec::new();
    if engines.has(Engines::Sqlite) {
        measured.push(sql::measure::<Sqlite>(&place, amounts).await?);
    }
    if engines.has(Engines::Postgres) {
        measured.push(sql::measure::<Postgres>(&place, amounts).await?);
    }
    if engines.has(Engines::Mysql) {
        measured.push(sql::measure::<MySql>(&place, amounts).await?);
    }
    if engines.has(Engines::Mongodb) {
        measured.push(mongo::measure(amounts).await?);
    }
    if engines.has(Engines::Sled) {
        measured.push(sled::measure(&place, amounts).await?);
    }
    if engines.has(Engines::Memory) {
        measured.push(memory::measure(amounts).await?);
    }
    Ok(report::of(&measured, amounts))
}

//! The comparison: rounds in which all sides take turns.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::Pool;

use crate::{hand_written::HandWritten, job::Job, place::Place, side::Side};

/// Of each pool.
pub(crate) const CONNECTIONS: u32 = 4;

/// What was measured on one engine.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// The engine.
    pub(crate) engine: &'static str,
    /// Its version and settings.
    pub(crate) description: String,
    /// Every round.
    pub(crate) rounds: Vec<Round>,
}

/// How long each job took in one round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    /// With tables that the round found empty.
    pub(crate) empty: Pair,
    /// Behind the delivered events.
    pub(crate) behind: Pair,
}

/// The two sides, one right after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pair {
    /// The outbox of this workspace.
    pub(crate) outbox: Times,
    /// What a team writes for itself.
    pub(crate) hand_written: Times,
}

type Times = [Duration; Job::ALL.len()];

/// Measures on one engine.
pub(crate) async fn run<DB: HandWritten>(place: &Place, rounds: u32, delivered: u32) -> Result<Comparison> {
    let names = ["library_empty", "hand_empty", "library_behind", "hand_behind"];
    place.with::<DB, _>(&names, CONNECTIONS, async |pools| measure(pools, rounds, delivered).await).await
}

async fn measure<DB: HandWritten>(pools: &[Pool<DB>], rounds: u32, delivered: u32) -> Result<Comparison> {
    let pool = |index: usize| pools[index].clone();
    let description = DB::describe(&pool(0)).await?;
    let library_empty = Side::library(pool(0)).await?;
    let hand_empty = Side::hand_written(pool(1)).await?;
    let library_behind = Side::library(pool(2)).await?;
    let hand_behind = Side::hand_written(pool(3)).await?;

    let start = Instant::now();
    library_behind.fill(delivered).await?;
    hand_behind.fill(delivered).await?;
    eprintln!("bench: {}: two tables filled in {:.0?}", DB::TITLE, start.elapsed());

    let start = Instant::now();
    let mut number = 1;
    let mut measured = Vec::new();
    // The first round fills the caches and is not counted.
    for round in 0..=rounds {
        library_empty.clear().await?;
        hand_empty.clear().await?;
        let mut times = Round::default();
        // Whoever goes first in one round goes last in the next.
        if round % 2 == 0 {
            times.empty.outbox = library_empty.round(&mut number).await?;
            times.empty.hand_written = hand_empty.round(&mut number).await?;
            times.behind.outbox = library_behind.round(&mut number).await?;
            times.behind.hand_written = hand_behind.round(&mut number).await?;
        } else {
            times.behind.hand_written = hand_behind.round(&mut number).await?;
            times.behind.outbox = library_behind.round(&mut number).await?;
            times.empty.hand_written = hand_empty.round(&mut number).await?;
            times.empty.outbox = library_empty.round(&mut number).await?;
        }
        if round > 0 {
            measured.push(times);
        }
    }
    eprintln!("bench: {}: {rounds} rounds in {:.0?}", DB::TITLE, start.elapsed());
    Ok(Comparison { engine: DB::TITLE, description, rounds: measured })
}

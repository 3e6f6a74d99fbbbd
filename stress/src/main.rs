//! A stress of an outbox store: writers that roll back, workers that stall past their leases, die and fail, beside
//! purges and requeues; and a checker of what happened. `cargo xtask stress` runs it.

mod check;
mod children;
mod clock;
mod engine;
mod history;
mod keeper;
mod run;
mod shared;
mod worker;
mod writer;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use outbox_sqlx::sqlx::{MySql, Postgres, Sqlite};

use crate::{
    engine::{Memory, Mongo, Name, Sled, Sql},
    run::Plan,
};

/// Stress an outbox store, and check what happened.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask stress",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Which engine
    #[arg(long, value_enum, required = true)]
    engine: Option<Name>,
    /// How long
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// What chance follows; the order in which an engine serves its clients is its own
    #[arg(long)]
    seed: Option<u64>,
    /// Write the history into this file too, a line of JSON for each begin and end of a call
    #[arg(long)]
    history: Option<PathBuf>,
    /// Where the files of `SQLite` and sled are made
    #[arg(long, default_value_os_t = run::directory())]
    directory: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a history that was written into a file
    Check { history: PathBuf },
    /// A worker in a process of its own
    #[command(hide = true)]
    Worker {
        #[arg(long, value_enum)]
        engine: Name,
        #[arg(long)]
        place: String,
        #[arg(long)]
        seed: u64,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match start(Cli::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("stress: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(cli: Cli) -> Result<bool> {
    match cli.command {
        Some(Command::Worker { engine, place, seed }) => work(engine, &place, seed).await.map(|()| true),
        Some(Command::Check { history }) => Ok(report(&history::read(&history)?)),
        None => {
            let engine = cli.engine.context("say which engine")?;
            let length = Duration::try_from_secs_f64(cli.minutes * 60.0).context("no such time")?;
            let seed = cli.seed.unwrap_or_else(|| fastrand::u64(..));
            let program = run::program()?;
            let plan = Plan { engine, length, seed, history: cli.history, program, directory: cli.directory };
            eprintln!("stress: {engine:?} for {:.1} minutes, --seed {seed}", cli.minutes);
            Ok(report(&stress(&plan).await?))
        }
    }
}

/// Says what was found, and returns whether it was nothing.
fn report(lines: &[history::Line]) -> bool {
    let report = check::check(lines);
    println!("{report}");
    report.is_clean()
}

async fn stress(plan: &Plan) -> Result<Vec<history::Line>> {
    match plan.engine {
        Name::Memory => run::run::<Memory>(plan).await,
        Name::Sled => run::run::<Sled>(plan).await,
        Name::Sqlite => run::run::<Sql<Sqlite>>(plan).await,
        Name::Postgres => run::run::<Sql<Postgres>>(plan).await,
        Name::Mysql => run::run::<Sql<MySql>>(plan).await,
        Name::Mongodb => run::run::<Mongo>(plan).await,
    }
}

async fn work(engine: Name, place: &str, seed: u64) -> Result<()> {
    match engine {
        Name::Memory => run::work::<Memory>(place, seed).await,
        Name::Sled => run::work::<Sled>(place, seed).await,
        Name::Sqlite => run::work::<Sql<Sqlite>>(place, seed).await,
        Name::Postgres => run::work::<Sql<Postgres>>(place, seed).await,
        Name::Mysql => run::work::<Sql<MySql>>(place, seed).await,
        Name::Mongodb => run::work::<Mongo>(place, seed).await,
    }
}

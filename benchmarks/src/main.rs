//! The outbox beside hand-written sqlx code that does the same job, in one run, as ratios; and how the
//! engines run its fetch.
//!
//! `cargo xtask bench` starts a `PostgreSQL` and runs this; `docs/performance.md` says what is compared and
//! shows the numbers.

mod compare;
mod engine;
mod hand_written;
mod job;
mod mysql;
mod place;
mod plans;
mod postgres;
mod report;
mod side;
mod sqlite;
mod statements;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use sqlx::{MySql, Postgres, Sqlite};

use crate::place::Place;

/// The outbox beside hand-written sqlx code, on `SQLite` and `PostgreSQL`, as ratios.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    compare: Compare,
}

#[derive(Debug, Args)]
struct Compare {
    /// Which engine; `PostgreSQL` is the one that `OUTBOX_TEST_POSTGRES_URL` names
    #[arg(long, value_enum, default_value_t = Engines::All)]
    engine: Engines,
    /// How many rounds are taken; a round does every job once on each side
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many delivered events the large tables have
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    delivered: u32,
    /// Where the files of `SQLite` are made; on a file system in memory there is nothing to measure
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print how `PostgreSQL`, `MySQL` or `MariaDB`, and `SQLite` run the fetch of the outbox
    Plans {
        /// How many delivered, and then how many pending, events there are
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
        rows: u32,
        /// Where the files of `SQLite` are made
        #[arg(long, default_value_os_t = std::env::temp_dir())]
        directory: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engines {
    Sqlite,
    Postgres,
    All,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    if cfg!(debug_assertions) && cli.command.is_none() {
        eprintln!("bench: this is a debug build, its ratios say little");
    }
    match cli.command {
        None => compare(&cli.compare).await,
        Some(Command::Plans { rows, directory }) => plans(rows, &directory).await,
    }
}

async fn compare(args: &Compare) -> Result<()> {
    let place = Place::new(&args.directory)?;
    if args.engine != Engines::Sqlite {
        // Said before the first minute, not after it.
        postgres::server()?;
    }
    let mut comparisons = Vec::new();
    if args.engine != Engines::Postgres {
        comparisons.push(compare::run::<Sqlite>(&place, args.rounds, args.delivered).await?);
    }
    if args.engine != Engines::Sqlite {
        comparisons.push(compare::run::<Postgres>(&place, args.rounds, args.delivered).await?);
    }
    print!("{}", report::of(&comparisons, args.delivered));
    Ok(())
}

async fn plans(rows: u32, directory: &Path) -> Result<()> {
    let place = Place::new(directory)?;
    statements::listen()?;
    let mut complete = true;
    // An engine that cannot be asked keeps none of the others from being shown.
    for plans in [
        plans::run::<Postgres>(&place, rows).await,
        plans::run::<MySql>(&place, rows).await,
        plans::run::<Sqlite>(&place, rows).await,
    ] {
        match plans {
            Ok(text) => println!("{text}"),
            Err(error) => {
                complete = false;
                eprintln!("bench: {error:#}");
            }
        }
    }
    ensure!(complete, "not every engine could be asked");
    Ok(())
}

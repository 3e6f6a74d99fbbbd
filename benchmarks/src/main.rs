//! The outbox beside hand-written code that does the same job, in one run, as ratios; and how the engines run
//! its fetch.
//!
//! `cargo xtask bench` starts the servers and runs this; `docs/performance.md` says what is compared and shows
//! the numbers.

mod claims;
mod compare;
mod delivery;
mod engine;
mod hand_written;
mod job;
mod machine;
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

/// The outbox beside hand-written code, as ratios. Without a command: `compare`, and then `claims` with as many
/// other events.
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
    /// Which engine; a server is the one that its variable `OUTBOX_TEST_…_URL` names
    #[arg(long, value_enum, default_value_t = Engines::All)]
    engine: Engines,
    /// How many rounds are taken; a round does every job once on each side
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many delivered events the large tables have
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    delivered: u32,
    /// Where the files of `SQLite` and sled are made; on a file system in memory there is nothing to measure
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
}

#[derive(Debug, Args)]
struct Claims {
    /// Which engine; a server is the one that its variable `OUTBOX_TEST_…_URL` names
    #[arg(long, value_enum, default_value_t = Engines::All)]
    engine: Engines,
    /// How many events are taken in each measurement
    #[arg(long, default_value_t = EVENTS, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    events: u32,
    /// How many others there are, delivered or pending, where there are others; of the hot key at most 300,000
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    backlog: u32,
    /// How many partition keys they have; with few, workers wait for one another
    #[arg(long, default_value_t = claims::KEYS, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// How often each is measured
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where the files of `SQLite` and sled are made; on a file system in memory there is nothing to measure
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
}

#[derive(Debug, Args)]
struct Delivery {
    /// Which engine; a server is the one that its variable `OUTBOX_TEST_…_URL` names
    #[arg(long, value_enum, default_value_t = Engines::All)]
    engine: Engines,
    /// For how many seconds a writer commits
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// For how many seconds a relay has nothing to do
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    idle: u32,
    /// How many events a relay takes when its throughput is measured
    #[arg(long, default_value_t = EVENTS, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    events: u32,
    /// How often the throughput is measured
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where the files of `SQLite` and sled are made; on a file system in memory there is nothing to measure
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
}

/// Of claims and delivery, by default.
const EVENTS: u32 = 20_000;
const ROUNDS: u32 = 3;

#[derive(Debug, Subcommand)]
enum Command {
    /// Save, fetch and acknowledge on the SQL engines, beside sqlx code by hand
    Compare(Compare),
    /// Claim and settle on every engine, by one worker and by four, beside code by hand
    Claims(Claims),
    /// How soon a relay hands out what was committed, how fast it is, and what it asks for while nothing happens
    Delivery(Delivery),
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
    /// `MySQL` or `MariaDB`
    Mysql,
    Mongodb,
    Sled,
    Memory,
    All,
}

impl Engines {
    /// Whether this one is meant.
    fn has(self, engine: Self) -> bool {
        self == engine || self == Self::All
    }
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if cfg!(debug_assertions) && !matches!(cli.command, Some(Command::Plans { .. })) {
        eprintln!("bench: this is a debug build, its ratios say little");
    }
    // Both sides of the comparison run on one thread; workers that claim at once have what the machine has.
    let one_thread = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let all_threads = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let claims = |Claims { engine, events, backlog, keys, rounds, directory }: Claims| {
        let amounts = claims::Amounts { events, backlog, keys, rounds };
        let text = all_threads()?.block_on(claims::run(engine, amounts, &directory))?;
        println!("### Claims\n\n{}\n{text}", machine::describe());
        anyhow::Ok(())
    };
    match cli.command {
        None => {
            let Compare { engine, delivered, directory, .. } = &cli.compare;
            let (engine, backlog, directory) = (*engine, *delivered, directory.clone());
            one_thread()?.block_on(compare(&cli.compare))?;
            let (events, keys, rounds) = (EVENTS, claims::KEYS, ROUNDS);
            claims(Claims { engine, events, backlog, keys, rounds, directory })
        }
        Some(Command::Compare(args)) => one_thread()?.block_on(compare(&args)),
        Some(Command::Claims(args)) => claims(args),
        Some(Command::Delivery(args)) => {
            let Delivery { engine, seconds, idle, events, rounds, directory } = args;
            let amounts = delivery::Amounts { seconds, idle, events, rounds };
            let text = all_threads()?.block_on(delivery::run(engine, amounts, &directory))?;
            println!("### Delivery\n\n{}\n{text}", machine::describe());
            Ok(())
        }
        Some(Command::Plans { rows, directory }) => one_thread()?.block_on(plans(rows, &directory)),
    }
}

async fn compare(args: &Compare) -> Result<()> {
    let place = Place::new(&args.directory)?;
    // Said before the first minute, not after it.
    if args.engine.has(Engines::Postgres) {
        postgres::server()?;
    }
    if args.engine.has(Engines::Mysql) {
        mysql::server()?;
    }
    let mut comparisons = Vec::new();
    if args.engine.has(Engines::Sqlite) {
        comparisons.push(compare::run::<Sqlite>(&place, args.rounds, args.delivered).await?);
    }
    if args.engine.has(Engines::Postgres) {
        comparisons.push(compare::run::<Postgres>(&place, args.rounds, args.delivered).await?);
    }
    if args.engine.has(Engines::Mysql) {
        comparisons.push(compare::run::<MySql>(&place, args.rounds, args.delivered).await?);
    }
    if !comparisons.is_empty() {
        let report = report::of(&comparisons, args.delivered);
        println!("### Save, fetch and acknowledge\n\n{}\n{report}", machine::describe());
    }
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

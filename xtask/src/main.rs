//! `cargo xtask …`: set-up of real servers, checks, tests, benchmarks, stresses and mutants of this workspace.
//!
//! Run `cargo xtask help` for the commands.

mod bench;
mod cargo;
mod check;
mod dependencies;
mod failures;
mod install;
mod interrupt;
mod mutants;
mod process;
mod servers;
mod stress;
mod tally;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set-up, checks, tests and benchmarks of the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check format, lints, documentation, every feature alone, and the dependencies
    Check,
    /// Run all tests against real servers, which are installed and started when they are not given
    Test {
        /// What to hand on to `cargo test`, for example `-p outbox-sqlx`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Run the benchmarks against real servers
    #[command(disable_help_flag = true)]
    Bench {
        /// What to hand on to the benchmarks
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Stress a store for some minutes, against a real server where it needs one, and check what happened
    #[command(disable_help_flag = true)]
    Stress {
        /// What to hand on to the stress, for example `--engine postgres --minutes 10 --seed 1`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Change one line of a store after the other, and see whether the suite notices
    Mutants(mutants::Options),
    /// Real servers for working by hand; they live on until `down`
    #[command(subcommand)]
    Servers(ServersCommand),
}

#[derive(Debug, Subcommand)]
enum ServersCommand {
    /// Install what is missing and start private instances on free ports
    Up,
    /// Stop the instances and remove their data
    Down,
    /// Print the variables of the running instances: eval "$(cargo xtask servers env)"
    Env,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = interrupt::install().and_then(|()| match cli.command {
        Command::Check => check::check().map(|()| true),
        Command::Test { args } => test::test(&args),
        Command::Bench { args } => bench::bench(&args).map(|()| true),
        Command::Stress { args } => stress::stress(&args),
        Command::Mutants(options) => mutants::mutants(&options).map(|()| true),
        Command::Servers(ServersCommand::Up) => servers::by_hand::up().map(|()| true),
        Command::Servers(ServersCommand::Down) => servers::by_hand::down().map(|()| true),
        Command::Servers(ServersCommand::Env) => servers::by_hand::env().map(|()| true),
    });
    // All guards have been dropped by here: whatever was started has been stopped.
    match (outcome, interrupt::signal()) {
        (_, Some(signal)) => {
            eprintln!("xtask: stopped by signal {signal}");
            // What a shell reports for a program that a signal ended.
            ExitCode::from(128 + u8::try_from(signal).unwrap_or(0))
        }
        (Ok(true), None) => ExitCode::SUCCESS,
        // What failed has been said.
        (Ok(false), None) => ExitCode::FAILURE,
        (Err(error), None) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! `cargo xtask test`: all tests, against real servers.

use std::io::{IsTerminal as _, Write as _};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::failures::Failures;
use crate::servers::{Kind, Servers};
use crate::tally::{Tally, without_colours};
use crate::{cargo, install, process};

/// Runs all tests and tells whether they passed. The last line of all is `N passed, N failed`.
pub(crate) fn test(args: &[String]) -> Result<bool> {
    let steps = steps(args)?;
    if !selects_packages(args) {
        install::compilers()?;
    }
    // Compiling takes long and the servers start meanwhile. Whichever fails, both are awaited.
    let (servers, built) = std::thread::scope(|scope| {
        let servers = scope.spawn(|| Servers::for_this_run(&Kind::ALL));
        let built = steps.iter().map(Step::build).collect::<Result<Vec<bool>>>();
        (servers.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), built)
    });
    let (servers, built) = (servers?, built?);

    let mut total = Tally::default();
    let mut problems = Vec::new();
    let mut failures = Vec::new();
    for (step, built) in steps.iter().zip(built) {
        let mut outcome = if built { step.run(&servers)? } else { Outcome::not_built() };
        // A filter may well leave nothing of one step.
        if args.is_empty() && outcome.problems.is_empty() && outcome.tally.ran() == 0 {
            outcome.problems.push("no test ran".to_owned());
        }
        // Whatever else went wrong counts as one failure, so that the closing line tells.
        if outcome.tally.failed == 0 && !outcome.problems.is_empty() {
            outcome.tally.failed = 1;
        }
        total.add(outcome.tally);
        failures.extend_from_slice(outcome.failures.lines());
        problems.extend(outcome.problems.into_iter().map(|problem| format!("{}: {problem}", step.name)));
    }
    if problems.is_empty() && total.ran() == 0 {
        problems.push("no test ran".to_owned());
        total.failed = 1;
    }
    // The servers are stopped first, so that nothing comes after the closing line.
    drop(servers);

    // Told once more: what came first may be far above, and where only the end is kept, gone.
    for line in &failures {
        println!("{line}");
    }
    for problem in &problems {
        eprintln!("error: {problem}");
    }
    if total.ignored > 0 {
        eprintln!("note: {} tests are marked as ignored", total.ignored);
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0)
}

/// One run of `cargo test`.
#[derive(Debug)]
struct Step {
    name: &'static str,
    /// What selects the tests.
    selection: Vec<String>,
    args: Vec<String>,
    /// Where to compile, if it is not where cargo would.
    target_directory: Option<std::path::PathBuf>,
}

#[derive(Debug)]
struct Outcome {
    tally: Tally,
    failures: Failures,
    problems: Vec<String>,
}

impl Outcome {
    fn not_built() -> Self {
        Self {
            tally: Tally::default(),
            failures: Failures::default(),
            problems: vec!["it does not build, see above".to_owned()],
        }
    }
}

/// What is to run: all, or what the arguments select.
fn steps(args: &[String]) -> Result<Vec<Step>> {
    let step = |name, selection: &[&str]| Step {
        name,
        selection: selection.iter().map(|&word| word.to_owned()).collect(),
        args: args.to_vec(),
        target_directory: None,
    };
    if selects_packages(args) {
        return Ok(vec![step("selected packages", &["--all-features"])]);
    }
    let mut steps = vec![step("workspace", &["--workspace", "--exclude", "xtask", "--all-features"])];
    if args.is_empty() {
        // Were they counted with the rest, a run that found nothing else would not look empty.
        steps.push(step("xtask", &["--package", "xtask", "--all-features"]));
    }
    if let Some(manifest) = cargo::custom_store() {
        let mut custom = step("custom store", &["--manifest-path", &manifest.to_string_lossy()]);
        // It is a workspace of its own, yet most of what it compiles is the same.
        custom.target_directory = Some(cargo::metadata()?.target_directory);
        steps.push(custom);
    }
    Ok(steps)
}

/// Whether the arguments for cargo, not those for the tests, name packages.
fn selects_packages(args: &[String]) -> bool {
    args.iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| ["-p", "--package", "--manifest-path"].iter().any(|option| arg.starts_with(option)))
}

impl Step {
    fn command(&self, no_run: bool) -> Command {
        let mut command = cargo::cargo("test");
        command.args(&self.selection).arg("--locked");
        // Without this the first failing binary would hide the others.
        command.arg(if no_run { "--no-run" } else { "--no-fail-fast" });
        command.args(&self.args);
        if let Some(directory) = &self.target_directory {
            command.env("CARGO_TARGET_DIR", directory);
        }
        // Its output goes through xtask, so it cannot see for itself that there is a terminal.
        if std::io::stderr().is_terminal() && std::env::var_os("CARGO_TERM_COLOR").is_none() {
            command.env("CARGO_TERM_COLOR", "always");
        }
        command
    }

    fn build(&self) -> Result<bool> {
        Ok(process::run(self.command(true))?.success())
    }

    fn run(&self, servers: &Servers) -> Result<Outcome> {
        println!("test: {}", self.name);
        let mut command = self.command(false);
        servers.give_to(&mut command);
        // Much of what tests do is to wait: for servers, disks and clocks. But the servers have so many connections.
        if std::env::var_os("RUST_TEST_THREADS").is_none() {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            command.env("RUST_TEST_THREADS", (2 * cores).min(16).max(cores).to_string());
        }
        let seen = Mutex::new((Tally::default(), Failures::default(), 0));
        let status = process::lines(command, |stream, line| {
            echo(stream, line);
            let line = String::from_utf8_lossy(line);
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let (tally, failures, skipped) = &mut *seen;
            tally.add_line(&line);
            if stream == process::Stream::Stdout {
                failures.add_line(&line);
            }
            if without_colours(&line).starts_with("SKIPPED") {
                *skipped += 1;
            }
        })?;
        let (tally, failures, skipped) = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut problems = Vec::new();
        if !status.success() {
            problems.push(format!("`cargo test` failed ({status})"));
        }
        if skipped > 0 {
            problems.push(format!("{skipped} lines say SKIPPED, though every server is there"));
        }
        Ok(Outcome { tally, failures, problems })
    }
}

/// Hands a line on to where it would have gone.
fn echo(stream: process::Stream, line: &[u8]) {
    // If nobody reads any more, the tests still count.
    let _ = match stream {
        process::Stream::Stdout => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(line).and_then(|()| stdout.flush())
        }
        process::Stream::Stderr => std::io::stderr().write_all(line),
    };
}

#[cfg(test)]
mod tests {
    use super::selects_packages;

    #[test]
    fn only_the_arguments_for_cargo_select_packages() {
        let selects =
            |args: &[&str]| selects_packages(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>());
        assert!(selects(&["-p", "outbox-sqlx"]));
        assert!(selects(&["--package=outbox-sqlx"]));
        assert!(!selects(&["a_name", "--", "-p"]));
        assert!(!selects(&[]));
    }
}

//! The tests of the suite, each in a process of its own.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::subject::Built;
use super::switch;
use crate::process;
use crate::servers::Servers;

/// A test may take so much longer than without a mutant, and so many times as long, before it counts as hanging.
const PATIENCE: (Duration, u32) = (Duration::from_secs(10), 5);

/// A mutant that fills the memory shall not fill the machine's.
const MEMORY: u64 = 8 << 30;

/// A built suite, and what its tests need.
pub(crate) struct Suite<'a> {
    pub(crate) built: Built,
    /// Where the crate is.
    pub(crate) folder: PathBuf,
    pub(crate) servers: &'a Servers,
}

/// A test, as it is without a mutant.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) took: Duration,
    /// The mutants that it reaches.
    pub(crate) reaches: BTreeSet<usize>,
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Passed,
    Failed,
    CutOff,
}

impl Suite<'_> {
    /// Runs each test without a mutant, and sees what it reaches. All must pass.
    pub(crate) fn trace(&self, jobs: usize) -> Result<Vec<Test>> {
        let names = self.names()?;
        let traces = tempfile::tempdir().context("cannot make a folder for traces")?;
        let each = |index: usize| -> Result<Test> {
            let path = traces.path().join(index.to_string());
            let name = names[index].clone();
            let began = Instant::now();
            let mut end = End::Failed;
            // Once more: what has failed for a reason of its own should not end a run of hours.
            for _ in 0..2 {
                let mut command = self.command(&name);
                command.env(switch::TRACE, &path);
                end = run(command, Duration::from_mins(5))?;
                if end == End::Passed {
                    break;
                }
            }
            if end != End::Passed {
                bail!("{name} does not pass, and no mutant is on");
            }
            let took = began.elapsed();
            let trace = std::fs::read_to_string(&path).unwrap_or_default();
            let reaches = trace.lines().filter_map(|line| line.parse().ok()).collect();
            Ok(Test { name, took, reaches })
        };
        side_by_side(jobs, names.len(), each)
    }

    /// Runs a test with these mutants on, or with none.
    pub(crate) fn run(&self, test: &Test, mutants: &[usize]) -> Result<End> {
        let mut command = self.command(&test.name);
        let list: Vec<_> = mutants.iter().map(ToString::to_string).collect();
        command.env(switch::ON, list.join(","));
        run(command, PATIENCE.0 + test.took * PATIENCE.1)
    }

    fn names(&self) -> Result<Vec<String>> {
        let mut command = process::tied(&self.built.binary, "TERM");
        command.args(["--list", "--format", "terse"]).current_dir(&self.folder);
        let output = process::stdout_of(command)?;
        Ok(output.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }

    fn command(&self, test: &str) -> Command {
        let mut command = process::tied(&self.built.binary, "KILL");
        command.args(["--exact", test, "--quiet"]).current_dir(&self.folder);
        self.servers.give_to(&mut command);
        command.env("CARGO_MANIFEST_DIR", &self.folder);
        // The same histories for each mutant, and no search for the shortest one that fails.
        command.env("PROPTEST_RNG_SEED", "1").env("PROPTEST_MAX_SHRINK_ITERS", "0");
        command
    }
}

fn run(command: Command, limit: Duration) -> Result<End> {
    Ok(match process::within(command, limit, MEMORY)? {
        None => End::CutOff,
        Some(status) if status.success() => End::Passed,
        Some(_) => End::Failed,
    })
}

/// Does so many jobs, some at a time. The first error ends it.
pub(crate) fn side_by_side<T: Send>(
    jobs: usize,
    count: usize,
    each: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, T)>> {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(done);
            }
            let result = each(index).inspect_err(|_| next.store(count, Ordering::Relaxed));
            done.push((index, result?));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let mut done = Vec::new();
        for worker in workers {
            done.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        anyhow::Ok(done)
    })?;
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

//! `cargo xtask mutants`: does the suite notice when a line of a store is wrong?
//!
//! `cargo mutants` says what there is to change. Instead of building the crate once for each change, all of them are
//! written into a copy of it at once, each behind a switch that the environment of a test turns on.

mod judge;
mod kept;
mod list;
mod own;
mod places;
mod record;
mod render;
mod subject;
mod suite;
mod switch;
mod tree;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

use self::judge::Judge;
use self::kept::Kept;
use self::record::{Record, Sums, Verdict};
use self::subject::{Built, Subject};
use self::suite::{Suite, Test, side_by_side};
use crate::cargo;
use crate::process;
use crate::servers::{Kind, Servers};

/// So many tests are tried with each mutant, before any is tried with all.
const SOME: usize = 12;

/// So many mutants are then on at once.
const TOGETHER: usize = 32;

/// What to mutate.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The package of the store
    #[arg(short, long, default_value = "outbox-memory")]
    package: String,
    /// Only mutants whose name has this in it: a file, a function, or what is put in
    #[arg(long)]
    only: Option<String>,
    /// Forget what is known from earlier runs
    #[arg(long)]
    fresh: bool,
    /// Then try what the suite has missed with the crate's own tests too
    #[arg(long)]
    own_tests: bool,
    /// How many tests may run at the same time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// Judges the mutants of a package that have not been judged yet, and says what became of all.
pub(crate) fn mutants(options: &Options) -> Result<()> {
    let listed = list::list(&options.package)?;
    let count = listed.len();
    let mut subject = Subject::new(&options.package, listed)?;
    let left_out = count - subject.mutants.len();
    if left_out > 0 {
        println!("{left_out} mutants are in what only tests have, and do not count");
    }
    let folder = subject.tree.root.parent().context("the tree is in a folder")?.to_path_buf();
    let path = folder.join(format!("{}.json", options.package));
    if options.fresh {
        // There may be none.
        let _ = std::fs::remove_file(&path);
    }
    let package = cargo::root().join(&options.package);
    let suite = record::fingerprint(&[&cargo::root().join("conformance/src"), &package.join("tests")])?;
    let record = Mutex::new(Record::open(path.clone(), suite)?);

    let chosen = |index: &usize| {
        let only = options.only.as_deref().unwrap_or_default();
        subject.mutants[*index].name.contains(only)
    };
    let chosen: BTreeSet<_> = (0..subject.mutants.len()).filter(chosen).collect();
    let undecided = chosen.iter().filter(|index| known(&record, &subject, **index).is_none()).count();
    println!("{} mutants, {undecided} of them to be judged", chosen.len());
    if undecided > 0 || options.own_tests {
        let servers = Servers::for_this_run(servers(&options.package))?;
        let outcome = judge_all(&mut subject, &servers, &record, &chosen, (suite, options));
        // Also what was found out before it failed.
        record.lock().unwrap_or_else(PoisonError::into_inner).write()?;
        outcome?;
    }
    report(&subject, &record, &chosen, &options.package);
    println!("\nall verdicts: {}", path.display());
    Ok(())
}

/// The servers that the suite of a package needs.
fn servers(package: &str) -> &'static [Kind] {
    match package {
        "outbox-sqlx" => &[Kind::Postgres, Kind::Mysql],
        "outbox-mongo" => &[Kind::Mongodb],
        _ => &[],
    }
}

fn judge_all(
    subject: &mut Subject,
    servers: &Servers,
    record: &Mutex<Record>,
    chosen: &BTreeSet<usize>,
    (of, options): (u64, &Options),
) -> Result<()> {
    let jobs = options.jobs;
    let (suite, tests) = prepare(subject, servers, of, jobs)?;
    let folder = suite.folder.clone();
    for &mutant in &subject.unviable {
        set(record, subject, mutant, Verdict::Unviable);
    }
    let judge = Judge::new(&suite, &tests);

    let undecided = |index: &&usize| known(record, subject, **index).is_none();
    let (alone, switched): (Vec<_>, Vec<_>) = chosen
        .iter()
        .copied()
        .filter(|index| undecided(&index))
        .partition(|index| subject.alone.contains(index));
    println!("{} tests; {} mutants to be switched on", tests.len(), switched.len());
    // Most are caught by one of the first tests. Those that may be missed, which takes the longest, come last.
    let rest = side_by_side(jobs, switched.len(), |index| {
        let mutant = switched[index];
        let reaching: Vec<&Test> = tests.iter().filter(|test| test.reaches.contains(&mutant)).collect();
        let file = &subject.mutants[mutant].file;
        let verdict = judge.judge(&suite, &[mutant], file, reaching, Some(SOME))?;
        let is_open = verdict.is_none().then_some(mutant);
        verdict
            .map_or(Ok(()), |verdict| progress(record, subject, mutant, verdict, (index, switched.len())))?;
        Ok(is_open)
    })?;
    let rest: Vec<_> = rest.into_iter().flatten().collect();
    println!("{} mutants are to be tried with all tests", rest.len());
    judge_together(&judge, subject, record, (jobs, &tests), rest)?;

    if options.own_tests {
        own::try_missed(subject, servers, record, chosen, jobs)?;
    }
    // A build for each takes the longest of all.
    println!("{} mutants to be built by themselves", alone.len());
    for (index, &mutant) in alone.iter().enumerate() {
        let verdict = match subject.build_alone(mutant)? {
            None => Verdict::Unviable,
            Some(built) => {
                let file = &subject.mutants[mutant].file;
                let suite = Suite { built, folder: folder.clone(), servers };
                let reaching = reaching_file(subject, &tests, file);
                let verdict = judge.judge(&suite, &[], file, reaching, None)?;
                verdict.context("all tests were tried, and there is no verdict")?
            }
        };
        progress(record, subject, mutant, verdict, (index, alone.len()))?;
    }
    Ok(())
}

/// Judges mutants with all tests, of which most likely none notices them: many at once with each.
fn judge_together(
    judge: &Judge<'_>,
    subject: &Subject,
    record: &Mutex<Record>,
    (jobs, tests): (usize, &[Test]),
    mutants: Vec<usize>,
) -> Result<()> {
    let left = Mutex::new(mutants);
    let left = || left.lock().unwrap_or_else(PoisonError::into_inner);
    // What a quick one notices is not left for those that take long.
    let mut tests: Vec<_> = tests.iter().collect();
    tests.sort_by_key(|test| test.took);
    side_by_side(jobs, tests.len(), |index| {
        let test = tests[index];
        let reached: Vec<_> = left().iter().copied().filter(|mutant| test.reaches.contains(mutant)).collect();
        // Neighbours, of which one is most likely to hide another, are in different groups: two that turn the same around would
        // be none.
        let groups = reached.len().div_ceil(TOGETHER).max(2).min(reached.len());
        for group in 0..groups {
            let together: Vec<_> = reached.iter().copied().skip(group).step_by(groups).collect();
            // Each as soon as it is decided: it takes long until the last one is.
            judge.judge_together(&together, test, &|mutant, verdict| {
                left().retain(|other| *other != mutant);
                progress(record, subject, mutant, verdict, (index, tests.len()))?;
                record.lock().unwrap_or_else(PoisonError::into_inner).write()
            })?;
        }
        Ok(())
    })?;
    for mutant in std::mem::take(&mut *left()) {
        let reached_by = tests.iter().filter(|test| test.reaches.contains(&mutant)).count();
        let missed = Verdict::Missed { reached_by, by_own: None };
        progress(record, subject, mutant, missed, (tests.len(), tests.len()))?;
    }
    record.lock().unwrap_or_else(PoisonError::into_inner).write()
}

/// A suite with all mutants in it, which is built if there is none, and its tests.
fn prepare<'a>(
    subject: &mut Subject,
    servers: &'a Servers,
    of: u64,
    jobs: usize,
) -> Result<(Suite<'a>, Vec<Test>)> {
    let path = subject.tree.root.with_extension("suite");
    let names: Vec<&str> = subject.mutants.iter().map(|mutant| mutant.name.as_str()).collect();
    let of = record::hash(&(of, &subject.sources, names));
    let folder = subject.tree.root.join(&subject.package);
    let suite = Suite { built: Built { binary: path.clone() }, folder, servers };
    let mut kept = if let Some(kept) = Kept::read(&path, of) {
        kept
    } else {
        // The copy is built from what is there already.
        let mut fetch = cargo::cargo("fetch");
        fetch.arg("--locked");
        process::must(fetch)?;
        let built = subject.build()?;
        // What is built later would be put in its place.
        std::fs::copy(&built.binary, &path).context("cannot keep the suite")?;
        let (unviable, alone) = (subject.unviable.clone(), subject.alone.clone());
        Kept { of, unviable, alone, tests: Vec::new() }
    };
    if kept.tests.is_empty() {
        kept.write(&path)?;
        println!("looking which tests reach which mutants");
        kept.tests = suite.trace(jobs)?;
        kept.write(&path)?;
    }
    (subject.unviable, subject.alone) = (kept.unviable, kept.alone);
    Ok((suite, kept.tests))
}

/// The tests that reach anything in a file; all, if nothing says which.
fn reaching_file<'t>(subject: &Subject, tests: &'t [Test], file: &str) -> Vec<&'t Test> {
    let in_file = |mutant: &usize| subject.mutants[*mutant].file == file;
    let reaching: Vec<_> = tests.iter().filter(|test| test.reaches.iter().any(in_file)).collect();
    if reaching.is_empty() { tests.iter().collect() } else { reaching }
}

fn known(record: &Mutex<Record>, subject: &Subject, mutant: usize) -> Option<Verdict> {
    let mutant = &subject.mutants[mutant];
    let record = record.lock().unwrap_or_else(PoisonError::into_inner);
    record.get(&mutant.name, &subject.sources[&mutant.file]).cloned()
}

fn set(record: &Mutex<Record>, subject: &Subject, mutant: usize, verdict: Verdict) {
    let mutant = &subject.mutants[mutant];
    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
    record.set(&mutant.name, &subject.sources[&mutant.file], verdict);
}

fn progress(
    record: &Mutex<Record>,
    subject: &Subject,
    mutant: usize,
    verdict: Verdict,
    (index, of): (usize, usize),
) -> Result<()> {
    match &verdict {
        Verdict::Missed { reached_by, .. } => {
            println!("[{index}/{of}] missed by {reached_by} tests: {}", subject.mutants[mutant].name);
        }
        Verdict::TimedOut { by } => {
            println!("[{index}/{of}] timed out in {by}: {}", subject.mutants[mutant].name);
        }
        _ => {}
    }
    set(record, subject, mutant, verdict);
    if index % 20 == 0 {
        record.lock().unwrap_or_else(PoisonError::into_inner).write()?;
    }
    Ok(())
}

/// Says what became of the mutants, and which were missed.
fn report(subject: &Subject, record: &Mutex<Record>, chosen: &BTreeSet<usize>, package: &str) {
    let mut sums = Sums::default();
    let mut missed = Vec::new();
    for &mutant in chosen {
        let Some(verdict) = known(record, subject, mutant) else {
            sums.untried += 1;
            continue;
        };
        sums.add(&verdict);
        if let Verdict::Missed { reached_by, by_own } = verdict {
            missed.push((&subject.mutants[mutant].name, reached_by, by_own));
        }
    }
    println!("\nmissed:");
    for (name, reached_by, by_own) in missed {
        let by_own = by_own.map_or(String::new(), |test| format!("; caught by {test}"));
        println!("- {name} (reached by {reached_by} tests{by_own})");
    }
    println!(
        "\n| crate | mutants | unviable | not tried | tried | caught | timed out | share | missed | \
         caught by own tests | share |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    println!("{}", sums.row(package));
}

//! What the suite has missed, tried with the crate's own tests: of a store's names, plans, fail-over, lost connections.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::judge::Judge;
use super::record::{Record, Verdict};
use super::subject::Subject;
use super::suite::{Suite, side_by_side};
use super::{known, set};
use crate::servers::Servers;

/// Tries them, and writes down which test caught what. What was built by itself stays missed.
pub(crate) fn try_missed(
    subject: &Subject,
    servers: &Servers,
    record: &Mutex<Record>,
    chosen: &BTreeSet<usize>,
    jobs: usize,
) -> Result<()> {
    for built in subject.build_own_tests()? {
        let missed =
            chosen.difference(&subject.alone).filter_map(|mutant| match known(record, subject, *mutant) {
                Some(Verdict::Missed { reached_by, by_own: None }) => Some((*mutant, reached_by)),
                _ => None,
            });
        let missed: Vec<(usize, usize)> = missed.collect();
        let file = built.binary.display().to_string();
        let suite = Suite { built, folder: subject.tree.root.join(&subject.package), servers };
        let tests = suite.trace(jobs)?;
        let judge = Judge::new(&suite, &tests);
        let caught = side_by_side(jobs, missed.len(), |index| {
            let (mutant, reached_by) = missed[index];
            let reaching: Vec<_> = tests.iter().filter(|test| test.reaches.contains(&mutant)).collect();
            let of = &subject.mutants[mutant].file;
            let verdict = judge.judge(&suite, &[mutant], of, reaching, None)?;
            let Some(Verdict::Caught { by } | Verdict::TimedOut { by }) = verdict else { return Ok(0) };
            set(record, subject, mutant, Verdict::Missed { reached_by, by_own: Some(by) });
            Ok(1_usize)
        })?;
        println!("{} of {} caught by {file}", caught.iter().sum::<usize>(), missed.len());
        record.lock().unwrap_or_else(PoisonError::into_inner).write()?;
    }
    Ok(())
}

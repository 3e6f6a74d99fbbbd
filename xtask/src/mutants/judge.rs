//! Whether the suite notices a mutant.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::record::Verdict;
use super::suite::{End, Suite, Test};

/// A test that passed without a mutant so long ago would pass now.
const FRESH: Duration = Duration::from_mins(2);

/// Judges mutants with the tests of a suite, and learns from each which tests are worth trying first.
pub(crate) struct Judge<'a> {
    /// Without any mutant.
    original: &'a Suite<'a>,
    learnt: Mutex<Learnt>,
}

#[derive(Default)]
struct Learnt {
    /// When a test last passed without a mutant.
    passed: HashMap<String, Instant>,
    /// How many mutants of a file a test has caught.
    caught: HashMap<(String, String), u32>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(original: &'a Suite<'a>, tests: &[Test]) -> Self {
        let now = Instant::now();
        let passed = tests.iter().map(|test| (test.name.clone(), now)).collect();
        let learnt = Mutex::new(Learnt { passed, caught: HashMap::new() });
        Self { original, learnt }
    }

    /// Runs these tests with a mutant, the most promising first, until one notices it. It is one that is switched on,
    /// or the suite was built with it. There is no verdict if so many tests are not all that there are.
    pub(crate) fn judge(
        &self,
        suite: &Suite<'_>,
        mutant: Option<usize>,
        file: &str,
        tests: Vec<&Test>,
        at_most: Option<usize>,
    ) -> Result<Option<Verdict>> {
        let reached_by = tests.len();
        let at_most = at_most.unwrap_or(reached_by);
        for test in self.by_promise(file, tests).into_iter().take(at_most) {
            let end = suite.run(test, mutant)?;
            if end == End::Passed {
                continue;
            }
            self.must_pass(test, end)?;
            let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
            *learnt.caught.entry((file.to_owned(), test.name.clone())).or_default() += 1;
            let by = test.name.clone();
            let verdict = if end == End::Failed { Verdict::Caught { by } } else { Verdict::TimedOut { by } };
            return Ok(Some(verdict));
        }
        Ok((reached_by <= at_most).then_some(Verdict::Missed { reached_by }))
    }

    /// The quick ones first, and those that have caught many in the same file.
    fn by_promise<'t>(&self, file: &str, mut tests: Vec<&'t Test>) -> Vec<&'t Test> {
        let learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        let caught = |test: &Test| learnt.caught.get(&(file.to_owned(), test.name.clone())).copied();
        tests.sort_by_cached_key(|test| test.took / (1 + 4 * caught(test).unwrap_or(0)));
        tests
    }

    /// A test that failed is no proof if it fails without the mutant too, because a server is down for instance.
    fn must_pass(&self, test: &Test, end: End) -> Result<()> {
        let now = Instant::now();
        let passed = {
            let learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
            learnt.passed.get(&test.name).copied()
        };
        let is_fresh = passed.is_some_and(|passed| now.duration_since(passed) < FRESH);
        if end == End::Failed && is_fresh {
            return Ok(());
        }
        // Twice: once it may have been for a reason of its own.
        let passes = || anyhow::Ok(self.original.run(test, None)? == End::Passed);
        if !passes()? && !passes()? {
            bail!("{} does not pass any more, and no mutant is on", test.name);
        }
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        learnt.passed.insert(test.name.clone(), Instant::now());
        Ok(())
    }
}

//! Whether the suite notices a mutant.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::record::Verdict;
use super::suite::{End, Suite, Test};

/// A test that passed without a mutant so long ago would pass now.
const FRESH: Duration = Duration::from_mins(2);

/// So many seconds are waited when a test does not pass without a mutant, before it is tried again.
const PAUSES: [u64; 5] = [1, 5, 15, 30, 60];

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

    /// Runs these tests with a mutant, the most promising first, until one notices it. It is switched on, or, where
    /// none is, the suite was built with it. There is no verdict if so many tests are not all that there are.
    pub(crate) fn judge(
        &self,
        suite: &Suite<'_>,
        mutant: &[usize],
        file: &str,
        tests: Vec<&Test>,
        at_most: Option<usize>,
    ) -> Result<Option<Verdict>> {
        let reached_by = tests.len();
        let at_most = at_most.unwrap_or(reached_by);
        for test in self.by_promise(file, tests).into_iter().take(at_most) {
            let Some(end) = self.notices(suite, mutant, test)? else { continue };
            let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
            *learnt.caught.entry((file.to_owned(), test.name.clone())).or_default() += 1;
            return Ok(Some(end.verdict(test)));
        }
        Ok((reached_by <= at_most).then_some(Verdict::Missed { reached_by, by_own: None }))
    }

    /// Runs a test with several mutants, which most likely it does not notice; else with each half of them, down to those that
    /// it notices by themselves. One may hide another, and this would be missed: it errs on that side.
    pub(crate) fn judge_together(
        &self,
        mutants: &[usize],
        test: &Test,
        decided: &impl Fn(usize, Verdict) -> Result<()>,
    ) -> Result<()> {
        let Some(end) = self.notices(self.original, mutants, test)? else { return Ok(()) };
        if let [mutant] = mutants {
            return decided(*mutant, end.verdict(test));
        }
        let (some, others) = mutants.split_at(mutants.len() / 2);
        self.judge_together(some, test, decided)?;
        self.judge_together(others, test, decided)
    }

    /// The quick ones first, and those that have caught many in the same file.
    fn by_promise<'t>(&self, file: &str, mut tests: Vec<&'t Test>) -> Vec<&'t Test> {
        let learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        let caught = |test: &Test| learnt.caught.get(&(file.to_owned(), test.name.clone())).copied();
        tests.sort_by_cached_key(|test| test.took / (1 + 4 * caught(test).unwrap_or(0)));
        tests
    }

    /// How a test notices mutants, if it does. That it failed is no proof while it fails without the mutant too, because
    /// a server is down for instance, or busy with what the mutant before has left behind.
    fn notices(&self, suite: &Suite<'_>, mutants: &[usize], test: &Test) -> Result<Option<End>> {
        for seconds in PAUSES {
            let end = suite.run(test, mutants)?;
            if end == End::Passed {
                return Ok(None);
            }
            if end == End::Failed && self.has_passed(test) {
                return Ok(Some(end));
            }
            if self.original.run(test, &[])? == End::Passed {
                let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
                learnt.passed.insert(test.name.clone(), Instant::now());
                return Ok(Some(end));
            }
            std::thread::sleep(Duration::from_secs(seconds));
        }
        bail!("{} does not pass any more, and no mutant is on", test.name)
    }

    /// Whether it has passed without a mutant a short while ago.
    fn has_passed(&self, test: &Test) -> bool {
        let learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        learnt.passed.get(&test.name).is_some_and(|passed| passed.elapsed() < FRESH)
    }
}

impl End {
    /// Of a mutant that this test did not pass with.
    fn verdict(self, test: &Test) -> Verdict {
        let by = test.name.clone();
        if self == Self::Failed { Verdict::Caught { by } } else { Verdict::TimedOut { by } }
    }
}

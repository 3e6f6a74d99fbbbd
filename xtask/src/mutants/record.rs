//! What has been found out so far, in a file, so that a run can be gone on with.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// What became of a mutant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// It does not compile.
    Unviable,
    /// This test failed.
    Caught { by: String },
    /// This test went on for ever.
    TimedOut { by: String },
    /// All of so many tests that reach it passed.
    Missed {
        reached_by: usize,
        /// The test of the crate's own, beside the suite, that failed or went on for ever.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by_own: Option<String>,
    },
}

/// What became of a mutant, and of which source that is true.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    verdict: Verdict,
    /// Of the file that it is in.
    source: u64,
    /// Of the suite.
    suite: u64,
}

/// All verdicts on a package, by the name of the mutant.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    suite: u64,
    entries: BTreeMap<String, Entry>,
}

impl Record {
    /// Reads what is known, if anything is.
    pub(crate) fn open(path: PathBuf, suite: u64) -> Result<Self> {
        let entries = match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .with_context(|| format!("cannot read {}; delete it to begin anew", path.display()))?,
            Err(_) => BTreeMap::new(),
        };
        Ok(Self { path, suite, entries })
    }

    /// What is known of a mutant in a file with this content. A suite that has grown may catch what was missed, and
    /// still catches what it caught.
    pub(crate) fn get(&self, name: &str, source: &str) -> Option<&Verdict> {
        let entry = self.entries.get(name).filter(|entry| entry.source == hash(&source))?;
        let is_out_of_date = matches!(entry.verdict, Verdict::Missed { .. }) && entry.suite != self.suite;
        (!is_out_of_date).then_some(&entry.verdict)
    }

    pub(crate) fn set(&mut self, name: &str, source: &str, verdict: Verdict) {
        let entry = Entry { verdict, source: hash(&source), suite: self.suite };
        self.entries.insert(name.to_owned(), entry);
    }

    pub(crate) fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.entries)?;
        std::fs::write(&self.path, text).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// It serves to see whether something is another.
pub(crate) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A number for all files below these folders.
pub(crate) fn fingerprint(folders: &[&Path]) -> Result<u64> {
    let mut files = BTreeMap::new();
    let mut folders: Vec<_> = folders.iter().map(|folder| folder.to_path_buf()).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.clone(), std::fs::read(path)?);
            }
        }
    }
    let mut hasher = DefaultHasher::new();
    for content in files.values() {
        content.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// The numbers of a run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) unviable: usize,
    pub(crate) caught: usize,
    pub(crate) timed_out: usize,
    pub(crate) missed: usize,
    /// Of the missed ones, those that the crate's own tests catch.
    pub(crate) by_own: usize,
    pub(crate) untried: usize,
}

impl Sums {
    pub(crate) fn add(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Unviable => self.unviable += 1,
            Verdict::Caught { .. } => self.caught += 1,
            Verdict::TimedOut { .. } => self.timed_out += 1,
            Verdict::Missed { by_own, .. } => {
                self.missed += 1;
                self.by_own += usize::from(by_own.is_some());
            }
        }
    }

    /// As a row of docs/mutation-testing.md.
    pub(crate) fn row(&self, package: &str) -> String {
        let Self { unviable, caught, timed_out, missed, by_own, untried } = self;
        let tried = caught + timed_out + missed;
        let all = tried + unviable + untried;
        let share = |caught: usize| {
            // In tenths of a percent, rounded down.
            let share = caught * 1000 / tried.max(1);
            format!("{}.{} %", share / 10, share % 10)
        };
        let (by_suite, by_all) = (caught + timed_out, caught + timed_out + by_own);
        format!(
            "| {package} | {all} | {unviable} | {untried} | {tried} | {caught} | {timed_out} | {} | {missed} | \
             {by_own} | {} |",
            share(by_suite),
            share(by_all)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_share_of_what_was_tried() {
        let sums = Sums { unviable: 3, caught: 4, timed_out: 1, missed: 2, by_own: 1, untried: 5 };
        assert_eq!(sums.row("a"), "| a | 15 | 3 | 5 | 7 | 4 | 1 | 71.4 % | 2 | 1 | 85.7 % |");
    }

    #[test]
    fn a_verdict_holds_for_its_source_and_a_miss_for_its_suite() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("record.json");
        let mut record = Record::open(path.clone(), 1).expect("nothing is known");
        let caught = Verdict::Caught { by: "a test".to_owned() };
        record.set("caught", "source", caught.clone());
        let missed = Verdict::Missed { reached_by: 3, by_own: None };
        record.set("missed", "source", missed.clone());
        record.write().expect("written");
        let record = Record::open(path.clone(), 1).expect("read");
        assert_eq!(record.get("missed", "source"), Some(&missed));
        assert_eq!(record.get("caught", "another source"), None);
        let record = Record::open(path, 2).expect("read");
        assert_eq!(record.get("missed", "source"), None, "the suite is another");
        assert_eq!(record.get("caught", "source"), Some(&caught));
    }
}

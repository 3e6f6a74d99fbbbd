//! A built suite that is kept, with what is known of it: to build it and to look what its tests reach takes minutes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::suite::Test;

/// What is known of a suite that was built with all mutants in it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Of everything that it was built of.
    pub(crate) of: u64,
    pub(crate) unviable: BTreeSet<usize>,
    pub(crate) alone: BTreeSet<usize>,
    pub(crate) tests: Vec<Test>,
}

impl Kept {
    /// What is known of the suite that is kept at this path, if it was built of the same.
    pub(crate) fn read(suite: &Path, of: u64) -> Option<Self> {
        let text = std::fs::read_to_string(beside(suite)).ok()?;
        let kept: Self = serde_json::from_str(&text).ok()?;
        (kept.of == of && suite.is_file()).then_some(kept)
    }

    pub(crate) fn write(&self, suite: &Path) -> Result<()> {
        let text = serde_json::to_string(self)?;
        std::fs::write(beside(suite), text).context("cannot keep what is known of a suite")
    }
}

fn beside(suite: &Path) -> PathBuf {
    suite.with_extension("suite.json")
}

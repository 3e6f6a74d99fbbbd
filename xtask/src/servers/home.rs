//! The directory below which the instances of one run keep their data.

use std::fs::{File, Permissions, TryLockError};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// How long instances live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// As long as this run of xtask.
    Run,
    /// Until `servers down`.
    Detached,
}

impl Lifetime {
    fn prefix(self) -> &'static str {
        match self {
            Self::Run => "outbox-xtask-run-",
            Self::Detached => "outbox-xtask-up-",
        }
    }
}

/// A directory among the temporary files. It is not below the checkout, which may lie where the
/// databases' own users cannot go, as `/root` does.
#[derive(Debug)]
pub(crate) struct Home {
    directory: TempDir,
    lifetime: Lifetime,
    /// Locked as long as this run lives, so that a later one can tell what a killed one left behind.
    _lock: Option<File>,
}

const LOCK: &str = "lock";

impl Home {
    pub(crate) fn new(lifetime: Lifetime) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(lifetime.prefix())
            // Each server's own directory in it is private to the server's user.
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .with_context(|| format!("cannot make a directory in {}", std::env::temp_dir().display()))?;
        let lock = match lifetime {
            Lifetime::Run => {
                let file = File::create(directory.path().join(LOCK)).context("cannot make a lock file")?;
                file.lock().context("cannot lock a file of this run")?;
                Some(file)
            }
            Lifetime::Detached => None,
        };
        Ok(Self { directory, lifetime, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Leaves the directory to the instances in it.
    pub(crate) fn keep(mut self) {
        self.directory.disable_cleanup(true);
    }
}

/// Removes the directories of runs that were killed before they could do so.
pub(crate) fn remove_abandoned() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let named = entry.file_name().to_string_lossy().starts_with(Lifetime::Run.prefix());
        if named && is_abandoned(&entry.path()).unwrap_or(false) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn is_abandoned(directory: &Path) -> Result<bool> {
    // Neither another user's directory, nor a link to elsewhere, nor one that a run is just making.
    let metadata = std::fs::symlink_metadata(directory)?;
    let old = metadata.modified()?.elapsed().is_ok_and(|age| age > Duration::from_mins(1));
    if !metadata.is_dir() || metadata.uid() != rustix::process::getuid().as_raw() || !old {
        return Ok(false);
    }
    let lock: PathBuf = directory.join(LOCK);
    match File::open(lock)?.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

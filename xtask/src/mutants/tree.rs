//! A copy of the workspace, to write mutants into.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cargo;

/// A copy of the workspace. It stays from one run to the next, so that little has to be compiled again.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
}

impl Tree {
    /// Copies what has changed since the last time, but not the files of which `theirs` is true, which the caller
    /// writes.
    pub(crate) fn copy(root: PathBuf, theirs: impl Fn(&Path) -> bool) -> Result<Self> {
        let tree = Self { root };
        let mut files = BTreeSet::new();
        walk(cargo::root(), Path::new(""), &mut files)?;
        let mut before = BTreeSet::new();
        if tree.root.is_dir() {
            walk(&tree.root, Path::new(""), &mut before)?;
        }
        for gone in before.difference(&files) {
            std::fs::remove_file(tree.root.join(gone))?;
        }
        for file in files.iter().filter(|file| !theirs(file)) {
            let content = std::fs::read(cargo::root().join(file))?;
            let content = if *file == Path::new("Cargo.toml") { renamed(&content) } else { content };
            tree.write(file, &content)?;
        }
        Ok(tree)
    }

    /// Writes a file if it is another: cargo goes by the time of the change.
    pub(crate) fn write(&self, file: &Path, content: &[u8]) -> Result<()> {
        let path = self.root.join(file);
        if std::fs::read(&path).is_ok_and(|there| there == content) {
            return Ok(());
        }
        let folder = path.parent().context("a file without a folder")?;
        std::fs::create_dir_all(folder)?;
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The manifest of the workspace with another version of its packages. Cargo would take the same packages elsewhere for
/// the same, and both are built in one place, so that what they depend on is compiled once.
fn renamed(manifest: &[u8]) -> Vec<u8> {
    let renamed = |line: &str| {
        let version = line.strip_prefix("version = \"").and_then(|rest| rest.strip_suffix('"'));
        version.map_or_else(|| line.to_owned(), |version| format!("version = \"{version}+mutants\"")) + "\n"
    };
    String::from_utf8_lossy(manifest).lines().map(renamed).collect::<String>().into_bytes()
}

/// All files below a folder, but for what cargo builds and what is hidden.
fn walk(root: &Path, below: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    let folder = root.join(below);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let is_hidden = name.to_string_lossy().starts_with('.');
        if is_hidden || name == "target" {
            continue;
        }
        let path = below.join(&name);
        if entry.file_type()?.is_dir() {
            walk(root, &path, files)?;
        } else {
            files.insert(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_version_of_the_packages_is_another() {
        let manifest = "[workspace.package]\nversion = \"0.1.0\"\n[dependencies]\na = { version = \"1\" }\n";
        let expected = manifest.replace("0.1.0", "0.1.0+mutants");
        assert_eq!(String::from_utf8_lossy(&renamed(manifest.as_bytes())), expected);
    }
}

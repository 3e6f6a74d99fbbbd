//! What there is to mutate, as `cargo mutants` finds it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::cargo::{self, cargo};
use crate::process;

/// The tool that says what there is to mutate. Another version would find other mutants.
const TOOL: (&str, &str) = ("cargo-mutants", "27.1.0");

/// A place in a file: line and column, both from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// From here to there, the end not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Span {
    pub(crate) start: Place,
    pub(crate) end: Place,
}

/// What kind of change it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub(crate) enum Genre {
    FnValue,
    BinaryOperator,
    UnaryOperator,
    MatchArm,
    MatchArmGuard,
    StructField,
}

/// One change of one place. What stands at its span is replaced.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct Mutant {
    /// The file, the place and the change, for people.
    pub(crate) name: String,
    /// Relative to the workspace.
    pub(crate) file: String,
    pub(crate) genre: Genre,
    pub(crate) replacement: String,
    pub(crate) span: Span,
}

/// Asks for all mutants of a package.
pub(crate) fn list(package: &str) -> Result<Vec<Mutant>> {
    let mut command = cargo("mutants");
    command.env("PATH", path_with(&tool()?)?);
    command.args(["--list", "--json", "--all-features", "--package", package]);
    serde_json::from_str(&process::stdout_of(command)?).context("cannot read what `cargo mutants` lists")
}

/// Where the tool is, which is installed if it is not there. It stays beside what cargo builds.
fn tool() -> Result<PathBuf> {
    let root = cargo::metadata()?.target_directory.join(format!("{}-{}", TOOL.0, TOOL.1));
    let programs = root.join("bin");
    if !programs.join(TOOL.0).is_file() {
        eprintln!("mutants: install {} {}", TOOL.0, TOOL.1);
        let mut command = cargo("install");
        command.args(["--quiet", "--locked", "--version", TOOL.1, "--root"]).arg(&root).arg(TOOL.0);
        process::must(command)?;
    }
    Ok(programs)
}

/// Cargo finds its subcommands on the search path.
fn path_with(first: &std::path::Path) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(first.to_path_buf()).chain(std::env::split_paths(&path));
    std::env::join_paths(all).context("the folder of a tool cannot be put on the search path")
}

//! The workspace and the cargo that built this.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::process;

/// The root of the workspace. The variable is what `cargo run` sets, so that a checkout may be moved.
static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.parent().map_or(here.clone(), Path::to_path_buf)
});

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    &ROOT
}

/// A cargo command at the root of the workspace, which ends when xtask does.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = process::tied(program, "TERM");
    command.arg(subcommand).current_dir(root());
    command
}

/// What `cargo metadata` says about the workspace, as far as it is of use here.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) target_directory: PathBuf,
}

/// A package of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) features: std::collections::BTreeMap<String, Vec<String>>,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    kind: Vec<String>,
}

impl Package {
    /// Whether others can depend on the package.
    pub(crate) fn is_library(&self) -> bool {
        let library = |kind: &String| kind == "lib" || kind == "proc-macro";
        self.targets.iter().any(|target| target.kind.iter().any(library))
    }
}

/// Asks cargo about the packages of the workspace.
pub(crate) fn metadata() -> Result<Metadata> {
    let mut command = cargo("metadata");
    command.args(["--no-deps", "--format-version", "1", "--locked"]);
    serde_json::from_str(&process::stdout_of(command)?).context("cannot read what `cargo metadata` says")
}

/// The manifest of the third party's store, which is a workspace of its own, once it exists.
pub(crate) fn custom_store() -> Option<PathBuf> {
    let manifest = root().join("examples/custom-store/Cargo.toml");
    manifest.is_file().then_some(manifest)
}

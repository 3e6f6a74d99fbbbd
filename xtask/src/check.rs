//! `cargo xtask check`: format, lints, documentation, every feature alone, the dependencies, and the alert rules.

use std::io::Write as _;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::cargo::{self, cargo};
use crate::{dependencies, install, process};

/// Runs every check, also after one has failed.
pub(crate) fn check() -> Result<()> {
    install::compilers()?;
    let mut checks = Checks::default();
    checks.command("format", || Ok(with(cargo("fmt"), &["--all", "--check"])))?;
    checks.command("clippy", || {
        let args =
            ["--quiet", "--workspace", "--all-targets", "--all-features", "--locked", "--", "-Dwarnings"];
        Ok(with(cargo("clippy"), &args))
    })?;
    checks.command("documentation", || {
        let mut command =
            with(cargo("doc"), &["--quiet", "--workspace", "--no-deps", "--all-features", "--locked"]);
        command.env("RUSTDOCFLAGS", "-Dwarnings");
        Ok(command)
    })?;
    if let Some(manifest) = cargo::custom_store() {
        let manifest = manifest.to_string_lossy().into_owned();
        checks.command("format, custom store", || {
            Ok(with(cargo("fmt"), &["--manifest-path", &manifest, "--check"]))
        })?;
        checks.command("clippy, custom store", || {
            let args =
                ["--quiet", "--manifest-path", &manifest, "--all-targets", "--all-features", "--locked"];
            let mut command = with(with(cargo("clippy"), &args), &["--", "-Dwarnings"]);
            command.env("CARGO_TARGET_DIR", cargo::metadata()?.target_directory);
            Ok(command)
        })?;
    }

    let metadata = cargo::metadata()?;
    for package in metadata.packages.iter().filter(|package| package.is_library()) {
        let name = &package.name;
        checks.command(&format!("{name} without features"), || Ok(one_package(name, None)))?;
        for feature in package.features.keys() {
            checks.command(&format!("{name} with `{feature}` alone"), || {
                Ok(one_package(name, Some(feature)))
            })?;
        }
    }

    checks.assertion("what outbox-traits depends on", dependencies::traits_stay_small)?;
    let facade = metadata.packages.iter().find(|package| package.name == "outbox");
    for feature in facade.into_iter().flat_map(|package| package.features.keys()) {
        if dependencies::is_backend(feature) {
            let name = format!("what outbox with `{feature}` depends on");
            checks.assertion(&name, || dependencies::backend_stays_alone(feature))?;
        }
    }
    checks.command("alert rules", || {
        install::promtool()?;
        let tests = cargo::root().join("docs/prometheus-alerts.test.yml");
        let mut command = process::tied("promtool", "TERM");
        command.args(["test", "rules"]).arg(tests);
        Ok(command)
    })?;
    checks.finish()
}

fn with(mut command: Command, args: &[&str]) -> Command {
    command.args(args);
    command
}

/// The library alone: its tests want other features of the same dependencies, and would lend them.
fn one_package(name: &str, feature: Option<&str>) -> Command {
    let mut command =
        with(cargo("clippy"), &["--quiet", "--package", name, "--lib", "--no-default-features", "--locked"]);
    if let Some(feature) = feature {
        command.args(["--features", feature]);
    }
    with(command, &["--", "-Dwarnings"])
}

#[derive(Debug, Default)]
struct Checks {
    passed: usize,
    failed: Vec<String>,
}

impl Checks {
    /// A command that must succeed. What it writes is of interest only if it does not.
    fn command(&mut self, name: &str, command: impl FnOnce() -> Result<Command>) -> Result<()> {
        self.step(name, || process::must(command()?))
    }

    fn assertion(&mut self, name: &str, assertion: impl FnOnce() -> Result<()>) -> Result<()> {
        self.step(name, assertion)
    }

    /// Fails only when xtask is asked to stop.
    fn step(&mut self, name: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        print!("check: {name} … ");
        // Somebody may want to see what takes so long.
        let _ = std::io::stdout().flush();
        let started = Instant::now();
        let outcome = step();
        crate::interrupt::check()?;
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                println!("ok ({seconds:.1} s)");
                self.passed += 1;
            }
            Err(error) => {
                println!("FAILED ({seconds:.1} s)\n{error:#}\n");
                self.failed.push(name.to_owned());
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let Self { passed, failed } = self;
        println!("check: {passed} ok, {} failed", failed.len());
        if failed.is_empty() {
            return Ok(());
        }
        bail!("these checks failed: {}", failed.join("; "))
    }
}

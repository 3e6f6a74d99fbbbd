//! Installing what is missing, and nothing else.

pub(crate) mod apt;
pub(crate) mod mongod;

use anyhow::Result;

use crate::process;
use crate::servers::Kind;

/// What a server wants before it can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Nothing: it is there.
    Nothing,
    /// A package of Debian and its descendants.
    Package(&'static str),
    /// The program of MongoDB, which is not a package of Debian.
    Mongod,
}

/// Installs what these servers want.
pub(crate) fn install(kinds: &[Kind]) -> Result<()> {
    let packages: Vec<_> = kinds
        .iter()
        .filter_map(|kind| match kind.missing() {
            Missing::Package(package) => Some((package, *kind)),
            _ => None,
        })
        .collect();
    if !packages.is_empty() {
        let names: Vec<_> = packages.iter().map(|(package, _)| *package).collect();
        let kinds: Vec<_> = packages.iter().map(|(_, kind)| *kind).collect();
        apt::install(&names, &ways_out(&kinds))?;
    }
    if kinds.contains(&Kind::Mongodb) && Kind::Mongodb.missing() == Missing::Mongod {
        mongod::fetch()?;
    }
    Ok(())
}

/// Installs what librdkafka, the client of Kafka, is compiled with. Rust itself wants no more than a linker.
pub(crate) fn compilers() -> Result<()> {
    programs(
        &[("cc", "gcc"), ("c++", "g++"), ("make", "make")],
        "without it the client of Kafka cannot be compiled",
    )
}

/// Installs Prometheus' program that tries alert rules.
pub(crate) fn promtool() -> Result<()> {
    programs(&[("promtool", "prometheus")], "without it the alert rules cannot be tried")
}

/// Installs the packages of programs that are missing.
fn programs(wanted: &[(&str, &str)], otherwise: &str) -> Result<()> {
    let missing = wanted.iter().filter(|(program, _)| process::find_program(program).is_none());
    let packages: Vec<_> = missing.map(|(_, package)| *package).collect();
    if packages.is_empty() { Ok(()) } else { apt::install(&packages, otherwise) }
}

/// What a person can do about a server that cannot be installed.
fn ways_out(kinds: &[Kind]) -> String {
    let variables: Vec<_> = kinds.iter().map(|kind| kind.variable()).collect();
    let programs: Vec<_> = kinds.iter().filter_map(|kind| kind.program_variable()).collect();
    let mut text = format!(
        "or set {} to a server that runs elsewhere, for example one of `docker compose up` with the \
         compose.yaml of this repository",
        variables.join(" and "),
    );
    if !programs.is_empty() {
        text.push_str("; and ");
        text.push_str(&programs.join(" and "));
        text.push_str(" to its program, which tests restart");
    }
    text
}

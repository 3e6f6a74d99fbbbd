//! What a package brings along: promises to those who depend on it.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::cargo::cargo;
use crate::process;

/// What `outbox-traits` may depend on, and through them on what they bring.
const TRAITS_MAY_USE: &[&str] = &["async-trait", "chrono", "serde", "serde_json", "uuid"];

/// Each feature of the facade that stands for a backend, a broker or the export of traces, and packages that nobody else
/// may bring.
const BACKENDS: &[(&str, &[&str])] = &[
    ("memory", &["outbox-memory"]),
    ("sqlite", &["sqlx-sqlite", "libsqlite3-sys", "rusqlite"]),
    ("postgres", &["sqlx-postgres", "tokio-postgres"]),
    ("mysql", &["sqlx-mysql", "mysql_async"]),
    ("mongodb", &["outbox-mongo", "mongodb"]),
    ("sled", &["outbox-sled", "sled"]),
    ("nats", &["async-nats"]),
    ("http", &["hyper-rustls", "hyper-util", "standardwebhooks"]),
    ("kafka", &["rdkafka"]),
    ("rabbitmq", &["lapin"]),
    ("redis", &["redis"]),
    ("opentelemetry", &["opentelemetry", "opentelemetry_sdk", "tracing-opentelemetry"]),
];

/// What would make the traits as heavy as a backend.
const HEAVY: &[&str] = &["sqlx", "sqlx-core", "tokio", "async-std", "smol"];

/// Whether a feature of the facade is one of these.
pub(crate) fn is_backend(feature: &str) -> bool {
    BACKENDS.iter().any(|(backend, _)| *backend == feature)
}

/// The traits depend on a few small crates and on what those bring, and on nothing else.
pub(crate) fn traits_stay_small() -> Result<()> {
    let direct = tree(&["--package", "outbox-traits", "--depth", "1"])?;
    // What is below these is theirs by definition.
    let unexpected: Vec<_> = direct
        .iter()
        .map(String::as_str)
        .filter(|name| *name != "outbox-traits" && !TRAITS_MAY_USE.contains(name))
        .collect();
    if !unexpected.is_empty() {
        bail!("outbox-traits may not depend on {}", unexpected.join(", "));
    }
    // A feature of one of them could still bring a good deal.
    let all = tree(&["--package", "outbox-traits"])?;
    let backends = BACKENDS.iter().flat_map(|(_, packages)| packages.iter());
    let heavy: Vec<_> =
        HEAVY.iter().chain(backends).copied().filter(|package| all.contains(*package)).collect();
    if !heavy.is_empty() {
        bail!("outbox-traits brings along {}", heavy.join(", "));
    }
    Ok(())
}

/// The facade with one backend brings that backend and no other.
pub(crate) fn backend_stays_alone(feature: &str) -> Result<()> {
    let all = tree(&["--package", "outbox", "--no-default-features", "--features", feature])?;
    for (backend, packages) in BACKENDS {
        let found: Vec<_> = packages.iter().copied().filter(|package| all.contains(*package)).collect();
        if *backend == feature && found.is_empty() {
            // The names above would be out of date, and this check would prove nothing.
            bail!("outbox with `{feature}` brings none of {}", packages.join(", "));
        }
        if *backend != feature && !found.is_empty() {
            bail!("outbox with `{feature}` brings along {} of `{backend}`", found.join(", "));
        }
    }
    Ok(())
}

/// The names of a package and of what it depends on. `cargo metadata` would not do: it has the features
/// of the whole workspace at once.
fn tree(args: &[&str]) -> Result<BTreeSet<String>> {
    let mut command = cargo("tree");
    command.args(["--locked", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"]).args(args);
    let output = process::stdout_of(command)?;
    Ok(output.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

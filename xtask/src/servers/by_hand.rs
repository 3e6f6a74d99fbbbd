//! `servers up`, `down` and `env`: instances that live on between commands.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::{Home, Instance, Kind, Lifetime, start_all};
use crate::{cargo, install};

fn directory() -> PathBuf {
    cargo::root().join("target/servers")
}

fn state_file() -> PathBuf {
    directory().join("state.json")
}

/// What `up` started, whether it still runs or not.
fn recorded() -> Result<Vec<Instance>> {
    let path = state_file();
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| {
            format!("{} is damaged: stop the servers by hand and remove it", path.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn record(instances: &[Instance]) -> Result<()> {
    let path = state_file();
    let text = serde_json::to_vec_pretty(instances)?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Keeps two commands from changing the same state.
fn lock() -> Result<File> {
    let directory = directory();
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let file = File::create(directory.join("lock")).context("cannot make a lock file")?;
    file.lock().context("cannot lock the state of the servers")?;
    Ok(file)
}

/// The instances of `up` that are ready for work.
pub(crate) fn healthy() -> Vec<Instance> {
    // Whoever cannot read the state can still start servers of their own.
    recorded().unwrap_or_default().into_iter().filter(Instance::is_healthy).collect()
}

/// Starts what does not run yet.
pub(crate) fn up() -> Result<()> {
    let _lock = lock()?;
    let (mut kept, dead): (Vec<_>, Vec<_>) = recorded()?.into_iter().partition(Instance::is_healthy);
    for instance in dead {
        eprintln!("servers: {} does not answer, it is replaced", instance.kind.name());
        instance.stop()?;
    }
    record(&kept)?;

    let mut wanted = Vec::new();
    for kind in Kind::ALL {
        if let Some(instance) = kept.iter().find(|instance| instance.kind == kind) {
            eprintln!("servers: {} runs already, port {}", kind.name(), instance.port);
        } else if kind.given().is_some() {
            eprintln!("servers: {} is given by {}, none is started", kind.name(), kind.variable());
        } else {
            wanted.push(kind);
        }
    }
    if !wanted.is_empty() {
        install::install(&wanted)?;
        let home = Home::new(Lifetime::Detached)?;
        let running = start_all(&wanted, &home)?;
        kept.extend(running.iter().map(|running| running.instance().clone()));
        // Only once they are recorded can `down` find them: until then this run would stop them.
        record(&kept)?;
        for running in running {
            running.detach();
        }
        home.keep();
    }
    eprintln!("servers: eval \"$(cargo xtask servers env)\" gives them to a shell");
    Ok(())
}

/// Stops and removes what `up` started.
pub(crate) fn down() -> Result<()> {
    let _lock = lock()?;
    let mut left = recorded()?;
    if left.is_empty() {
        eprintln!("servers: none is up");
    }
    while let Some(instance) = left.last() {
        instance.stop()?;
        eprintln!("servers: {} is stopped and removed", instance.kind.name());
        left.pop();
        record(&left)?;
    }
    let _ = std::fs::remove_dir_all(directory());
    Ok(())
}

/// Prints what a shell can evaluate.
pub(crate) fn env() -> Result<()> {
    let instances = healthy();
    if instances.is_empty() {
        bail!("no server is up: start them with `cargo xtask servers up`");
    }
    for instance in instances {
        let Instance { kind, url, .. } = instance;
        println!("export {}='{url}'", kind.variable());
        if let (Some(variable), Some(program)) = (kind.program_variable(), kind.program()) {
            println!("export {variable}='{}'", program.display());
        }
    }
    Ok(())
}

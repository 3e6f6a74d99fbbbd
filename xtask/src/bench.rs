//! `cargo xtask bench`: the benchmarks, against real servers.

use anyhow::{Result, bail};

use crate::servers::{Kind, Servers};
use crate::{cargo, process};

/// Runs the benchmarks.
pub(crate) fn bench(args: &[String]) -> Result<()> {
    let servers = Servers::for_this_run(&[Kind::Postgres, Kind::Mysql, Kind::Mongodb])?;
    let mut command = cargo::cargo("run");
    command.args(["--release", "--locked", "--package", "outbox-benchmarks", "--"]).args(args);
    servers.give_to(&mut command);
    let status = process::run(command)?;
    if !status.success() {
        bail!("the benchmarks failed ({status})");
    }
    Ok(())
}

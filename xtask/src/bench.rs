//! `cargo xtask bench`: the benchmarks, against real servers.

use anyhow::{Result, bail};

use crate::servers::{Kind, Servers};
use crate::{cargo, process, stress};

/// Runs the benchmarks.
pub(crate) fn bench(args: &[String]) -> Result<()> {
    let servers = Servers::for_this_run(&kinds(args))?;
    let mut command = cargo::cargo("run");
    command.args(["--release", "--locked", "--package", "outbox-benchmarks", "--"]).args(args);
    servers.give_to(&mut command);
    let status = process::run(command)?;
    if !status.success() {
        bail!("the benchmarks failed ({status})");
    }
    Ok(())
}

/// The servers that the engine needs: without one, all that there are.
fn kinds(args: &[String]) -> Vec<Kind> {
    let is_help = args.iter().any(|arg| ["--help", "-h", "help"].contains(&arg.as_str()));
    match stress::engine(args) {
        _ if is_help => Vec::new(),
        None | Some("all") => vec![Kind::Postgres, Kind::Mysql, Kind::Mongodb],
        Some(_) => stress::kinds(args),
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, kinds};

    #[test]
    fn a_benchmark_gets_the_servers_that_it_needs_and_no_others() {
        let of = |args: &[&str]| kinds(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>());
        for all in [&[][..], &["claims"], &["compare", "--engine", "all"], &["plans", "--rows", "9"]] {
            assert_eq!(of(all), [Kind::Postgres, Kind::Mysql, Kind::Mongodb], "{all:?}");
        }
        assert_eq!(of(&["claims", "--engine=mysql"]), [Kind::Mysql]);
        for without in [&["compare", "--engine", "sqlite"][..], &["--help"], &["claims", "-h"]] {
            assert!(of(without).is_empty(), "{without:?}");
        }
    }
}

//! `cargo xtask stress`: a stress of one store, and what the checker says of it.

use anyhow::Result;

use crate::servers::{Kind, Servers};
use crate::{cargo, process};

/// Runs a stress and tells whether nothing was found.
pub(crate) fn stress(args: &[String]) -> Result<bool> {
    let servers = Servers::for_this_run(&kinds(args))?;
    let mut command = cargo::cargo("run");
    command.args(["--quiet", "--locked", "--package", "outbox-stress", "--"]).args(args);
    servers.give_to(&mut command);
    Ok(process::run(command)?.success())
}

/// The servers that the engine needs. Everything else about the arguments is for the stress itself to say.
pub(crate) fn kinds(args: &[String]) -> Vec<Kind> {
    match engine(args) {
        Some("postgres") => vec![Kind::Postgres],
        Some("mysql") => vec![Kind::Mysql],
        Some("mongodb") => vec![Kind::Mongodb],
        _ => Vec::new(),
    }
}

/// What stands after `--engine`.
pub(crate) fn engine(args: &[String]) -> Option<&str> {
    let mut args = args.iter();
    let engine = args.find_map(|arg| match arg.strip_prefix("--engine")? {
        "" => Some(None),
        value => value.strip_prefix('=').map(Some),
    })?;
    engine.or_else(|| args.next().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::{Kind, kinds};

    #[test]
    fn a_stress_gets_the_server_that_its_engine_needs_and_no_other() {
        let of = |args: &[&str]| kinds(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["--seed", "1", "--engine", "postgres"]), [Kind::Postgres]);
        assert_eq!(of(&["--engine=mongodb", "--minutes", "1"]), [Kind::Mongodb]);
        for without in [&["--engine", "sqlite"][..], &["--engine"], &["check", "a.jsonl"], &[]] {
            assert!(of(without).is_empty(), "{without:?}");
        }
    }
}
